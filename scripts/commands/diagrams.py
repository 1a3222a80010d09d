"""``make diagrams``."""

from __future__ import annotations

import re
from pathlib import Path

import click

DOCS = Path("docs/stacks")
BEGIN, END = "<!-- flow: drawn from the template by `make diagrams` -->", "<!-- end of flow -->"


@click.command()
@click.option("--check", is_flag=True, help="Draw nothing; exit 1 if a diagram is not what its template says.")
def command(check: bool) -> int:
    """Draw the flow of each stack into docs/stacks: as SVG, and as Mermaid between the markers of its page.

    \b
    Examples:
      python -m scripts diagrams
      python -m scripts diagrams --check
    """
    from scripts import rendering
    from scripts.flow import diagram, graph

    stale = []
    for name, template in rendering.render_all().items():
        drawn = diagram.picture(graph.of_template(template))
        if not drawn.nodes:  # a stack without events
            continue
        image, page = DOCS / f"{name}.svg", DOCS / f"{name}.md"
        known = page.read_text(encoding="utf-8") if page.exists() else f"# {name}\n\n{BEGIN}\n{END}\n"
        for path, text in (
            (image, diagram.draw(drawn, ".svg", f"The flow of {name}")),
            (page, _insert(known, name, diagram.mermaid(drawn))),
        ):
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue
            stale.append(path)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                print(f"{path}  drawn")
    for path in stale if check else ():
        click.echo(f"{path}: not what the template says; run `make diagrams`", err=True)
    return int(check and bool(stale))


def _insert(page: str, name: str, text: str) -> str:
    """The page with the flow between its markers; they are added below the title where they are missing."""
    block = (
        f"{BEGIN}\n![The flow of {name}]({name}.svg)\n\nDrawn with the defaults of all parameters.\n\n"
        f"<details>\n<summary>The same as text</summary>\n\n"
        f"```mermaid\n{text}```\n\n</details>\n{END}"
    )
    if BEGIN not in page:
        title, _, rest = page.partition("\n")
        page = f"{title}\n\n{BEGIN}\n{END}\n{rest}"
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: block, page, count=1, flags=re.DOTALL)
