"""The key policy that docs/encryption.md proposes, held to what the templates ask of it."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from scripts import rendering
from scripts.flow import graph, permissions

PAGE = Path(__file__).parents[2] / "docs" / "encryption.md"
POLICY = json.loads(PAGE.read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0])
STACKS = ["custom-event-bus", "rds-snapshot-events", "s3-object-events"]
WHERE = {"name": "dev-x", "region": "eu-central-1", "account": "111122223333"}


def verdicts(stack, policy):
    """Of each rule's dead letters, in a stack that takes a key with this policy."""
    template = rendering.render(stack)[1]
    key = {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": policy}}
    resources = {**template["Resources"], "CustomerKey": key}
    template = {**template, "Resources": resources}
    template["Resources"]["DeadLetterQueue"]["Properties"]["KmsMasterKeyId"] = {"Ref": "CustomerKey"}
    flow = graph.of_template(template, {"KmsKeyArn": "arn:aws:kms:eu-central-1:111122223333:key/x"}, **WHERE)
    return [
        permissions.of_dead_letters(flow, rule, target.dead_letters) for rule in flow.rules for target in rule.targets
    ]


@pytest.mark.parametrize("stack", STACKS)
def test_dead_letters_get_in_with_it_and_not_without(stack):
    assert all(one.allowed for one in verdicts(stack, POLICY))
    others = [one for one in POLICY["Statement"] if one["Sid"] != "BusesArchivesAndDeadLetters"]
    assert not any(one.allowed for one in verdicts(stack, {**POLICY, "Statement": others}))


@pytest.mark.parametrize("stack", STACKS)
def test_every_service_that_the_form_names_is_in_it(stack):
    said = rendering.render(stack)[1]["Parameters"]["KmsKeyArn"]["Description"].replace("<region>", "eu-central-1")
    services = set(re.findall(r"[a-z0-9.-]+\.amazonaws\.com", said))
    assert services
    assert services <= {one["Principal"].get("Service") for one in POLICY["Statement"]}


# Sources: the pages that docs/encryption.md names.
@pytest.mark.parametrize(("service", "actions"), [
    ("events", ["DescribeKey", "GenerateDataKey", "Decrypt", "ReEncryptFrom", "ReEncryptTo"]),
    ("logs.eu-central-1", ["Encrypt", "Decrypt", "ReEncryptFrom", "GenerateDataKey", "DescribeKey"]),
    ("cloudtrail", ["GenerateDataKey", "DescribeKey", "Decrypt"]),
])  # fmt: skip
def test_every_service_may_do_what_its_guide_asks_for(service, actions):
    (statement,) = [one for one in POLICY["Statement"] if one["Principal"].get("Service") == f"{service}.amazonaws.com"]
    for action in actions:
        assert any(fnmatchcase(f"kms:{action}", one) for one in statement["Action"]), action
