"""docs/lint-rules.md, from the rules themselves."""

from eventstacks.lint import RULES

HEAD = """\
# Lint rules

What `make lint` asks of a template on top of cfn-lint's own rules. They are for any template: `cfn-lint -a` with the
path of `scripts/eventstacks/lint` takes them from any folder. Each has fixtures in `tests/fixtures/lint/`.

A parameter may hold anything, whatever its default, and conditions are tried both ways: a finding is something that a
deployment can meet. Where the template cannot tell, there is none. What is *missing* is reported only if it is missing
whatever the conditions are, so a parameter may leave it out on purpose. A finding that is not wanted is switched off as
every rule of cfn-lint is: by `ignore_checks` in `.cfnlintrc`, or in a resource's `Metadata`, below `cfn-lint: config:`.

E: AWS refuses it, or it cannot work. W: it deploys, and loses events or surprises.

| Rule | What | Why |
| --- | --- | --- |
"""


def page() -> str:
    """The whole page; the table is made from id, shortdesc, description and source_url of each rule."""
    rows = (
        f"| {one.id} | [{one.shortdesc}]({one.source_url}) | {one.description} |\n" for one in RULES
    )
    return HEAD + "".join(rows)
