"""Resource policies and event selectors, without a server."""

import contextlib
import os
import subprocess
import sys

import pytest

os.environ.setdefault("BIND_HOST", "127.0.0.1")  # MiniStack reads it when it is imported

from eventstacks.flow import targets
from eventstacks.local import deliveries, policies, services
from eventstacks.local.ministack import NotDelivered

ARN = "arn:aws:s3:::data/a/b.txt"
QUEUE = "arn:aws:sqs:eu-central-1:000000000000:q"


def allow(**more):
    return {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:*",
        "Resource": "*",
        **more,
    }


@pytest.mark.parametrize(
    ("statements", "verdict"),
    [
        ([allow()], True),
        ([], False),
        ([allow(Principal="*")], True),
        ([allow(Principal={"Service": "s3.amazonaws.com"})], False),
        ([allow(Action="sqs:ReceiveMessage")], False),
        ([allow(Resource=QUEUE + "2")], False),
        ([allow(Condition={"ArnEquals": {"aws:SourceArn": "rule"}})], True),
        ([allow(Condition={"ArnLike": {"aws:SourceArn": "other*"}})], False),
        ([allow(Condition={"StringEquals": {"aws:SourceAccount": "000000000000"}})], True),
        ([allow(), allow(Effect="Deny")], False),
    ],
)
def test_a_resource_policy_admits(statements, verdict):
    keys = {"aws:sourcearn": "rule"}
    asked = (targets.EVENTS, "sqs:SendMessage", QUEUE, keys)
    assert policies.policies_allow([{"Statement": statements}], *asked) is verdict


def test_a_deny_in_another_policy_wins():
    both = [{"Statement": [allow()]}, {"Statement": [allow(Effect="Deny")]}]
    assert not policies.policies_allow(both, targets.EVENTS, "sqs:SendMessage", QUEUE, {})


@pytest.mark.parametrize(("effect", "is_sent"), [("Allow", True), ("Deny", False)])
def test_a_role_does_not_overrule_a_deny_of_the_target(monkeypatch, effect, is_sent):
    role = "arn:aws:iam::000000000000:role/r"
    policy = {"Statement": [allow(Principal={"AWS": role}, Effect=effect)]}
    monkeypatch.setattr(policies, "resource_policies", lambda _arn: [policy])
    monkeypatch.setattr(policies, "role_allows", lambda *_: True)
    target = targets.Target("", QUEUE, {"RoleArn": role})
    with contextlib.nullcontext() if is_sent else pytest.raises(NotDelivered):
        policies.check_permission(target, "rule")


def test_a_bus_of_another_account_is_not_this_accounts_bus_with_its_name():
    arn = "arn:aws:events:eu-central-1:{}:event-bus/default"
    assert deliveries.bus_of(targets.Target("", arn.format("000000000000"))) == "default"
    with pytest.raises(NotDelivered):
        deliveries.bus_of(targets.Target("", arn.format("111111111111")))


def advanced(**fields):
    return {
        "FieldSelectors": [
            {"Field": key.replace("_", "."), **value} for key, value in fields.items()
        ]
    }


def basic(*values, **more):
    return {"DataResources": [{"Type": "AWS::S3::Object", "Values": list(values)}], **more}


@pytest.mark.parametrize(
    ("selector", "verdict"),
    [
        (advanced(eventCategory={"Equals": ["Data"]}), True),
        (advanced(eventCategory={"Equals": ["Management"]}), False),
        (advanced(resources_ARN={"StartsWith": ["arn:aws:s3:::data/"]}), True),
        (
            advanced(resources_ARN={"StartsWith": ["arn:aws:s3:::other/", "arn:aws:s3:::data/a"]}),
            True,
        ),
        (advanced(resources_ARN={"NotStartsWith": ["arn:aws:s3:::data/"]}), False),
        (advanced(resources_ARN={"EndsWith": [".txt"], "NotEndsWith": [".tmp"]}), True),
        (advanced(eventName={"NotEquals": ["PutObject"]}), False),
        (advanced(readOnly={"Equals": ["true"]}), False),
        (basic("arn:aws:s3:::data/"), True),
        (basic("arn:aws:s3:::other/"), False),
        (basic("arn:aws:s3"), True),
        (basic(), False),
        (basic("arn:aws:s3", ReadWriteType="ReadOnly"), False),
        (basic("arn:aws:s3", ReadWriteType="WriteOnly"), True),
        ({"DataResources": [{"Type": "AWS::Lambda::Function", "Values": ["arn:aws:s3"]}]}, False),
    ],
)
def test_a_selector_takes_an_object(selector, verdict):
    values = {"eventCategory": "Data", "resources.type": "AWS::S3::Object", "resources.ARN": ARN}
    assert (
        services.selects(selector, {**values, "readOnly": "false", "eventName": "PutObject"})
        is verdict
    )


def test_looking_at_the_embedded_aws_does_not_load_it():
    code = (
        "import sys; from eventstacks.local import server; "
        "print([name for name in sys.modules if name.startswith('ministack')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
