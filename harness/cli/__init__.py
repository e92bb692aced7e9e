"""The `harness` command: argv to a configuration, a run, rows. Nothing heavy is imported until a command needs it."""

import errno
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Annotated

import typer

from harness.cli import reproducing, showing
from harness.cli.data import data_app
from harness.cli.options import BAD_INPUT, COMPLETE, UNFINISHED
from harness.cli.running import estimate_app, run_app
from harness.cli.saying import complain

ABOUT = "Whether a small condensed memory can stand in for the full data: in class-incremental streams, in the papers' \
tables, and in architecture search."

BROKEN_PIPE = 128 + 13  # as shells count the signal SIGPIPE
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NOT_TO_BE_WRITTEN = (errno.EROFS, errno.EISDIR, errno.ENAMETOOLONG)

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=ABOUT)
app.add_typer(run_app, name="run")
app.add_typer(estimate_app, name="estimate")
app.command()(showing.table)
app.command("tabular")(showing.gather)
app.command()(showing.plot)
app.command()(showing.report)
app.command()(reproducing.reproduce)
app.command()(showing.ls)
app.command()(showing.show)
app.command()(showing.doctor)
app.command()(showing.bench)
app.command()(showing.export)
app.command()(showing.merge)
app.add_typer(data_app, name="data")


def _say_version(is_asked: bool) -> None:
    if is_asked:
        print(f"condensation-harness {metadata.version('condensation-harness')}")
        raise typer.Exit(COMPLETE)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    It is 0 for complete, 1 for an error of this program, 2 for bad input, 3 for stopped with work left, 4 for a
    published number that is not reached, and 141 where the reader of the output has left.
    """
    warnings.showwarning = _warn
    command: Callable[..., object] = typer.main.get_command(app)
    try:
        result = command(args=None if argv is None else list(argv), prog_name="harness", standalone_mode=False)
    except (ValueError, FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError) as error:
        complain(" ".join(str(error).split()))
        return BAD_INPUT
    except typer.Exit as done:
        return done.exit_code
    except SystemExit:  # typer ends so where the reader of a pipe has left, and nowhere else
        return BROKEN_PIPE
    except KeyboardInterrupt:
        complain("interrupted; the same command continues")
        return UNFINISHED
    except OSError as error:
        if (code := _disk_error(error)) is None:
            raise
        return code
    except Exception as error:
        if (code := _usage_error(error)) is None:
            raise
        return code
    return result if isinstance(result, int) else COMPLETE


def _usage_error(error: Exception) -> int | None:
    """Return the exit code of an error of the option parser, which has printed its message; None for other errors."""
    message = getattr(error, "format_message", None)
    if message is None:
        return None
    if text := message().strip():  # none where no command was given: the help has been shown
        complain(text)
    return BAD_INPUT


def _disk_error(error: OSError) -> int | None:
    """Print an error of the user's disk or directory and return its exit code; None for other errors."""
    if error.errno in NO_ROOM:
        complain(f"{error.strerror}; once there is room, the same command continues")
        return UNFINISHED
    if error.errno in NOT_TO_BE_WRITTEN:
        complain(f"{error.filename or '.'}: cannot be written ({error.strerror}); name another place")
        return BAD_INPUT
    return None


def _warn(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if category is UserWarning:
        complain(f"warning: {message}")


def entry() -> None:
    """Run the command line as the console script."""
    sys.exit(main())
