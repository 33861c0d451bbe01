"""A model of another program with its card, ready to be saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from model import artifact, owner
from model.card import Card, Feature
from model.errors import ArtifactError, CardError, SourceError
from model.examples import example_row
from model.importing import columns, features
from model.importing.encoders import Known, known_columns
from model.importing.examination import Examined, answer, check_answers, examine, with_gaps
from model.importing.servable import check_servable
from model.kinds import settle
from model.predict import Prediction
from model.sources.source import Source
from model.train import make_card
from model.trial import is_picklable, sample_rows

CREATOR = "petal import"


class Imported(NamedTuple):
    """A model and its card, and a row that it was tried on with its answer.

    `passed_over` are columns of the sample that the model does not take, `needed` those that lack
    values in `left_out` of its rows, which the model does not answer. `rows` is the number of rows
    in the sample. `is_certain` is whether the model records which columns it takes.
    """

    source: Source
    card: Card
    row: list[Any]
    prediction: Prediction
    passed_over: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    left_out: int = 0
    rows: int = 0
    is_certain: bool = True


def make(source: Source, table: Any, name: str, dropped: Sequence[str] = ()) -> Imported:
    """The model with a card from its `table`, a DataFrame; None: from the source alone.

    The model predicts the whole table. Raises SourceError.
    """
    check_servable(source.model, source.path)
    sample = source.sample if table is None else table
    if sample is None:
        return _without_sample(source, name)
    chosen, passed_over, is_certain = columns.select(source, sample, dropped)
    known = known_columns(source.model, columns.recorded(source) or list(chosen.columns))
    frame = features.as_fitted(source, chosen, known)
    try:
        imported = _tried(source, frame, known, name)
    except SourceError as e:
        imported = _tried_with_dates(source, frame, known, name, e)
    imported = imported._replace(passed_over=passed_over, is_certain=is_certain)
    return _without_ranges(imported) if table is None else imported


def _tried_with_dates(
    source: Source, frame: Any, known: Sequence[Known], name: str, fault: SourceError
) -> Imported:
    """As `_tried`, with datetimes for texts that are some; raises `fault` if that fails too."""
    dated = features.with_dates(frame, known)
    if dated is None:
        raise fault
    try:
        return _tried(source, dated, known, name)
    except SourceError:
        raise fault from None


def _tried(source: Source, frame: Any, known: Sequence[Known], name: str) -> Imported:
    card = _card(source, features.from_sample(source, frame, known), name)
    rows = sample_rows(frame)
    if not source.features:  # a signature says itself what may be missing
        card = with_gaps(source.model, card, rows, [n for n, k in enumerate(known) if k.gaps])
    examined = examine(source.model, card, rows)
    check_answers(source.model, examined, frame)
    return _summed_up(source, examined, frame)


def _card(source: Source, made: list[Feature], name: str) -> Card:
    try:
        card = make_card(name, source.model, made)
    except CardError as e:
        raise SourceError(f"{source.path} cannot be served: {e}") from e
    return settle(source.model, replace(card, creator=CREATOR))


def _summed_up(source: Source, examined: Examined, frame: Any) -> Imported:
    [first] = sample_rows(frame.iloc[[examined.kept[0]]])
    answered = answer(source.model, examined.card, first)
    left_out = len(frame) - len(examined.kept)
    imported = Imported(source, examined.card, first, answered, rows=len(frame))
    return imported._replace(needed=examined.needed, left_out=left_out)


def _without_ranges(imported: Imported) -> Imported:
    """The same without the ranges of a few rows, which are not those of the training data."""
    found = features.without_ranges(imported.card.features)
    return imported._replace(card=replace(imported.card, features=found))


def _without_sample(source: Source, name: str) -> Imported:
    names = columns.without_sample(source)
    known = known_columns(source.model, names)
    card = _card(source, features.from_names(source, names, known), name)
    pairs = zip(example_row(card), known, strict=True)
    row = [each.values[0] if each.is_text else value for value, each in pairs]
    try:
        examined = examine(source.model, card, [row, row])
    except SourceError as e:
        raise SourceError(f"{e}. To try it on rows that it takes, {columns.WHY_DATA}") from e
    return Imported(source, examined.card, row, answer(source.model, examined.card, row))


def check_replaceable(path: Path, name: str, source: Path) -> None:
    """Raise ArtifactError unless the model of `source` may be saved at `path` under `name`.

    It may where there is nothing, or an artifact that an import with this name made: its card says
    so and has its digest. Anything else may be somebody's own model.
    """
    if _is_same(path, source):
        raise ArtifactError(f"{path} is the file to import; choose another path with --output")
    owner.check_replaceable(path, owner.made_by(CREATOR, name))


def _is_same(path: Path, source: Path) -> bool:
    return path.exists() and path.samefile(source)


def save(imported: Imported, path: Path) -> Card:
    """Write the artifact and its card; raises ArtifactError."""
    opened = imported.source.opened
    sample = [imported.row]
    if opened.pickled is None or is_picklable(opened.model):
        return artifact.save(opened.model, imported.card, path, sample)
    return artifact.save(opened.model, imported.card, path, sample, opened.pickled)
