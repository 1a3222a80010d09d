"""Decide whether AWS lets an event reach a target, and which policy statement decides it.

Source: EventBridge User Guide, 'Using resource-based policies' and 'IAM roles for sending events to
targets'.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eventstacks.flow import targets
from eventstacks.flow.graph import Flow, Rule
from eventstacks.flow.policies import Policy, decisive, evaluate, policy_of
from eventstacks.flow.resolve import Resource
from eventstacks.flow.symbols import Json, as_dict, as_list, at
from eventstacks.flow.targets import (
    EVENTS,
    PIPES,
    SCHEDULER,
    Call,
    Reason,
    Target,
    Verdict,
)

# Service of a pipe's source: what the role has to allow on it (EventBridge guide, 'Pipes
# permissions'). dynamodb:ListStreams is left out: the Service Authorization Reference wants "*" for
# it, the guide's example the stream. Brokers and Kafka are not looked into.
SOURCE_ACTIONS = {
    "dynamodb": ("DescribeStream", "GetRecords", "GetShardIterator"),
    "kinesis": ("DescribeStream", "GetRecords", "GetShardIterator", "ListShards"),
    "sqs": ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes"),
}


def of_target(flow: Flow, rule: Rule, target: Target, event: Json | None = None) -> Verdict:
    """Decide whether a rule may deliver to a target.

    ``event``: if it is known, what a bus policy says about its source and detail type counts too.
    """
    if refusal := targets.refusal_of(target, rule.arn):
        return refusal
    kind = targets.kind_of(target.arn)
    if not kind.action:
        return Verdict(Reason.KIND_UNKNOWN, f"what the target {target.arn} needs is not known")
    if kind.name != "event-bus" and targets.is_elsewhere(target.arn, rule.arn):
        return Verdict(Reason.OTHER_REGION, f"{target.arn} is in another Region than the rule")
    if target.role:
        verdict = of_role(flow, rule, target) & _of_key(flow, rule, target)
        return _of_target_policy(flow, rule, target, event) & verdict
    verdict = _of_key(flow, rule, target)
    for call in reversed(targets.policy_calls(target.arn, rule.arn)):
        verdict = (
            _of_policies(flow, target.arn, call, targets.callers(target.arn, rule.arn)) & verdict
        )
    return verdict


def of_pipe(flow: Flow, pipe: Rule, event: Json) -> Verdict:
    """Decide whether a pipe may read its source and call its target, a bus with that event."""
    verdicts = dict(of_sender(flow, pipe))
    unknown = Verdict(Reason.KIND_UNKNOWN, "what its source and its target need is not known")
    limit = _of_target_policy(flow, pipe, pipe.targets[0], event)
    return limit & verdicts.get("Source", unknown) & verdicts.get("Target", unknown)


def of_dead_letters(flow: Flow, rule: Rule, arn: str) -> Verdict:
    """Decide whether a rule may write to a dead-letter queue.

    A standard queue of its own Region.
    """
    if arn.endswith(".fifo"):
        return Verdict(Reason.FIFO_QUEUE, "a FIFO queue cannot be a dead-letter queue")
    if rule.sender:
        verdicts = dict(of_sender(flow, rule))
        unknown = Verdict(Reason.KIND_UNKNOWN, f"whether its role may write to {arn} is not known")
        return next(filter(None, map(verdicts.get, rule.sender.dead_letters)), unknown)
    return of_target(flow, rule, Target("", arn))


def of_sender(flow: Flow, rule: Rule) -> Iterator[tuple[str, Verdict]]:
    """Yield the verdicts on what a sender does in its role, with the property that says so.

    It calls its target, writes to its dead-letter queue, and a pipe reads its source; policies of
    queues and functions are not needed. Sources: EventBridge Scheduler User Guide, 'Execution role'
    and 'Configuring a dead-letter queue' (aws-cdk issue 32032); EventBridge User Guide, 'Pipes
    permissions' and 'Custom event buses'.
    """
    sender, given = rule.sender, flow.resources[rule.arn].properties
    if not sender or not rule.targets[0].role:
        return
    calls = {sender.target: targets.role_calls(rule.targets[0], flow.resources)}
    for path in sender.dead_letters:
        if queue := at(given, path):
            calls[path] = targets.role_calls(Target("", str(queue)), {})
    if sender.service == PIPES:
        service = targets.service_of(rule.bus)
        actions = SOURCE_ACTIONS.get(service, ())
        calls[sender.source] = [Call(f"{service}:{action}", rule.bus) for action in actions]
    for path, needed in calls.items():
        if needed:
            yield path, of_role(flow, rule, rule.targets[0], needed)


def _context(rule: Rule) -> dict[str, str | None]:
    if rule.sender and rule.sender.service == SCHEDULER:
        return {}  # aws:SourceArn is the ARN of the schedule's group, which is not looked up here
    return {"aws:sourcearn": rule.arn, "aws:sourceaccount": rule.arn.split(":")[4]}


def _of_policies(flow: Flow, arn: str, call: Call, callers: Sequence[str]) -> Verdict:
    """Decide by the resource policies of a target; of several callers one has to be allowed."""
    policies = flow.policies_of(arn)
    verdict = decisive(
        evaluate(policies, caller, call.action, call.resource, call.context) for caller in callers
    )
    kind = targets.kind_of(arn)
    if arn not in flow.resources:
        return verdict.otherwise(
            Reason.NOT_IN_STACKS, f"{arn} is not in these stacks, nor is its policy"
        )
    words = f"no {kind.policy or 'policy'} allows {' or '.join(callers)} to call {call.action}"
    text = f"{words} for this rule{f': {verdict.reason}' if verdict.reason else ''}"
    return verdict.otherwise(Reason.NO_POLICY, text)


def of_role(flow: Flow, rule: Rule, target: Target, calls: Sequence[Call] | None = None) -> Verdict:
    """Decide by the role of a target: its trust policy and what it allows.

    ``calls``: what it needs; by default what a rule needs to deliver.
    """
    calls = targets.role_calls(target, flow.resources) if calls is None else calls
    service = rule.sender.service if rule.sender else EVENTS
    arn = str(target.role)
    role = flow.resources.get(arn)
    if role is None:
        return Verdict(Reason.NOT_IN_STACKS, f"the role {arn} is not in what was read")
    label = role.logical_id
    trust = policy_of(f"{label} (trust)", arn, role.properties.get("AssumeRolePolicyDocument"))
    text = f"the trust policy of the role {label} does not allow {service}"
    trusted = evaluate([trust], service, "sts:AssumeRole", None, _context(rule))
    if not trusted.allowed:
        return trusted.otherwise(Reason.ROLE_TRUST, text)
    verdict = _of_calls(policies_of_role(flow, role), calls, f"the role {label}")
    managed = set(map(str, as_list(role.properties.get("ManagedPolicyArns"))))
    if verdict.code is Reason.ROLE_POLICY and not managed <= flow.resources.keys():
        return Verdict(
            Reason.MANAGED_POLICY, f"the managed policies of the role {label} are not known"
        )
    if limit := role.properties.get("PermissionsBoundary"):
        name = f"the permissions boundary of the role {label}"
        found = [one for one in flow.resources.values() if limit in (one.ref, one.arn)]
        document = found[0].properties.get("PolicyDocument") if found else "⟨document?⟩"
        verdict &= _of_calls([policy_of(name, role.arn, document)], calls, name)
    return verdict


def _of_calls(policies: Sequence[Policy], calls: Sequence[Call], name: str) -> Verdict:
    """Decide by the policies of a role, or by its permissions boundary."""
    verdict = Verdict()
    for call in calls:
        text = f"{name} does not allow {call.action} on {call.resource}"
        arns = targets.policy_arns(call.resource)
        named = (evaluate(policies, None, call.action, arn, call.context) for arn in arns)
        verdict &= decisive(named).otherwise(Reason.ROLE_POLICY, text)
    return verdict


def policies_of_role(flow: Flow, role: Resource) -> list[Policy]:
    """Return the inline policies of a role, and those of the stacks that are attached to it."""
    sources: list[tuple[str, Mapping[str, Any]]] = [
        (f"{role.logical_id}/{entry.get('PolicyName')}", entry)
        for entry in map(as_dict, as_list(role.properties.get("Policies")))
    ]
    sources += [
        (one.logical_id, one.properties)
        for one in flow.resources.values()
        if one.type in {"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"}
        and (
            role.name in [*as_list(one.properties.get("Roles")), one.properties.get("RoleName")]
            or one.arn in as_list(role.properties.get("ManagedPolicyArns"))
        )
    ]
    return [policy_of(label, role.arn, given.get("PolicyDocument")) for label, given in sources]


def _of_target_policy(flow: Flow, rule: Rule, target: Target, event: Json | None) -> Verdict:
    """Return what the resource policy of a target denies to its role.

    In another account that policy also has to allow it, and is not known. A role calls in its own
    name: its requests have no aws:SourceArn, which services send.
    """
    _, partition, _, _, account, *_ = rule.arn.split(":")
    role = str(target.role)
    if not role.startswith("arn:"):
        role = f"arn:{partition}:iam::{account}:role/⟨role?⟩"
    context: dict[str, str | None] = {"aws:sourcearn": None, "aws:sourceaccount": None}
    if event and target.is_bus:
        context |= {
            "events:source": event.get("source"),
            "events:detail-type": event.get("detail-type"),
            "events:eventbusinvocation": str(not rule.sender).lower(),
        }
    action, policies = targets.kind_of(target.arn).action, flow.policies_of(target.arn)
    found = evaluate(policies, role, action, target.arn, context)
    if found.code in {Reason.DENIED, Reason.MAY_BE_DENIED}:
        return found
    is_far = targets.is_elsewhere(target.arn, rule.arn, account=True)
    if is_far and account not in target.arn.split(":"):
        text = f"the policy of {target.arn}, which is in another account, is not known"
        return Verdict(Reason.NOT_IN_STACKS, text)
    return Verdict()


def _of_key(flow: Flow, rule: Rule, target: Target) -> Verdict:
    """Decide by the customer key of a queue, a topic or a stream.

    Sources: EventBridge guide, 'Troubleshooting'; Kinesis guide, 'Permissions to use user-generated
    KMS keys': its default key needs none.
    """
    resource = flow.resources.get(target.arn)
    given = resource.properties if resource else {}
    key = str(given.get("KmsMasterKeyId") or at(given, "StreamEncryption.KeyId") or "")
    if not resource or key in {"", "alias/aws/kinesis"}:
        return Verdict()
    if target.role:  # the role needs the permissions for the key
        return Verdict(Reason.NOT_IN_STACKS, f"whether the role may use the key {key} is not known")
    if "alias/aws/" in key:
        return Verdict(
            Reason.KEY_AWS_MANAGED,
            f"the policy of {key}, a key that AWS manages, cannot allow {EVENTS}",
        )
    found = key_of(flow, key, resource.region)
    if not found or found.type not in {"AWS::KMS::Key", "AWS::KMS::ReplicaKey"}:
        return Verdict(Reason.NOT_IN_STACKS, f"the key {key} is not in these stacks")
    for action in ("kms:Decrypt", "kms:GenerateDataKey"):
        text = f"the key {found.logical_id} does not allow {EVENTS} to call {action}"
        policies = flow.policies_of(found.arn)
        # SNS does not pass on the source of a request (SNS guide, 'Key management').
        context = _context(rule)
        if resource.type == "AWS::SNS::Topic":
            context = dict.fromkeys(context)
        verdict = evaluate(policies, EVENTS, action, found.arn, context)
        if not verdict.allowed:
            return verdict.otherwise(Reason.KEY_POLICY, text)
    return Verdict(reason=f"key {found.logical_id}")


def key_of(flow: Flow, name: Any, region: str) -> Resource | None:
    """Return the key that an ID, an ARN or an alias names, if it is in the stacks.

    ``region``: of the resource it encrypts; one alias can exist in several Regions.
    """
    here = {
        key: one
        for arn, one in flow.resources.items()
        if one.region == region
        for key in (arn, one.ref, one.name)
    }
    found = here.get(str(name))
    is_alias = found is not None and found.type == "AWS::KMS::Alias"
    return here.get(str(found.properties.get("TargetKeyId"))) if found and is_alias else found
