"""Each rule and each function can do what it must, and not the next thing.

The next thing is another log group, queue, bus or bucket. The embedded AWS decides by the policies
that the stacks made (AUTH): what it refuses a rule arrives in the dead-letter queue as
NO_PERMISSIONS, what it refuses a function is told to the function.
"""

import io
import json
import time
import uuid
import zipfile

import pytest
from operators import open_queue
from receiver import Receiver

from eventstacks import rendering
from eventstacks.local import policies

REGION = "eu-central-1"
TEMPLATES = rendering.render_all()
# The target of event-spoke is in another stack, and the embedded AWS has no buses of the new kind:
# tests/integration/test_event_hub.py and tests/templates/test_event_bus_v2.py ask for their
# permissions.
ELSEWHERE = {"event-spoke", "event-bus-v2"}
STACKS = [
    name
    for name, template in TEMPLATES.items()
    if any(one["Type"] == "AWS::Events::Rule" for one in template.document["Resources"].values())
    and name not in ELSEWHERE
]
FUNCTIONS = [
    (name, logical_id)
    for name, template in TEMPLATES.items()
    for logical_id, one in template.document["Resources"].items()
    if one["Type"] == "AWS::Lambda::Function" and name not in ELSEWHERE
]
RECEIVER = Receiver()
REQUIRED = {  # parameters without a default
    "DestinationRegion": "eu-west-1",
    "Endpoint": f"{RECEIVER.url}/webhook",
    "EventSources": "com.example.shop",
}


def until(find, wanted, wait=60.0):
    """What ``find`` gives once ``wanted`` likes it, or last gave."""
    end = time.monotonic() + wait
    while not wanted(found := find()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def resources(clients):
    """resources(template): {logical id: physical id} of a stack of it.

    All its parameters have their defaults. Its functions do not consume queues: what arrives in a
    queue stays there, for the test to see.
    """
    cloudformation, aws_lambda = clients("cloudformation", REGION), clients("lambda", REGION)
    made = {}
    # A worker that gets some of these tests again later makes the stacks again,
    # while the first ones are being deleted.
    prefix = f"permit-{uuid.uuid4().hex[:6]}"

    def of(template):
        if template not in made:
            name = f"{prefix}-{template}"
            body = (rendering.BUILD / f"{template}.yaml").read_text()
            cloudformation.create_stack(
                StackName=name,
                TemplateBody=body,
                Capabilities=["CAPABILITY_IAM"],
                Parameters=[
                    {"ParameterKey": key, "ParameterValue": REQUIRED[key]}
                    for key, one in TEMPLATES[template].document["Parameters"].items()
                    if "Default" not in one
                ],
            )
            cloudformation.get_waiter("stack_create_complete").wait(
                StackName=name, WaiterConfig={"Delay": 0.1}
            )
            found = cloudformation.describe_stack_resources(StackName=name)["StackResources"]
            made[template] = {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}
            for one in found:
                if one["ResourceType"] == "AWS::Lambda::EventSourceMapping":
                    aws_lambda.update_event_source_mapping(
                        UUID=one["PhysicalResourceId"], Enabled=False
                    )
        return made[template]

    yield of
    for template in made:
        cloudformation.delete_stack(StackName=f"{prefix}-{template}")


@pytest.fixture
def queue(clients, unique):
    """A dead-letter queue of the test's own, open to every rule: its URL and ARN."""
    sqs = clients("sqs", REGION)
    return open_queue(sqs, unique)


def rules(clients, template, resources):
    """The rules of a stack: (its bus, its name, its targets)."""
    events = clients("events", REGION)
    for logical_id, one in TEMPLATES[template].document["Resources"].items():
        if one["Type"] == "AWS::Events::Rule":
            name = resources(template)[logical_id].rsplit("|", 1)[-1]  # "bus|rule", on its own bus
            named = one["Properties"].get("EventBusName")
            # A parameter that names the bus has its default, the default bus.
            bus = resources(template).get(named["Ref"], "default") if named else "default"
            yield bus, name, events.list_targets_by_rule(Rule=name, EventBusName=bus)["Targets"]


def refused(clients, url, count):
    """{target: error code} of the messages in a queue, once there are ``count`` of them."""
    sqs, error_codes = clients("sqs", REGION), {}

    def receive():
        found = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        for one in found.get("Messages", []):
            attributes = {
                key: value["StringValue"] for key, value in one["MessageAttributes"].items()
            }
            error_codes[attributes["TARGET_ARN"]] = attributes["ERROR_CODE"]
        return error_codes

    return until(receive, lambda found: len(found) >= count)


def listen_and_send(clients, bus, rule, targets, source):
    """The rule, made or changed to match one source only, gets these targets and an event."""
    events = clients("events", REGION)
    events.put_rule(Name=rule, EventBusName=bus, EventPattern=json.dumps({"source": [source]}))
    assert events.put_targets(Rule=rule, EventBusName=bus, Targets=targets)["FailedEntryCount"] == 0
    entry = {"Source": source, "DetailType": "probe", "Detail": "{}", "EventBusName": bus}
    assert events.put_events(Entries=[entry])["FailedEntryCount"] == 0


@pytest.mark.parametrize("template", STACKS)
def test_no_other_rule_of_the_bus_may_use_the_targets_of_the_stack(
    clients, resources, queue, unique, template
):
    url, own = queue
    for number, (bus, _, targets) in enumerate(rules(clients, template, resources)):
        arns = {one["Arn"] for one in targets} | {one["DeadLetterConfig"]["Arn"] for one in targets}
        # PutTargets refuses an API destination without a role:
        # that of the stack trusts its rule only.
        roles = {
            one["Arn"]: {"RoleArn": one["RoleArn"]}
            for one in targets
            if ":api-destination/" in one["Arn"]
        }
        foreign = [
            {"Id": f"t{n}", "Arn": arn, "DeadLetterConfig": {"Arn": own}, **roles.get(arn, {})}
            for n, arn in enumerate(sorted(arns))
        ]
        rule = f"{unique}-{number}"
        listen_and_send(clients, bus, rule, foreign, unique)
        assert refused(clients, url, len(arns)) == dict.fromkeys(arns, "NO_PERMISSIONS")
        clients("events", REGION).remove_targets(
            Rule=rule, EventBusName=bus, Ids=[one["Id"] for one in foreign]
        )


@pytest.mark.parametrize("template", STACKS)
def test_the_rules_of_the_stack_may_use_their_targets_and_no_other(
    clients, resources, queue, unique, template
):
    url, own = queue
    logs, events, sqs = (clients(one, REGION) for one in ("logs", "events", "sqs"))
    logs.create_log_group(logGroupName=f"/aws/events/{unique}")
    events.create_event_bus(Name=unique)
    sqs.create_queue(QueueName=f"{unique}-closed")
    account = own.split(":")[4]
    closed = {
        f"arn:aws:logs:{REGION}:{account}:log-group:/aws/events/{unique}",
        f"arn:aws:events:{REGION}:{account}:event-bus/{unique}",
        f"arn:aws:sqs:{REGION}:{account}:{unique}-closed",
    }
    for bus, rule, targets in rules(clients, template, resources):
        # The stack's own targets with the open queue: whatever were refused would be found in it.
        allowed = [one | {"DeadLetterConfig": {"Arn": own}} for one in targets]
        beyond = [
            {"Id": f"x{n}", "Arn": arn, "DeadLetterConfig": {"Arn": own}}
            for n, arn in enumerate(sorted(closed))
        ]
        pattern = events.describe_rule(Name=rule, EventBusName=bus)["EventPattern"]
        for arn in (one["Arn"] for one in targets if one["Arn"].split(":")[2] == "lambda"):
            run(clients, arn, "def handler(event, context):\n    print(event)\n")
        listen_and_send(clients, bus, rule, allowed + beyond, unique)
        assert refused(clients, url, len(closed)) == dict.fromkeys(closed, "NO_PERMISSIONS")
        for arn in (one["Arn"] for one in targets):
            assert until(lambda arn=arn: arrived(clients, arn, unique), bool), (
                f"{rule} does not reach {arn}"
            )
        events.remove_targets(Rule=rule, EventBusName=bus, Ids=[one["Id"] for one in beyond])
        events.put_targets(
            Rule=rule, EventBusName=bus, Targets=targets
        )  # as the next test expects them
        events.put_rule(Name=rule, EventBusName=bus, EventPattern=pattern)


def run(clients, function, code):
    """From now on the function is this code, with the role that it has."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.py", code)
    clients("lambda", REGION).update_function_code(
        FunctionName=function, ZipFile=archive.getvalue()
    )


def arrived(clients, arn, text):
    """What came to a target with this text: of a queue, only what was not received before."""
    service, name = arn.split(":")[2], arn.split(":")[-1]
    if service == "events":  # an API destination
        return [body for *_, body in RECEIVER.requests if text in body]
    if service != "sqs":
        group = name if service == "logs" else group_of_function(clients, name)
        return messages(clients("logs", REGION), group, text)
    sqs = clients("sqs", REGION)
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [one["Body"] for one in found if text in one["Body"]]


def group_of_function(clients, name):
    settings = clients("lambda", REGION).get_function_configuration(FunctionName=name)
    return settings["LoggingConfig"]["LogGroup"]


def messages(logs, group, text):
    return [
        one["message"]
        for one in logs.filter_log_events(logGroupName=group)["events"]
        if text in one["message"]
    ]


PROBE = """
import boto3

def handler(tries, context):
    answers = []
    for service, call, arguments in tries:
        try:
            getattr(boto3.client(service), call)(**arguments)
            answers.append("done")
        except Exception as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code")
            answers.append(code or repr(error))
    return answers
"""


def work_of(template, function):
    """The logical IDs of what a function works on: (what it reads from, what it writes to)."""
    document = TEMPLATES[template].document["Resources"]
    reads, writes = set(), set()
    for one in (
        document[function]["Properties"].get("Environment", {}).get("Variables", {}).values()
    ):
        writes |= {one["Ref"]} & document.keys() if "Ref" in one else set()
    for one in document.values():
        properties = one.get("Properties", {})
        if one["Type"] == "AWS::Lambda::EventInvokeConfig":
            if properties["FunctionName"] == {"Ref": function}:
                destination = properties["DestinationConfig"]["OnFailure"]["Destination"]
                writes.add(destination["Fn::GetAtt"][0])
        elif (
            one["Type"] == "AWS::Lambda::EventSourceMapping"
            and properties["FunctionName"]["Fn::GetAtt"][0] == function
        ):
            reads.add(properties["EventSourceArn"]["Fn::GetAtt"][0])
    return reads, writes


@pytest.mark.parametrize(("template", "function"), FUNCTIONS)
def test_a_function_may_write_its_log_and_use_what_it_is_given_and_nothing_else(
    clients, resources, unique, template, function
):
    found = resources(template)
    run(clients, found[function], PROBE)
    aws_lambda, logs, s3, sqs = (clients(one, REGION) for one in ("lambda", "logs", "s3", "sqs"))
    logs.create_log_group(logGroupName=unique)
    s3.create_bucket(Bucket=unique, CreateBucketConfiguration={"LocationConstraint": REGION})
    other_queue = sqs.create_queue(QueueName=unique)["QueueUrl"]
    event = {"timestamp": int(time.time() * 1000), "message": "probe"}
    group, body = found[f"{function}LogGroup"], {"MessageBody": "probe"}
    entry = {"Source": unique, "DetailType": "probe", "Detail": "{}"}
    may = [
        ("logs", "create_log_stream", {"logGroupName": group, "logStreamName": unique}),
        (
            "logs",
            "put_log_events",
            {"logGroupName": group, "logStreamName": unique, "logEvents": [event]},
        ),
    ]
    may_not = [
        ("logs", "create_log_group", {"logGroupName": f"{unique}-more"}),
        ("logs", "create_log_stream", {"logGroupName": unique, "logStreamName": unique}),
        ("logs", "filter_log_events", {"logGroupName": group}),
        ("sqs", "send_message", {"QueueUrl": other_queue, **body}),
        ("sqs", "receive_message", {"QueueUrl": other_queue}),
        ("s3", "put_object", {"Bucket": unique, "Key": "probe", "Body": "x"}),
        ("events", "put_events", {"Entries": [entry]}),
        ("lambda", "get_function", {"FunctionName": found[function]}),
        ("rds", "delete_db_snapshot", {"DBSnapshotIdentifier": unique}),
    ]
    reads, writes = work_of(template, function)
    for logical_id, one in TEMPLATES[template].document["Resources"].items():
        if logical_id not in found:  # its condition does not hold
            continue
        name = found[logical_id]
        if one["Type"] == "AWS::SQS::Queue":
            send = ("sqs", "send_message", {"QueueUrl": name, **body})
            (may if logical_id in writes else may_not).append(send)
            receive = ("sqs", "receive_message", {"QueueUrl": name})
            (may if logical_id in reads else may_not).append(receive)
            may_not.append(("sqs", "purge_queue", {"QueueUrl": name}))
        elif one["Type"] == "AWS::DynamoDB::Table":
            [key] = one["Properties"]["KeySchema"]
            item = {"TableName": name, "Key": {key["AttributeName"]: {"S": unique}}}
            (may if logical_id in writes else may_not).append(("dynamodb", "update_item", item))
            may_not.append(("dynamodb", "scan", {"TableName": name}))
        elif one["Type"] == "AWS::S3::Bucket":
            may_not += (
                ("s3", call, {"Bucket": name, "Key": "probe"})
                for call in ("put_object", "get_object")
            )
    answer = aws_lambda.invoke(FunctionName=found[function], Payload=json.dumps(may + may_not))
    answers = json.load(answer["Payload"])
    for attempt, code in zip(may, answers[: len(may)], strict=True):
        assert code == "done", attempt
    for attempt, code in zip(may_not, answers[len(may) :], strict=True):
        assert code in {"AccessDenied", "AccessDeniedException"}, attempt


def test_only_the_trail_of_the_stack_writes_to_its_bucket_and_only_below_its_folder(
    clients, resources
):
    found = resources("s3-object-events")
    policy = json.loads(
        clients("s3", REGION).get_bucket_policy(Bucket=found["TrailBucket"])["Policy"]
    )
    bucket, account = f"arn:aws:s3:::{found['TrailBucket']}", "000000000000"
    trail = f"arn:aws:cloudtrail:{REGION}:{account}:trail/{found['Trail']}"
    acl = {"s3:x-amz-acl": "bucket-owner-full-control"}

    def admitted(action, resource, source, principal="cloudtrail.amazonaws.com"):
        return policies.policies_allow(
            [policy], principal, action, resource, {"aws:sourcearn": source, **acl}
        )

    assert admitted("s3:GetBucketAcl", bucket, trail)
    assert admitted("s3:PutObject", f"{bucket}/AWSLogs/{account}/CloudTrail/x.json.gz", trail)
    assert not admitted(
        "s3:PutObject", f"{bucket}/AWSLogs/{account}/CloudTrail/x.json.gz", f"{trail}-2"
    )
    assert not admitted(
        "s3:PutObject", f"{bucket}/AWSLogs/111122223333/CloudTrail/x.json.gz", trail
    )
    assert not admitted("s3:GetObject", f"{bucket}/AWSLogs/{account}/CloudTrail/x.json.gz", trail)
    assert not admitted(
        "s3:PutObject", f"{bucket}/AWSLogs/{account}/x", trail, "delivery.logs.amazonaws.com"
    )


def test_no_other_account_may_publish_unless_an_organization_is_named(
    clients, endpoint, resources, unique
):
    found, root = resources("custom-event-bus"), endpoint.access_key
    arn = clients("events", REGION).describe_event_bus(Name=found["EventBus"])["Arn"]
    for account, source in (
        (f"{root}-111122223333", f"{unique}-elsewhere"),
        (root, f"{unique}-here"),
    ):
        entry = {"Source": source, "DetailType": "probe", "Detail": "{}", "EventBusName": arn}
        clients("events", REGION, aws_access_key_id=account).put_events(Entries=[entry])
    arrived = until(lambda: messages(clients("logs", REGION), found["EventLogGroup"], unique), bool)
    assert [json.loads(one)["source"] for one in arrived] == [f"{unique}-here"]
