# ruff: noqa: N803, FBT002, PLR0917 - the names and positions of the API that it stands for
"""A CloudFormation that follows a script, on a clock that only sleeping moves.

It knows what the deployer may rely on, from the API reference and facts that were recorded on AWS:
change sets, operations with events (newest first, paged), stacks that lag behind their events. What
happens in an operation is given by the test as a timeline. What it is called with is held to
botocore's model of the API. Faults are queued per operation; ``landed`` ones are done and their
answer is lost.
"""

import itertools
import threading
import uuid
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

MODEL = botocore.session.get_session().get_service_model("cloudformation")
OPERATIONS = {xform_name(name): name for name in MODEL.operation_names}
STACK = "AWS::CloudFormation::Stack"
START = datetime(2026, 1, 1, tzinfo=UTC)
TEMPLATE = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}, "Outputs": {"Arn": {"Value": "x"}}}
QUEUE = {"Action": "Add", "LogicalResourceId": "Queue", "ResourceType": "AWS::SQS::Queue"}


def refusal(code, message="", status=400, operation="Call"):
    return ClientError(
        {
            "Error": {"Code": code, "Message": message or code},
            "ResponseMetadata": {"HTTPStatusCode": status},
        },
        operation,
    )


def throttle():
    return refusal("Throttling", "Rate exceeded")


def steps(*given):
    """(seconds, logical id or 'STACK', status[, reason][, extra]) → a timeline."""
    return [
        (one[0], one[1], one[2], one[3] if len(one) > 3 else "", one[4] if len(one) > 4 else {})
        for one in given
    ]


CREATED = steps(
    (0, "STACK", "CREATE_IN_PROGRESS"),
    (1, "Queue", "CREATE_IN_PROGRESS"),
    (2, "Queue", "CREATE_COMPLETE"),
    (3, "STACK", "CREATE_COMPLETE"),
)
UPDATED = steps(
    (0, "STACK", "UPDATE_IN_PROGRESS"),
    (1, "Queue", "UPDATE_IN_PROGRESS"),
    (2, "Queue", "UPDATE_COMPLETE"),
    (3, "STACK", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"),
    (4, "STACK", "UPDATE_COMPLETE"),
)
DELETED = steps(
    (0, "STACK", "DELETE_IN_PROGRESS"),
    (1, "Queue", "DELETE_IN_PROGRESS"),
    (2, "Queue", "DELETE_COMPLETE"),
    (3, "STACK", "DELETE_COMPLETE"),
)
ROLLED_BACK = steps(
    (0, "STACK", "CREATE_IN_PROGRESS"),
    (1, "Queue", "CREATE_FAILED", "Queue name is taken"),
    (2, "STACK", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [Queue]."),
    (3, "STACK", "ROLLBACK_COMPLETE"),
)


def drifting(w, resource="Queue", differences=(), **detection):
    """Let drift detection find that a resource was changed by hand."""
    found = {
        "LogicalResourceId": resource,
        "StackResourceDriftStatus": "MODIFIED",
        "PropertyDifferences": differences,
    }
    answers = {
        "detect_stack_drift": {"StackDriftDetectionId": "1"},
        "describe_stack_drift_detection_status": {
            "DetectionStatus": "DETECTION_COMPLETE",
            "StackDriftStatus": "DRIFTED",
            **detection,
        },
        "describe_stack_resource_drifts": {"StackResourceDrifts": [found]},
    }
    for name, answer in answers.items():
        setattr(w.cfn, name, lambda _answer=answer, **_: _answer)


class FakeCloudFormation:
    def __init__(self, clock, region="us-east-1"):
        self.clock, self.region = clock, region
        self.stacks, self.change_sets, self.events = {}, {}, defaultdict(list)
        self.calls, self.faults = [], defaultdict(list)
        self.timelines = {"CREATE": CREATED, "UPDATE": UPDATED, "DELETE": DELETED}
        self.changes, self.no_change, self.reason = [QUEUE], False, None
        self.nested = {}  # ARN of a nested stack's change set → its answer, while its root's exists
        self.lag = 0.0  # seconds by which DescribeStacks is late
        self.page, self.shuffle = 100, None
        self.operation_events, self.outputs = [], {}
        self.exports = {}  # stack → output → name of the export
        self.imports = {}  # name of an export → stacks that import it
        self.change_set_delay = 0.0
        self.numbers, self.lock = itertools.count(), threading.RLock()
        for name in [one for one in dir(self) if one.startswith("_do_")]:
            setattr(self, name[4:], self._wrap(name[4:], getattr(self, name)))

    meta = SimpleNamespace(region_name="us-east-1")

    def _wrap(self, name, method):
        shape = MODEL.operation_model(OPERATIONS[name]).input_shape

        def call(**arguments):
            wrong = ParamValidator().validate(arguments, shape)
            assert not wrong.has_errors(), f"{name}: {wrong.generate_report()}"
            with self.lock:
                self.calls.append((name, arguments))
                queue = self.faults[name]
                error, landed = queue.pop(0) if queue else (None, True)
                answer = method(**arguments) if landed or error is None else None
                if error is not None:
                    raise error
                return answer

        return call

    def fail(self, name, error, times=1, after=0, *, landed=False):
        self.faults[name] += [(None, False)] * after + [(error, landed)] * times

    def names(self):
        return [name for name, _ in self.calls]

    def arguments(self, method):
        """Return the arguments of the calls of this method, in order."""
        return [given for name, given in self.calls if name == method]

    # --- what a test arranges ---------------------------------------------------------------

    def add_stack(self, name, status="CREATE_COMPLETE", **more):
        stack_id = f"arn:aws:cloudformation:{self.region}:123456789012:stack/{name}/{uuid.uuid4()}"
        self.stacks[stack_id] = {
            "name": name,
            "made": self.clock.now(),
            "more": {"CreationTime": START, **more},
            "updated": None,
        }
        self.emit(stack_id, name, status, at=self.clock.now())
        return stack_id

    def emit(self, stack_id, logical, status, reason="", at=None, token="", **extra):
        own = logical in ("STACK", self.stacks.get(stack_id, {}).get("name"))
        at = self.clock.now() if at is None else at
        raw = {
            "EventId": f"event-{next(self.numbers)}",
            "StackId": stack_id,
            "Timestamp": START + timedelta(seconds=at),
            "LogicalResourceId": self.stacks[stack_id]["name"] if own else logical,
            "PhysicalResourceId": stack_id if own else f"physical-{logical}",
            "ResourceType": STACK if own else "AWS::SQS::Queue",
            "ResourceStatus": status,
            "ResourceStatusReason": reason,
            **({"ClientRequestToken": token} if token else {}),
            **extra,
        }
        self.events[stack_id].append((at, raw))
        return raw["EventId"]

    def play(self, stack_id, timeline, token=""):
        now = self.clock.now()
        for seconds, logical, status, reason, extra in timeline:
            self.emit(
                stack_id, logical, status, reason, at=now + seconds, **{"token": token, **extra}
            )

    def status(self, stack_id, late=0.0):
        seen = [
            raw
            for at, raw in sorted(self.events[stack_id], key=lambda one: one[0])
            if at <= self.clock.now() - late and raw["PhysicalResourceId"] == stack_id
        ]
        seen = seen or [self.events[stack_id][0][1]]
        return seen[-1]["ResourceStatus"]

    def find(self, name, late=0.0):
        if name in self.stacks:
            return name
        for stack_id, one in reversed(self.stacks.items()):
            if one["name"] == name and self.status(stack_id) != "DELETE_COMPLETE":
                return stack_id
        return None

    # --- the API ----------------------------------------------------------------------------

    def _do_describe_stacks(self, StackName=None, NextToken=None):
        if StackName is None:  # all of them, one to a page
            names = [one for one in self.stacks if self.find(one)]
            page = int(NextToken or 0)
            more = {"NextToken": str(page + 1)} if page + 1 < len(names) else {}
            return self._do_describe_stacks(names[page]) | more if names else {"Stacks": []}
        stack_id = self.find(StackName)
        if stack_id is None:
            raise refusal("ValidationError", f"Stack with id {StackName} does not exist")
        one = self.stacks[stack_id]
        exports = self.exports.get(one["name"], {})
        updated = (
            one["updated"]
            if one["updated"] is not None and one["updated"] <= self.clock.now() - self.lag
            else None
        )
        return {
            "Stacks": [
                {
                    "StackId": stack_id,
                    "StackName": one["name"],
                    "StackStatus": self.status(stack_id, self.lag),
                    **(
                        {"LastUpdatedTime": START + timedelta(seconds=updated)}
                        if updated is not None
                        else {}
                    ),
                    "Outputs": [
                        {
                            "OutputKey": k,
                            "OutputValue": v,
                            **({"ExportName": exports[k]} if k in exports else {}),
                        }
                        for k, v in self.outputs.get(one["name"], {}).items()
                    ],
                    **one["more"],
                }
            ]
        }

    def _do_create_change_set(self, **given):
        name, kind = given["StackName"], given["ChangeSetType"]
        stack_id = self.find(name)
        if any(
            one["given"]["ChangeSetName"] == given["ChangeSetName"]
            for one in self.change_sets.values()
        ):
            raise refusal(
                "AlreadyExistsException", f"ChangeSet [{given['ChangeSetName']}] already exists"
            )
        if kind == "CREATE":
            if stack_id is None:
                stack_id = self.add_stack(name, "REVIEW_IN_PROGRESS")
            elif self.status(stack_id) != "REVIEW_IN_PROGRESS":
                raise refusal(
                    "ValidationError",
                    f"Stack [{name}] already exists and cannot be created again with the changeSet",
                )
        elif stack_id is None or self.status(stack_id) == "REVIEW_IN_PROGRESS":
            raise refusal("ValidationError", f"Stack [{name}] does not exist")
        arn = f"arn:aws:cloudformation:{self.region}:123456789012:changeSet"
        arn = f"{arn}/{given['ChangeSetName']}/{uuid.uuid4()}"
        status, reason = "CREATE_COMPLETE", ""
        if self.no_change is True or self.no_change == name:
            status, reason = (
                "FAILED",
                (
                    "The submitted information didn't contain changes. "
                    "Submit different information to create a change set."
                ),
            )
        if self.reason:
            status, reason = "FAILED", self.reason
        self.change_sets[arn] = {
            "given": given,
            "stack": stack_id,
            "status": status,
            "reason": reason,
            "execution": "AVAILABLE",
            "made": START + timedelta(seconds=self.clock.now()),
            "ready": self.clock.now() + self.change_set_delay,
            "changes": list(self.changes),
        }
        return {"Id": arn, "StackId": stack_id}

    def _change_set(self, ChangeSetName, StackName=None):
        for arn, one in self.change_sets.items():
            if ChangeSetName in (arn, one["given"]["ChangeSetName"]):
                return arn, one
        raise refusal("ChangeSetNotFound", f"ChangeSet [{ChangeSetName}] does not exist", 404)

    def _do_describe_change_set(
        self, ChangeSetName, StackName=None, NextToken=None, IncludePropertyValues=False
    ):
        if ChangeSetName in self.nested and self.change_sets:
            return {
                "ChangeSetId": ChangeSetName,
                "Status": "CREATE_COMPLETE",
                **self.nested[ChangeSetName],
            }
        arn, one = self._change_set(ChangeSetName)
        ready = self.clock.now() >= one["ready"]
        start = int(NextToken or 0)
        page = one["changes"][start : start + 2]
        more = {"NextToken": str(start + 2)} if start + 2 < len(one["changes"]) else {}
        return {
            "ChangeSetId": arn,
            "StackId": one["stack"],
            "Status": one["status"] if ready else "CREATE_IN_PROGRESS",
            "StatusReason": one["reason"],
            "ExecutionStatus": one["execution"],
            "Changes": [{"Type": "Resource", "ResourceChange": change} for change in page],
            "Parameters": one["given"].get("Parameters", []),
            **more,
        }

    def _do_delete_change_set(self, ChangeSetName, StackName=None):
        arn, one = self._change_set(ChangeSetName)
        if self.clock.now() < one["ready"]:
            one["ready"] = 0  # a caller that waits in real time finds it done
            raise refusal("InvalidChangeSetStatus", "ChangeSet is in CREATE_IN_PROGRESS")
        del self.change_sets[arn]
        return {}

    def _do_list_change_sets(self, StackName, NextToken=None):
        found = [
            {
                "ChangeSetId": arn,
                "ChangeSetName": one["given"]["ChangeSetName"],
                "StackId": one["stack"],
                "Status": one["status"],
                "ExecutionStatus": one["execution"],
                "CreationTime": one["made"],
            }
            for arn, one in self.change_sets.items()
            if one["stack"] == self.find(StackName)
        ]
        start = int(NextToken or 0)
        more = {"NextToken": str(start + 2)} if start + 2 < len(found) else {}
        return {"Summaries": found[start : start + 2], **more}

    def _do_execute_change_set(self, ChangeSetName, ClientRequestToken, **given):
        arn, one = self._change_set(ChangeSetName)
        if one["execution"] != "AVAILABLE":
            raise refusal(
                "InvalidChangeSetStatus",
                f"ChangeSet [{arn}] cannot be executed "
                f"in its current execution status of [{one['execution']}]",
            )
        status, stays = self.status(one["stack"]), one["given"].get("DeploymentConfig") or given
        if status in ("CREATE_FAILED", "UPDATE_FAILED") and not stays.get("DisableRollback"):
            raise refusal(
                "ValidationError",
                f"This stack is currently in a non-terminal [{status}] state. "
                "To update the stack from this state, please use the disable-rollback parameter. "
                "To rollback to the last known good state, use the rollback-stack API",
            )
        one["execution"] = "EXECUTE_IN_PROGRESS"
        self.stacks[one["stack"]]["updated"] = self.clock.now()
        self.play(one["stack"], self.timelines[one["given"]["ChangeSetType"]], ClientRequestToken)
        for other in [
            each
            for each, held in self.change_sets.items()
            if held["stack"] == one["stack"] and each != arn
        ]:
            del self.change_sets[other]
        return {}

    def _do_describe_stack_events(self, StackName, NextToken=None):
        stack_id = self.find(StackName)
        if stack_id is None:
            raise refusal("ValidationError", f"Stack [{StackName}] does not exist")
        ordered = sorted(self.events[stack_id], key=lambda one: one[0])
        seen = [raw for at, raw in ordered if at <= self.clock.now()][::-1]
        if self.shuffle:
            seen = self.shuffle(seen)
        start = int(NextToken or 0)
        more = {"NextToken": str(start + self.page)} if start + self.page < len(seen) else {}
        return {"StackEvents": seen[start : start + self.page], **more}

    def _do_describe_events(self, NextToken=None, **_):
        start = int(NextToken or 0)
        more = {"NextToken": str(start + 2)} if start + 2 < len(self.operation_events) else {}
        return {"OperationEvents": self.operation_events[start : start + 2], **more}

    def _do_list_imports(self, ExportName, NextToken=None):
        held = [one for one in self.imports.get(ExportName, ()) if self.find(one)]
        if not held:
            raise refusal("ValidationError", f"Export '{ExportName}' is not imported by any stack.")
        start = int(NextToken or 0)
        more = {"NextToken": str(start + 1)} if start + 1 < len(held) else {}
        return {"Imports": held[start : start + 1], **more}

    def _do_delete_stack(self, StackName, ClientRequestToken="", **given):
        stack_id = self.find(StackName)
        if self.status(stack_id) == "REVIEW_IN_PROGRESS":
            self.emit(stack_id, "STACK", "DELETE_COMPLETE", token=ClientRequestToken)
            for arn in [arn for arn, one in self.change_sets.items() if one["stack"] == stack_id]:
                del self.change_sets[arn]
        elif self.status(stack_id) != "DELETE_IN_PROGRESS":  # else it is accepted, and does nothing
            self.play(stack_id, self.timelines["DELETE"], ClientRequestToken)
        return {}

    def _do_continue_update_rollback(self, StackName, ClientRequestToken, **given):
        self.play(StackName, self.timelines["CONTINUE"], ClientRequestToken)
        return {}

    _do_rollback_stack = _do_continue_update_rollback

    def _do_update_termination_protection(self, StackName, EnableTerminationProtection):
        self.stacks[StackName]["more"]["EnableTerminationProtection"] = EnableTerminationProtection
        return {}

    def _do_get_template(self, **_):
        return {"TemplateBody": TEMPLATE}

    def _do_list_stack_resources(self, StackName):
        latest = {
            raw["LogicalResourceId"]: raw
            for at, raw in self.events[StackName]
            if raw["PhysicalResourceId"] != StackName
        }
        return {"StackResourceSummaries": list(latest.values())}
