"""``python -m scripts VERB``: every verb is a file in ``commands/``, loaded when it is called."""

from __future__ import annotations

import os
import signal
import sys

ENDINGS = (signal.SIGINT, signal.SIGTERM)
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130

if __name__ == "__main__":  # while the rest is being loaded nothing is under way that has to be ended
    for ending in ENDINGS:
        if signal.getsignal(ending) is not signal.SIG_IGN:
            signal.signal(ending, lambda *_: os._exit(EXIT_INTERRUPTED))

import contextlib  # noqa: E402
import importlib  # noqa: E402
import io  # noqa: E402
from pathlib import Path  # noqa: E402

import click  # noqa: E402

COMMANDS = Path(__file__).parent / "commands"


class Verbs(click.Group):
    """A group whose commands are the modules of ``scripts.commands``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The verbs, from the names of the files."""
        return sorted(path.stem.replace("_", "-") for path in COMMANDS.glob("[a-z]*.py"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command, its module loaded now."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"scripts.commands.{cmd_name.replace('-', '_')}").command
        command.name = cmd_name
        return command


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name=None, version="0.1.0", prog_name="eventbridge-stacks")
def cli() -> None:
    """EventBridge stacks in raw CloudFormation: render, lint, deploy, trace, send, follow.

    \b
    Examples:
      python -m scripts deploy --env local
      python -m scripts trace tests/events/custom-event-bus/order-placed.json
    """


def main() -> int:
    """Runs one verb and turns what went wrong into words and an exit code."""
    for one in ENDINGS:  # a cancelled CI job ends like Ctrl-C; what a script runs in the background hears neither
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # half a surrogate has no form in UTF-8, and much has none in Latin-1
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run()
        if sys.stdout:  # None when it is closed
            sys.stdout.flush()
    except BrokenPipeError:  # `… | head` has seen enough
        code = 0
    except OSError as error:  # also of what is written: a full disk
        code = _fail(error)
    else:
        return code
    for stream in (sys.stdout, sys.stderr):  # what is left in the buffers goes nowhere: else Python tries once more
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _run() -> int:
    try:
        # Not cli.main(): that would make an exit code 1 of a closed pipe.
        with cli.make_context("python -m scripts", sys.argv[1:]) as context:
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
    from scripts.commands._failures import describe

    if (text := describe(error)) is None:
        raise error
    with contextlib.suppress(OSError):  # nobody is left to hear it
        click.secho(text, err=True, fg="red" if sys.stderr.isatty() else None)
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
