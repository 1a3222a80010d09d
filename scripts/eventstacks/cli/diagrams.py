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
    """Draw the flow of each stack into docs/stacks: as SVG, and as Mermaid between the markers of its page.

    \b
    Examples:
      eventstacks diagrams
      eventstacks diagrams --check
    """
    from eventstacks import reference, rendering
    from eventstacks.cli import _pages
    from eventstacks.flow import diagram, graph, svg

    files: dict[Path, str] = {}
    for name, template in rendering.render_all().items():
        drawn = diagram.picture(graph.of_template(template))
        if drawn.nodes:  # none: a stack without events
            page = DOCS / f"{name}.md"
            files[DOCS / f"{name}.svg"] = svg.draw(drawn, f"The flow of {name}")
            files[page] = reference.insert(
                _pages.read(page), "flow", _section(name, diagram.mermaid(drawn))
            )
    return _pages.settle(files, check=check)


def _section(name: str, mermaid: str) -> str:
    return f"""![The flow of {name}]({name}.svg)

Drawn with the defaults of all parameters.

<details>
<summary>The same as text</summary>

```mermaid
{mermaid}```

</details>"""
