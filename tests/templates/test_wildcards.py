"""A policy that says '*' says why, in a comment above the line or above its statement."""

import pytest
import yaml

from eventstacks import documents, rendering

POLICY_KEYS = {"Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal"}
STACKS = rendering.find(rendering.TEMPLATES)


def entries(node, statement=None):
    """Yield (key, value, line) of every policy statement in a YAML document.

    The line is where the statement around the key begins.
    """
    if isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from entries(one, one)
    elif isinstance(node, yaml.MappingNode):
        is_statement = any(key.value == "Effect" for key, _ in node.value)
        for key, value in node.value:
            if is_statement and key.value in POLICY_KEYS:
                yield key, value, (statement or node).start_mark.line
            else:
                yield from entries(value, statement)


def scalars(node):
    if isinstance(node, yaml.ScalarNode):
        yield node
    for one in node.value if isinstance(node, yaml.CollectionNode) else ():
        for part in one if isinstance(one, tuple) else (one,):
            yield from scalars(part)


def unexplained(text):
    lines = text.splitlines()
    return [
        f"{lines[key.start_mark.line].strip()} {scalar.value}"
        for key, value, top in entries(yaml.compose(text, Loader=documents._TemplateLoader))
        for scalar in scalars(value)
        if "*" in scalar.value
        and not any(
            "#" in lines[line]
            for line in (key.start_mark.line - 1, scalar.start_mark.line, top - 1)
        )
    ]


@pytest.mark.parametrize("stack", STACKS)
def test_every_wildcard_has_its_reason(stack):
    assert unexplained(rendering.render(stack).text) == []


@pytest.mark.parametrize("stack", STACKS)
def test_policies_in_json_have_no_wildcard(stack):
    # JSON has no comments, so nothing in it could be explained.
    for scalar in scalars(
        yaml.compose(rendering.render(stack).text, Loader=documents._TemplateLoader)
    ):
        if '"Statement"' in scalar.value:
            assert "*" not in scalar.value


@pytest.mark.parametrize(
    "wild",
    [
        "Action: s3:*",
        "Resource: '*'",
        "Resource: !Sub ${Bucket.Arn}/*",
        "Action: [a:B, c:*]",
        "Principal: {AWS: '*'}",
    ],
)
@pytest.mark.parametrize(
    ("before", "count"), [("", 1), ("        # any, since …\n", 0)], ids=["bare", "explained"]
)
def test_a_bare_wildcard_is_seen(wild, before, count):
    statement = (
        "Resources:\n  R:\n    Policy:\n      Statement:\n"
        f"      - Effect: Allow\n{before}        {wild}\n"
    )
    assert len(unexplained(statement)) == count
