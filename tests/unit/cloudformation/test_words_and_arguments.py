"""Options, order, bodies, parameters: what is asked of AWS, and what is refused before."""

import time
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from rendered import rendered
from scripted_aws import FakeAws, environment, stack
from scripted_cloudformation import refusal

from eventstacks.aws import Clock, call, is_login_error, is_transient
from eventstacks.cloudformation import outputs, plan
from eventstacks.environment import OutputReference
from eventstacks.errors import ErrorCode, ToolError


def test_order_follows_references_also_by_way_of_a_stack_that_is_not_chosen():
    found = environment(
        stack("late", parameters={"A": OutputReference("middle", "X")}),
        stack("middle", parameters={"A": OutputReference("first", "X")}),
        stack("first"),
    )
    late, middle, first = (found.ref(name, "us-east-1") for name in ("late", "middle", "first"))
    before = outputs.predecessors(found, found.choose(), outputs.uses(found))
    assert before == {late: {middle, first}, middle: {first}, first: set()}
    assert outputs.predecessors(found, [late, first], outputs.uses(found)) == {
        late: {first},
        first: set(),
    }


def test_a_reference_to_another_region_waits_for_that_one():
    found = environment(
        stack("bus", regions=("us-east-1", "eu-west-1")),
        stack(
            "rules",
            regions=("eu-west-1",),
            parameters={"A": OutputReference("bus", "X", "us-east-1")},
        ),
    )
    assert outputs.predecessors(found, found.choose(), outputs.uses(found))[
        found.ref("rules", "eu-west-1")
    ] == {found.ref("bus", "us-east-1")}


def test_a_circle_is_named():
    found = environment(
        stack("one", parameters={"A": OutputReference("two", "X")}),
        stack("two", parameters={"A": OutputReference("one", "X")}),
    )
    with pytest.raises(ToolError, match=r"(one|two) \(us-east-1\) → "):
        outputs.predecessors(found, found.choose(), outputs.uses(found))


class S3:
    """S3 in one Region; ``refusal`` is its answer to PutObject."""

    def __init__(self, region="us-east-1", refusal=None):
        # As with AWS_USE_FIPS_ENDPOINT:
        # where the client goes is not what CloudFormation reads from.
        partition = "aws-cn" if region.startswith("cn-") else "aws"
        self.meta = SimpleNamespace(
            endpoint_url=f"https://s3-fips.{region}", partition=partition, region_name=region
        )
        self.refusal, self.held = refusal, {}

    def put_object(self, Bucket, Key, Body, ContentType):  # noqa: N803
        if self.refusal:
            raise self.refusal
        self.held[Bucket, Key] = Body


def uploaded(s3, bucket="store", size=51_201, character="#"):
    aws = FakeAws(environment(bucket=bucket), None)
    aws.fakes["s3", None] = s3
    return plan.body_arguments(aws, rendered({}, "long", character * size), Clock())


@pytest.mark.parametrize(
    ("size", "by"), [(51_200, "TemplateBody"), (51_201, "TemplateURL"), (1_000_000, "TemplateURL")]
)
def test_long_templates_are_uploaded_to_s3(size, by):
    s3 = S3()
    found = uploaded(s3, size=size)
    assert list(found) == [by]
    if by == "TemplateURL":
        (((name, key), put),) = s3.held.items()
        assert (name, len(put)) == ("store", size)
        assert found["TemplateURL"] == f"https://s3.us-east-1.amazonaws.com/store/{key}"


def test_the_length_of_a_template_is_counted_in_bytes():
    assert list(uploaded(S3(), size=25_601, character="é")) == ["TemplateURL"]


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-central-1", "https://s3.eu-central-1.amazonaws.com/my.store"),
        ("cn-north-1", "https://s3.cn-north-1.amazonaws.com.cn/my.store"),
    ],
)
def test_the_address_is_one_that_cloudformation_reads_from(monkeypatch, region, url):
    monkeypatch.setenv(
        "AWS_PROFILE", "of-the-shell"
    )  # which does not matter if the environment names its own
    found = uploaded(S3(region), "my.store")
    assert found["TemplateURL"].startswith(f"{url}/templates/long-")


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [("NoSuchBucket", 404, "does not exist"), ("AccessDenied", 403, "no key for you")],
)
def test_a_bucket_that_cannot_be_used_says_so(code, status, words):
    with pytest.raises(ToolError, match=f"'store': {words}") as error:
        uploaded(S3(refusal=refusal(code, words, status)))
    assert error.value.where.endswith(": bucket")
    assert error.value.code == ErrorCode.AWS_ERROR


def test_a_long_template_needs_a_bucket():
    with pytest.raises(ToolError, match="needs a bucket") as error:
        uploaded(S3(), bucket=None)
    assert error.value.code == ErrorCode.TEMPLATE_INVALID


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}, []),
        (
            {"Resources": {"R": {"Type": "AWS::IAM::Role"}}},
            ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
        ),
        (
            {"Transform": "AWS::Serverless-2016-10-31", "Resources": {}},
            ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        ),
        (
            {"Resources": {"M": {"Type": "Team::Queues::Standard::MODULE"}}},
            ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        ),
        (
            {"Resources": {"Q": {"Fn::Transform": {"Name": "AWS::Include"}}}},
            ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        ),
        (
            {"Resources": {"N": {"Type": "AWS::CloudFormation::Stack"}}},
            ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        ),
    ],
)
def test_capabilities_are_those_that_the_template_needs(template, wanted):
    assert plan.capabilities(template) == wanted


UNKNOWN = "might lose resources: AWS does not tell what changes in this nested stack"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Action": "Remove"}, "would be deleted"),
        ({"Action": "Remove", "PolicyAction": "Retain"}, ""),
        ({"Action": "Modify", "Replacement": "False"}, ""),
        ({"Action": "Modify", "Replacement": "True"}, "would be replaced"),
        ({"Action": "Modify", "Replacement": "Conditional"}, "might be replaced"),
        ({"Action": "Dynamic", "ResourceType": "AWS::SQS::Queue"}, ""),
        (
            {
                "Action": "Dynamic",
                "ResourceType": "AWS::CloudFormation::Stack",
                "ChangeSetId": "arn",
            },
            UNKNOWN,
        ),
        ({"Action": "Modify", "ResourceType": "AWS::CloudFormation::Stack"}, UNKNOWN),
        (
            {
                "Action": "Modify",
                "ResourceType": "AWS::CloudFormation::Stack",
                "ChangeSetId": "arn",
            },
            "",
        ),
        ({"Action": "Add", "ResourceType": "AWS::CloudFormation::Stack"}, ""),
    ],
)
def test_what_counts_as_a_loss(change, words):
    assert plan.loss(change) == words


def test_pauses_grow_apart_and_end_growing():
    from scripted_cloudformation import throttle

    begun, times = time.monotonic(), []

    class Simulated(Clock):
        def now(self):
            return begun + sum(times)

        def sleep(self, seconds):
            times.append(seconds)

    def busy():
        raise throttle()

    with pytest.raises(ClientError):
        call(busy, clock=Simulated(), retry_for=600)
    assert all(0.25 <= pause <= 20 for pause in times)
    assert min(times[-10:]) >= 10
    assert len(set(times)) == len(times) > 20


def test_a_refusal_is_neither_trouble_that_passes_nor_a_missing_login():
    from scripted_cloudformation import throttle

    denied = refusal("AccessDenied", "no", 403)
    assert (is_transient(denied), is_login_error(denied), is_transient(throttle())) == (
        False,
        False,
        True,
    )
