"""``eventstacks VERB``: every verb is a file in ``commands/``, loaded when it is called."""

from __future__ import annotations

import os
import signal
import sys

ENDINGS = (signal.SIGINT, signal.SIGTERM)
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130

if (
    __name__ == "__main__"
):  # while the rest is being loaded nothing is under way that has to be ended
    for ending in ENDINGS:
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, lambda *_: os._exit(EXIT_INTERRUPTED))

import contextlib  # noqa: E402
import errno  # noqa: E402
import importlib  # noqa: E402
import io  # noqa: E402
from pathlib import Path  # noqa: E402

import click  # noqa: E402

COMMANDS = Path(__file__).parent / "cli"
DEEPEST = 4000  # calls: AWS takes details nested 1000 deep, and Python 3.11 reads JSON no deeper than its limit, 1000


class Verbs(click.Group):
    """A group whose commands are the modules of ``eventstacks.cli``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The verbs, from the names of the files."""
        return sorted(path.stem.replace("_", "-") for path in COMMANDS.glob("[a-z]*.py"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command, its module loaded now."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(
            f"eventstacks.cli.{cmd_name.replace('-', '_')}"
        ).command
        command.name = cmd_name
        return command


class Closed(io.RawIOBase):
    """Stdin after ``<&-``: reading it is an error, and the words name it."""

    def readable(self) -> bool:
        """Yes, as far as the question goes."""
        return True

    def readinto(self, _buffer: object) -> int:
        """Raises OSError."""
        raise OSError(errno.EBADF, "it is closed", "stdin")


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="eventstacks")
def cli() -> None:
    """EventBridge stacks in raw CloudFormation: render, lint, deploy, trace, send, follow.

    \b
    Examples:
      eventstacks deploy --env local
      eventstacks trace tests/events/custom-event-bus/order-placed.json
    """


def main() -> int:
    """Runs one verb and turns what went wrong into words and an exit code."""
    sys.setrecursionlimit(DEEPEST)
    for one in (
        ENDINGS
    ):  # a cancelled CI job ends like Ctrl-C; what a script runs in the background hears neither
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, signal.default_int_handler)
    _prepare_streams()
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head` has seen enough
        code = 0
    except OSError as error:  # also of what is written: a full disk
        code = _fail(error)
    else:
        return code
    for stream in (
        sys.stdout,
        sys.stderr,
    ):  # what cannot be written now goes nowhere: else Python tries once more
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _prepare_streams() -> None:
    """Each is there, also after `<&-` and `>&-` (the next file that is opened would take its place), and takes all."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as the program
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # half a surrogate has no form in UTF-8, and much has none in Latin-1
            stream.reconfigure(errors="backslashreplace")
    sys.stdin = sys.stdin or io.TextIOWrapper(io.BufferedReader(Closed()))


def _run() -> int:
    from eventstacks.cli import _stacks

    try:
        # Not cli.main(): that would make an exit code 1 of a closed pipe.
        with cli.make_context("eventstacks", sys.argv[1:], color=_stacks.colour()) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        print("\nInterrupted.", file=sys.stderr)  # noqa: T201 - the last word of every command
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - raised again if it is a fault of this program
        return _fail(error)
    return code if isinstance(code, int) else 0


def _fail(error: Exception) -> int:
    from eventstacks.cli import _stacks
    from eventstacks.cli._failures import describe

    if (text := describe(error)) is None:
        raise error
    with contextlib.suppress(OSError):  # nobody is left to hear it
        click.secho(text, err=True, fg="red", color=_stacks.colour())
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
