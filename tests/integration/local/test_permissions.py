"""Permissions of deliveries on the embedded AWS, as recorded on AWS."""

import json

import pytest
from botocore.exceptions import ClientError
from raw_stacks import ACCOUNT, resource, snapshot, template
from waiting import eventually


@pytest.mark.parametrize("permission", ["logs-group", "logs-account"])
def test_every_target_gets_the_event(deploy, permission):
    stack = deploy("local/targets.yaml", Allow=f"{permission},lambda,sqs,sns,dlq")
    assert stack.status == "CREATE_COMPLETE", stack.reasons()
    stack.put(name="one")
    [line] = stack.lines(stack.ids["Log"])
    event = json.loads(line)
    assert (event["source"], event["detail"], event["account"]) == (
        "test",
        {"name": "one"},
        ACCOUNT,
    )
    assert json.loads(stack.messages("Queue")[0]["Body"])["detail"] == {"name": "one"}
    [note] = eventually(lambda: stack.messages("TopicQueue"))
    assert json.loads(json.loads(note["Body"])["Message"])["detail"] == {"name": "one"}
    assert eventually(lambda: "got one" in str(stack.lines(stack.ids["FunctionLog"])))
    assert stack.messages("DeadLetters") == []


def test_a_log_group_policy_need_not_name_the_log_delivery_service(deploy):
    """A template that AWS publishes does (serverless-patterns, eventbridge-cloudwatch)."""
    stack = deploy("local/targets.yaml", LogPrincipals="events.amazonaws.com")
    stack.put(name="one")
    assert eventually(lambda: stack.lines(stack.ids["Log"]))
    assert stack.messages("DeadLetters") == []


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        ("Log", {"Allow": "no,lambda,sqs,sns,dlq"}),
        ("Log", {"LogPrincipals": "delivery.logs.amazonaws.com"}),
        ("Log", {"LogActions": "logs:PutLogEvents"}),
        ("Log", {"LogActions": "logs:CreateLogStream"}),
        ("Log", {"SourceRule": "another"}),
        ("Function", {"Allow": "logs-group,no,sqs,sns,dlq"}),
        ("Queue", {"Allow": "logs-group,lambda,no,sns,dlq"}),
        ("Topic", {"Allow": "logs-group,lambda,sqs,no,dlq"}),
    ],
)
def test_events_without_permission_are_dead_lettered(deploy, target, parameters):
    stack = deploy("local/targets.yaml", **parameters)
    assert stack.status == "CREATE_COMPLETE", stack.reasons()
    stack.put(name="one")
    [letter] = stack.messages("DeadLetters")
    why = {key: value["StringValue"] for key, value in letter["MessageAttributes"].items()}
    assert json.loads(letter["Body"])["detail"] == {"name": "one"}
    assert set(why) == {"RULE_ARN", "TARGET_ARN", "ERROR_CODE", "ERROR_MESSAGE"}
    assert why["ERROR_CODE"] == "NO_PERMISSIONS"
    assert why["RULE_ARN"].endswith(f":rule/{stack.name}-bus/{stack.name}-rule")
    assert stack.ids[target].rsplit("/", 1)[-1] in why["TARGET_ARN"]
    if target == "Log":
        assert stack.lines(stack.ids["Log"]) == []


def test_a_dead_letter_queue_needs_a_policy_too(deploy):
    stack = deploy("local/targets.yaml", Allow="no,lambda,sqs,sns,no")
    stack.put(name="one")
    assert stack.messages("DeadLetters") == []
    assert len(stack.messages("Queue")) == 1


def test_events_for_a_missing_target_are_dead_lettered(deploy):
    stack = deploy("local/targets.yaml")
    stack.client("sqs").delete_queue(QueueUrl=stack.ids["Queue"])
    stack.put(name="one")
    [letter] = stack.messages("DeadLetters")
    assert letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_RESOURCE"


def test_a_queue_of_another_region_is_not_reached(deploy, unique):
    there = deploy("local/targets.yaml", name=f"{unique}-there", region="us-west-2")
    here = deploy("local/targets.yaml")
    name = there.ids["Queue"].rsplit("/", 1)[1]
    target = {"Id": "Far", "Arn": f"arn:aws:sqs:us-west-2:{ACCOUNT}:{name}"}
    target["DeadLetterConfig"] = dead_letters_of(here)
    here.client("events").put_targets(**rule_of(here), Targets=[target])
    here.put(name="one")
    [letter] = here.messages("DeadLetters")
    assert letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_RESOURCE"
    assert there.messages("Queue") == []


@pytest.fixture
def role(clients, unique):
    """role(action): a role of EventBridge with all permissions; its boundary allows one action."""
    iam, everything = clients("iam"), {"Effect": "Allow", "Action": "*", "Resource": "*"}

    def create(action):
        limit = {"Statement": [{**everything, "Action": action}]}
        boundary = iam.create_policy(PolicyName=unique, PolicyDocument=json.dumps(limit))
        trust = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}}
        trust |= {"Action": "sts:AssumeRole"}
        made = iam.create_role(
            RoleName=unique,
            AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}),
            PermissionsBoundary=boundary["Policy"]["Arn"],
        )
        document = json.dumps({"Statement": [everything]})
        iam.put_role_policy(RoleName=unique, PolicyName="all", PolicyDocument=document)
        return made["Role"]["Arn"]

    return create


@pytest.mark.parametrize(
    ("arn", "code"),
    [
        (f"arn:aws:states:eu-central-1:{ACCOUNT}:stateMachine:missing", "NO_RESOURCE"),
        (f"arn:aws:kinesis:eu-central-1:{ACCOUNT}:stream/unsupported", "NO_RESOURCE"),
        (f"arn:aws:sqs:eu-central-1:{ACCOUNT}:{{}}.fifo", "ERROR_FROM_TARGET"),
        (f"arn:aws:logs:us-west-2:{ACCOUNT}:log-group:{{}}", "NO_RESOURCE"),
    ],
)
def test_payloads_that_a_target_refuses_are_dead_lettered(deploy, role, arn, code):
    stack = deploy("local/targets.yaml")
    arn = arn.format(stack.ids["Log"] if ":logs:" in arn else stack.name)
    if arn.endswith(".fifo"):  # and messages have no deduplication ID
        stack.client("sqs").create_queue(
            QueueName=f"{stack.name}.fifo", Attributes={"FifoQueue": "true"}
        )
    target = {"Id": "Other", "Arn": arn, "DeadLetterConfig": dead_letters_of(stack)}
    target |= {} if ":logs:" in arn else {"RoleArn": role("*")}
    target |= {"SqsParameters": {"MessageGroupId": "g"}} if arn.endswith(".fifo") else {}
    stack.client("events").put_targets(**rule_of(stack), Targets=[target])
    stack.put(name="one")
    [message] = stack.messages("DeadLetters")
    assert message["MessageAttributes"]["ERROR_CODE"]["StringValue"] == code
    assert message["MessageAttributes"]["TARGET_ARN"]["StringValue"] == arn
    assert len(stack.lines(stack.ids["Log"])) == 1  # of the rule's own target


@pytest.mark.parametrize(("action", "count"), [("sqs:*", 2), ("sns:*", 1)])
def test_the_permissions_boundary_limits_a_role(deploy, role, action, count):
    stack = deploy("local/targets.yaml")
    name = stack.ids["Queue"].rsplit("/", 1)[1]
    arn = f"arn:aws:sqs:eu-central-1:{ACCOUNT}:{name}"
    target = {"Id": "Other", "Arn": arn, "RoleArn": role(action)}
    stack.client("events").put_targets(**rule_of(stack), Targets=[target])
    stack.put(name="one")
    assert len(stack.messages("Queue")) == count


@pytest.mark.parametrize(("service", "code"), [("events", None), ("sns", "NO_PERMISSIONS")])
def test_the_key_of_a_queue_must_allow_eventbridge(deploy, clients, service, code):
    stack = deploy("local/targets.yaml")
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
        "Resource": "*",
    }
    key = clients("kms").create_key(Policy=json.dumps({"Statement": [allow]}))["KeyMetadata"]
    stack.client("sqs").set_queue_attributes(
        QueueUrl=stack.ids["Queue"], Attributes={"KmsMasterKeyId": key["KeyId"]}
    )
    stack.put(name="one")
    codes = [
        one["MessageAttributes"]["ERROR_CODE"]["StringValue"]
        for one in stack.messages("DeadLetters")
    ]
    assert codes == ([code] if code else [])
    assert len(stack.messages("Queue")) == (0 if code else 1)


@pytest.mark.parametrize(("tag", "deleted"), [("ours", True), ("theirs", False)])
def test_a_role_may_act_on_resources_with_its_tag_only(clients, unique, tag, deleted):
    iam, rds = clients("iam"), clients("rds")
    source = snapshot(rds, unique)
    name = source.rsplit(":", 1)[1]
    rds.add_tags_to_resource(ResourceName=source, Tags=[{"Key": "owner", "Value": tag}])
    condition = {"StringEquals": {"aws:ResourceTag/owner": "ours"}}
    allow = {"Effect": "Allow", "Action": "rds:*", "Resource": "*", "Condition": condition}
    trust = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    made = iam.create_role(
        RoleName=unique, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]})
    )
    document = json.dumps({"Statement": [allow]})
    iam.put_role_policy(RoleName=unique, PolicyName="own", PolicyDocument=document)
    arn = made["Role"]["Arn"]
    keys = clients("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    own = clients(
        "rds",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    if deleted:
        own.delete_db_snapshot(DBSnapshotIdentifier=name)
    else:
        with pytest.raises(ClientError) as refused:
            own.delete_db_snapshot(DBSnapshotIdentifier=name)
        assert refused.value.response["Error"]["Code"] == "AccessDenied"
    names = {one["DBSnapshotIdentifier"] for one in rds.describe_db_snapshots()["DBSnapshots"]}
    assert (name in names) is not deleted


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$.detail.items[1].name", "two"),
        ("$.detail.items[*].name", ["one", "two"]),
        ("$.detail.none[0]", None),
    ],
)
def test_an_input_path_applies_to_every_target(deploy, path, expected):
    stack = deploy("local/targets.yaml")
    targets = stack.client("events").list_targets_by_rule(
        Rule=rule_of(stack)["Rule"], EventBusName=f"{stack.name}-bus"
    )
    targets = [one | {"InputPath": path} for one in targets["Targets"] if one["Id"] != "Function"]
    stack.client("events").put_targets(**rule_of(stack), Targets=targets)
    stack.put(items=[{"name": "one"}, {"name": "two"}])
    assert [json.loads(one) for one in stack.lines(stack.ids["Log"])] == [expected]
    assert [json.loads(one["Body"]) for one in stack.messages("Queue")] == [expected]
    [note] = eventually(lambda: stack.messages("TopicQueue"))
    assert json.loads(json.loads(note["Body"])["Message"]) == expected


def test_a_rule_with_read_only_management_events_matches_all_others_too(deploy):
    stack = deploy("local/targets.yaml")
    events, pattern = stack.client("events"), json.dumps({"detail": {"name": ["one"]}})
    state = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
    name, bus = (rule_of(stack)[key] for key in ("Rule", "EventBusName"))
    events.put_rule(Name=name, EventBusName=bus, State=state, EventPattern=pattern)
    stack.put(name="one")
    stack.put(name="two")
    assert [json.loads(one["Body"])["detail"]["name"] for one in stack.messages("Queue")] == ["one"]
    assert events.describe_rule(Name=name, EventBusName=bus)["State"] == state
    events.put_rule(Name=name, EventBusName=bus, State="DISABLED", EventPattern=pattern)
    stack.put(name="one")
    assert stack.messages("Queue") == []


def rule_of(stack):
    return {"Rule": f"{stack.name}-rule", "EventBusName": f"{stack.name}-bus"}


def dead_letters_of(stack):
    name = stack.ids["DeadLetters"].rsplit("/", 1)[1]
    return {"Arn": f"arn:aws:sqs:eu-central-1:{ACCOUNT}:{name}"}


def log_target(stack, **more):
    return {
        "Id": "Log",
        "Arn": f"arn:aws:logs:eu-central-1:{ACCOUNT}:log-group:{stack.ids['Log']}",
        **more,
    }


@pytest.mark.parametrize(("when", "lines"), [(1_700_000_000_000, ["one came"]), ("soon", [])])
def test_a_transformer_for_a_log_group_makes_timestamp_and_message(deploy, when, lines):
    stack = deploy("local/targets.yaml")
    paths = {"name": "$.detail.name", "when": "$.detail.when"}
    text = '{"timestamp": <when>, "message": "<name> came"}'
    transformer = {"InputPathsMap": paths, "InputTemplate": text}
    target = log_target(
        stack, InputTransformer=transformer, DeadLetterConfig=dead_letters_of(stack)
    )
    stack.client("events").put_targets(**rule_of(stack), Targets=[target])
    stack.put(name="one", when=when)
    assert stack.lines(stack.ids["Log"]) == lines
    assert bool(stack.messages("DeadLetters")) is not bool(lines)


def test_the_default_policy_of_a_topic_does_not_allow_a_rule(deploy):
    stack = deploy("local/targets.yaml", Allow="-,-,-,-,dlq")
    stack.put(name="one")
    topics = {
        one["MessageAttributes"]["TARGET_ARN"]["StringValue"]
        for one in stack.messages("DeadLetters")
    }
    assert stack.ids["Topic"] in topics


def test_a_role_for_a_log_group_is_refused(deploy):
    stack = deploy("local/targets.yaml")
    target = log_target(stack, RoleArn=f"arn:aws:iam::{ACCOUNT}:role/any")
    with pytest.raises(ClientError, match="RoleArn is not supported"):
        stack.client("events").put_targets(**rule_of(stack), Targets=[target])
    rule = resource("AWS::Events::Rule", EventPattern={"source": ["x"]}, Targets=[target])
    failed = deploy(template(Rule=rule), name=f"{stack.name}-b")
    assert failed.status == "ROLLBACK_COMPLETE"
    assert "RoleArn is not supported" in failed.reasons()
