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

    for name in rendering.render_all():
        path = rendering.BUILD / f"{name}.yaml"
        print(f"{path}  {path.stat().st_size:,} bytes")
