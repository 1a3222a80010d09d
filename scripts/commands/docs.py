"""``make docs``."""

from __future__ import annotations

from pathlib import Path

import click

DOCS = Path("docs")
WIDTH = 100


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a page is not what it is about.")
@click.pass_context
def command(context: click.Context, check: bool) -> int:
    """Write what the docs take from the code: tables of parameters, outputs and lint rules, the help of each verb.

    \b
    Examples:
      python -m scripts docs
      python -m scripts docs --check
    """
    from scripts import reference, rendering
    from scripts.commands import _pages
    from scripts.lint_rules._page import page as lint_rules_page

    pages: dict[Path, str] = {}
    for name, template in rendering.render_all().items():
        path = DOCS / "stacks" / f"{name}.md"
        page = reference.insert(_pages.read(path), "parameters", reference.parameters(template))
        pages[path] = reference.insert(page, "outputs", reference.outputs(template))
    pages[DOCS / "commands.md"] = "# Commands\n\nAs `python -m scripts VERB --help` says it.\n\n" + _helps(context)
    pages[DOCS / "lint-rules.md"] = lint_rules_page()
    return _pages.settle(pages, "make docs", check=check)


def _helps(context: click.Context) -> str:
    group = context.parent
    assert group is not None  # noqa: S101 - a verb is always called through the group
    assert isinstance(group.command, click.Group)  # noqa: S101
    parts = []
    for name in group.command.list_commands(group):
        verb = group.command.get_command(group, name)
        if verb is not None:
            made = click.Context(
                verb, info_name=f"python -m scripts {name}", max_content_width=WIDTH, terminal_width=WIDTH
            )
            parts.append(f"## {name}\n\n```\n{verb.get_help(made)}\n```\n")
    return "\n".join(parts)
