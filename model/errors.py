"""What can be wrong with a model, its card or its rows. `str()` is a sentence for people.

CardError          a model card is missing or cannot be read
ArtifactError      an artifact is missing, altered, or cannot be served
InvalidRow         values are not a row for this model
PredictError       the estimator failed, or its answer cannot be used
├── WrongShape
└── NotFinite
"""


class CardError(Exception):
    """A model card that is missing or cannot be read."""


class ArtifactError(Exception):
    """An artifact that is missing, altered, made by other versions, or that cannot be served."""


class InvalidRow(Exception):
    """Values that are not a row for this model, or too many rows.

    `code` is stable; `str()` names the feature, what came and what is allowed.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PredictError(Exception):
    """The estimator failed, or gave an answer that cannot be used."""


class WrongShape(PredictError):
    """The answer is not one label or number per row, as of a model with several outputs."""


class NotFinite(PredictError):
    """The answer is NaN or infinite."""

    def __init__(self) -> None:
        super().__init__("the model's answer is not finite")
