"""What a form asks for a model, from its card."""

from msgspec import Struct

from model.card import Card, Feature, Label
from model.examples import value_at


class Field(Struct):
    """One feature: `type` as in the card, and `example` from the middle of what it allows.

    Only `options` are valid, if there are any; `suggestions` are values of the training data.
    """

    name: str
    type: str
    hint: str
    unit: str
    minimum: float | None
    maximum: float | None
    options: list[Label]
    suggestions: list[str]
    nullable: bool
    example: Label | None


class ModelForm(Struct):
    """The fields of one row, in the order of its values. `id`: of the model's present version."""

    name: str
    id: str
    kind: str
    classes: list[Label]
    fields: list[Field]


def form_of(card: Card) -> ModelForm:
    """The form for a model."""
    return ModelForm(
        card.name, card.id, card.kind, list(card.classes), [_field(f) for f in card.features]
    )


def _field(feature: Feature) -> Field:
    return Field(
        name=feature.name,
        type=feature.type,
        hint=feature.hint,
        unit=feature.unit,
        minimum=feature.minimum,
        maximum=feature.maximum,
        options=list(feature.allowed),
        suggestions=list(feature.seen),
        nullable=feature.nullable,
        example=value_at(feature, 0.5),
    )
