"""The table of target kinds: what EventBridge needs to deliver to each, and what it delivers.

Trace, the lint rules and the embedded AWS read this one table. A kind that is not in it is unknown,
never refused.

Sources: EventBridge User Guide, 'Event bus targets', 'Using resource-based policies' and 'IAM roles
for sending events to targets'; the Service Authorization Reference for the resources of an action.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Self

from eventstacks.flow.resolve import Resource
from eventstacks.flow.symbols import as_dict, is_known

EVENTS, SCHEDULER = "events.amazonaws.com", "scheduler.amazonaws.com"
PIPES = "pipes.amazonaws.com"
INPUTS = ("Input", "InputPath", "InputTransformer")
Context = Mapping[str, str | None]  # condition keys of a request; None: known to be absent


# Why a delivery is allowed, not allowed or not known. Code branches on these, never on text.
Reason = StrEnum(
    "Reason",
    "ALLOWED"
    # A policy denies it, or does not allow it.
    " DENIED NO_POLICY KEY_POLICY KEY_AWS_MANAGED ROLE_TRUST ROLE_POLICY"
    # The target cannot take it.
    " OTHER_REGION FIFO_QUEUE LOOP PAYLOAD"
    # PutTargets refuses it: the stack is never created.
    " REFUSED_TARGET REFUSED_ROLE REFUSED_INPUT"
    # The templates do not tell.
    " MAY_BE_DENIED DEPENDS NOT_IN_STACKS MANAGED_POLICY KIND_UNKNOWN",
)
REFUSALS = (Reason.REFUSED_TARGET, Reason.REFUSED_ROLE, Reason.REFUSED_INPUT)
DOUBTS = (
    Reason.MAY_BE_DENIED,
    Reason.DEPENDS,
    Reason.NOT_IN_STACKS,
    Reason.MANAGED_POLICY,
    Reason.KIND_UNKNOWN,
)


@dataclass(frozen=True)
class Verdict:
    """What becomes of a delivery. ``reason``: the deciding statement, or what is missing."""

    code: Reason = Reason.ALLOWED
    reason: str = ""

    @property
    def allowed(self) -> bool | None:
        """None if the templates cannot tell."""
        if self.code in DOUBTS:
            return None
        return self.code is Reason.ALLOWED

    def __and__(self, other: Self) -> "Verdict":
        """Combine two verdicts that must both allow: deny > unknown > allow."""
        first = min(self, other, key=lambda one: (False, None, True).index(one.allowed))
        reasons = ", ".join(dict.fromkeys(filter(None, (self.reason, other.reason))))
        return first if first.allowed is not True else Verdict(reason=reasons)

    def otherwise(self, code: Reason, reason: str) -> "Verdict":
        """Return this verdict, or another if it is that no statement applies."""
        return Verdict(code, reason) if self.code is Reason.NO_POLICY else self


# Whether PutTargets takes a RoleArn for a kind.
Role = Enum("Role", ["REFUSED", "OPTIONAL", "REQUIRED"])
# What a payload has to be. EVENT: the event, without InputTransformer; LOG_EVENT: an object with
# timestamp and message if it is transformed.
Form = Enum("Form", ["ANY", "JSON", "EVENT", "LOG_EVENT"])


@dataclass(frozen=True)
class Target:
    """One entry of a rule's Targets; ``settings`` is the whole entry, resolved."""

    id: str
    arn: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def role(self) -> str | None:
        """The ARN of the role that EventBridge assumes."""
        role = self.settings.get("RoleArn")
        return str(role) if role else None

    @property
    def dead_letters(self) -> str | None:
        """The ARN of the dead-letter queue."""
        arn = as_dict(self.settings.get("DeadLetterConfig")).get("Arn")
        return arn if isinstance(arn, str) else None

    @property
    def is_bus(self) -> bool:
        """Whether the target is another event bus."""
        return ":event-bus/" in self.arn


@dataclass(frozen=True)
class Call:
    """A permission that a delivery needs: ``action`` on ``resource``.

    ``context``: condition keys of the request in lower case, None for one that is not sent. A
    condition on any other key stays undecided.
    """

    action: str
    resource: str
    context: Context = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """A kind of target. ``prefix``: how the resource part of its ARN starts.

    ``action``: what EventBridge calls, "" if that is not known. ``policy``: the name of its
    resource policy, "" if it has none. ``resources``: what a role has to allow the action on, as
    formats of ``role_calls``.
    """

    name: str
    title: str
    service: str
    action: str
    prefix: str = ""
    policy: str = ""
    role: Role = Role.REQUIRED
    form: Form = Form.ANY
    resources: tuple[str, ...] = ("{arn}",)


# Which kinds need a RoleArn was measured on PutTargets by others for all but appsync, imagebuilder
# and redshift-serverless; for these it is assumed. Redshift also wants temporary credentials or a
# secret, which are not looked into; nor are the built-in EC2 targets, which only the console makes.
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
    Kind("event-bus-v2", "event bus (new kind)", "events", "events:PutEvents", "event-busv2/"),
    Kind("built-in", "built-in target", "events", "", "target/", role=Role.OPTIONAL),
    Kind(
        "appsync",
        "AppSync API",
        "appsync",
        "appsync:GraphQL",
        resources=("arn:{p}:appsync:{r}:{a}:apis/⟨api?⟩/types/Mutation/⟨field?⟩",),
    ),
    Kind(
        "batch",
        "Batch job queue",
        "batch",
        "batch:SubmitJob",
        resources=("{arn}", "arn:{p}:batch:{r}:{a}:job-definition/⟨definition?⟩"),
    ),
    Kind("table", "DynamoDB table", "dynamodb", "", role=Role.OPTIONAL),  # the source of a pipe
    Kind("codebuild", "CodeBuild project", "codebuild", "codebuild:StartBuild"),
    Kind("codepipeline", "CodePipeline", "codepipeline", "codepipeline:StartPipelineExecution"),
    Kind("ecs", "ECS task", "ecs", "ecs:RunTask", resources=("{task}",)),
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
        resources=("{arn}:$DEFAULT",),
    ),
    Kind(
        "ops-item", "OpsItem", "ssm", "ssm:CreateOpsItem", "opsitem", resources=("{arn}/⟨item?⟩",)
    ),
    Kind(
        "run-command",
        "Run Command",
        "ssm",
        "ssm:SendCommand",
        "document/",
        resources=("{arn}", "arn:{p}:ec2:{r}:{a}:instance/⟨node?⟩"),
    ),
    Kind("incident", "response plan", "ssm-incidents", "ssm-incidents:StartIncident"),
    Kind(
        "states",
        "state machine",
        "states",
        "states:StartExecution",
        "stateMachine:",
        form=Form.JSON,
        resources=("{machine}",),
    ),
)
# Services that PutTargets was seen to refuse: "… is not a supported service for a target" (cfn-lint
# issue 4505, LocalStack's test of a bucket as a target, MiniStack's notes).
_REFUSED_SERVICES = frozenset({"iam", "rds", "s3", "scheduler"})


def bare(arn: str) -> str:
    """Return the ARN of a log group without the ``:*`` that Fn::GetAtt appends."""
    return arn.removesuffix(":*") if ":log-group:" in arn else arn


def service_of(arn: str) -> str:
    """Return the service of an ARN (``lambda``, ``sqs``, ``logs`` …), "" if it is not known."""
    parts = arn.split(":", 5)
    return parts[2] if len(parts) > 5 else ""


def kind_of(arn: str) -> Kind:
    """Return the kind of the target with an ARN, or one without an action."""
    service, resource = service_of(arn), arn.split(":", 5)[-1]
    known = (one for one in KINDS if one.service == service and resource.startswith(one.prefix))
    return next(known, Kind("", service or "target", service, "", role=Role.OPTIONAL))


def policy_arns(arn: str) -> list[str]:
    """Return the ARNs by which a role's policy can name a target.

    An API destination has a second one without its ID (ArnForPolicy; AWS's resource schema). Roles
    that the CDK creates name it with the ID, so both are taken to count; this was not tried.
    """
    kind = kind_of(arn)
    is_named_twice = kind.name == "api-destination" and arn.count("/") > 1
    return [arn, arn.rpartition("/")[0]] if is_named_twice else [arn]


def role_calls(target: Target, resources: Mapping[str, Resource]) -> list[Call]:
    """Return what the role of a target has to allow. ``resources``: those of the stacks, by ARN.

    Step Functions asks for the state machine, also for a version or an alias ('IAM policies for
    versions and aliases'). ECS asks RunTask for the task definition, the latest revision if none is
    given, and PassRole for the roles of its tasks ('EventBridge IAM role'); those of a definition
    outside the stacks are not known. A runbook is asked for with a version: that AWS writes
    $DEFAULT for it was not seen. A bus of the new kind is asked for PutEvents with events of AWS
    services, and for PutRawEvents with others ('Migrating to a custom event bus'). The ID of an
    AppSync API is not in the ARN of its endpoint, and the names of job definitions, instances and
    OpsItems are not looked up: ``*`` allows them, others stay in doubt.
    """
    kind = kind_of(target.arn)
    if not kind.action:
        return []
    _, p, _, r, a, *_ = target.arn.split(":")
    given = as_dict(target.settings.get("EcsParameters")).get("TaskDefinitionArn", "⟨task?⟩")
    task = str(given) if ":" in str(given).rsplit("/", 1)[-1] else f"{given}:⟨revision?⟩"
    machine = ":".join(target.arn.split(":")[:7])
    names = {"arn": target.arn, "p": p, "r": r, "a": a, "task": task, "machine": machine}
    context = {"ecs:cluster": target.arn} if kind.name == "ecs" else {}
    calls = [Call(kind.action, one.format(**names), context) for one in kind.resources]
    if kind.name == "event-bus-v2":
        calls.append(Call("events:PutRawEvents", target.arn))
    definition = resources[str(given)].properties if str(given) in resources else {}
    roles = [definition.get(key) for key in ("ExecutionRoleArn", "TaskRoleArn")]
    passed = {"iam:passedtoservice": "ecs-tasks.amazonaws.com"}
    return calls + [
        Call("iam:PassRole", str(role), passed) for role in dict.fromkeys(roles) if role
    ]


def policy_calls(arn: str, rule: str) -> list[Call]:
    """Return what the resource policy of a target has to allow to a rule (both by ARN).

    EventBridge sends Lambda no aws:SourceAccount (EventBridge guide, 'Troubleshooting'), elsewhere
    it does. It sends no aws:SourceOwner, which the default policy of a topic requires ('Amazon SNS
    permissions'). Logs are asked for twice; CreateLogStream carries no aws:SourceArn
    (serverless-patterns pull request 618), and whether either carries an account was not seen.
    """
    kind = kind_of(arn)
    if not kind.action or not kind.policy:
        return []
    context: dict[str, str | None] = {"aws:sourcearn": rule}
    if kind.name == "logs":
        stream = f"{arn}:log-stream:x"
        created = Call("logs:CreateLogStream", stream, {"aws:sourcearn": None})
        return [Call(kind.action, stream, context), created]
    context["aws:sourceaccount"] = None if kind.name == "lambda" else rule.split(":")[4]
    if kind.name == "sns":
        context["aws:sourceowner"] = None
    return [Call(kind.action, arn, context)]


def callers(arn: str, rule: str) -> list[str]:
    """Return the principals of which the resource policy of a target has to name one.

    The guide's bus policies for other accounts and Regions name the rule's account ('Example
    policy: Send events from specific rules'). That a bus of the same account and Region asks the
    same, and that a policy can name events.amazonaws.com instead, are guesses. For log groups the
    guide names delivery.logs.amazonaws.com as well; a template that AWS publishes
    (serverless-patterns, eventbridge-cloudwatch) works without, so it is not asked for.
    """
    if kind_of(arn).name == "event-bus":
        _, partition, _, _, account, *_ = rule.split(":")
        return [f"arn:{partition}:iam::{account}:root", EVENTS]
    return [EVENTS]


def is_elsewhere(arn: str, rule: str, *, account: bool = False) -> bool:
    """Return True if a target is known to be in another Region than the rule, or account."""
    places = [one.split(":")[3 : 5 if account else 4] for one in (arn, rule)]
    # The ARN of a response plan has no Region.
    return all(any(place) and is_known(place) for place in places) and places[0] != places[1]


def refusal_of(target: Target, rule: str) -> Verdict | None:
    """Return why PutTargets refuses a target of a rule (ARN), None if it is not known to do so."""
    arn, kind, service = target.arn, kind_of(target.arn), service_of(target.arn)
    inputs = [key for key in INPUTS if key in target.settings]
    is_arn = arn.startswith("arn:") or not is_known(arn)
    is_entry = bool(target.settings)  # else a dead-letter queue
    is_far_bus = kind.name == "event-bus" and is_elsewhere(arn, rule, account=True)
    checks = (
        (not is_arn, Reason.REFUSED_TARGET, f"{arn!r} is not an ARN"),
        (
            service in _REFUSED_SERVICES,
            Reason.REFUSED_TARGET,
            f"{service} is not a supported service for a target",
        ),
        (len(inputs) > 1, Reason.REFUSED_INPUT, f"only one of {', '.join(inputs)} is allowed"),
        (  # seen in awslabs/aws-ddk, issue 183
            is_entry and arn.endswith(".fifo") and "SqsParameters" not in target.settings,
            Reason.REFUSED_INPUT,
            "SqsParameters, with a MessageGroupId, are required for a FIFO queue",
        ),
        (
            kind.role is Role.REFUSED and target.role,
            Reason.REFUSED_ROLE,
            f"RoleArn is not supported for a {kind.title}",
        ),
        (
            not target.role and (kind.role is Role.REQUIRED or is_far_bus),
            Reason.REFUSED_ROLE,
            f"RoleArn is required for target {arn}",
        ),
    )
    return next((Verdict(code, text) for is_refused, code, text in checks if is_refused), None)
