"""The metadata string beside an offset that a group commits: what the offset alone does not say."""

import msgspec

from infra.broker.log_id import is_same_log


class CommitMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a process commits beside an offset; an empty field is not known.

    `log`: the id of the log that the offset belongs to (`infra.broker.log_id`).
    `attempts`: how often in a row a process has ended at this offset.
    """

    log: str = ""
    attempts: int = 0


_decode = msgspec.json.Decoder(CommitMetadata).decode
_encode = msgspec.json.Encoder().encode


def encode(metadata: CommitMetadata) -> str:
    """The metadata string; under 100 characters, where Kafka's limit is 4,096."""
    return _encode(metadata).decode()


def decode(text: str | None) -> CommitMetadata:
    """The fields of a metadata string; all empty for one that another program wrote, or none."""
    try:
        return _decode(text or "")
    except (msgspec.DecodeError, UnicodeEncodeError):
        return CommitMetadata()


def is_of_log(text: str | None, log: str) -> bool:
    """Whether the metadata names this log, or none: the embedded broker keeps no metadata."""
    named = decode(text).log
    return not named or is_same_log(named, log)
