"""The commands of `petal`. Each is imported when it runs, so that none pays for the others."""

from importlib import import_module
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem
from typing_extensions import override

from cli.input.example import WithExample


class Entry(NamedTuple):
    """Where a command is, as `module:attribute`, and its sentence in the list of commands."""

    place: str
    summary: str


COMMANDS = {
    "api": Entry("cli.pipeline.processes:api", "Serve the REST service until Ctrl-C."),
    "ask": Entry("cli.ask:ask", "Ask for each value, print the label, and repeat."),
    "broker": Entry(
        "cli.pipeline.processes:broker", "Run the embedded broker, and create the topics."
    ),
    "completion": Entry("cli.completion:completion", "Print the completion script of a shell."),
    "dead-letters": Entry(
        "cli.maintenance.dead_letters:dead_letters",
        "List, show or replay records that could not be read.",
    ),
    "demo": Entry("cli.demo.command:demo", "Ask through every stage, send 1,000 tasks, check all."),
    "import": Entry(
        "cli.importing.command:import_model",
        "Save a fitted model of another program with a card.",
    ),
    "kafka": Entry("cli.pipeline.processes:kafka", "Run Apache Kafka on this machine."),
    "model": Entry(
        "cli.versions.command:model",
        "Promote a new version of the model, roll back, list versions.",
    ),
    "parity": Entry(
        "cli.parity.command:parity", "Ask the same rows through every stage, and compare."
    ),
    "predict": Entry(
        "cli.predict:predict", "Print the label of one row, or predict a file of rows."
    ),
    "rebuild": Entry(
        "cli.maintenance.rebuild:rebuild", "Rebuild the SQLite database from the topic `results`."
    ),
    "reconcile": Entry(
        "cli.maintenance.reconcile:reconcile", "Republish tasks that have no result."
    ),
    "results": Entry("cli.results:results", "List the newest results, or show one."),
    "sink": Entry("cli.pipeline.processes:sink", "Store results in SQLite until Ctrl-C."),
    "status": Entry("cli.status:status", "Report whether workers and sink are ready."),
    "train": Entry("cli.train:train", "Train a model on a table, and save it with its card."),
    "up": Entry("cli.pipeline.up:up", "Run broker, workers, sink and API until Ctrl-C."),
    "verify": Entry(
        "cli.maintenance.verify:verify", "Compare the topic `results` with the database."
    ),
    "wait": Entry("cli.wait:wait", "Wait for the result of a task."),
    "worker": Entry("cli.pipeline.processes:worker", "Answer tasks until Ctrl-C."),
}


class Commands(WithExample, click.Group):
    """The group of these commands; its list of them imports none."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].place.partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in sorted(COMMANDS)])

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=COMMANDS[name].summary)
            for name in self.list_commands(ctx)
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]
