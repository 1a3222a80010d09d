"""Rules on event patterns: their grammar, and whether an event can match."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from eventstacks.flow.payload import substituted
from eventstacks.flow.symbols import Json, as_dict, is_known, is_open
from eventstacks.flow.symbols import pattern_of as read_pattern
from eventstacks.flow.targets import service_of
from eventstacks.flow.trace import VIA_TRAIL
from eventstacks.lint.view import (
    ARCHIVE,
    GUIDE,
    RULE,
    S3_EVENTS,
    Findings,
    Node,
    View,
    could_equal,
    flow_rule,
    is_of_s3,
    place_of,
    tests_of,
)
from eventstacks.patterns.grammar import PatternError, parse_pattern

TEXT_FUNCTIONS = frozenset({"Fn::Sub", "Fn::Join", "Fn::ImportValue", "Fn::Base64"})


SAM_TYPES = ("AWS::Serverless::Function", "AWS::Serverless::StateMachine")
PIPE = "AWS::Pipes::Pipe"
STRINGS = frozenset(
    {"version", "id", "detail-type", "source", "account", "time", "region", "resources"}
)
ENVELOPE = STRINGS | {"detail", "replay-name"}  # a replay adds replay-name
# Service of a pipe's source: the fields of its records (EventBridge guide, 'Pipes sources').
RECORDS = {
    "dynamodb": "awsRegion dynamodb eventID eventName eventSource eventSourceARN eventVersion "
    "userIdentity",
    "kinesis": "approximateArrivalTimestamp awsRegion data encryptionType eventID eventName "
    "eventSource eventSourceARN eventVersion invokeIdentityArn kinesisSchemaVersion partitionKey "
    "sequenceNumber",
    "sqs": "attributes awsRegion body eventSource eventSourceARN md5OfBody md5OfMessageAttributes "
    "messageAttributes messageId receiptHandle",
}


def _written(view: View) -> Iterator[tuple[Node, frozenset[str]]]:
    """Yield each pattern with the fields of what it is compared with; none if they are not known.

    Those of rules, archives, events of SAM, and the filters of pipes.
    """
    for _, node in view.each(RULE, ARCHIVE):
        if pattern := node.get("EventPattern"):
            yield pattern, ENVELOPE
    for _, node in view.each(*SAM_TYPES):
        for name in as_dict(node.raw.get("Events")):
            if pattern := node.get("Events", name, "Properties", "Pattern"):
                yield pattern, ENVELOPE
    for _, node in view.each(PIPE):
        source = node.get("Source")
        fields = RECORDS.get(service_of(str(source.value)), "") if source else ""
        for entry in node.items("SourceParameters", "FilterCriteria", "Filters"):
            if pattern := entry.get("Pattern"):
                yield pattern, frozenset(fields.split())


@flow_rule(
    "E9803",
    "Validate the grammar of an event pattern",
    "PutRule and CreateArchive refuse a pattern that breaks the grammar. The message is that of "
    "AWS.",
    f"{GUIDE}eb-create-pattern-operators.html",
    ("events", "patterns"),
    types=(RULE, ARCHIVE, PIPE, *SAM_TYPES),
)
def event_pattern(view: View) -> Findings:
    for node, _ in _written(view):
        if is_open(node.value):
            continue
        # Symbols in text can stand for anything: it is enough if one substitute is valid.
        is_text = isinstance(node.value, str)
        problems = [
            _problem_of(one) for one in (substituted(node.value) if is_text else [node.value])
        ]
        problem = problems[0]
        if problem is None or not all(problems):
            continue
        place = _locate(node, problem.where)
        if is_text or is_known(place.value) or _is_text(view, place):
            where = f" (at {problem.where})" if problem.where else ""
            yield place, f"{problem.what}{where} {problem.advice}".strip()


def _problem_of(pattern: Any) -> PatternError | None:
    try:
        parse_pattern(pattern)
    except PatternError as error:
        return error
    return None


def _locate(node: Node, path: str) -> Node:
    """Return the node at a dotted path, or the last one on the way.

    Names of fields can have dots.
    """
    if isinstance(node.raw, dict):
        for key in sorted(map(str, node.raw), key=len, reverse=True):
            if (path == key or path.startswith(f"{key}.")) and (inner := node.get(key)):
                return _locate(inner, path[len(key) + 1 :])
    return node


def _is_text(view: View, node: Node) -> bool:
    """Return True if a node is certainly text, where a pattern has a list or an object."""
    raw = as_dict(node.raw)
    declared = as_dict(view.cfn.template.get("Parameters")).get(str(raw.get("Ref")))
    is_text = str(as_dict(declared).get("Type", "String")) in {"String", "Number"}
    return not TEXT_FUNCTIONS.isdisjoint(raw) or ("Ref" in raw and is_text)


# Fields of 'AWS API Call via CloudTrail' that S3's own events do not have.
CALL_FIELDS = frozenset({"eventName", "eventSource", "requestParameters", "userIdentity"})
# The detail-types of some sources, all that they have.
DETAIL_TYPES: dict[str, set[str] | frozenset[str]] = {
    "aws.codebuild": {"CodeBuild Build State Change", "CodeBuild Build Phase Change"},
    "aws.s3": S3_EVENTS,
    "aws.securityhub": {
        "Security Hub Findings - Imported",
        "Security Hub Findings - Custom Action",
        "Security Hub Insight Results",
        "Findings Imported V2",
    },
    "aws.states": {"Step Functions Execution Status Change"},
}


@flow_rule(
    "W9803",
    "Validate that an event can match a pattern",
    "Outside of detail an event has version, id, detail-type, source, account, time, region and "
    "resources, all of them strings. detailType, a field of detail at the top, or an account "
    "number without quotes never match: correct the name, move the field below detail, or add "
    "quotes. Events such as Object Created have bucket and object in detail, not "
    "requestParameters. A pipe filters the records of its source, which have fields such as "
    "dynamodb or body, and no detail.",
    f"{GUIDE}eb-events-structure.html",
    ("events", "patterns", "pipes"),
    types=(RULE, ARCHIVE, PIPE, *SAM_TYPES),
)
def never_matches(view: View) -> Findings:
    for properties, fields in _written(view):
        pattern = read_pattern(properties.value)
        if not isinstance(pattern, dict) or not fields:
            continue
        for name in _required_fields(pattern) - fields:
            near = get_close_matches(name, fields, n=1)
            advice = f"; did you mean {near[0]!r}?" if near else ""
            what = "an event" if fields is ENVELOPE else "a record of the source"
            yield place_of(properties, name), f"{name!r} is not a field of {what}{advice}"
        for test, message in _unknown_types(pattern):
            yield place_of(properties, "detail-type", test=test), message
        wrong = CALL_FIELDS & as_dict(pattern.get("detail")).keys() if is_of_s3(pattern) else set()
        for name in wrong:
            yield (
                place_of(properties, "detail", name),
                f"{name!r} is a field of calls that CloudTrail reports, not of S3's own events",
            )
        for name in STRINGS & pattern.keys() & fields:
            for test in tests_of(pattern, name):
                if isinstance(test, int | float):
                    yield (
                        place_of(properties, name, test=test),
                        f"{test!r} is not of type 'string', as {name} is in every event",
                    )


def _unknown_types(pattern: Json) -> Iterator[tuple[str, str]]:
    """Yield the detail-types that are nearly one of their source, each with what is wrong."""
    for source in tests_of(pattern, "source"):
        known = DETAIL_TYPES.get(str(source), set())
        for test in set(map(str, tests_of(pattern, "detail-type"))) - known:
            if near := get_close_matches(test, known, n=1, cutoff=0.75):
                yield test, f"{source} has no detail-type {test!r}; did you mean {near[0]!r}?"


def _required_fields(pattern: Json) -> set[str]:
    """Return the top-level fields that an event must have to match."""
    if _problem_of(pattern):  # E9803 reports it
        return set(map(str, pattern)) - {"$or"}
    return {
        path.split(".", maxsplit=1)[0]
        for alternative in parse_pattern(pattern)
        for path, tests in alternative.items()
        if not any(test.kind == "absent" for test in tests)
    }


STATE = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
READ_CALLS = re.compile(  # without the names of data events
    r"(Get|List|Describe)(?!(Object|Parts|MultipartUploads|Item|Records|ShardIterator"
    r"|Snapshot\w*Block|ChangedBlock|FederationToken|SessionToken))"
)


@flow_rule(
    "W9812",
    "Validate the state of a rule on read-only API calls",
    "A rule in state ENABLED does not receive management events whose names start with Get, List "
    f"or Describe: set State to {STATE}. Data events are received in both states.",
    f"{GUIDE}eb-service-event-cloudtrail-management.html",
    ("events", "patterns", "cloudtrail"),
)
def read_only_calls(view: View) -> Findings:
    for properties, _, pattern in view.patterns:
        state = properties.get("State")
        if (state and state.value != "ENABLED") or not _is_of_management(pattern):
            continue
        for test in tests_of(pattern, "detail", "eventName"):
            name = test.get("prefix") if isinstance(test, dict) else test
            if isinstance(name, str) and READ_CALLS.match(name):
                yield (
                    place_of(properties, "detail", "eventName", test=test),
                    f"{name!r} is a read-only call, which needs the state {STATE}",
                )


def _is_of_management(pattern: Json) -> bool:
    """Return True if a pattern is on API calls from CloudTrail and lets management events through.

    For 'AWS Service Event via CloudTrail' the guide does not say whether the state matters: no
    finding.
    """
    kinds, sources = tests_of(pattern, "detail-type"), tests_of(pattern, "detail", "eventSource")
    named = VIA_TRAIL in kinds or any(str(one).endswith(".amazonaws.com") for one in sources)
    return (
        named
        and could_equal(kinds, VIA_TRAIL)
        and could_equal(tests_of(pattern, "detail", "eventCategory"), "Management")
        and could_equal(tests_of(pattern, "detail", "managementEvent"), value=True)
    )


# Only numbers that the RDS page lists for one kind of source; it has more kinds and more numbers.
EVENT_NUMBERS = {
    "RDS DB Snapshot Event": "0040 0041 0042 0059 0060 0061 0090 0091 0159 0160 0161 0190 0196 "
    "0197",
    "RDS DB Cluster Snapshot Event": "0074 0075 0162 0163 0164 0168 0169",
    "RDS DB Cluster Event": "0069 0070 0071 0072 0073 0170 0171",
    "RDS DB Instance Event": "0003 0004 0005 0006 0007 0087 0088 0089",
    "RDS DB Parameter Group Event": "0037",
    "RDS DB Security Group Event": "0038 0039",
}
KIND_OF_ID = {
    f"RDS-EVENT-{number}": kind
    for kind, numbers in EVENT_NUMBERS.items()
    for number in numbers.split()
}


@flow_rule(
    "W9820",
    "Validate that an RDS EventID belongs to the detail-type",
    "Each EventID of RDS comes with one detail-type; with another one the pattern never matches: "
    "add that detail-type, or remove the EventID.",
    "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html",
    ("events", "patterns", "rds"),
)
def rds_event_id(view: View) -> Findings:
    for properties, _, pattern in view.patterns:
        kinds = {str(kind) for kind in tests_of(pattern, "detail-type")}
        if not kinds or not kinds <= EVENT_NUMBERS.keys():
            continue
        for test in tests_of(pattern, "detail", "EventID"):
            kind = KIND_OF_ID.get(str(test))
            if kind and kind not in kinds:
                yield (
                    place_of(properties, "detail", "EventID", test=test),
                    f"{test!r} only comes with the detail-type {kind!r}",
                )
