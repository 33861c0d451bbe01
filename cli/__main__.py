"""The command line: `petal`, or `python -m cli`. Parses, calls, prints."""

import errno
import os
import sys
from typing import TypeGuard

import click

from cli.commands import Commands
from infra.process.imports import allow_current_folder

NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="petalstream", prog_name="petal")
@click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an unexpected error."
)
@click.option("--json", "as_json", is_flag=True, help="Print the stages as JSON.")
@click.pass_context
def petal(ctx: click.Context, as_json: bool) -> None:
    """One scikit-learn model through six stages, from notebook to Kafka task queue.

    Without a command: the stages, the command of each, and what is running now.
    """
    if ctx.invoked_subcommand is None:
        from cli.overview.command import overview

        overview(as_json)
    elif as_json:
        name = ctx.invoked_subcommand
        raise click.UsageError(f"--json belongs after the command: petal {name} --json")


def main() -> None:
    """Run `petal`; the one place where errors become a line on stderr and an exit code."""
    debug = "--debug" in sys.argv[1:2]
    allow_current_folder()
    if sys.stdout is None:  # closed by the shell (>&-)
        sys.exit("petal: standard output is closed; to drop the output: > /dev/null")
    try:
        code = petal.main(standalone_mode=False)
        sys.stdout.flush()  # a failure at Python's own end would end it with 120
    except click.ClickException as e:
        e.show()
        code = e.exit_code
    except (click.Abort, KeyboardInterrupt):
        from cli.exit_codes import INTERRUPTED

        code = INTERRUPTED
    except SystemExit:
        # click exits so when the reader of our output has left; that is not a failure.
        code = os.EX_OK
    except BrokenPipeError:
        _drop_output()
        code = os.EX_OK
    except Exception as e:
        code = _report(e, debug)
    sys.exit(code)


def _is_of_output(error: Exception) -> TypeGuard[OSError]:
    """Whether output could not be written; an error of another file has the file's name."""
    return isinstance(error, OSError) and error.errno in NOT_WRITTEN and error.filename is None


def _drop_output() -> None:
    """Python writes what is left at its end, and a second failure there would end it with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: Exception, debug: bool) -> int:
    from cli import exit_codes  # only here: it imports the errors of every command

    code = exit_codes.code_of(error)
    if _is_of_output(error):
        click.echo(f"petal: not all output was written: {error.strerror}", err=True)
        _drop_output()
        return os.EX_IOERR
    if code is None:
        if debug:
            raise error
        click.echo(
            f"petal: unexpected {type(error).__name__}: {error} (traceback: petal --debug …)",
            err=True,
        )
        return os.EX_SOFTWARE
    click.echo(f"petal: {exit_codes.sentence(error)}", err=True)
    return code


if __name__ == "__main__":
    main()
