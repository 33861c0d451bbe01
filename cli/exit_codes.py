"""The exit code of each error, and how an error is printed. The codes are those of sysexits.h."""

import os

from cli.backends import RequestRefused, ServiceUnavailable
from cli.bulk.errors import InputUnusable, NoAnswer, OtherModel, OutputUnusable, UnknownFormat
from cli.demo.errors import CheckFailed, ProcessFailed
from cli.input.errors import UnreadableInput, UnreadableLine
from cli.output import plain
from cli.results import ResultNotFound
from cli.versions.workers import NotTaken, NotTakenYet
from infra.errors import BrokerUnavailable, ConfigError, TopicMismatch
from model.errors import (
    ArtifactError,
    CardError,
    InvalidRow,
    NotServed,
    NotWritten,
    PredictError,
    SourceError,
    SourceNotFound,
    TableError,
    TableNotFound,
    Untrusted,
)
from streams.errors import (
    IdConflict,
    LogReplaced,
    PipelineRefused,
    PipelineUnavailable,
    ResultTimeout,
    StoreBusy,
    StoreError,
    TaskTooLarge,
    UnknownOutcome,
    UnreadableResult,
)

NOT_FOUND = 1  # as grep
FAILED = 1  # as pytest
USAGE = 2  # as click
INTERRUPTED = 130  # as a shell after Ctrl-C

# What each code means for every command and process; the README's table is made of these.
MEANINGS: dict[int, str] = {
    os.EX_OK: "done; also after Ctrl-C for what runs until then, and where the reader of a pipe "
    "has left",
    NOT_FOUND: "a check found a difference, there is no such result, you answered no, or standard "
    "output is closed",
    USAGE: "an invalid option, row or name of a model",
    os.EX_DATAERR: "data that cannot be read, learned from or answered, or that a service refuses",
    os.EX_NOINPUT: "a file to read is not there",
    os.EX_UNAVAILABLE: "a service is not there, is busy, or is not ready",
    os.EX_SOFTWARE: "an unexpected error; `petal --debug` shows where",
    os.EX_CANTCREAT: "a file cannot be written",
    os.EX_IOERR: "standard output did not take everything, as on a full disk",
    os.EX_TEMPFAIL: "too late or in use: the same command may work later",
    os.EX_NOPERM: "a model whose file could run code, without `--trust`",
    os.EX_CONFIG: "settings, a model or a database that cannot work; a person must change them",
    INTERRUPTED: "Ctrl-C",
}

CODES: dict[type[Exception], int] = {
    InvalidRow: USAGE,
    NotServed: USAGE,
    CardError: os.EX_CONFIG,
    ArtifactError: os.EX_CONFIG,
    NotWritten: os.EX_CANTCREAT,
    NotTaken: os.EX_CONFIG,
    NotTakenYet: os.EX_TEMPFAIL,
    PredictError: os.EX_DATAERR,
    TableError: os.EX_DATAERR,
    TableNotFound: os.EX_NOINPUT,
    SourceError: os.EX_DATAERR,
    SourceNotFound: os.EX_NOINPUT,
    Untrusted: os.EX_NOPERM,
    ConfigError: os.EX_CONFIG,
    BrokerUnavailable: os.EX_UNAVAILABLE,
    TopicMismatch: os.EX_CONFIG,
    StoreError: os.EX_CONFIG,
    StoreBusy: os.EX_TEMPFAIL,
    LogReplaced: os.EX_TEMPFAIL,
    PipelineRefused: os.EX_CONFIG,
    PipelineUnavailable: os.EX_UNAVAILABLE,
    UnknownOutcome: os.EX_TEMPFAIL,
    ResultTimeout: os.EX_TEMPFAIL,
    TaskTooLarge: os.EX_DATAERR,
    UnreadableResult: os.EX_DATAERR,
    IdConflict: os.EX_DATAERR,
    RequestRefused: os.EX_DATAERR,
    ServiceUnavailable: os.EX_UNAVAILABLE,
    ResultNotFound: NOT_FOUND,
    CheckFailed: FAILED,
    ProcessFailed: FAILED,
    UnreadableLine: os.EX_DATAERR,
    UnreadableInput: os.EX_DATAERR,
    UnknownFormat: USAGE,
    InputUnusable: os.EX_NOINPUT,
    OutputUnusable: os.EX_CANTCREAT,
    OtherModel: os.EX_CONFIG,
    NoAnswer: os.EX_TEMPFAIL,
}


def code_of(error: Exception) -> int | None:
    """The exit code of an error, or None for an unexpected one."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), None)


def sentence(error: Exception) -> str:
    """The error for people: its sentence, then its code in brackets or the command to go on."""
    text = str(error)
    if isinstance(error, ResultTimeout):
        text = f"{error}; to wait longer: petal wait {error.task_id}"
    if isinstance(error, InvalidRow | NotServed | PredictError | RequestRefused):
        text = f"{error} ({error.code})"
    return plain(text)
