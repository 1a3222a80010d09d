"""Rules on event buses: who can send to them, where events arrive, and their keys."""

from typing import Any

from eventstacks.flow.permissions import key_of
from eventstacks.flow.symbols import as_dict, as_list, is_open
from eventstacks.lint.rule import GUIDE, Findings, flow_rule
from eventstacks.lint.view import BUS, Node, View, place_of, tests_of

KEY, DISCOVERER = "KmsKeyIdentifier", "AWS::EventSchemas::Discoverer"
# Condition keys that every caller can satisfy.
NOT_RESTRICTING = {"aws:securetransport", "aws:requestedregion"}


@flow_rule(
    "E9807",
    "Validate that a bus policy does not allow every account",
    "A bus policy that allows Principal *, or everyone but a NotPrincipal, lets every AWS account "
    "send events to the bus, unless a condition restricts the caller: name accounts, or add "
    "aws:PrincipalOrgID. A condition on aws:SecureTransport or aws:RequestedRegion does not restrict the caller.",
    f"{GUIDE}eb-event-bus-perms.html",
    ("events", "buses", "iam"),
    types=(
        "AWS::Events::EventBusPolicy",
        BUS,
    ),
)
def open_bus(view: View) -> Findings:
    for _, node in view.each("AWS::Events::EventBusPolicy", BUS):
        document = node.get("Policy", "Statement") or node.get("Statement")
        statements = document.items() if document else []
        for statement in [node] if "Principal" in node else statements:
            effect, place = statement.get("Effect"), _everyone(statement)
            allows = effect is None or effect.value == "Allow"
            if allows and place and not _restricts(statement.get("Condition")):
                yield place, "every AWS account can send events to this bus"


def _everyone(statement: Node) -> Node | None:
    """Return the node that names everyone: Principal *, or everyone but some."""
    if principal := statement.get("Principal"):
        return principal if "*" in _named(principal.value) else None
    excepted = statement.get("NotPrincipal")
    return None if excepted is None or "*" in _named(excepted.value) else excepted


def _named(principal: Any) -> list[Any]:
    return as_list(principal.get("AWS") if isinstance(principal, dict) else principal)


def _restricts(condition: Node | None) -> bool:
    """Return True if a Condition can refuse a caller; a symbol can stand for one that does."""
    if condition is None:
        return False
    if not isinstance(condition.value, dict):
        return True
    lines = condition.value.values()
    keys = {
        str(key).lower() for line in lines for key in (line if isinstance(line, dict) else [""])
    }
    return not keys <= NOT_RESTRICTING


@flow_rule(
    "W9809",
    "Validate that rules on events of AWS services are on the default bus",
    "Events of AWS services arrive on the default bus. A rule on a custom bus receives none unless "
    "a rule on the default bus forwards them: put the rule there, or forward. A bus of the template "
    "with a bus policy counts as fed by another account or Region.",
    f"{GUIDE}eb-service-event.html",
    ("events", "buses", "patterns"),
)
def aws_events_elsewhere(view: View) -> Findings:
    if not view.is_complete:
        return
    fed = {target.arn for rule in view.flow.rules for target in rule.targets}
    for properties, pattern in view.patterns:
        rule = view.rule_of(properties) if "EventBusName" in properties else None
        bus = view.flow.resources.get(rule.bus) if rule else None
        if not bus or "EventSourceName" in bus.properties:
            continue
        if bus.arn in fed or any(map(is_open, fed)) or view.flow.policies_of(bus.arn):
            continue
        for test in tests_of(pattern, "source"):
            text = test.get("prefix") if isinstance(test, dict) else test
            if str(text).startswith("aws.") and not str(text).startswith("aws.partner/"):
                message = f"events of {text} arrive on the default bus, not on {bus.logical_id}"
                yield place_of(properties, "source", test=test), message


@flow_rule(
    "E9815",
    "Validate that a bus with a customer managed key has no schema discoverer",
    "EventBridge refuses a schema discoverer on a bus that is encrypted with a customer managed "
    "key: remove one of the two.",
    f"{GUIDE}eb-encryption-event-bus-cmkey.html",
    ("events", "buses", "kms"),
    types=(DISCOVERER,),
)
def discoverer_key(view: View) -> Findings:
    for name, node in view.each(DISCOVERER):
        source = node.get("SourceArn")
        bus = view.flow.resources.get(str(source.value)) if source else None
        if not source or not bus or bus.type != BUS:
            continue
        given = as_dict(view.resources.get(bus.logical_id)).get("Properties")
        scenarios = view.scenarios(name, bus.logical_id)
        if any(as_dict(stack.resolve(given)).get(KEY) for stack in scenarios):
            message = f"{bus.logical_id} has a {KEY!r}, which does not allow schema discovery"
            yield source, message


@flow_rule(
    "W9816",
    "Validate that a bus with a customer managed key has a dead-letter queue",
    "An event that cannot be encrypted or decrypted with the key is lost unless the bus has a "
    "DeadLetterConfig. A queue with the same key cannot take it either: set SqsManagedSseEnabled.",
    f"{GUIDE}eb-encryption-event-bus-dlq.html",
    ("events", "buses", "kms", "dead-letter-queue"),
    types=(BUS,),
)
def bus_key(view: View) -> Findings:
    queues = {name for name, _ in view.each("AWS::SQS::Queue")}
    for name, node in view.each(BUS):
        key = node.get(KEY)
        if key and key.value and "DeadLetterConfig" not in node:
            yield (
                key,
                "'DeadLetterConfig' is missing: events are lost if this key cannot be used",
            )
        for queue in queues if "DeadLetterConfig" in node else ():
            yield from _check_queue(view, name, queue)


def _check_queue(view: View, bus: str, queue: str) -> Findings:
    for stack in view.scenarios(bus, queue):  # the conditions of the queue count as well
        own, other = (
            Node(view.resources[name], ("Resources", name), stack).get("Properties")
            for name in (bus, queue)
        )
        key, arn = (own.get(KEY), own.get("DeadLetterConfig", "Arn")) if own else (None, None)
        theirs = other.get("KmsMasterKeyId") if other else None
        if not key or not arn or not theirs:
            continue
        same = key_of(view.flow, key.value, stack.region)
        # Symbols of functions can be equal where the values are not.
        is_same = same and same == key_of(view.flow, theirs.value, stack.region)
        is_queue = arn.value == stack.resolve({"Fn::GetAtt": [queue, "Arn"]})
        if is_queue and (is_same or key.raw == theirs.raw):
            yield arn, "the dead-letter queue has the same key as the bus"
