"""event-bus-v2, which the embedded AWS cannot create.

It is held to the model of the API and to the resource schemas.
"""

import itertools
import json

import boto3
import pytest
from botocore.stub import Stubber
from cfnlint.helpers import REGIONS
from cfnlint.schema import ResourceNotFoundError
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from dev import variants
from eventstacks import rendering
from eventstacks.flow import graph, permissions, resolve

REGION, ACCOUNT = "eu-central-1", "111122223333"
ID = "a1b2c3d4e5f6g7h8i9j0k1l2m"  # 25 characters
BUS = f"arn:aws:events:{REGION}:{ACCOUNT}:event-busv2/shop-events/{ID}"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
PUBLISHERS = "arn:aws:iam::444455556666:root,arn:aws:iam::444455556666:role/shop"
CHOICES = [
    {},
    {"KmsKeyArn": KEY},
    {"PublisherArns": PUBLISHERS, "PublisherSources": "com.example.*"},
    {"ClassicEventBusName": "old-events", "RetentionInDays": "365"},
]
CREATE = {"EventBus": "create_event_bus", "Subscriber": "create_subscriber"}


@pytest.fixture(scope="module")
def template():
    return rendering.render("event-bus-v2").document


def of_kind(resources, kind):
    return {name: one for name, one in resources.items() if one["Type"] == f"AWS::EventsV2::{kind}"}


def resolved(template, parameters):
    """The template's resources as CloudFormation passes them to the service, with the bus's ARN."""
    chosen = variants.variant(template, parameters)["Resources"]
    stack = resolve.Stack(template, parameters, "shop", REGION, ACCOUNT, {"EventBus": BUS})
    numbers = {"MaxEventAgeInSeconds", "RetentionPeriodInDays"}

    def typed(node):
        if isinstance(node, dict):
            return {
                key: int(value) if key in numbers else typed(value) for key, value in node.items()
            }
        return [typed(one) for one in node] if isinstance(node, list) else node

    return {
        name: {**one, "Properties": typed(stack.resolve(one["Properties"]))}
        for name, one in chosen.items()
    }


@pytest.mark.parametrize("parameters", CHOICES, ids=["defaults", "key", "publishers", "bridge"])
def test_the_service_accepts_every_resource(template, parameters):
    client = boto3.client("eventbridgev2", REGION, aws_access_key_id="x", aws_secret_access_key="x")
    resources = resolved(template, parameters)
    with Stubber(client) as service:
        for kind, operation in CREATE.items():
            for one in of_kind(resources, kind).values():
                given = dict(one["Properties"])
                given["Tags"] = {tag["Key"]: tag["Value"] for tag in given["Tags"]}
                service.add_response(operation, {}, given)
                getattr(client, operation)(**given)
        ((_, policy),) = of_kind(resources, "ResourcePolicy").items()
        given = policy["Properties"]
        given = {
            "ResourceArn": given["EventBusArn"],
            "PolicyDocument": json.dumps(given["PolicyDocument"]),
        }
        answer = {"ResourceArn": BUS, "PolicyName": "default"}
        service.add_response("put_resource_policy", answer, given)
        client.put_resource_policy(**given)
        service.assert_no_pending_responses()


def test_the_bus_accepts_its_own_account_and_the_chosen_publishers(template):
    def statements(parameters):
        (policy,) = of_kind(resolved(template, parameters), "ResourcePolicy").values()
        return policy["Properties"]["PolicyDocument"]["Statement"]

    (own,) = statements({})
    assert own["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    own, others = statements(CHOICES[2])
    assert others["Principal"]["AWS"] == PUBLISHERS.split(",")
    condition = others["Condition"]
    assert condition["ForAllValues:StringLike"] == {"events:source": ["com.example.*"]}
    assert condition["Null"] == {"events:source": "false"}


def test_subscribers_are_created_one_after_another(template):
    subscribers = of_kind(template["Resources"], "Subscriber")
    for before, after in itertools.pairwise(subscribers):
        assert subscribers[after]["DependsOn"] == before


def test_every_subscriber_has_a_failure_queue_and_retries_longer_than_five_minutes(template):
    for one in of_kind(resolved(template, {}), "Subscriber").values():
        assert ":sqs:" in one["Properties"]["OnFailureConfiguration"]["Arn"]
        assert one["Properties"]["RetryPolicy"]["MaxEventAgeInSeconds"] > 300


def test_a_role_may_deliver_and_report_failures_and_nothing_else(template):
    flow = graph.of_template(template, CHOICES[3], name="shop", region=REGION, account=ACCOUNT)
    roles = {one.logical_id: one for one in flow.resources.values() if one.type.endswith("Role")}
    arns = {one.logical_id: arn for arn, one in flow.resources.items()}

    def may(role, action, logical_id):
        policies = permissions.policies_of_role(flow, roles[role])
        verdict = permissions.evaluate(policies, None, action, arns[logical_id], {})
        return bool(verdict and verdict.allowed)

    assert may("WorkSubscriberRole", "sqs:SendMessage", "WorkQueue")
    assert may("WorkSubscriberRole", "sqs:SendMessage", "FailureQueue")
    assert not may("WorkSubscriberRole", "sqs:ReceiveMessage", "FailureQueue")
    assert not may("WorkSubscriberRole", "sqs:SendMessage", "WorkDeadLetterQueue")
    assert not may("WorkSubscriberRole", "lambda:InvokeFunction", "LogFunction")
    assert may("LogSubscriberRole", "lambda:InvokeFunction", "LogFunction")
    assert may("LogSubscriberRole", "sqs:SendMessage", "FailureQueue")
    assert not may("LogSubscriberRole", "sqs:SendMessage", "WorkQueue")
    for action in ("events:PutEvents", "events:PutRawEvents"):
        assert may("BridgeRole", action, "EventBus")
    assert not may("BridgeRole", "events:DeleteEventBus", "EventBus")


def test_the_bridge_may_deliver_to_the_bus(template):
    flow = graph.of_template(template, CHOICES[3], name="shop", region=REGION, account=ACCOUNT)
    (rule,) = flow.rules
    (target,) = rule.targets
    assert permissions.of_target(flow, rule, target).allowed
    assert permissions.of_dead_letters(flow, rule, target.dead_letters).allowed
    assert graph.of_template(template, {}, name="shop", region=REGION, account=ACCOUNT).rules == []


def test_a_region_without_the_types_is_refused(template):
    (assertion,) = template["Rules"]["RegionHasTheNewBus"]["Assertions"]
    regions, value = assertion["Assert"]["Fn::Contains"]
    assert value == {"Ref": "AWS::Region"}
    types = {one["Type"] for one in template["Resources"].values() if "EventsV2" in one["Type"]}
    for region in REGIONS:
        for kind in types:
            try:
                exists = bool(PROVIDER_SCHEMA_MANAGER.get_resource_schema(region, kind))
            except ResourceNotFoundError:
                exists = False
            assert exists == (region in regions), (region, kind)
