"""What can be wrong with a model, its card or its rows. `str()` is a sentence for people.

InputWarning       values that are answered and may mislead the model; no error

CardError          a model card is missing or cannot be read
ArtifactError      an artifact is missing, altered, or cannot be served
├── NotPromoted    a version does not take the place of the live one
└── NotWritten     files cannot be written
TableError         a file is not a table of columns with names
└── TableNotFound
SourceError        a file or folder of another program holds no model that can be served
├── SourceNotFound
└── Untrusted      opening it could run code, and the user did not allow that
NotServed          no model is served under a name, or its file cannot be loaded
InvalidRow         values are not a row for this model
PredictError       the model failed, or returned something that cannot be used
├── WrongShape
├── WrongType
└── NotFinite
"""

import msgspec


class InputWarning(msgspec.Struct, frozen=True, gc=False):
    """Values of a feature that are answered, and are unlike those of the training data.

    `row` is the number of the first of these rows, from 1; `count` is the number of such values.
    `code` is stable, `message` is for people.
    """

    feature: str
    code: str
    row: int
    count: int
    message: str


class CardError(Exception):
    """A model card is missing or cannot be read."""


class ArtifactError(Exception):
    """An artifact is missing, altered, from another version of scikit-learn, or not servable."""


class NotPromoted(ArtifactError):
    """A version does not take the place of the live one, or there is no such version."""


class NotWritten(ArtifactError):
    """An artifact or its card cannot be written: the disk is full, or may not be written to."""


class TableError(Exception):
    """A file is not a table of columns with names, or not one that a model can learn from."""


class TableNotFound(TableError):
    """There is no file at the path, or it may not be read."""


class SourceError(Exception):
    """A file or folder of another program holds no model that can be served."""


class SourceNotFound(SourceError):
    """There is no file at the path, or it may not be read."""


class Untrusted(SourceError):
    """Opening a model could run code, and the user did not allow that."""


UNKNOWN_MODEL, MODEL_UNAVAILABLE = "unknown_model", "model_unavailable"


class NotServed(Exception):
    """No model is served under a name: UNKNOWN_MODEL, or MODEL_UNAVAILABLE if there is a file.

    `code` is one of these two. `str()` names what is served, or why the file cannot be loaded.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class InvalidRow(Exception):
    """Values are not a row for this model, or the number of rows is not allowed.

    `code` is stable. `str()` names the feature, what came and what is allowed.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PredictError(Exception):
    """The model failed, or returned something that cannot be used."""

    code = "predict_failed"


class WrongShape(PredictError):
    """The model did not return one label or number per row; it may have several outputs."""


class WrongType(PredictError):
    """The model returned something that is no text, number, true or false."""


class NotFinite(PredictError):
    """The model returned NaN or infinity."""

    def __init__(self) -> None:
        super().__init__("the model's answer is not finite")


MAX_CHARACTERS = 200  # of a sentence about somebody else's error


def describe(error: BaseException) -> str:
    """The type and the text of an error of somebody else's code, in a form that JSON can hold."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # its own `__str__` fails
        text = type(error).__name__
    return text[:MAX_CHARACTERS].encode("utf-8", "backslashreplace").decode()
