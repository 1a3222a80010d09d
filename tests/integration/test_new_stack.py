"""`make new`: from a name to a delivered event, for every kind of target, in a copied checkout."""

import json
import shutil

import pytest
from receiver import Receiver
from waiting import eventually

from eventstacks import scaffold

pytestmark = pytest.mark.usefixtures("children_unmeasured", "unmeasured")
STACK = "order-events"
SAMPLE = f"tests/events/{STACK}/event.json"
REGION = "us-east-1"
DETAIL = {"what": "a first event"}
LOCAL = """\
account: '000000000000'
endpoint: embedded
regions: [us-east-1]
prefix: {prefix}-
stacks:
  custom-event-bus:
    parameters:
      LogRetentionInDays: 1
"""


@pytest.fixture
def project(invoke, checkout, unique):
    """A checkout with custom-event-bus alone; everything is deleted at the end."""
    (checkout / "parameters/local.yaml").write_text(LOCAL.format(prefix=unique))
    for path in (checkout / "templates").glob("*.j2"):
        if path.stem != "custom-event-bus.yaml":
            path.unlink()
    for path in (checkout / "tests/events").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    yield checkout
    invoke("delete", "--yes")


@pytest.fixture
def receiver():
    """A webhook on this machine."""
    one = Receiver()
    yield one
    one.close()


def set_parameter(project, name, value):
    """Give the stack, which has the last entry, a parameter."""
    local = project / "parameters/local.yaml"
    local.write_text(f"{local.read_text()}    parameters:\n      {name}: {value}\n")


def receive(clients, outputs, source):
    """A function that returns the events that arrive in a queue, which ``source`` connects."""
    sqs = clients("sqs", REGION)
    url = sqs.create_queue(QueueName=outputs["EventRuleArn"].rsplit("-", 2)[-2] + "-seen")[
        "QueueUrl"
    ]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    arn = attributes["QueueArn"]
    statement = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    source(arn)
    return lambda: messages(clients, url)


def messages(clients, url):
    sqs = clients("sqs", REGION)
    found = sqs.receive_message(QueueUrl=url).get("Messages", [])
    return [json.loads(one["Body"]) for one in found]


def of_topic(clients, outputs):
    sns = clients("sns", REGION)
    raw = {"RawMessageDelivery": "true"}
    return receive(
        clients,
        outputs,
        lambda arn: sns.subscribe(
            TopicArn=outputs["EventTopicArn"], Protocol="sqs", Endpoint=arn, Attributes=raw
        ),
    )


def of_default_bus(clients, outputs):
    events, name = clients("events", REGION), outputs["EventRuleArn"].rsplit("/", 1)[1]

    def connect(arn):
        events.put_rule(Name=name, EventPattern=json.dumps({"source": [f"com.example.{STACK}"]}))
        events.put_targets(Rule=name, Targets=[{"Id": "seen", "Arn": arn}])

    return receive(clients, outputs, connect)


def of_executions(clients, outputs):
    states = clients("stepfunctions", REGION)

    def call():
        found = states.list_executions(
            stateMachineArn=outputs["WorkflowArn"], statusFilter="SUCCEEDED"
        )["executions"]
        return [
            json.loads(states.describe_execution(executionArn=one["executionArn"])["input"])
            for one in found
        ]

    return call


def of_queue(clients, outputs):
    return lambda: messages(clients, outputs["EventQueueUrl"])


def of_log(invoke):
    """The log events of a stack: the events themselves, or what its function logged of them."""
    tail = ("tail", "--stack", STACK, "--once", "--raw")
    return lambda: [json.loads(one) for one in invoke(*tail).splitlines() if one.startswith("{")]


OBSERVED = {
    "sqs": of_queue,
    "sns": of_topic,
    "stepfunctions": of_executions,
    "bus": of_default_bus,
}


def test_new_stacks_of_all_kinds_have_no_findings(invoke, project):
    invoke("new", "--stack", "own-bus", "--target", "lambda")
    invoke("new", "--stack", "default-bus", "--target", "log-group", "--default-bus")
    for kind in scaffold.TARGETS:
        invoke("new", "--stack", f"{kind}-rule", "--target", kind, "--bus-of", "custom-event-bus")
    (project / "templates/custom-event-bus.yaml.j2").unlink()
    for path in (project / "parameters").glob("*.yaml"):
        path.write_text(LOCAL.format(prefix="x"))  # one Region, and those of the other partitions
    invoke("lint")


@pytest.mark.parametrize("kind", scaffold.TARGETS)
def test_a_new_stack_delivers_its_sample_event(invoke, clients, project, receiver, kind):
    before = {
        path: path.read_text()
        for path in (project / "parameters/local.yaml", project / ".taskcat.yml")
    }
    invoke("new", "--stack", STACK, "--target", kind)
    for path, text in before.items():
        assert path.read_text().startswith(text)  # nothing but entries at the end
    invoke("trace", SAMPLE)
    if kind == "webhook":
        set_parameter(project, "Endpoint", f"{receiver.url}/events")
    invoke("deploy", "--stack", STACK, "--yes")
    (found,) = json.loads(invoke("outputs", "--stack", STACK, "--json"))
    outputs = found["outputs"]
    seen = OBSERVED[kind](clients, outputs) if kind in OBSERVED else of_log(invoke)
    if kind == "webhook":
        seen = lambda: [json.loads(body) for *_, body in receiver.requests]  # noqa: E731
    assert "1 acknowledged" in invoke("send", "--stack", STACK, SAMPLE)
    arrived = []
    assert eventually(
        lambda: arrived.extend(seen()) or DETAIL in [one["detail"] for one in arrived]
    )
    sent = [one for one in arrived if one.get("detail-type") != "scheduled"]
    assert [one["detail"] for one in sent] == [DETAIL]
    assert messages(clients, outputs["DeadLetterQueueUrl"]) == []


def test_new_items_of_the_table_become_events(invoke, clients, project):
    invoke("new", "--stack", STACK, "--target", "pipe")
    invoke("deploy", "--stack", STACK, "--yes")
    (found,) = json.loads(invoke("outputs", "--stack", STACK, "--json"))
    item = {"pk": {"S": "order-1"}, "total": {"N": "42"}}
    clients("dynamodb", REGION).put_item(TableName=found["outputs"]["TableName"], Item=item)
    (event,) = eventually(of_log(invoke))
    assert (event["source"], event["detail-type"]) == (f"com.example.{STACK}", "item created")
    assert event["detail"] == {"key": "order-1", "item": item}
    assert messages(clients, found["outputs"]["PipeDeadLetterQueueUrl"]) == []


def test_a_schedule_sends_events(invoke, clients, project):
    invoke("new", "--stack", STACK, "--target", "schedule")
    invoke("deploy", "--stack", STACK, "--yes")
    (found,) = json.loads(invoke("outputs", "--stack", STACK, "--json"))
    (event,) = eventually(of_log(invoke))  # a rate begins at once
    assert (event["source"], event["detail-type"]) == (f"com.example.{STACK}", "scheduled")
    schedule, _, time = event["detail"]["idempotencyKey"].rpartition("@")
    assert schedule.endswith(f"/{found['outputs']['ScheduleName']}")
    assert time == event["detail"]["scheduledTime"]
    assert messages(clients, found["outputs"]["ScheduleDeadLetterQueueUrl"]) == []


def test_a_rule_on_the_bus_of_another_stack(invoke, project):
    invoke("new", "--stack", STACK, "--bus-of", "custom-event-bus")
    assert STACK not in (project / ".taskcat.yml").read_text()
    invoke("trace", SAMPLE)
    invoke("deploy", "--yes")
    assert "1 acknowledged" in invoke("send", "--stack", STACK, SAMPLE)
    for stack in (STACK, "custom-event-bus"):
        (line,) = invoke("tail", "--stack", stack, "--once", "--raw").splitlines()
        assert json.loads(line)["detail"] == DETAIL


def test_a_rule_on_the_default_bus(invoke, project):
    invoke("new", "--stack", STACK, "--default-bus")
    invoke("deploy", "--stack", STACK, "--yes")
    assert "1 acknowledged" in invoke("send", "--stack", STACK, SAMPLE)
    (line,) = invoke("tail", "--stack", STACK, "--once", "--raw").splitlines()
    assert json.loads(line)["detail"] == DETAIL
