"""What is wrong with a template of this kind on AWS today: one function for each defect.

The article's templates (tests/fixtures/article) have every one of them; ours must have none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

SUPPORTED_RUNTIMES = re.compile(r"python3\.1[2-4]$")
CREATING_CALLS = {"PutObject", "CopyObject", "CompleteMultipartUpload"}
FAILURE_METRICS = ("FailedInvocations", "InvocationsSentToDlq", "InvocationsFailedToBeSentToDlq")
NAMES = {
    "AWS::CloudTrail::Trail": "TrailName",
    "AWS::Events::Archive": "ArchiveName",
    "AWS::Events::EventBus": "Name",
    "AWS::Events::Rule": "Name",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::Logs::ResourcePolicy": "PolicyName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SQS::Queue": "QueueName",
}


def resources(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in template["Resources"].items() if one["Type"] == kind}


def targets(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, rule in resources(template, "AWS::Events::Rule").items():
        for target in rule["Properties"]["Targets"]:
            yield name, target


def patterns(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for rule in resources(template, "AWS::Events::Rule").values():
        pattern = rule["Properties"]["EventPattern"]
        yield from pattern["Fn::If"][1:] if "Fn::If" in pattern else [pattern]


def walk(value: Any) -> Iterator[Any]:
    yield value
    for one in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from walk(one)


def mentions(value: Any, name: str) -> bool:
    """Whether an expression refers to a resource: by Ref, GetAtt or inside a Sub."""
    text = json.dumps(value)
    return any(
        form in text
        for form in (f'"Ref": "{name}"', f'"Fn::GetAtt": ["{name}"', f"${{{name}}}", f"${{{name}.")
    )


def names_rule(template: dict[str, Any], value: Any, rule: str) -> bool:
    """Whether an expression is the rule's ARN: a reference to the rule, or made from its name."""
    name = template["Resources"][rule]["Properties"].get("Name", {}).get("Fn::Sub")
    return mentions(value, rule) or (name is not None and f"/{name}" in json.dumps(value))


def log_group_without_policy(template: dict[str, Any]) -> list[str]:
    """A log-group target needs a resource policy that lets EventBridge write."""
    written = [
        n
        for n in resources(template, "AWS::Logs::LogGroup")
        if any(mentions(t["Arn"], n) for _, t in targets(template))
    ]
    policies = [
        p["Properties"]["PolicyDocument"]
        for p in resources(template, "AWS::Logs::ResourcePolicy").values()
    ]
    admitted = [
        p
        for p in policies
        if "events.amazonaws.com" in json.dumps(p) and "logs:PutLogEvents" in json.dumps(p)
    ]
    return [name for name in written if not any(mentions(policy, name) for policy in admitted)]


def bus_without_name_output(template: dict[str, Any]) -> list[str]:
    """PutEvents to a bus that does not exist succeeds: the name has to be handed on."""
    given = [output["Value"] for output in template.get("Outputs", {}).values()]
    return [
        bus for bus in resources(template, "AWS::Events::EventBus") if {"Ref": bus} not in given
    ]


def old_runtime(template: dict[str, Any]) -> list[str]:
    return [
        n
        for n, f in resources(template, "AWS::Lambda::Function").items()
        if not SUPPORTED_RUNTIMES.match(f["Properties"]["Runtime"])
    ]


def costly_trail(template: dict[str, Any]) -> list[str]:
    """A second copy of management events, other Regions, reads, everything: paid for, not used."""
    found = []
    for name, trail in resources(template, "AWS::CloudTrail::Trail").items():
        properties = trail["Properties"]
        fields = [
            {one["Field"]: one for one in selector["FieldSelectors"]}
            for selector in properties.get("AdvancedEventSelectors", [])
        ]
        if not fields or any(
            one.get("eventCategory", {}).get("Equals") != ["Data"] or "readOnly" not in one
            for one in fields
        ):
            found.append(f"{name}: selects more than written data")
        if properties.get("IsMultiRegionTrail"):
            found.append(f"{name}: every region")
        if not properties.get("EnableLogFileValidation"):
            found.append(f"{name}: log files could be changed unseen")
    return found


def open_trail_bucket(template: dict[str, Any]) -> list[str]:
    """Only the one trail may write to its bucket (aws:SourceArn), and only where CloudTrail writes.

    That is below AWSLogs/.
    """
    found = []
    for name, policy in resources(template, "AWS::S3::BucketPolicy").items():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            if statement["Effect"] != "Allow":
                continue
            if "aws:SourceArn" not in json.dumps(statement.get("Condition", {})):
                found.append(f"{name}: any trail")
            if "*AWSLogs" in json.dumps(statement["Resource"]):
                found.append(f"{name}: any folder")
    return found


def unprotected_bucket(template: dict[str, Any]) -> list[str]:
    found = []
    for name, bucket in resources(template, "AWS::S3::Bucket").items():
        properties = bucket.get("Properties", {})
        wanted = {
            "BucketEncryption",
            "LifecycleConfiguration",
            "OwnershipControls",
            "PublicAccessBlockConfiguration",
        }
        found += [f"{name}: no {one}" for one in sorted(wanted - set(properties))]
        found += [
            f"{name}: no {one}"
            for one in ("DeletionPolicy", "UpdateReplacePolicy")
            if one not in bucket
        ]
        denied = [
            p
            for p in resources(template, "AWS::S3::BucketPolicy").values()
            if mentions(p["Properties"]["Bucket"], name) and "aws:SecureTransport" in json.dumps(p)
        ]
        found += [] if denied else [f"{name}: answers without TLS"]
    return found


def missed_uploads(template: dict[str, Any]) -> list[str]:
    """PutObject is one of three calls that create an object."""
    calls = [
        p["detail"]["eventName"] for p in patterns(template) if "eventName" in p.get("detail", {})
    ]
    return [
        f"without {sorted(CREATING_CALLS - set(one))}" for one in calls if CREATING_CALLS - set(one)
    ]


def failed_uploads(template: dict[str, Any]) -> list[str]:
    """CloudTrail reports refused calls too."""
    return [
        str(p["detail"]["eventName"])
        for p in patterns(template)
        if "eventName" in p.get("detail", {})
        and p["detail"].get("errorCode") != [{"exists": False}]
    ]


def any_snapshot_event(template: dict[str, Any]) -> list[str]:
    """Without EventID the rule also matches deletions, failures and snapshots not yet available."""
    return [
        str(p["source"])
        for p in patterns(template)
        if p.get("source") == ["aws.rds"] and "EventID" not in p.get("detail", {})
    ]


def literal_partition(template: dict[str, Any]) -> list[str]:
    strings = (one for one in walk(template["Resources"]) if isinstance(one, str))
    return [one for one in strings if one.startswith("arn:aws:")]


def lossy_target(template: dict[str, Any]) -> list[str]:
    found = []
    for rule, target in targets(template):
        found += [
            f"{rule}/{target['Id']}: no {one}"
            for one in ("DeadLetterConfig", "RetryPolicy")
            if one not in target
            # A retry policy is not supported for a bus as a target (CDK, events-targets.EventBus).
            and not (one == "RetryPolicy" and target["Arn"] == {"Ref": "HubEventBusArn"})
        ]
        for name in resources(template, "AWS::SQS::Queue"):
            if not mentions(target.get("DeadLetterConfig"), name):
                continue
            statements = [
                statement
                for policy in resources(template, "AWS::SQS::QueuePolicy").values()
                if {"Ref": name} in policy["Properties"]["Queues"]
                for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            ]
            if not any(
                s["Principal"] == {"Service": "events.amazonaws.com"}
                and s["Action"] == "sqs:SendMessage"
                and names_rule(template, s["Condition"]["ArnEquals"]["aws:SourceArn"], rule)
                for s in statements
                if s["Effect"] == "Allow"
            ):
                found.append(
                    f"{rule}/{target['Id']}: EventBridge may not use its dead-letter queue"
                )
    return found


def missing_alarm(template: dict[str, Any]) -> list[str]:
    alarms = resources(template, "AWS::CloudWatch::Alarm").values()
    found = []
    for rule, properties in (
        (n, r["Properties"]) for n, r in resources(template, "AWS::Events::Rule").items()
    ):
        for metric in FAILURE_METRICS:
            dimensions = [
                # [condition, no value, dimension]: the default bus has none.
                {one.get("Fn::If", [one])[-1]["Name"] for one in alarm["Properties"]["Dimensions"]}
                for alarm in alarms
                if alarm["Properties"]["MetricName"] == metric
                and mentions(alarm["Properties"]["Dimensions"], rule)
            ]
            wanted = {"RuleName", "EventBusName"} if "EventBusName" in properties else {"RuleName"}
            found += [] if wanted in dimensions else [f"{rule}: {metric}"]
    return found


def function_without_log_group_or_failure_destination(template: dict[str, Any]) -> list[str]:
    """A function needs a log group with a retention, and a place for the events it fails on."""
    found = []
    for name, function in resources(template, "AWS::Lambda::Function").items():
        groups = resources(template, "AWS::Logs::LogGroup")
        logging = function["Properties"].get("LoggingConfig")
        if not any(mentions(logging, group) for group in groups):
            found.append(f"{name}: Lambda's own log group")
        # A queue keeps what its function fails on; a state machine,
        # a schedule or a subscriber sees the failure itself.
        callers = [
            *resources(template, "AWS::Lambda::EventInvokeConfig").values(),
            *resources(template, "AWS::Lambda::EventSourceMapping").values(),
            *resources(template, "AWS::StepFunctions::StateMachine").values(),
            *resources(template, "AWS::Scheduler::Schedule").values(),
            *resources(template, "AWS::EventsV2::Subscriber").values(),
        ]
        if not any(mentions(caller["Properties"], name) for caller in callers):
            found.append(f"{name}: failures lead nowhere")
    return found


# Actions without a resource type, and reading actions whose resource types are too narrow for what
# they read.
UNSCOPED = {
    "rds:DescribeDBClusterSnapshots",
    "rds:DescribeDBSnapshots",
    "states:SendTaskFailure",
    "states:SendTaskSuccess",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}


def needs_scope(statement: dict[str, Any]) -> bool:
    actions = statement.get("Action")
    return not {actions} <= UNSCOPED if isinstance(actions, str) else not {*actions} <= UNSCOPED


def wide_role(template: dict[str, Any]) -> list[str]:
    found = []
    for name, role in resources(template, "AWS::IAM::Role").items():
        if "lambda.amazonaws.com" not in json.dumps(role["Properties"]["AssumeRolePolicyDocument"]):
            continue  # test_wildcards.py checks the wildcards of other roles
        for policy in role["Properties"].get("Policies", []):
            statements = [
                one
                for one in walk(policy)
                if isinstance(one, dict) and "Effect" in one and needs_scope(one)
            ]
            text = json.dumps(statements)
            found += [
                f"{name}: {one}" for one in ('"*"', ":*:*:*", "logs:CreateLogGroup") if one in text
            ]
    return found


def loose_permission(template: dict[str, Any]) -> list[str]:
    """SourceArn keeps other rules out; SourceAccount would keep all rules out."""
    return [
        n
        for n, p in resources(template, "AWS::Lambda::Permission").items()
        if "SourceArn" not in p["Properties"] or "SourceAccount" in p["Properties"]
    ]


def clashing_name(template: dict[str, Any]) -> list[str]:
    """A literal name stops a second copy of the stack."""
    found = []
    for name, resource in template["Resources"].items():
        value = resource.get("Properties", {}).get(NAMES.get(resource["Type"], ""))
        if value is not None and "AWS::StackName" not in json.dumps(value):
            found.append(f"{name}: {value}")
    return found


def inline_bus_policy(template: dict[str, Any]) -> list[str]:
    return [
        n
        for n, bus in resources(template, "AWS::Events::EventBus").items()
        if "Policy" in bus["Properties"]
    ]


def no_parameters_outputs_or_metadata(template: dict[str, Any]) -> list[str]:
    return [one for one in ("Parameters", "Outputs", "Metadata") if not template.get(one)]


def no_tags(template: dict[str, Any]) -> list[str]:
    tagged = (
        "AWS::CloudTrail::Trail",
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::CompositeAlarm",
        "AWS::Events::EventBus",
        "AWS::Events::Rule",
        "AWS::IAM::Role",
        "AWS::Lambda::Function",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::SQS::Queue",
    )
    return [
        n
        for n, r in template["Resources"].items()
        if r["Type"] in tagged and not r.get("Properties", {}).get("Tags")
    ]


def no_archive(template: dict[str, Any]) -> list[str]:
    archived = [
        one["Properties"]["SourceArn"]
        for one in resources(template, "AWS::Events::Archive").values()
    ]
    return [
        n
        for n in resources(template, "AWS::Events::EventBus")
        if not any(mentions(one, n) for one in archived)
    ]


def unencrypted_queue(template: dict[str, Any]) -> list[str]:
    return [
        n
        for n, q in resources(template, "AWS::SQS::Queue").items()
        if "SqsManagedSseEnabled" not in q["Properties"]
    ]


EVERYWHERE = (
    log_group_without_policy,
    literal_partition,
    lossy_target,
    missing_alarm,
    no_parameters_outputs_or_metadata,
    no_tags,
)
OF_STACK = {
    "custom-event-bus": (bus_without_name_output, no_archive),
    "rds-snapshot-events": (any_snapshot_event,),
    "s3-object-events": (
        costly_trail,
        open_trail_bucket,
        unprotected_bucket,
        missed_uploads,
        failed_uploads,
        function_without_log_group_or_failure_destination,
        wide_role,
    ),
}
# The article's templates do not have these,
# or no longer in the fixtures (a function that is to run needs a runtime).
ELSEWHERE = (old_runtime, clashing_name, inline_bus_policy, loose_permission, unencrypted_queue)
