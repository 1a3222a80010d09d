"""``make diagrams``."""

from __future__ import annotations

from pathlib import Path

import click

DOCS = Path("docs/stacks")


@click.command()
@click.option(
    "--check", is_flag=True, help="Draw nothing; exit 1 if a diagram is not what its template says."
)
def command(check: bool) -> int:
    """Draw the flow of each stack as Mermaid, between the markers of its page in docs/stacks.

    \b
    Examples:
      eventstacks diagrams
      eventstacks diagrams --check
    """
    from eventstacks import reference, rendering
    from eventstacks.cli import _pages
    from eventstacks.flow import diagram, graph

    files: dict[Path, str] = {}
    for name, template in rendering.render_all().items():
        drawn = diagram.picture(graph.of_template(template))
        if drawn.nodes:  # none: a stack without events
            page = DOCS / f"{name}.md"
            files[page] = reference.insert(
                _pages.read(page), "flow", _section(diagram.mermaid(drawn))
            )
    return _pages.settle(files, check=check)


def _section(mermaid: str) -> str:
    return f"""Drawn with the default of each parameter.

```mermaid
{mermaid}```"""
