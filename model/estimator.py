"""What a fitted estimator is, and whether its answers are ones that a result can hold."""

from typing import Any, Literal

from sklearn.base import is_classifier, is_clusterer, is_outlier_detector

Kind = Literal["classifier", "regressor", "outlier_detector"]

_SERVED = "only classifiers, regressors and outlier detectors are served"


def kind_of(model: Any) -> Kind:
    """The kind of a model that `fault` has nothing against.

    An estimator of one's own that says nothing of its kind, but predicts, is a regressor.
    """
    if is_classifier(model):
        return "classifier"
    return "outlier_detector" if is_outlier_detector(model) else "regressor"


def has_score(model: Any) -> bool:
    """Whether it is an outlier detector with a score for each row, below 0 for an outlier."""
    return kind_of(model) == "outlier_detector" and hasattr(model, "decision_function")


def fault(model: Any) -> str | None:
    """Why a model of this kind is not served; None if it is."""
    name = type(_last_step(model)).__name__
    if not hasattr(model, "predict"):
        if hasattr(model, "fit_predict"):
            return f"it holds a {name}, which labels only the rows that it was fitted on; {_SERVED}"
        if hasattr(model, "transform"):
            return f"it holds a {name}, which transforms rows and predicts nothing; {_SERVED}"
        return f"it holds a {name}, which has no method predict"
    if is_clusterer(model):
        return f"it holds a {name}, which finds clusters; {_SERVED}"
    if name.endswith("Ranker"):
        return f"it holds a {name}, which ranks the rows of a group; {_SERVED}"
    return None


def shape_fault(model: Any) -> str:
    """Why a model does not return one value for each row of a table."""
    # Only here: it takes long to import, and each `petal predict` would pay for that.
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

    first = _first_step(model)
    if isinstance(first, CountVectorizer | HashingVectorizer):
        name = type(first).__name__
        return (
            f"its {name} takes one column of texts, and not the table with this column; fit it "
            f'on a DataFrame, as make_column_transformer(({name}(), "text"))'
        )
    return "it returns several values for a row; save one model for each value"


def _first_step(model: Any) -> Any:
    """The estimator at the beginning of pipelines and searches."""
    inner = getattr(model, "best_estimator_", None)
    if inner is None and isinstance(steps := getattr(model, "steps", None), list) and steps:
        inner = steps[0][-1]
    return model if inner is None else _first_step(inner)


def _last_step(model: Any) -> Any:
    """The estimator at the end of pipelines and searches."""
    inner = getattr(model, "best_estimator_", None)
    if inner is None and isinstance(steps := getattr(model, "steps", None), list) and steps:
        inner = steps[-1][-1]
    return model if inner is None else _last_step(inner)
