"""Options and arguments that several commands share."""

import click

from cli.completion import ModelName


class Delimiter(click.ParamType):
    """One character, or the name of one that a shell makes hard to type."""

    name = "delimiter"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text = {"tab": "\t", "\\t": "\t", "space": " "}.get(str(value), str(value))
        if len(text) != 1 or text in '"\r\n':
            self.fail(f"{text[:40]!r} is not one character, tab or space", param, ctx)
        return text


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
model_option = click.option(
    "--model",
    type=ModelName(),
    metavar="NAME[@VERSION]|PATH",
    help="A model of PETAL_MODELS by name, with or without a version, or a .joblib file; by "
    "default PETAL_MODEL.",
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds to wait for each result.",
)
delimiter_option = click.option(
    "--delimiter",
    type=Delimiter(),
    help="What separates the values of a line that is read: a character, tab or space. "
    "Default: tab, ';', '|', ',' or spaces, whichever makes rows.",
)
decimal_option = click.option(
    "--decimal",
    type=click.Choice([".", ","]),
    help="The decimal sign of numbers that are read. Default: '.', or ',' if ';', '|' or tab "
    "separates the values and the first number with a decimal sign has a comma.",
)
table_delimiter_option = click.option(
    "--delimiter",
    type=Delimiter(),
    help="What separates the values of a text file: a character, tab or space. Default: as the "
    "header and the first rows show.",
)
table_decimal_option = click.option(
    "--decimal",
    type=click.Choice([".", ","]),
    help="The decimal sign of a text file. Default: as the numbers of each column show.",
)
table_encoding_option = click.option(
    "--encoding",
    help="The encoding of a text file, such as cp1252 of Excel on Windows. Default: UTF-8, or what "
    "a byte order mark says.",
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Maximum number of lines.",
)


def task_id(_ctx: click.Context, _param: click.Parameter, text: str | None) -> str | None:
    """Callback of an argument that is a task id; raises a usage error."""
    from streams.events import is_id

    if text is not None and not is_id(text):
        raise click.BadParameter(f"{text[:40]!r} is not a task id, a lower-case UUID4")
    return text
