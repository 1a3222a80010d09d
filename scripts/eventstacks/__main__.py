"""The command ``eventstacks VERB``. A verb's module is loaded when the verb is called.

So that ``eventstacks VERB --help`` answers within 0.2 s, a module with verbs imports modules of the
package at its top as modules (``from eventstacks.cloudformation import deployer``): when it is
loaded for its help only, these imports are not carried out. It imports a name (``from … import
NAME``) only from modules that import nothing outside the standard library and click.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import itertools
import json
import os
import signal
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.shell_completion import shell_complete

from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COMPLETE = "_EVENTSTACKS_COMPLETE"  # click's variable for shell completion


class Verb(NamedTuple):
    """Where a verb's function is, and what ``eventstacks --help`` says of it."""

    module: str  # of eventstacks.cli
    section: str
    help: str  # at most 60 characters: one line of 80 columns


VERBS = {
    "plan": Verb("stacks", "Stacks", "Show what a deployment would change."),
    "deploy": Verb("stacks", "Stacks", "Create or update stacks."),
    "status": Verb("stacks", "Stacks", "Show what is deployed, and in which state."),
    "outputs": Verb("stacks", "Stacks", "Print stack outputs."),
    "drift": Verb("stacks", "Stacks", "Show what was changed outside of CloudFormation."),
    "follow": Verb("stacks", "Stacks", "Watch operations in progress."),
    "recover": Verb("stacks", "Stacks", "Recover stacks stuck in a failed state."),
    "delete": Verb("stacks", "Stacks", "Delete stacks in reverse dependency order."),
    "send": Verb("send", "Events", "Send events to a bus."),
    "sample": Verb("events", "Events", "Print a sample event."),
    "tail": Verb("events", "Events", "Follow the events that stacks receive and log."),
    "redrive": Verb("replays", "Events", "Show dead-letter queue messages; redeliver them."),
    "archive-replay": Verb("replays", "Events", "Replay archived events."),
    "trace": Verb("flow", "Flow", "Show which targets an event reaches, and why not."),
    "match": Verb("flow", "Flow", "Test whether an event pattern matches an event."),
    "init": Verb("project", "Project", "Create a new project."),
    "demo": Verb("demo", "Project", "Deploy the stacks and watch events flow through them."),
    "new": Verb("project", "Project", "Create a new stack from a template."),
    "render": Verb("project", "Project", "Render templates/ into build/."),
    "lint": Verb("project", "Project", "Lint the rendered templates."),
    "local": Verb("project", "Project", "Start, stop and inspect the embedded AWS."),
    "taskcat": Verb("project", "Project", "Test deployments in many Regions with taskcat."),
}


class _LazyFinder(PathFinder):
    """Find modules of this package; packages (``__init__``) are loaded at once."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        is_ours = fullname.startswith("eventstacks.")
        spec = PathFinder.find_spec(fullname, path, target) if is_ours else None
        if spec and spec.loader and not spec.submodule_search_locations:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


@contextlib.contextmanager
def lazy_imports() -> Iterator[None]:
    """Delay the loading of this package's modules that are imported in the block.

    Only for help: before Python 3.12.3 a second thread can see a half-loaded module of LazyLoader.
    """
    sys.meta_path.insert(0, _LazyFinder)
    try:
        yield
    finally:
        sys.meta_path.remove(_LazyFinder)


class Verbs(click.Group):
    """The group of all verbs: ``VERBS`` says where each is, without loading it."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a verb's module and return its command; suggest the nearest for a misspelt one."""
        if cmd_name not in VERBS:
            near = difflib.get_close_matches(cmd_name, VERBS, n=1)
            if near and not ctx.resilient_parsing:  # the shell completes
                ctx.fail(f"No such command {cmd_name!r}. Did you mean {near[0]!r}?")
            return None
        only_help = ctx.resilient_parsing or not {"-h", "--help"}.isdisjoint(sys.argv)
        with lazy_imports() if only_help else contextlib.nullcontext():
            module = importlib.import_module(f"eventstacks.cli.{VERBS[cmd_name].module}")
            command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        command.name = cmd_name
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the verbs by section."""
        for section, names in itertools.groupby(VERBS, lambda name: VERBS[name].section):
            with formatter.section(section):
                formatter.write_dl([(name, VERBS[name].help) for name in names])


@click.group(
    cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
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
    """Run one verb and return its exit code.

    0, 1 failed, 2 usage, 3 changes found, 130 interrupted.
    """
    for number in SIGNALS:
        # One that is ignored stays so: nohup, or a script's background job.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # an encoding such as Latin-1 lacks characters
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if instruction := os.environ.get(COMPLETE):
        return shell_complete(cli, {}, "eventstacks", COMPLETE, instruction)
    try:
        # click's own main is not used: it exits with 1 for a closed pipe.
        with cli.make_context("eventstacks", sys.argv[1:]) as context:
            code = cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:  # `… | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a bug is raised again
        return _report(error, as_json="--json" in sys.argv)
    return code if isinstance(code, int) else 0


def _report(error: BaseException, *, as_json: bool) -> int:
    """Print the error that ended a verb.

    Return the exit code. Raises what is a bug of this program.
    """
    from eventstacks.cli import output  # noqa: PLC0415 - rich is not loaded for --help

    if isinstance(error, click.exceptions.Abort | KeyboardInterrupt):
        for number in SIGNALS:  # of an impatient user
            signal.signal(number, signal.SIG_IGN)
        output.echo(f"\nInterrupted. {error}".rstrip(), err=True)  # str: what continues in AWS
        known = ToolError("interrupted", code=ErrorCode.INTERRUPTED, advice=str(error))
        exit_code = output.EXIT_INTERRUPTED
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
