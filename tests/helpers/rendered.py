"""Rendered templates for tests that need no files."""

import json
from pathlib import Path

from eventstacks.rendering import RenderedTemplate, Templates


def rendered(document, name="template", text=None):
    """Return a template with this document; its text is JSON by default."""
    text = text if text is not None else json.dumps(document, default=str)
    path = Path("build") / f"{name}.yaml"
    return RenderedTemplate(name, text, document, path)


def templates(**documents):
    """Return what ``rendering.render_all`` would: a rendered template for each document."""
    found = Templates(Path("nowhere"), Path("nowhere"))
    found.update({name: rendered(document, name) for name, document in documents.items()})
    return found
