"""The key policy that docs/encryption.md proposes, held to what the templates ask of it."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from eventstacks import rendering
from eventstacks.flow import graph, permissions

PAGE = Path(__file__).parents[2] / "docs" / "encryption.md"
POLICY = json.loads(PAGE.read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0])
STACKS = [
    "buffered-worker",
    "custom-event-bus",
    "event-hub",
    "event-spoke",
    "rds-snapshot-events",
    "s3-object-events",
]
WHERE = {"name": "dev-x", "region": "eu-central-1", "account": "111122223333"}


def verdicts(stack, policy):
    """The messages of each rule's dead-letter queue, in a stack with a key that has this policy."""
    template = rendering.render(stack).document
    key = {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": policy}}
    resources = {**template["Resources"], "CustomerKey": key}
    template = {**template, "Resources": resources}
    template["Resources"]["DeadLetterQueue"]["Properties"]["KmsMasterKeyId"] = {
        "Ref": "CustomerKey"
    }
    flow = graph.of_template(
        template, {"KmsKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/x"}, **WHERE
    )
    return [
        permissions.of_dead_letters(flow, rule, target.dead_letters)
        for rule in flow.rules
        for target in rule.targets
    ]


@pytest.mark.parametrize("stack", STACKS)
def test_dead_letters_get_in_with_it_and_not_without(stack):
    assert all(one.allowed for one in verdicts(stack, POLICY))
    others = [one for one in POLICY["Statement"] if one["Sid"] != "EventBridge"]
    assert not any(one.allowed for one in verdicts(stack, {**POLICY, "Statement": others}))


@pytest.mark.parametrize("stack", STACKS)
def test_every_service_that_the_form_names_is_in_it(stack):
    said = (
        rendering.render(stack)
        .document["Parameters"]["KmsKeyArn"]["Description"]
        .replace("<region>", "eu-central-1")
    )
    services = set(re.findall(r"[a-z0-9.-]+\.amazonaws\.com", said))
    assert services
    assert services <= {one["Principal"].get("Service") for one in POLICY["Statement"]}


# Sources: the pages that docs/encryption.md names.
@pytest.mark.parametrize(
    ("service", "actions"),
    [
        ("events", ["DescribeKey", "GenerateDataKey", "Decrypt", "ReEncryptFrom", "ReEncryptTo"]),
        (
            "logs.eu-central-1",
            ["Encrypt", "Decrypt", "ReEncryptFrom", "GenerateDataKey", "DescribeKey"],
        ),
        ("cloudtrail", ["GenerateDataKey", "DescribeKey", "Decrypt"]),
    ],
)
def test_every_service_may_do_what_its_guide_asks_for(service, actions):
    (statement,) = [
        one
        for one in POLICY["Statement"]
        if one["Principal"].get("Service") == f"{service}.amazonaws.com"
    ]
    for action in actions:
        assert any(fnmatchcase(f"kms:{action}", one) for one in statement["Action"]), action


@pytest.mark.parametrize("key", ["", "arn:aws:kms:eu-central-1:111122223333:key/x"])
def test_what_the_key_cannot_be_used_for_goes_where_it_is_not_needed(key):
    """Source: EventBridge guide, 'Using dead-letter queues to capture encrypted event errors'."""
    flow = graph.of_template(
        rendering.render("custom-event-bus").document, {"KmsKeyArn": key}, **WHERE
    )
    (bus,) = [one for arn, one in flow.resources.items() if arn in flow.buses]
    queue = flow.resources.get((bus.properties.get("DeadLetterConfig") or {}).get("Arn"))
    if not key:
        assert queue is None
        assert "BusDeadLetterQueue" not in {one.logical_id for one in flow.resources.values()}
        return
    assert queue.properties["SqsManagedSseEnabled"] is True
    assert "KmsMasterKeyId" not in queue.properties
    asker = graph.Rule("EventBus", "EventBus", bus.arn, bus.arn, None)
    assert permissions.of_dead_letters(flow, asker, queue.arn).allowed
