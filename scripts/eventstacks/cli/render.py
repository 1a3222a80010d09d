"""``make render``."""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """Render templates/*.yaml.j2 into build/*.yaml.

    \b
    Example:
      eventstacks render
    """
    from eventstacks import rendering

    for one in rendering.render_all().values():
        print(f"{one.path}  {len(one.text.encode()):,} bytes")
