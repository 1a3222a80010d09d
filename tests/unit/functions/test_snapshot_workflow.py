"""The functions of rds-snapshot-workflow: in any order of calls, no workflow waits in vain."""

import importlib.util
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from hypothesis import example, given
from hypothesis import strategies as st

FUNCTIONS = Path(__file__).parents[3] / "templates" / "functions"
CONTEXT = SimpleNamespace(
    invoked_function_arn="arn:aws-cn:lambda:cn-north-1:111122223333:function:start"
)
EXECUTION = "arn:aws-cn:states:cn-north-1:111122223333:execution:Snapshot:nightly_2026.11"
ORDERS = {"DBInstanceIdentifier": "Orders"}


def load(name):
    spec = importlib.util.spec_from_file_location(name, FUNCTIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


start, resume = load("start_snapshot"), load("resume_workflow")


def refusal(code, kind=ClientError):
    return kind({"Error": {"Code": code, "Message": code}}, "Call")


class Aws:
    """DynamoDB, RDS and Step Functions with the operations that the functions call.

    ``before`` and ``after`` hold actions to run around the n-th call: another function at work.
    """

    def __init__(self):
        self.items, self.snapshots, self.finished, self.failed = {}, {}, [], []
        self.waiting = set()
        self.calls, self.before, self.after = itertools.count(), {}, {}
        self.exceptions = SimpleNamespace(ConditionalCheckFailedException=ConditionalError)
        self.broken = set()

    def _call(self, name, work):
        number = next(self.calls)
        self.before.pop(number, lambda: None)()
        if name in self.broken:
            raise refusal("InternalServerError")
        answer = work()
        self.after.pop(number, lambda: None)()
        return answer

    def update_item(self, *, Key, ExpressionAttributeValues, ConditionExpression, **_):  # noqa: N803
        arn, values = Key["SnapshotArn"]["S"], ExpressionAttributeValues

        def work():
            item = self.items.get(arn, {})
            if ":token" in values:
                if item.get("ExecutionArn", values[":execution"]) != values[":execution"]:
                    raise refusal("ConditionalCheckFailedException", ConditionalError)
                item |= {"TaskToken": values[":token"], "ExecutionArn": values[":execution"]}
            elif not item:
                raise refusal("ConditionalCheckFailedException", ConditionalError)
            else:
                item["Announced"] = values[":true"]
            self.items[arn] = item
            return {"Attributes": dict(item)}

        assert "attribute" in ConditionExpression
        return self._call("update_item", work)

    def delete_item(self, *, Key, **_):  # noqa: N803
        return self._call("delete_item", lambda: self.items.pop(Key["SnapshotArn"]["S"], None))

    def send_task_success(self, *, taskToken, output):  # noqa: N803
        def work():
            if taskToken not in self.waiting:
                raise refusal("TaskTimedOut")
            self.waiting.discard(taskToken)
            self.finished.append((taskToken, json.loads(output)))

        return self._call("send_task_success", work)

    def send_task_failure(self, *, taskToken, error, cause):  # noqa: N803
        self.waiting.discard(taskToken)
        self.failed.append((taskToken, error, cause))

    def _create(self, identifier, code):
        def work():
            if identifier in self.snapshots:
                raise refusal(code)
            self.snapshots[identifier] = "creating"

        return self._call("create", work)

    def create_db_snapshot(self, *, DBSnapshotIdentifier, DBInstanceIdentifier, Tags):  # noqa: N803
        return self._create(DBSnapshotIdentifier, "DBSnapshotAlreadyExists")

    def create_db_cluster_snapshot(self, *, DBClusterSnapshotIdentifier, **_):  # noqa: N803
        return self._create(DBClusterSnapshotIdentifier, "DBClusterSnapshotAlreadyExistsFault")

    def describe_db_snapshots(self, *, DBSnapshotIdentifier):  # noqa: N803
        if DBSnapshotIdentifier not in self.snapshots:
            raise refusal("DBSnapshotNotFound")
        return {"DBSnapshots": [{"Status": self.snapshots[DBSnapshotIdentifier]}]}


class ConditionalError(ClientError):
    pass


@pytest.fixture
def aws(monkeypatch):
    return connect(monkeypatch, Aws())


def connect(monkeypatch, aws):
    monkeypatch.setenv("TABLE_NAME", "tokens")
    for module in (start, resume):
        monkeypatch.setattr(module.boto3, "client", lambda _service: aws)
    return aws


def begin(aws, token, given=ORDERS, execution=EXECUTION):
    aws.waiting.add(token)
    request = {"action": "start", "token": token, "execution": execution, "input": given}
    assert start.handler(request, CONTEXT)["Status"] in ("waiting", "failed")
    return _arn()


def event(arn):
    return {"messageId": arn, "body": json.dumps({"detail": {"SourceArn": arn}})}


def announced(arn):
    return resume.handler({"Records": [event(arn)]}, None)["batchItemFailures"]


def test_an_event_resumes_the_workflow_once_and_leaves_no_item(aws):
    arn = begin(aws, "T1")
    assert [announced(arn), announced(arn)] == [[], []]
    assert aws.finished == [("T1", {"SnapshotArn": arn, "Status": "available"})]
    assert not aws.items


def test_an_event_of_a_snapshot_nobody_waits_for_is_dropped(aws):
    assert announced("arn:aws:rds:us-east-1:111122223333:snapshot:rds:orders-2026-11-29") == []
    assert not aws.items


@pytest.mark.parametrize("call", range(2))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_event_at_any_moment_of_the_start_resumes_the_workflow(aws, call, moment):
    arn = _arn()
    getattr(aws, moment)[call] = lambda: announced(arn)
    begin(aws, "T1")
    if not aws.finished:  # RDS announces a snapshot after it is created: this event came too early
        announced(arn)
    assert [token for token, _ in aws.finished] == ["T1"]


@pytest.mark.parametrize("call", range(2))
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_workflow_that_waits_again_is_resumed_at_any_moment_of_the_late_event(aws, call, moment):
    arn = begin(aws, "T1")
    aws.waiting.clear()  # the first wait timed out
    number = next(aws.calls) + 1 + call
    getattr(aws, moment)[number] = lambda: begin(aws, "T2")
    announced(arn)
    if "T2" not in aws.waiting and not aws.finished:
        begin(aws, "T2")
    assert [token for token, _ in aws.finished] == ["T2"]


def _arn():
    request = {"input": ORDERS, "execution": EXECUTION}
    return start.snapshot_of(request, CONTEXT.invoked_function_arn)["arn"]


def test_a_second_attempt_of_one_execution_creates_no_second_snapshot(aws):
    begin(aws, "T1")
    begin(aws, "T2")
    assert len(aws.snapshots) == 1
    announced(_arn())
    assert [token for token, _ in aws.finished] == ["T2"]


def test_a_message_that_fails_is_the_only_one_delivered_again(aws):
    arn = begin(aws, "T1")
    records = [event(arn), {"messageId": "bad", "body": "{}"}, {"messageId": "worse", "body": "["}]
    failures = resume.handler({"Records": records}, None)["batchItemFailures"]
    assert [one["itemIdentifier"] for one in failures] == ["bad", "worse"]
    assert len(aws.finished) == 1


def test_a_service_error_keeps_the_message_and_the_token(aws):
    arn = begin(aws, "T1")
    aws.broken.add("send_task_success")
    assert announced(arn) == [{"itemIdentifier": arn}]
    aws.broken.clear()
    assert announced(arn) == []
    assert [token for token, _ in aws.finished] == ["T1"]


@pytest.mark.parametrize("code", ["TaskTimedOut", "TaskDoesNotExist", "InvalidToken"])
def test_a_workflow_that_went_on_is_not_resumed_again(aws, monkeypatch, code):
    def ended(**_):
        raise refusal(code)

    arn = begin(aws, "T1")
    monkeypatch.setattr(aws, "send_task_success", ended)
    assert announced(arn) == []


def test_look_tells_the_status_or_that_it_is_missing(aws):
    request = {"action": "look", "execution": EXECUTION, "input": ORDERS}
    assert start.handler(request, CONTEXT)["Status"] == "missing"
    begin(aws, "T1")
    assert start.handler(request, CONTEXT)["Status"] == "creating"


@pytest.mark.parametrize(
    "given",
    [{}, None, ["orders"], {"DBInstanceIdentifier": 5}, {**ORDERS, "DBClusterIdentifier": "x"}],
)
def test_input_without_exactly_one_database_is_refused_before_anything_is_stored(aws, given):
    begin(aws, "T1", given)
    assert [one[:2] for one in aws.failed] == [("T1", "InvalidInput")]
    assert not aws.items
    assert not aws.snapshots


@pytest.mark.parametrize("call", ["update_item", "create"])
def test_an_error_of_aws_fails_the_task_with_its_code(aws, call):
    aws.broken.add(call)
    begin(aws, "T1")
    assert [one[:2] for one in aws.failed] == [("T1", "InternalServerError")]


@given(
    st.from_regex(r"\A[A-Za-z][A-Za-z0-9-]{0,62}\Z"),
    st.text(min_size=1, max_size=80),
    st.sampled_from([63, 255]),
)
@example("a" * 63, "b" * 80, 63)
def test_an_identifier_is_legal_and_the_same_for_each_attempt(database, name, longest):
    execution = f"arn:aws:states:us-east-1:111122223333:execution:M:{name}"
    found = start.snapshot_id(database, execution, longest)
    assert found == start.snapshot_id(database, execution, longest)
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", found)
    assert len(found) <= longest
    assert found != start.snapshot_id(database, execution + "2", longest)


def test_an_event_after_the_timeout_is_done_and_leaves_the_note(aws):
    arn = begin(aws, "T1")
    aws.waiting.clear()
    assert announced(arn) == []
    assert aws.items[arn]["Announced"] == {"BOOL": True}
