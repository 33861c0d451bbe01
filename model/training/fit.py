"""Train a model on a table: choose, cross-validate, fit, and describe it in a card."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
from msgspec.structs import replace

from model import card as cards
from model.card import Card, Feature
from model.errors import TableError, describe
from model.train import describe as describe_table
from model.train import make_card
from model.training import columns, estimators, target
from model.training.columns import Columns
from model.training.estimators import Choice, Family
from model.training.evaluation import Evaluation, Progress, evaluate
from model.training.target import Target, Task


class Plan(NamedTuple):
    """What to train; None: to be chosen."""

    target: str
    name: str
    drop: tuple[str, ...] = ()
    task: Task | None = None
    family: Family | None = None
    seed: int = 0


class Trained(NamedTuple):
    """A fitted model with its card, the rows that it learned from, and how good it is."""

    model: Any
    card: Card
    X: pd.DataFrame
    target: Target
    choice: Choice
    evaluation: Evaluation


def train(
    table: pd.DataFrame, plan: Plan, note: Callable[[str], None], progress: Progress
) -> Trained:
    """Train a model on all rows of a table, and cross-validate it.

    The same table, plan and seed give the same model. `note` gets sentences about rows and columns
    that are left out. Raises TableError for a table that no model can learn from, and CardError
    for a name that a model cannot have.
    """
    cards.check_name(plan.name)
    table = target.with_target(target.without(table, plan.drop, plan.target), plan.target, note)
    y = target.choose(table[plan.target], plan.task)
    chosen = columns.choose(table.drop(columns=plan.target), note)
    if not chosen.kinds:
        raise TableError("no column is left that a model can learn from")
    choice = estimators.choose(y, plan.family)
    model = estimators.make(y.task, choice.family, chosen, plan.seed)
    try:
        evaluation = evaluate(model, chosen, y, plan.seed, progress)
        model = estimators.fit(model, chosen.X, y.y)
    except ValueError as e:
        raise TableError(f"the model cannot be fitted: {describe(e)}") from e
    metrics = {"rows": float(len(table)), "folds": float(evaluation.folds), **evaluation.metrics}
    card = make_card(plan.name, model, _features(chosen), metrics, plan.seed)
    return Trained(
        model, replace(card, creator=cards.TABLE_CREATOR), chosen.X, y, choice, evaluation
    )


def _features(chosen: Columns) -> list[Feature]:
    """The features; one of categories has those that it has seen."""
    found = describe_table(chosen.X)
    for n, feature in enumerate(found):
        if chosen.kinds[feature.name] == "category":
            known = sorted(chosen.X[feature.name].dropna().unique())
            found[n] = replace(feature, seen=tuple(known))
    return found
