"""The command ``eventstacks VERB``. A verb's module is loaded when the verb is called.

So that ``eventstacks VERB --help`` answers within 0.2 s, a module with verbs imports modules of the
package at its top as modules (``from eventstacks.cloudformation import run``): when it is
loaded for its help only, these imports are not carried out. It imports a name (``from … import
NAME``) only from modules that import nothing outside the standard library and click. For the same
reason its annotations are not evaluated (``from __future__ import annotations``).
"""

import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import signal
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

import click

from eventstacks.errors import ErrorCode, ToolError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# Section of the help → verb → its module in eventstacks.cli, and a line of at most 60 characters.
VERBS = {
    "Stacks": {
        "plan": ("stacks", "Show what a deployment would change."),
        "deploy": ("stacks", "Create or update stacks."),
        "status": ("stacks", "Show what is deployed, and in which state."),
        "outputs": ("stacks", "Print stack outputs."),
        "drift": ("stacks", "Show what was changed outside of CloudFormation."),
        "follow": ("stacks", "Watch operations in progress."),
        "recover": ("stacks", "Recover stacks stuck in a failed state."),
        "delete": ("stacks", "Delete stacks in reverse dependency order."),
    },
    "Events": {
        "send": ("send", "Send events to a bus."),
        "sample": ("events", "Print a sample event."),
        "tail": ("events", "Follow the events that stacks receive and log."),
        "redrive": ("replays", "Show dead-letter queue messages; redeliver them."),
        "archive-replay": ("replays", "Replay archived events."),
    },
    "Flow": {
        "trace": ("flow", "Show which targets an event reaches, and why not."),
        "match": ("flow", "Test whether an event pattern matches an event."),
    },
    "Project": {
        "init": ("project", "Create a new project."),
        "demo": ("project", "Deploy the stacks and watch events flow through them."),
        "new": ("project", "Create a new stack from a template."),
        "render": ("project", "Render templates/ into build/."),
        "lint": ("project", "Lint the rendered templates."),
        "local": ("project", "Start, stop and inspect the embedded AWS."),
    },
}
MODULES = {name: module for verbs in VERBS.values() for name, (module, _) in verbs.items()}


class _LazyFinder(PathFinder):
    """Load modules of this package when they are first used; packages (``__init__``) at once.

    Only for help: before Python 3.12.3 a second thread can see a half-loaded module of LazyLoader.
    """

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        is_ours = fullname.startswith("eventstacks.")
        spec = PathFinder.find_spec(fullname, path, target) if is_ours else None
        if spec and spec.loader and not spec.submodule_search_locations:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


class Verbs(click.Group):
    """The group of all verbs: ``VERBS`` says where each is, without loading it."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a verb's module and return its command."""
        if cmd_name not in MODULES:
            return None
        if ctx.resilient_parsing or not {"-h", "--help"}.isdisjoint(sys.argv):
            sys.meta_path.insert(0, _LazyFinder)  # the process ends with the help
        gc.disable()  # what modules create stays: to look for garbage in it takes 0.1 s
        module = importlib.import_module(f"eventstacks.cli.{MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        gc.freeze()
        gc.enable()
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the verbs by section."""
        for section, verbs in VERBS.items():
            with formatter.section(section):
                formatter.write_dl([(name, text) for name, (_, text) in verbs.items()])


@click.group(
    "eventstacks",
    cls=Verbs,
    commands=dict.fromkeys(MODULES, click.Command("loaded by get_command")),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="eventstacks")
def cli() -> None:
    """EventBridge stacks in raw CloudFormation, and tools to deploy and run them.

    \b
    Examples:
      eventstacks demo
      eventstacks init my-events
      eventstacks deploy --env dev --stack custom-event-bus
    """


def main(command: click.Command = cli) -> int:
    """Run a command, by default that of all verbs, and return its exit code.

    0, 1 failed, 2 usage, 3 changes found, 130 interrupted.
    """
    for number in SIGNALS:
        # One that is ignored stays so: nohup, or a script's background job.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # an encoding such as Latin-1 lacks characters
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = command.main(prog_name=command.name, standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a bug is raised again
        return _report(error, as_json="--json" in sys.argv)
    return code if isinstance(code, int) else 0


def _report(error: BaseException, *, as_json: bool) -> int:
    """Print the error that ended a verb.

    Return the exit code. Raises what is a bug of this program.
    """
    from eventstacks.cli import output  # noqa: PLC0415 - rich is not loaded for --help

    if isinstance(error, click.Abort | KeyboardInterrupt):
        for number in SIGNALS:  # of an impatient user
            signal.signal(number, signal.SIG_IGN)
        advice = str(error.__cause__ or error)  # what continues in AWS; click raises Abort from it
        output.echo(f"Interrupted. {advice}".rstrip(), err=True)
        known = ToolError("interrupted", code=ErrorCode.INTERRUPTED, advice=advice)
        exit_code = output.EXIT_INTERRUPTED
        for number in SIGNALS:  # the next one ends the process, though a call may still hang
            signal.signal(number, lambda *_: os._exit(exit_code))
        # After the last thread Python restores the default handlers, which would change the exit
        # code, and closes stdin, for which a question may still wait.
        atexit.register(os._exit, exit_code)
    elif isinstance(error, click.ClickException):
        error.show()
        known = ToolError(error.format_message(), code=ErrorCode.USAGE)
        exit_code = error.exit_code
    elif tool_error := as_tool_error(error):
        output.print_errors([tool_error])
        known, exit_code = tool_error, output.EXIT_FAILED
    else:
        raise error
    if as_json:
        click.echo(json.dumps({"error": known.document()}))
    return exit_code


def as_tool_error(error: BaseException) -> ToolError | None:
    """Return an error of the system or of AWS as a ToolError; None for a bug of this program."""
    if isinstance(error, ToolError):
        return error
    if isinstance(error, OSError):
        return ToolError(error.strerror or str(error), where=str(error.filename or ""))
    from eventstacks import aws  # noqa: PLC0415 - boto3 is not loaded for --help

    if not isinstance(error, aws.AWS_ERRORS):
        return None
    message, operation = aws.error_message(error), getattr(error, "operation_name", "")
    code = aws.error_code(error) or "no code"
    what = f"AWS refused {operation}: {message} ({code})" if operation else message
    return ToolError(what, code=ErrorCode.AWS_ERROR)


if __name__ == "__main__":
    sys.exit(main())
