"""The table of target kinds: what EventBridge needs to deliver to each, and what it delivers.

Trace, the lint rules and the embedded AWS read this one table. A kind that is not in it is unknown,
never refused.

Sources: EventBridge User Guide, 'Event bus targets', 'Using resource-based policies' and 'IAM roles
for sending events to targets'; the Service Authorization Reference for the resources of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Any

from eventstacks.flow.symbols import as_dict, is_known

if TYPE_CHECKING:
    from eventstacks.flow.graph import Target
    from eventstacks.flow.resolve import Resource

EVENTS, SCHEDULER = "events.amazonaws.com", "scheduler.amazonaws.com"
INPUTS = ("Input", "InputPath", "InputTransformer")
Context = Mapping[str, str | None]  # condition keys of a request; None: known to be absent


class Reason(StrEnum):
    """Why a delivery is allowed, not allowed or not known. Code branches on these, never on text."""

    ALLOWED = "allowed"
    # A policy denies it, or does not allow it.
    DENIED = "denied"
    NO_POLICY = "no_policy"
    KEY_POLICY = "key_policy"
    KEY_AWS_MANAGED = "key_aws_managed"
    ROLE_NOT_FOUND = "role_not_found"
    ROLE_TRUST = "role_trust"
    ROLE_POLICY = "role_policy"
    # The target cannot take it.
    OTHER_REGION = "other_region"
    FIFO_QUEUE = "fifo_queue"
    NO_SUCH_BUS = "no_such_bus"
    LOOP = "loop"
    PAYLOAD = "payload"
    # PutRule or PutTargets refuses it.
    REFUSED_TARGET = "refused_target"
    REFUSED_ROLE = "refused_role"
    REFUSED_INPUT = "refused_input"
    # The templates do not tell.
    MAY_BE_DENIED = "may_be_denied"
    DEPENDS = "depends"
    NOT_IN_STACKS = "not_in_stacks"
    MANAGED_POLICY = "managed_policy"
    KIND_UNKNOWN = "kind_unknown"

    @property
    def is_refusal(self) -> bool:
        """Whether PutRule or PutTargets refuses: the stack is never created."""
        return self.name.startswith("REFUSED")


class Role(Enum):
    """Whether PutTargets takes a RoleArn for a kind."""

    REFUSED = "refused"
    OPTIONAL = "optional"
    REQUIRED = "required"


class Form(Enum):
    """What the payload of a kind has to be."""

    ANY = "any"
    JSON = "json"
    EVENT = "event"  # the event unchanged, without an InputTransformer
    LOG_EVENT = "log_event"  # {"timestamp": …, "message": …} if it is transformed


@dataclass(frozen=True)
class Call:
    """A permission that a delivery needs: ``action`` on one of ``resources``.

    ``context``: condition keys of the request in lower case, None for one that is not sent. A
    condition on any other key stays undecided.
    """

    action: str
    resources: tuple[str, ...]
    context: Context = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """A kind of target. ``prefix``: how the resource part of its ARN starts.

    ``action``: what EventBridge calls, "" if that is not known. ``policy``: the name of its resource
    policy, "" if it has none. ``calls``: the calls of a role, if there is more to say than the action
    on the target's ARN.
    """

    name: str
    title: str
    service: str
    action: str
    prefix: str = ""
    policy: str = ""
    role: Role = Role.REQUIRED
    form: Form = Form.ANY
    calls: Callable[[Target, Mapping[str, Resource]], list[Call]] | None = None


def _arn(target: Target, service: str, resource: str) -> str:
    """Return the ARN of a resource in the partition, Region and account of a target."""
    _, partition, _, region, account, *_ = target.arn.split(":")
    return f"arn:{partition}:{service}:{region}:{account}:{resource}"


def _with_revision(arn: str) -> str:
    """Return the ARN of a definition; without a revision AWS takes the latest one."""
    return arn if ":" in arn.rsplit("/", 1)[-1] else f"{arn}⟨revision?⟩"


def _run_task(target: Target, resources: Mapping[str, Resource]) -> list[Call]:
    """RunTask is asked of the task definition, and PassRole of the roles that its tasks have.

    Source: ECS developer guide, 'EventBridge IAM role'. The roles of a task definition outside the
    stacks are not known, so whether PassRole is needed is not known either.
    """
    arn = str(as_dict(target.settings.get("EcsParameters")).get("TaskDefinitionArn", "⟨task?⟩"))
    calls = [Call("ecs:RunTask", (_with_revision(arn),), {"ecs:cluster": target.arn})]
    definition = resources.get(arn)
    given = definition.properties if definition else {}
    roles = [given[key] for key in ("ExecutionRoleArn", "TaskRoleArn") if given.get(key)]
    context = {"iam:passedtoservice": "ecs-tasks.amazonaws.com"}
    return calls + [Call("iam:PassRole", (str(role),), context) for role in dict.fromkeys(roles)]


def _submit_job(target: Target, _: Any) -> list[Call]:
    definition = str(as_dict(target.settings.get("BatchParameters")).get("JobDefinition", "⟨job?⟩"))
    if not definition.startswith("arn:"):
        definition = _arn(target, "batch", f"job-definition/{definition}")
    names = (target.arn, _with_revision(definition))
    return [Call("batch:SubmitJob", (name,)) for name in names]


def _start_execution(target: Target, _: Any) -> list[Call]:
    """IAM is asked for the state machine, also for a version or an alias of it.

    Source: Step Functions developer guide, 'IAM policies for versions and aliases'.
    """
    return [Call("states:StartExecution", (":".join(target.arn.split(":")[:7]),))]


def _start_automation(target: Target, _: Any) -> list[Call]:
    """A runbook is asked for with its version; how AWS writes the default version was not seen."""
    return [Call("ssm:StartAutomationExecution", (f"{target.arn}:$DEFAULT", target.arn))]


def _send_command(target: Target, _: Any) -> list[Call]:
    nodes = (
        _arn(target, "ec2", "instance/⟨node?⟩"),
        _arn(target, "ssm", "managed-instance/⟨node?⟩"),
    )
    return [Call("ssm:SendCommand", (target.arn,)), Call("ssm:SendCommand", nodes)]


def _mutate(target: Target, _: Any) -> list[Call]:
    """The ID of an API is not in the ARN of its endpoint, unless both are of one template."""
    name = target.arn.rsplit("/", 1)[-1]
    api = name if not is_known(name) else "⟨api?⟩"
    return [
        Call("appsync:GraphQL", (_arn(target, "appsync", f"apis/{api}/types/Mutation/⟨field?⟩"),))
    ]


def _create_ops_item(target: Target, _: Any) -> list[Call]:
    return [Call("ssm:CreateOpsItem", (f"{target.arn}/⟨item?⟩",))]


# Which kinds need a RoleArn was measured on PutTargets by others for all but appsync, imagebuilder and
# redshift-serverless; for these it is assumed. Redshift also wants temporary credentials or a secret,
# which are not looked into; nor are the built-in EC2 targets, which only the console makes.
KINDS = (
    Kind(
        "api-destination",
        "API destination",
        "events",
        "events:InvokeApiDestination",
        "api-destination/",
        form=Form.JSON,
    ),
    Kind(
        "event-bus",
        "event bus",
        "events",
        "events:PutEvents",
        "event-bus/",
        policy="bus policy",
        role=Role.OPTIONAL,
        form=Form.EVENT,
    ),
    Kind("built-in", "built-in target", "events", "", "target/", role=Role.OPTIONAL),
    Kind("appsync", "AppSync API", "appsync", "appsync:GraphQL", calls=_mutate),
    Kind("batch", "Batch job queue", "batch", "batch:SubmitJob", calls=_submit_job),
    Kind("codebuild", "CodeBuild project", "codebuild", "codebuild:StartBuild"),
    Kind("codepipeline", "CodePipeline", "codepipeline", "codepipeline:StartPipelineExecution"),
    Kind("ecs", "ECS task", "ecs", "ecs:RunTask", calls=_run_task),
    Kind(
        "execute-api",
        "API Gateway API",
        "execute-api",
        "execute-api:Invoke",
        policy="API policy",
        role=Role.OPTIONAL,
    ),
    Kind("firehose", "Firehose stream", "firehose", "firehose:PutRecord"),
    Kind("glue", "Glue workflow", "glue", "glue:NotifyEvent"),
    Kind(
        "imagebuilder",
        "Image Builder pipeline",
        "imagebuilder",
        "imagebuilder:StartImagePipelineExecution",
    ),
    Kind("inspector", "Inspector assessment", "inspector", "inspector:StartAssessmentRun"),
    Kind("kinesis", "Kinesis stream", "kinesis", "kinesis:PutRecord"),
    Kind(
        "lambda",
        "Lambda function",
        "lambda",
        "lambda:InvokeFunction",
        policy="permission",
        role=Role.OPTIONAL,
        form=Form.JSON,
    ),
    Kind(
        "logs",
        "log group",
        "logs",
        "logs:PutLogEvents",
        policy="Logs resource policy",
        role=Role.REFUSED,
        form=Form.LOG_EVENT,
    ),
    Kind("redshift", "Redshift cluster", "redshift", "redshift-data:ExecuteStatement"),
    Kind(
        "redshift-serverless",
        "Redshift workgroup",
        "redshift-serverless",
        "redshift-data:ExecuteStatement",
    ),
    Kind("sagemaker", "SageMaker pipeline", "sagemaker", "sagemaker:StartPipelineExecution"),
    Kind("sns", "SNS topic", "sns", "sns:Publish", policy="topic policy", role=Role.OPTIONAL),
    Kind("sqs", "SQS queue", "sqs", "sqs:SendMessage", policy="queue policy", role=Role.OPTIONAL),
    Kind(
        "automation",
        "Automation runbook",
        "ssm",
        "ssm:StartAutomationExecution",
        "automation-definition/",
        calls=_start_automation,
    ),
    Kind("ops-item", "OpsItem", "ssm", "ssm:CreateOpsItem", "opsitem", calls=_create_ops_item),
    Kind("run-command", "Run Command", "ssm", "ssm:SendCommand", "document/", calls=_send_command),
    Kind("incident", "response plan", "ssm-incidents", "ssm-incidents:StartIncident"),
    Kind(
        "states",
        "state machine",
        "states",
        "states:StartExecution",
        "stateMachine:",
        form=Form.JSON,
        calls=_start_execution,
    ),
)
# Services that PutTargets was seen to refuse: "… is not a supported service for a target" (cfn-lint
# issue 4505, LocalStack's test of a bucket as a target, MiniStack's notes).
_REFUSED_SERVICES = frozenset({"iam", "rds", "s3", "scheduler"})


def service_of(arn: str) -> str:
    """Return the service of an ARN, "" if the ARN is not known."""
    parts = arn.split(":", 5)
    return parts[2] if len(parts) > 5 else ""


def kind_of(arn: str) -> Kind | None:
    """Return the kind of the target with an ARN, None if the table does not have it."""
    service, resource = service_of(arn), arn.split(":", 5)[-1]
    return next(
        (one for one in KINDS if one.service == service and resource.startswith(one.prefix)), None
    )


def role_calls(target: Target, resources: Mapping[str, Resource]) -> list[Call]:
    """Return what the role of a target has to allow. ``resources``: those of the stacks, by ARN."""
    kind = kind_of(target.arn)
    if not kind or not kind.action:
        return []
    return kind.calls(target, resources) if kind.calls else [Call(kind.action, (target.arn,))]


def policy_calls(arn: str, rule: str) -> list[Call]:
    """Return what the resource policy of a target has to allow to a rule (both by ARN).

    EventBridge sends Lambda no aws:SourceAccount (EventBridge guide, 'Troubleshooting'), elsewhere it
    does. Logs are asked for twice; CreateLogStream carries no aws:SourceArn (serverless-patterns pull
    request 618), and whether either carries an account was not seen.
    """
    kind = kind_of(arn)
    if not kind or not kind.action or not kind.policy:
        return []
    context: dict[str, str | None] = {"aws:sourcearn": rule}
    if kind.name == "logs":
        streams = (f"{arn}:log-stream:x",)
        created = Call("logs:CreateLogStream", streams, {"aws:sourcearn": None})
        return [Call(kind.action, streams, context), created]
    context["aws:sourceaccount"] = None if kind.name == "lambda" else rule.split(":")[4]
    return [Call(kind.action, (arn,), context)]


def callers(arn: str, rule: str) -> list[str]:
    """Return the principals of which the resource policy of a target has to name one.

    The guide's bus policies for other accounts and Regions name the rule's account ('Example policy:
    Send events from specific rules'). That a bus of the same account and Region asks the same, and
    that a policy can name events.amazonaws.com instead, are guesses. For log groups the guide names
    delivery.logs.amazonaws.com as well; a template that AWS publishes (serverless-patterns,
    eventbridge-cloudwatch) works without, so it is not asked for.
    """
    kind = kind_of(arn)
    if kind and kind.name == "event-bus":
        _, partition, _, _, account, *_ = rule.split(":")
        return [f"arn:{partition}:iam::{account}:root", EVENTS]
    return [EVENTS]


def is_elsewhere(arn: str, rule: str, *, account: bool = False) -> bool:
    """Return True if a target is known to be in another Region than the rule, or account."""
    places = [one.split(":")[3 : 5 if account else 4] for one in (arn, rule)]
    return all(len(place) and is_known(place) for place in places) and places[0] != places[1]


def refusal_of(target: Target, rule: str) -> tuple[Reason, str] | None:
    """Return why PutTargets refuses a target of a rule (ARN), None if it is not known to do so."""
    arn, kind = target.arn, kind_of(target.arn)
    if is_known(arn) and not arn.startswith("arn:"):
        return Reason.REFUSED_TARGET, f"{arn!r} is not an ARN"
    service = service_of(arn)
    if service in _REFUSED_SERVICES:
        return Reason.REFUSED_TARGET, f"{service} is not a supported service for a target"
    given = [key for key in INPUTS if key in target.settings]
    if len(given) > 1:
        return Reason.REFUSED_INPUT, f"only one of {', '.join(given)} is allowed"
    if kind and kind.role is Role.REFUSED and target.role:
        return Reason.REFUSED_ROLE, f"RoleArn is not supported for a {kind.title}"
    if kind and not target.role:
        is_far_bus = kind.name == "event-bus" and is_elsewhere(arn, rule, account=True)
        if kind.role is Role.REQUIRED or is_far_bus:
            return Reason.REFUSED_ROLE, f"RoleArn is required for target {arn}"
    return None
