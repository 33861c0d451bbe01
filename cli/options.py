"""Options and arguments that several commands share."""

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds to wait for each result.",
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
