"""tail, archive-replay, redrive and metrics as an operator runs them, each against a stack on the embedded AWS."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import in_process
import pytest
import yaml

from scripts import environment, rendering
from scripts.aws import Aws
from scripts.cloudformation import deletion, deployment, outputs
from scripts.events import bus_tap

REGION, OTHER = "eu-central-1", "eu-west-1"
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # seconds for what takes a fraction of one on a machine with nothing else to do


class Operator:
    """Somebody in a checkout with one deployed stack."""

    def __init__(self, aws, settings, template):
        self.aws, self.settings = aws, settings
        self.name = next(iter(settings.stacks))
        self.outputs = outputs.read(aws, self.name, REGION)
        self.bus = self.outputs.get("EventBusName", "default")
        self.running = []

    def client(self, service, region=REGION):
        return self.aws.client(service, region)

    def command(self, verb, *options):
        return [
            sys.executable,
            "-m",
            "scripts",
            verb,
            "--env",
            "test",
            "--region",
            REGION,
            "--stack",
            self.name,
            *options,
        ]

    def run(self, verb, *options, code=0):
        done = in_process.run(*self.command(verb, *options)[3:])
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def start(self, verb, *options, until):
        """A process, once ``until`` stands on its stderr; its stdout is a pipe."""
        process = subprocess.Popen(
            self.command(verb, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.variables,
            start_new_session=True,
        )  # fmt: skip
        self.running.append(process)
        said = ""
        while until not in said:
            line = process.stderr.readline()
            assert line, f"it ended after: {said}"
            said += line
        return process, said

    @property
    def variables(self):
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def put(self, marker, **entry):
        given = {"Source": "com.example.shop", "DetailType": "OrderPlaced", "Detail": json.dumps({"marker": marker})}
        answer = self.client("events").put_events(Entries=[{**given, "EventBusName": self.bus, **entry}])
        assert answer["FailedEntryCount"] == 0

    def logged(self, group="EventLogGroupName"):
        name = self.outputs[group]
        return [one["message"] for one in self.client("logs").filter_log_events(logGroupName=name)["events"]]

    def letters(self):
        """What the dead-letter queue shows to everybody."""
        url = self.outputs["DeadLetterQueueUrl"]
        found = self.client("sqs").receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0
        )
        return found.get("Messages", [])

    def lock_the_log_group(self):
        for one in self.client("logs").describe_resource_policies()["resourcePolicies"]:
            if one["policyName"].startswith(self.name):
                self.client("logs").delete_resource_policy(policyName=one["policyName"])

    def taps(self):
        """Names of temporary rules on the bus, and of temporary queues of the bus."""
        rules = self.client("events").list_rules(NamePrefix=bus_tap.PREFIX, EventBusName=self.bus)["Rules"]
        sqs = self.client("sqs")
        urls = sqs.list_queues(QueueNamePrefix=bus_tap.PREFIX).get("QueueUrls", [])
        own = [url for url in urls if sqs.list_queue_tags(QueueUrl=url)["Tags"]["bus"] == self.bus]
        return sorted(one["Name"] for one in rules), sorted(url.rsplit("/", 1)[-1] for url in own)


def eventually(what):
    """The first true answer of ``what()``."""
    until = time.monotonic() + PATIENCE
    while not (answer := what()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return answer


@pytest.fixture
def operate(endpoint, checkout, unique):
    """operate(template, **parameters): an Operator of the stack, which lasts as long as the test."""
    made = []

    def deploy(template, **parameters):
        stacks = {unique: {"template": template, "parameters": {"LogRetentionInDays": "1", **parameters}}}
        settings = {"endpoint": endpoint.url, "regions": [REGION], "stacks": stacks}
        (checkout / "parameters/test.yaml").write_text(yaml.safe_dump(settings))
        read = environment.load("test")
        aws = Aws(read)
        (result,) = deployment.deploy(aws, rendering.render_all(), read.choose())
        assert result.ok, result.problem
        made.append(Operator(aws, read, template))
        return made[-1]

    yield deploy
    for one in made:
        for process in one.running:
            process.kill()
            process.communicate()
        for name in one.taps()[0]:
            bus_tap.remove(one.aws, REGION, one.bus, name)
        surveys = deletion.survey(one.aws, one.settings.choose())
        (result,) = deletion.delete(one.aws, surveys, pairs=one.settings.choose(), empty_buckets=True)
        assert result.ok, result.problem


# --- tail


def test_tail_shows_every_log_group_of_the_stack_in_the_order_of_time(operate):
    one = operate("s3-object-events")
    for key in ("first", "second"):
        one.client("s3").put_object(Bucket=one.outputs["DataBucketName"], Key=key, Body=b"x")
        eventually(lambda key=key: any(f'"key": "{key}"' in line for line in one.logged("FunctionLogGroupName")))
    lines = [json.loads(line) for line in one.run("tail", "--once", "--json").stdout.splitlines()]
    assert {line["logGroup"] for line in lines} == {
        one.outputs["EventLogGroupName"],
        one.outputs["FunctionLogGroupName"],
    }
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    events = [line["message"] for line in lines if isinstance(line["message"], dict)]
    assert [event["detail"]["requestParameters"]["key"] for event in events] == ["first", "second"]


def test_tail_takes_a_filter_and_a_begin_and_prints_raw_messages(operate):
    one = operate("custom-event-bus")
    for marker in ("apple", "pear"):
        one.put(marker)
    eventually(lambda: len(one.logged()) == 2)
    assert [json.loads(line)["detail"]["marker"] for line in one.run("tail", "--once", "--raw").stdout.splitlines()] == [
        "apple", "pear",
    ]  # fmt: skip
    pears = one.run("tail", "--once", "--raw", "--filter", "pear").stdout.splitlines()
    assert [json.loads(line)["detail"]["marker"] for line in pears] == ["pear"]
    assert one.run("tail", "--once", "--since", "2100-01-01T00:00:00Z").stdout == ""


def test_tail_follows_until_interrupted(operate):
    one = operate("custom-event-bus")
    one.put("before")
    eventually(one.logged)
    process, _ = one.start("tail", "--raw", until="log groups")
    assert json.loads(process.stdout.readline())["detail"] == {"marker": "before"}
    one.put("meanwhile")
    assert json.loads(process.stdout.readline())["detail"] == {"marker": "meanwhile"}
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest) == (130, "")
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_tail_of_a_bus_leaves_nothing_behind(operate, number):
    one = operate("custom-event-bus")
    process, _ = one.start("tail", "--bus", "--json", until="Following")
    assert [len(names) for names in one.taps()] == [1, 1]
    one.put("seen")
    line = json.loads(process.stdout.readline())
    assert (line["bus"], line["message"]["detail"]) == (one.bus, {"marker": "seen"})
    while process.poll() is None:  # an impatient user
        process.send_signal(number)
        time.sleep(0.005)
    assert process.returncode == 130
    assert "Traceback" not in process.stderr.read()
    assert one.taps() == ([], [])


def test_tail_of_a_bus_takes_an_event_pattern(operate):
    one = operate("custom-event-bus")
    process, _ = one.start("tail", "--bus", "--raw", "--filter", '{"detail-type": ["OrderPaid"]}', until="Following")
    one.put("placed")
    one.put("paid", DetailType="OrderPaid")
    assert json.loads(process.stdout.readline())["detail"] == {"marker": "paid"}
    refused = one.run("tail", "--bus", "--filter", '{"detail-type": []}', code=1)
    assert "Empty arrays are not allowed" in refused.stderr
    assert len(one.taps()[0]) == 1


def test_tail_of_a_stack_without_a_bus_follows_the_default_bus(operate):
    one = operate("s3-object-events")
    process, said = one.start(
        "tail", "--bus", "--raw", "--filter", json.dumps({"source": [one.name]}), until="Following"
    )
    assert "the bus default" in said
    one.put("default", Source=one.name)
    assert json.loads(process.stdout.readline())["source"] == one.name


def test_a_reader_that_has_seen_enough_ends_the_tap(operate):
    one = operate("custom-event-bus")
    process, _ = one.start("tail", "--bus", "--raw", until="Following")
    process.stdout.close()
    for number in range(3):
        one.put(str(number))
    process.wait(PATIENCE)
    assert one.taps() == ([], [])


def test_tail_of_a_bus_that_is_not_there_says_so(operate):
    one = operate("custom-event-bus")
    assert "there is no event bus 'nowhere'" in one.run("tail", "--bus", "nowhere", code=1).stderr


def test_what_a_killed_run_leaves_is_removed_by_the_next_one_and_a_living_run_goes_on(operate):
    one = operate("custom-event-bus")
    living, _ = one.start("tail", "--bus", "--raw", until="Following")
    killed, said = one.start("tail", "--bus", "--raw", until="Following")
    dead = said.split("through ")[1].split(";")[0]
    killed.send_signal(signal.SIGKILL)
    killed.wait(PATIENCE)
    assert [dead in names for names in one.taps()] == [True, True]
    _, said = one.start("tail", "--bus", "--raw", until="Following")
    assert f"Removed {dead}" in said
    assert [(dead in names, len(names)) for names in one.taps()] == [(False, 2), (False, 2)]
    one.put("still there")
    assert json.loads(living.stdout.readline())["detail"] == {"marker": "still there"}


def test_a_tap_of_another_machine_counts_as_dead_when_it_gives_no_sign_of_life(operate):
    one = operate("custom-event-bus")
    _, said = one.start("tail", "--bus", until="Following")
    name = said.split("through ")[1].split(";")[0]
    (Path(tempfile.gettempdir()) / f"{name}.lock").unlink()  # as it looks from elsewhere
    assert bus_tap.sweep(one.aws, REGION, one.bus) == []
    sqs = one.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    sqs.tag_queue(QueueUrl=url, Tags={"heartbeat": str(int(time.time() - bus_tap.EXPIRY - 1))})
    assert bus_tap.sweep(one.aws, REGION, one.bus) == [name]
    assert one.taps() == ([], [])


def test_a_temporary_rule_without_its_queue_is_removed(operate):
    one = operate("custom-event-bus")
    name = f"{bus_tap.PREFIX}{one.name}"
    one.client("events").put_rule(Name=name, EventBusName=one.bus, EventPattern=bus_tap.EVERYTHING)
    assert name in bus_tap.sweep(one.aws, REGION, one.bus)
    assert one.taps() == ([], [])


# --- archive-replay


def add_rule(one, name, marker):
    """A rule of the bus's own with a queue that may take what it matches; gives the queue's URL."""
    sqs, queue = one.client("sqs"), f"{one.name}-{name}"
    url = sqs.create_queue(QueueName=queue)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    sqs.set_queue_attributes(
        QueueUrl=url, Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [allow]})}
    )
    pattern = json.dumps({"detail": {"marker": [marker]}})
    one.client("events").put_rule(Name=queue, EventBusName=one.bus, EventPattern=pattern)
    one.client("events").put_targets(Rule=queue, EventBusName=one.bus, Targets=[{"Id": "queue", "Arn": arn}])
    return url


@pytest.fixture
def archived(operate):
    """A stack whose archive holds two events, and after them a rule of its own for one of the two."""
    one = operate("custom-event-bus")
    for marker in ("apple", "pear"):
        one.put(marker)
    eventually(lambda: len(one.logged()) == 2)
    one.url = add_rule(one, "pears", "pear")
    yield one
    one.client("events").remove_targets(Rule=f"{one.name}-pears", EventBusName=one.bus, Ids=["queue"])
    one.client("events").delete_rule(Name=f"{one.name}-pears", EventBusName=one.bus)
    one.client("sqs").delete_queue(QueueUrl=one.url)


def received(one):
    found = one.client("sqs").receive_message(QueueUrl=one.url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    return [json.loads(message["Body"]) for message in found.get("Messages", [])]


def test_archives_are_listed(archived):
    (found,) = json.loads(archived.run("archive-replay", "--json").stdout)
    assert (found["name"], found["events"], found["state"]) == (archived.outputs["ArchiveName"], 2, "ENABLED")
    assert archived.outputs["ArchiveName"] in archived.run("archive-replay").stdout


def test_a_dry_run_counts_events_and_names_who_would_receive_them(archived):
    (found,) = json.loads(archived.run("archive-replay", "--since", "10m", "--dry-run", "--json").stdout)
    assert (found["archived"], found["events"]) == (2, 2)
    rules = {one["rule"]: (one["events"], one["targets"]) for one in found["rules"]}
    assert rules == {
        "CatchAllRule": (2, {"logs EventLogGroup": "delivered"}),
        f"{archived.name}-pears": (1, {f"sqs {archived.name}-pears": "delivered"}),
    }
    options = ("archive-replay", "--since", "10m", "--rule", "CatchAllRule", "--dry-run")
    assert archived.name + "-pears" not in archived.run(*options).stdout
    assert len(archived.logged()) == 2
    earlier = ("--since", "2020-01-01T00:00:00Z", "--until", "2020-01-02T00:00:00Z", "--dry-run", "--json")
    (found,) = json.loads(archived.run("archive-replay", *earlier).stdout)
    assert found["events"] == 0


def test_a_dry_run_counts_what_the_archive_keeps(archived):
    pattern = json.dumps({"detail": {"marker": ["apple"]}})
    archived.client("events").update_archive(ArchiveName=archived.outputs["ArchiveName"], EventPattern=pattern)
    (found,) = json.loads(archived.run("archive-replay", "--since", "10m", "--dry-run", "--json").stdout)
    assert found["events"] == 1
    assert {one["rule"]: one["events"] for one in found["rules"]} == {"CatchAllRule": 1, f"{archived.name}-pears": 0}


def test_a_replay_brings_the_events_again_and_is_followed_to_its_end(archived):
    done = archived.run("archive-replay", "--since", "10m", "--yes", "--json")
    (replay,) = json.loads(done.stdout)
    assert replay["state"] == "COMPLETED"
    assert [json.loads(one).get("replay-name") for one in archived.logged()] == [None, None, *[replay["replay"]] * 2]
    assert [one["detail"] for one in received(archived)] == [{"marker": "pear"}]


def test_a_replay_of_another_time_brings_nothing(archived):
    archived.run("archive-replay", "--since", "2020-01-01T00:00:00Z", "--until", "2020-01-02T00:00:00Z", "--yes")
    assert len(archived.logged()) == 2


def test_a_replay_goes_to_the_chosen_rule_only(archived):
    archived.run("archive-replay", "--since", "10m", "--rule", f"{archived.name}-pears", "--yes")
    assert [one["detail"] for one in received(archived)] == [{"marker": "pear"}]
    assert len(archived.logged()) == 2


def test_a_replay_asks_for_the_chosen_rules(archived):
    done = archived.run("archive-replay", "--since", "10m", "--rule", "CatchAllRule", "--yes", "--json")
    told = archived.client("events").describe_replay(ReplayName=json.loads(done.stdout)[0]["replay"])
    assert told["Destination"]["FilterArns"] == [archived.outputs["CatchAllRuleArn"]]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--rule", "Nobody", "--yes"], 1, "has no rule 'Nobody'"),
        (["--archive", "nothing", "--yes"], 1, "no archive nothing"),
        (["--until", "20m", "--yes"], 2, "--since is not before --until"),
        ([], 2, "YES=1"),
    ],
)
def test_a_replay_that_is_not_meant_is_not_started(archived, options, code, said):
    done = archived.run("archive-replay", "--since", "10m", *options, code=code)
    assert said in done.stderr
    source = archived.outputs["ArchiveArn"]
    assert archived.client("events").list_replays(EventSourceArn=source)["Replays"] == []


def test_a_replay_that_is_over_or_is_not_there_cannot_be_cancelled(archived):
    (replay,) = json.loads(archived.run("archive-replay", "--since", "10m", "--yes", "--json").stdout)
    assert "already completed" in archived.run("archive-replay", "--cancel", replay["replay"], code=1).stderr
    assert "there is no replay 'nothing'" in archived.run("archive-replay", "--cancel", "nothing", code=1).stderr


# --- redrive


def test_dead_letters_are_shown_by_rule_target_and_code_and_stay(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    for marker in ("apple", "pear"):
        one.put(marker)
    eventually(lambda: len(one.letters()) == 2)
    (found,) = json.loads(one.run("redrive", "--json").stdout)
    assert (found["rule"], found["code"], found["letters"]) == (one.outputs["CatchAllRuleArn"], "NO_PERMISSIONS", 2)
    assert found["target"].endswith(one.outputs["EventLogGroupName"])
    assert found["example"]["detail"]["marker"] in ("apple", "pear")
    assert len(one.letters()) == 2
    line = one.run("redrive").stdout
    assert "NO_PERMISSIONS" in line
    assert line.startswith("2\t")


def test_letters_go_to_their_target_and_leave_the_queue(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    for marker in ("apple", "pear"):
        one.put(marker)
    eventually(lambda: len(one.letters()) == 2)
    bodies = {letter["Body"] for letter in one.letters()}
    done = one.run("redrive", "--to", "target", "--rate", "50", "--yes", "--json")
    assert json.loads(done.stdout) == {"to": "target", "sent": 2, "kept": 0, "problems": []}
    assert sorted(map(json.loads, one.logged()), key=str) == sorted(map(json.loads, bodies), key=str)
    assert one.letters() == []


def test_a_target_gets_what_its_rule_makes_of_the_event(operate):
    one = operate("custom-event-bus")
    sqs = one.client("sqs")
    url = sqs.create_queue(QueueName=one.name)["QueueUrl"]  # no policy: EventBridge may not
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    target = {
        "Id": "queue", "Arn": arn, "DeadLetterConfig": {"Arn": one.outputs["DeadLetterQueueArn"]},
        "InputTransformer": {"InputPathsMap": {"what": "$.detail.marker"}, "InputTemplate": '{"marked": <what>}'},
    }  # fmt: skip
    rule = one.outputs["CatchAllRuleArn"].rsplit("/", 1)[-1]
    one.client("events").put_targets(Rule=rule, EventBusName=one.bus, Targets=[target])
    one.put("apple")
    eventually(one.letters)
    one.run("redrive", "--to", "target", "--yes")
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert json.loads(message["Body"]) == {"marked": "apple"}
    assert one.letters() == []
    sqs.delete_queue(QueueUrl=url)


def test_letters_of_a_bus_that_still_cannot_be_delivered_come_back(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    one.put("apple")
    (before,) = eventually(one.letters)
    done = one.run("redrive", "--to", "bus", "--yes")
    assert "1 sent to their bus and removed, 0 kept" in done.stdout
    (after,) = eventually(one.letters)
    assert after["MessageId"] != before["MessageId"]
    assert json.loads(after["Body"])["detail"] == {"marker": "apple"}


def test_a_letter_whose_target_is_gone_stays(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    one.put("apple")
    (before,) = eventually(one.letters)
    events, rule = one.client("events"), one.outputs["CatchAllRuleArn"].rsplit("/", 1)[-1]
    targets = events.list_targets_by_rule(Rule=rule, EventBusName=one.bus)["Targets"]
    events.remove_targets(Rule=rule, EventBusName=one.bus, Ids=["EventLogGroup"])
    done = one.run("redrive", "--to", "target", "--yes", code=1)
    assert "the rule has no target" in done.stderr
    assert [letter["MessageId"] for letter in one.letters()] == [before["MessageId"]]
    assert one.logged() == []
    events.put_targets(Rule=rule, EventBusName=one.bus, Targets=targets)
    one.run("redrive", "--to", "target", "--yes")
    assert [json.loads(line)["detail"] for line in one.logged()] == [{"marker": "apple"}]


def test_events_of_aws_cannot_go_back_to_the_bus_and_stay(operate):
    one = operate("s3-object-events", LogsPolicyScope="none")
    one.client("s3").put_object(Bucket=one.outputs["DataBucketName"], Key="key", Body=b"x")
    eventually(one.letters)
    done = one.run("redrive", "--to", "bus", "--yes", code=1)
    assert "only AWS may put events of the source aws.s3" in done.stderr
    assert "Send it to the target." in done.stderr
    assert len(one.letters()) == 1
    one.run("redrive", "--to", "target", "--yes")
    assert [json.loads(line)["source"] for line in one.logged()] == ["aws.s3"]
    assert one.letters() == []


def test_an_interrupted_run_lets_go_of_what_it_did_not_send(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    for marker in ("apple", "pear", "plum"):
        one.put(marker)
    eventually(lambda: len(one.letters()) == 3)
    process, _ = one.start("redrive", "--to", "target", "--rate", "0.01", "--yes", until="3 dead letters")
    eventually(one.logged)
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url, sqs = one.outputs["DeadLetterQueueUrl"], one.client("sqs")

    def held():
        return sum(map(int, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()))

    eventually(lambda: held() == 2)  # what was sent is removed as well
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "1 sent to their target and removed, 0 kept" in out
    assert "Traceback" not in said
    left = {json.loads(letter["Body"])["detail"]["marker"] for letter in one.letters()}
    assert left | {json.loads(line)["detail"]["marker"] for line in one.logged()} == {"apple", "pear", "plum"}
    assert len(left) == 2


def test_only_what_is_meant_is_sent(operate):
    one = operate("custom-event-bus", LogsPolicyScope="none")
    one.put("apple")
    eventually(one.letters)
    assert "0 dead letters" in one.run("redrive", "--to", "target", "--only", "NO_RESOURCE", "--yes").stderr
    assert "YES=1" in one.run("redrive", "--to", "target", code=2).stderr
    assert len(one.letters()) == 1
    assert one.logged() == []


def test_what_a_function_gave_up_on_goes_back_to_the_function(operate):
    one = operate("s3-object-events")
    functions, name = one.client("lambda"), one.outputs["FunctionArn"]
    functions.put_function_event_invoke_config(
        FunctionName=name, MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": one.outputs["DeadLetterQueueArn"]}},
    )  # fmt: skip
    event = {
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": "b"}, "reason": "PutObject", "object": {"key": "k"}},
    }
    functions.invoke(
        FunctionName=name, InvocationType="Event", Payload=json.dumps(event)
    )  # without requester: it fails
    (before,) = eventually(one.letters)
    (found,) = json.loads(one.run("redrive", "--json").stdout)
    assert (found["rule"], found["code"], found["message"]) == (None, "RetriesExhausted", "'requester'")
    assert found["example"] == event
    assert "does not say from which bus" in one.run("redrive", "--to", "bus", "--yes", code=1).stderr
    one.run("redrive", "--to", "target", "--yes")
    after = eventually(lambda: [letter["MessageId"] for letter in one.letters()])  # it fails again, and is kept
    assert after != [before["MessageId"]]
    assert len(after) == 1


# --- metrics


def test_metrics_say_when_there_are_none(operate):
    one = operate("custom-event-bus")
    one.put("apple")
    done = one.run("metrics")
    assert (done.stdout, "CloudWatch has no metrics of these rules" in done.stderr) == ("", True)


def test_metrics_of_each_rule_are_summed(operate):
    one = operate("custom-event-bus")
    rule = one.outputs["CatchAllRuleArn"].rsplit("/", 1)[-1]
    dimensions = [{"Name": "EventBusName", "Value": one.bus}, {"Name": "RuleName", "Value": rule}]
    for name, value in {"MatchedEvents": 7, "InvocationsSentToDlq": 2}.items():
        for ago in (60, 3600):
            data = {"MetricName": name, "Dimensions": dimensions, "Value": value, "Timestamp": time.time() - ago}
            one.client("cloudwatch").put_metric_data(Namespace="AWS/Events", MetricData=[data])
    (found,) = json.loads(one.run("metrics", "--json").stdout)
    assert found["rule"] == "CatchAllRule"
    sums = {name: values and values["sum"] for name, values in found["metrics"].items()}
    assert sums == {"MatchedEvents": 14, "Invocations": None, "FailedInvocations": None, "InvocationsSentToDlq": 4}
    row = one.run("metrics", "--since", "10m").stdout.splitlines()[1].split("\t")
    assert [row[0], *row[4:6], row[3].split()[-1], row[6].split()[-1]] == ["CatchAllRule", "-", "-", "7", "2"]


def test_a_stack_that_is_named_has_to_be_deployed_in_all_its_regions(operate, endpoint, checkout):
    one = operate("custom-event-bus")
    stacks = {name: {"template": "custom-event-bus"} for name in ("other", one.name)}
    settings = {"endpoint": endpoint.url, "regions": [REGION, OTHER], "stacks": stacks}
    (checkout / "parameters/test.yaml").write_text(yaml.safe_dump(settings))

    def run(*options):
        command = [sys.executable, "-m", "scripts", "metrics", "--env", "test", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=one.variables)

    everything, other, partly = run(), run("--stack", "other"), run("--stack", one.name)
    assert (everything.returncode, "no metrics" in everything.stderr) == (0, True)
    assert (other.returncode, "not deployed" in other.stderr) == (1, True)
    assert (partly.returncode, f"{one.name} in {OTHER}: this stack is not deployed" in partly.stderr) == (1, True)
