"""A published link, followed as the console would follow it: the form's values make the stack."""

import dataclasses
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest

from eventstacks import environment, rendering
from eventstacks.aws import Aws
from eventstacks.cloudformation import package
from eventstacks.cloudformation.package import BucketError
from eventstacks.environment import OutputReference
from eventstacks.errors import ToolError
from eventstacks.local import server

REGION = "eu-central-1"
TEMPLATES = rendering.render_all()


@pytest.fixture
def make(endpoint, unique, clients):
    """make(**settings): an environment on the embedded AWS with a bucket, a bus, and a stack that takes the bus's output."""
    clients("s3", REGION).create_bucket(
        Bucket=unique, CreateBucketConfiguration={"LocationConstraint": REGION}
    )

    def of(regions=(REGION,), **settings):
        def stack(name, **parameters):
            return environment.StackSettings(
                name, f"{unique}-{name}", "custom-event-bus", tuple(regions), parameters
            )

        stacks = {
            "source": stack("source", LogRetentionInDays="7"),
            "taker": stack(
                "taker",
                AlarmTopicArn=OutputReference("source", "EventBusArn"),
                LogRetentionInDays="3",
            ),
        }
        found = environment.Environment(
            "test",
            environment.PARAMETERS / "test.yaml",
            tuple(regions),
            stacks,
            bucket=unique,
            endpoint="embedded",
        )
        return Aws(dataclasses.replace(found, **settings), server.start)

    return of


def publish(aws):
    return package.links(aws, aws.environment.choose(), TEMPLATES)


def follow(clients, link):
    """What the console does with a link, as far as CloudFormation sees it: DescribeStacks afterwards."""
    url = urlsplit(link.url)
    form = dict(
        parse_qsl(url.fragment.partition("?")[2], strict_parsing=True, keep_blank_values=True)
    )
    cloudformation = clients("cloudformation", link.region)
    cloudformation.create_stack(
        StackName=form["stackName"],
        TemplateURL=form["templateURL"],
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": key.removeprefix("param_"), "ParameterValue": value}
            for key, value in form.items()
            if key.startswith("param_")
        ],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=form["stackName"], WaiterConfig={"Delay": 0.1}
    )
    (stack,) = cloudformation.describe_stacks(StackName=form["stackName"])["Stacks"]
    return stack


def test_a_followed_link_makes_the_stack_with_the_environments_values(make, clients):
    aws = make()
    source, taker = publish(aws)
    assert source.url.startswith(
        f"https://{REGION}.console.aws.amazon.com/cloudformation/home?region={REGION}#/stacks/create/review?"
    )
    assert source.left_out == {}
    assert taker.left_out == {
        "AlarmTopicArn": "!Output source.EventBusArn: the stack is not deployed"
    }
    stack = follow(clients, source)
    try:
        assert {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}[
            "LogRetentionInDays"
        ] == "7"
        (arn,) = [
            one["OutputValue"] for one in stack["Outputs"] if one["OutputKey"] == "EventBusArn"
        ]
        _, taker = publish(aws)  # now there is something to take
        assert taker.left_out == {}
        assert (
            dict(parse_qsl(urlsplit(taker.url).fragment.partition("?")[2]))["param_AlarmTopicArn"]
            == arn
        )
    finally:
        clients("cloudformation", REGION).delete_stack(StackName=source.stack_name)


def test_the_whole_build_is_there_and_keeps_its_address_until_it_changes(make, clients, unique):
    urls = package.upload(make(), TEMPLATES)
    assert set(urls) == set(TEMPLATES)
    for name, url in urls.items():
        key = urlsplit(url).path.removeprefix(f"/{unique}/")
        body = clients("s3", REGION).get_object(Bucket=unique, Key=key)["Body"].read()
        assert body == TEMPLATES[name].text.encode()
    assert package.upload(make(), TEMPLATES) == urls
    changed = replace(TEMPLATES["custom-event-bus"], text="Resources: {}")
    others = package.upload(make(), {**TEMPLATES, "custom-event-bus": changed})
    assert set(others.values()).isdisjoint(urls.values())


@pytest.mark.parametrize(
    ("region", "console"),
    [
        (
            "us-gov-west-1",
            "https://us-gov-west-1.console.amazonaws-us-gov.com/cloudformation/home?region=us-gov-west-1#",
        ),
        (
            "cn-north-1",
            "https://cn-north-1.console.amazonaws.cn/cloudformation/home?region=cn-north-1#",
        ),
    ],
)
def test_other_partitions_have_their_own_console(make, region, console):
    assert all(one.url.startswith(console) for one in publish(make(regions=[region])))


def test_an_unknown_console_is_told_before_anything_is_uploaded(make, clients, unique):
    with pytest.raises(ToolError, match="aws-iso is not known"):
        publish(make(regions=["us-iso-east-1"]))
    assert clients("s3", REGION).list_objects_v2(Bucket=unique)["KeyCount"] == 0


def test_a_secret_is_in_no_link(make):
    aws = make()
    bus = TEMPLATES["custom-event-bus"]
    parameters = {"LogRetentionInDays": {"Type": "Number", "NoEcho": True}}
    secret = replace(bus, document={**bus.document, "Parameters": parameters})
    templates = {**TEMPLATES, "custom-event-bus": secret}
    (found,) = package.links(aws, aws.environment.choose("source"), templates)
    assert found.left_out == {"LogRetentionInDays": "it is secret (NoEcho)"}
    assert "param_" not in found.url


@pytest.mark.parametrize(
    ("bucket", "words"),
    [(None, "names no bucket"), ("this-one-does-not-exist", "bucket not found")],
)
def test_without_a_bucket_it_says_so(make, bucket, words):
    with pytest.raises(BucketError, match=words) as error:
        publish(make(bucket=bucket))
    assert "parameters/test.yaml" in error.value.where


def test_the_command_prints_a_link_for_each_stack_and_region(
    make, endpoint, unique, tmp_path, monkeypatch
):
    from click.testing import CliRunner

    from eventstacks.cli.stacks import publish as command

    make()
    (tmp_path / "test.yaml").write_text(
        f"account: '000000000000'\nendpoint: embedded\nbucket: {unique}\nregions: [{REGION}, us-east-1]\n"
        "stacks: {custom-event-bus: {}, s3-object-events: {parameters: {KmsKeyArn: !Output custom-event-bus.EventBusArn}}}\n"
    )
    monkeypatch.setattr(environment.load, "__defaults__", (tmp_path,))
    done = CliRunner().invoke(command, ["--env", "test"], standalone_mode=False)
    assert done.exception is None
    assert done.stdout.count("https://") == 4
    assert "s3-object-events in us-east-1\n  https://us-east-1.console" in done.stdout
    assert done.stderr.count("fill in KmsKeyArn by hand") == 2
    as_json = CliRunner().invoke(
        command, ["--env", "test", "--json", "--stack", "custom-event-bus"], standalone_mode=False
    )
    assert as_json.stdout.count('"url"') == 2
