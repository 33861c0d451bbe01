"""`petal completion`, and what a shell completes: the files that a command reads, and models."""

import os
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class
from typing_extensions import override

from infra import config
from infra.errors import ConfigError

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_PETAL_COMPLETE"  # as click calls it
ARTIFACTS = (".joblib",)
TABLES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet")
COMPRESSED = tuple(f"{ending}.gz" for ending in (*TABLES, ".json"))
MAX_ENTRIES = 2000  # of a folder that are looked at


@click.command(epilog="Example:  petal completion bash >> ~/.bashrc")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that lets a SHELL complete commands, options and files.

    \b
    petal completion bash >> ~/.bashrc
    petal completion zsh >> ~/.zshrc       (below the line with compinit)
    petal completion fish > ~/.config/fish/completions/petal.fish
    """
    from cli.commands import Commands

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(Commands("petal"), {}, "petal", VARIABLE).source())


class FilePath(click.Path):
    """A path, of which a shell completes the files with some endings."""

    def __init__(self, endings: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self._endings = tuple(endings)

    @override
    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The files, also those in folders that fit; if there are none, what the shell has."""
        return _items(files(incomplete, self._endings)) or super().shell_complete(
            ctx, param, incomplete
        )


class ModelName(click.ParamType):
    """The model that `cli.input.model` chooses: a name, or a path."""

    name = "model"

    @override
    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names of the folder PETAL_MODELS, and the artifacts."""
        known = (name for name in _names() if name.startswith(incomplete))
        found = _items([*known, *files(incomplete, ARTIFACTS)])
        return found or [CompletionItem(incomplete, type="file")]


def _items(values: Sequence[str]) -> list[CompletionItem]:
    return [CompletionItem(value) for value in values]


def files(incomplete: str, endings: tuple[str, ...]) -> list[str]:
    """The files that begin so and have one of the endings, and those in folders that begin so.

    Names that a shell would have to quote are left out, as click's scripts do not quote.
    """
    folder, start = os.path.split(incomplete)
    found: list[str] = []
    for name in _names_in(folder, start):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            found += (os.path.join(path, inner) for inner in _names_in(path, ""))
        else:
            found.append(path)
    fitting = (path for path in found if path.lower().endswith(endings))
    return sorted(path for path in fitting if path == shlex.quote(path) and os.path.isfile(path))


def _names_in(folder: str, start: str) -> Iterator[str]:
    """The names of a folder that begin so; hidden ones only if `start` has the dot."""
    try:
        names = os.listdir(folder or os.curdir)[:MAX_ENTRIES]
    except OSError:
        return
    for name in names:
        if name.startswith(start) and (start or not name.startswith(".")):
            yield name


def _names() -> list[str]:
    """The names of models of PETAL_MODELS, each with its versions."""
    from model import folder
    from model.errors import ArtifactError

    try:
        settings = config.load()
        found = folder.all_files(settings.model, settings.models, "")
    except (ArtifactError, ConfigError):
        return []
    known = {file.name for file in found}
    known |= {f"{file.name}@{file.version}" for file in found if file.version}
    return sorted(name for name in known if name)
