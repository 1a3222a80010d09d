"""``python -m scripts VERB``: every verb is a file in ``commands/``, loaded when it is called."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

COMMANDS = Path(__file__).parent / "commands"
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


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
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        print("Interrupted.", file=sys.stderr)  # noqa: T201 - the last word of every command
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:  # `… | head` has seen enough
        sys.stderr.close()
        return 0
    except Exception as error:
        from scripts.commands._failures import describe

        if (text := describe(error)) is None:
            raise
        click.secho(text, err=True, fg="red" if sys.stderr.isatty() else None)
        return EXIT_FAILED
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
