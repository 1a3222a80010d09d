"""``make docs``."""

from __future__ import annotations

from pathlib import Path

import click

DOCS = Path("docs")
WIDTH = 100


@click.command()
@click.option(
    "--check", is_flag=True, help="Write nothing; exit 1 if a page is not what it is about."
)
@click.pass_context
def command(context: click.Context, check: bool) -> int:
    """Write what the docs take from the code: tables of parameters, outputs and lint rules, the help of each verb.

    \b
    Examples:
      eventstacks docs
      eventstacks docs --check
    """
    from eventstacks import reference, rendering
    from eventstacks.cli import _pages
    from eventstacks.errors import ToolError
    from eventstacks.lint._page import page as lint_rules_page

    pages: dict[Path, str] = {}
    for name, template in rendering.render_all().items():
        path = DOCS / "stacks" / f"{name}.md"
        try:
            parameters, outputs = reference.parameters(template), reference.outputs(template)
        except (AttributeError, TypeError):
            raise ToolError(
                "the form of its Parameters or of AWS::CloudFormation::Interface is none that CloudFormation takes",
                where=str(rendering.BUILD / f"{name}.yaml"),
                advice="What is wrong: make lint",
            ) from None
        page = reference.insert(_pages.read(path), "parameters", parameters)
        pages[path] = reference.insert(page, "outputs", outputs)
    pages[DOCS / "commands.md"] = (
        "# Commands\n\nAs `eventstacks VERB --help` says it.\n\n" + _helps(context)
    )
    pages[DOCS / "lint-rules.md"] = lint_rules_page()
    return _pages.settle(pages, check=check)


def _helps(context: click.Context) -> str:
    group = context.parent
    assert group is not None  # noqa: S101 - a verb is always called through the group
    assert isinstance(group.command, click.Group)  # noqa: S101
    found = (group.command.get_command(group, name) for name in group.command.list_commands(group))
    top = click.Context(
        group.command,
        info_name="eventstacks",
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=group.help_option_names,
    )
    return "\n".join(_help(verb, top) for verb in found if verb is not None)


def _help(verb: click.Command, parent: click.Context) -> str:
    """A verb's section, and those of the verbs in it: a context takes from its parent what it says of itself."""
    context = click.Context(verb, info_name=verb.name, parent=parent)
    path = context.command_path.removeprefix("eventstacks ")
    inner = verb.commands.values() if isinstance(verb, click.Group) else ()
    section = f"## {path}\n\n```\n{verb.get_help(context)}\n```\n"
    return "\n".join([section, *(_help(one, context) for one in inner)])
