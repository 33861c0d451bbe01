"""Whether the tasks and clients of one model may be answered by another: by their cards alone.

Tasks in the log were checked by the card of the model that was live then.
"""

from collections.abc import Iterator, Sequence

from model.card import KINDS, Card, Feature, shown

MAX_NAMED = 5


def differences(old: Card, new: Card) -> list[str]:
    """Why tasks or clients of the old model may not do with the new one, a phrase each.

    Another range of a feature, more categories, or a number in place of an integer are none.
    """
    return [*_of_names(old, new), *_of_features(old, new), *_of_answers(old, new)]


def _of_names(old: Card, new: Card) -> Iterator[str]:
    if new.name != old.name:
        yield f"its name is {new.name} and not {old.name}"


def _of_features(old: Card, new: Card) -> Iterator[str]:
    lacking = [name for name in old.names if name not in new.names]
    further = [name for name in new.names if name not in old.names]
    if lacking:
        yield f"it lacks {_listed('feature', lacking)}"
    if further:
        yield f"it needs {_listed('feature', further)}"
    if not lacking and not further and old.names != new.names:
        yield "its features have another order"
    before = {feature.name: feature for feature in old.features}
    for feature in new.features:
        if feature.name in before:
            yield from _of_feature(before[feature.name], feature)


def _of_feature(old: Feature, new: Feature) -> Iterator[str]:
    if old.type != new.type and (old.type, new.type) != ("integer", "number"):
        yield f"its feature {new.name} has the type {new.type} and not {old.type}"
        return
    if new.allowed:
        lacking = [shown(value) for value in old.allowed if value not in new.allowed]
        if lacking:
            yield f"its feature {new.name} lacks {_listed('category', lacking)}"
        elif not old.allowed:
            yield f"its feature {new.name} takes only its categories"
    if old.nullable and not new.nullable:
        yield f"its feature {new.name} may not be missing"
    if _is_narrower(old, new):
        yield f"its feature {new.name} takes fewer numbers ({new.dtype})"


def _is_narrower(old: Feature, new: Feature) -> bool:
    if new.limits is None or old.is_text:
        return False
    if old.limits is None:
        return True
    return new.limits[0] > old.limits[0] or new.limits[1] < old.limits[1]


def _of_answers(old: Card, new: Card) -> Iterator[str]:
    if new.kind != old.kind:
        yield f"it is {KINDS[new.kind]} and not {KINDS[old.kind]}"
        return
    lacking = [shown(label) for label in old.classes if label not in new.classes]
    further = [shown(label) for label in new.classes if label not in old.classes]
    if lacking:
        yield f"it lacks {_listed('class', lacking)}"
    if further:
        yield f"it adds {_listed('class', further)}"
    if not lacking and not further and old.classes != new.classes:
        yield "its classes have another order"
    if new.kind == "regressor" and new.output != old.output:
        yield f"it answers with the type {new.output} and not {old.output}"
    for name in ("proba", "score"):
        if getattr(old, name) and not getattr(new, name):
            yield "it has no probabilities" if name == "proba" else "it has no score"


def _listed(noun: str, names: Sequence[str]) -> str:
    plural = {"category": "categories", "class": "classes"}.get(noun, f"{noun}s")
    more = ", …" if len(names) > MAX_NAMED else ""
    return f"the {noun if len(names) == 1 else plural} {', '.join(names[:MAX_NAMED])}{more}"
