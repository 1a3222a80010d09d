"""The way of an event over buses, rules and targets, and what becomes of what cannot be delivered."""

import json

import pytest
from rendered import templates

from eventstacks.documents import parse_template
from eventstacks.environment import Environment, OutputReference, StackSettings
from eventstacks.errors import ToolError
from eventstacks.flow import graph, trace

REGION, ACCOUNT = "us-east-1", "123456789012"
EVENT = {
    "version": "0",
    "id": "1",
    "detail-type": "placed",
    "source": "shop",
    "account": ACCOUNT,
    "time": "2024-01-01T00:00:00Z",
    "region": REGION,
    "resources": [],
    "detail": {"total": 5, "bucket": "mine"},
}
DEFAULT = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"


def flow_of(resources, **where):
    text = "Parameters: {Other: {Type: String}}\nResources:\n" + resources
    return graph.of_template(
        parse_template(text, "t"), **{"name": "s", "region": REGION, "account": ACCOUNT, **where}
    )


def rule(name="R", pattern="{source: [shop]}", targets="", more=""):
    return f"  {name}: {{Type: AWS::Events::Rule, Properties: {{EventPattern: {pattern}, Targets: [{targets}]{more}}}}}\n"


def route(flow, event=None, bus=DEFAULT):
    return trace.trace(flow, {**EVENT, **(event or {})}, bus).routes[0]


QUEUE = """
  Q: {Type: AWS::SQS::Queue}
  D: {Type: AWS::SQS::Queue}
"""
OPEN = """
  P%s: {Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref %s], PolicyDocument: {Statement: [
    {Effect: Allow, Principal: {Service: events.amazonaws.com}, Action: 'sqs:SendMessage', Resource: '*'}]}}}
"""
TO_QUEUE = "{Id: q, Arn: !GetAtt Q.Arn}"
WITH_DLQ = "{Id: q, Arn: !GetAtt Q.Arn, DeadLetterConfig: {Arn: !GetAtt D.Arn}}"


def test_a_rule_that_matches_delivers_the_event():
    [delivery] = route(flow_of(rule(targets=TO_QUEUE) + QUEUE + OPEN % ("Q", "Q"))).deliveries
    assert (delivery.fate, delivery.permission.reason, delivery.label) == ("delivered", "PQ", "Q")
    assert json.loads(delivery.payload.text) == EVENT


def test_a_rule_that_does_not_match_says_which_field():
    found = route(
        flow_of(rule(pattern="{source: [other], detail: {total: [{numeric: ['>', 9]}]}}"))
    )
    assert found.matched is False
    assert [one.split(":")[0] for one in found.why] == ["detail.total", "source"]


@pytest.mark.parametrize(
    ("targets", "policies", "fate", "code"),
    [
        (TO_QUEUE, "", "lost", "no_policy"),
        (WITH_DLQ, OPEN % ("D", "D"), "dead letter", "no_policy"),
        (WITH_DLQ, "", "lost", "no_policy"),
        (
            WITH_DLQ.replace("Q.Arn,", "Q.Arn, Input: '{x',"),
            OPEN % ("D", "D") + OPEN % ("Q", "Q"),
            "refused",
            "refused_input",
        ),
        (
            "{Id: q, Arn: 'arn:aws:sqs:us-east-1:123456789012:theirs'}",
            "",
            "unknown",
            "not_in_stacks",
        ),
    ],
)
def test_what_cannot_be_delivered(targets, policies, fate, code):
    flow = flow_of(rule(targets=targets) + QUEUE + policies)
    [delivery] = route(flow).deliveries
    assert (delivery.fate, delivery.code) == (fate, code), delivery
    goes_to_queue = fate in {"dead letter", "lost"} and "D.Arn" in targets
    assert delivery.dead_letters == ("D" if goes_to_queue else "")
    assert trace.trace(flow, EVENT, DEFAULT).is_lost is (fate != "unknown")


@pytest.mark.parametrize(
    ("more", "words"),
    [(", State: DISABLED", "disabled"), (", ScheduleExpression: rate(1 day)", "rate(1 day)")],
)
def test_rules_that_cannot_match(more, words):
    made = (
        rule(targets=TO_QUEUE, more=more)
        if "State" in more
        else rule(more=more).replace("EventPattern: {source: [shop]}, ", "")
    )
    found = route(flow_of(made + QUEUE))
    assert (found.matched, found.deliveries) == (False, ())
    assert words in found.why[0]


@pytest.mark.parametrize(
    ("state", "detail", "matched"),
    [
        ("ENABLED", {"readOnly": True, "managementEvent": True}, False),
        ("ENABLED", {"readOnly": True}, False),  # an event without the field is a management event
        ("ENABLED", {"readOnly": True, "managementEvent": False}, True),
        ("ENABLED", {"readOnly": False, "managementEvent": True}, True),
        (
            "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS",
            {"readOnly": True, "managementEvent": True},
            True,
        ),
    ],
)
def test_read_only_management_events_need_a_state_of_their_own(state, detail, matched):
    event = {"detail-type": "AWS API Call via CloudTrail", "detail": detail}
    assert route(flow_of(rule(more=f", State: {state}")), event).matched is matched


@pytest.mark.parametrize(
    ("trail", "said"),
    [("", True), ("  T: {Type: AWS::CloudTrail::Trail, Properties: {}}\n", False)],
)
def test_calls_that_only_a_trail_reports(trail, said):
    event = {"detail-type": "AWS API Call via CloudTrail", "detail": {"readOnly": False}}
    found = route(flow_of(rule() + trail), event)
    assert found.matched is True
    assert any("trail" in why for why in found.why) is said


@pytest.mark.parametrize(
    ("pattern", "event", "matched"),
    [
        ("{detail: {bucket: [!Ref B]}}", {}, None),
        ("{detail: {bucket: [!Ref B, mine]}}", {}, True),
        ("{detail: {bucket: [{prefix: !Ref B}]}}", {}, None),
        ("{detail: {bucket: [{anything-but: !Ref B}]}}", {}, None),
        ("{source: [other], detail: {bucket: [!Ref B]}}", {}, False),
        ("{detail: {bucket: [!Ref B]}}", {"detail": {}}, False),
        ("{detail: {bucket: [!Ref B]}}", {"detail": {"bucket": "⟨s.B⟩"}}, True),
        ("{$or: [{source: [!Ref B]}, {detail-type: [placed]}]}", {}, True),
        ("{$or: [{source: [!Ref B]}, {detail-type: [x]}]}", {}, None),
    ],
)
def test_what_only_aws_knows_is_not_guessed(pattern, event, matched):
    found = route(flow_of(rule(pattern=pattern) + "  B: {Type: AWS::S3::Bucket}\n"), event)
    assert found.matched is matched
    assert matched is not None or found.why == ("depends on ⟨s.B⟩",)


def test_a_pattern_that_is_not_known_or_no_json():
    assert route(flow_of(rule(pattern="!Ref Other"))).matched is None
    assert route(flow_of(rule(pattern="'{source'"))).matched is False
    assert route(flow_of(rule(pattern='!Sub \'{"source": ["shop"]}\''))).matched is True


@pytest.mark.parametrize("levels", [99, 101, 300])  # beyond 100 a pattern stays text
def test_a_deep_pattern_in_text_is_matched_all_the_same(levels):
    def nested(leaf):
        return '{"a": ' * levels + leaf + "}" * levels

    flow = flow_of(
        rule(pattern=f"""'{{"detail": {nested('["x"]')}}}'""", targets=TO_QUEUE)
        + QUEUE
        + OPEN % ("Q", "Q")
    )
    [delivery] = route(flow, {"detail": json.loads(nested('"x"'))}).deliveries
    assert delivery.fate == "delivered"
    missed = route(flow, {"detail": json.loads(nested('"y"'))})
    assert (missed.matched, missed.deliveries) == (False, ())
    assert missed.why[0].startswith("detail.a.a.")


def test_a_pattern_that_aws_refuses_matches_nothing_and_says_why():
    found = route(flow_of(rule(pattern="{source: shop}")))
    assert found.matched is False
    assert "AWS refuses" in found.why[0]


BUS = "  Bus: {Type: AWS::Events::EventBus, Properties: {Name: b}}\n"
ARCHIVES = """
  All: {Type: AWS::Events::Archive, Properties: {SourceArn: !GetAtt Bus.Arn}}
  Some: {Type: AWS::Events::Archive, Properties: {SourceArn: !GetAtt Bus.Arn, EventPattern: {source: [other]}}}
"""


def test_archives_keep_what_their_pattern_matches():
    bus = DEFAULT.replace("default", "b")
    assert trace.trace(flow_of(BUS + ARCHIVES), EVENT, bus).archives == ("All",)
    assert trace.trace(flow_of(BUS + ARCHIVES), {**EVENT, "source": "other"}, bus).archives == (
        "All",
        "Some",
    )


@pytest.mark.parametrize("bus", ["!Ref Bus", "!GetAtt Bus.Arn", "b"])
def test_a_rule_is_on_its_bus_however_that_is_named(bus):
    flow = flow_of(BUS + rule(more=f", EventBusName: {bus}"))
    assert trace.trace(flow, EVENT, DEFAULT).routes == ()
    assert trace.trace(flow, EVENT, DEFAULT.replace("default", "b")).routes[0].matched is True


def test_where_an_event_arrives():
    flow = flow_of(BUS + rule(more=", EventBusName: !Ref Bus"))
    assert trace.entrances(flow, EVENT) == [DEFAULT.replace("default", "b")]
    assert trace.entrances(flow, {**EVENT, "source": "aws.s3"}) == [DEFAULT]
    assert trace.entrances(flow_of(rule()), EVENT) == [DEFAULT]
    assert trace.entrances(flow, EVENT, "default") == [DEFAULT]
    with pytest.raises(ToolError, match="eu-west-1"):
        trace.entrances(flow, {**EVENT, "region": "eu-west-1"})


def test_a_bus_of_another_stack_in_the_account_is_no_entrance():
    own, other = (
        flow_of(BUS.replace("b}", f"{name}}}") + rule(more=", EventBusName: !Ref Bus"))
        for name in "bc"
    )
    assert [*own.buses] != [*other.buses]
    account = graph.Flow(
        buses=own.buses | other.buses, rules=own.rules + other.rules, is_whole=True
    )
    for flow in (own, other):
        account.stacks = flow.stacks
        assert trace.entrances(account, EVENT) == trace.entrances(flow, EVENT)
    assert trace.entrances(account, EVENT, "b") == trace.entrances(own, EVENT)


def test_an_event_for_a_bus_that_does_not_exist_is_lost():
    flow = flow_of(BUS + rule(more=", EventBusName: !Ref Bus"))
    [bus] = trace.entrances(flow, EVENT, "MyCustomEventBus")
    found = trace.trace(flow, EVENT, bus)
    assert (found.exists, found.is_matched, found.is_lost) == (False, False, True)


ROLE = """
  Role: {Type: AWS::IAM::Role, Properties: {
    AssumeRolePolicyDocument: {Statement: [{Effect: Allow, Principal: {Service: events.amazonaws.com}, Action: 'sts:AssumeRole'}]},
    Policies: [{PolicyName: p, PolicyDocument: {Statement: [{Effect: Allow, Action: 'events:PutEvents', Resource: '*'}]}}]}}
"""


def hop(to, name="R", on="default"):
    return rule(
        name,
        targets=f"{{Id: t, Arn: '{to}', RoleArn: !GetAtt Role.Arn}}",
        more=f", EventBusName: {on}",
    )


def test_an_event_goes_on_over_buses_and_stops_at_a_loop():
    other = DEFAULT.replace("default", "b")
    flow = flow_of(BUS + ROLE + hop(other) + hop(DEFAULT, "Back", "!Ref Bus"))
    first = route(flow).deliveries[0]
    assert (first.fate, first.onward.bus) == ("delivered", other)
    back = first.onward.routes[0].deliveries[0]
    assert (back.fate, back.onward) == ("lost", None)
    assert back.code == "loop"


LOCAL, FAR = f"{REGION}:{ACCOUNT}", f"eu-west-1:{ACCOUNT}"


@pytest.mark.parametrize(
    ("passed", "to", "is_refused"),
    [
        ([LOCAL], LOCAL, False),
        ([LOCAL], FAR, False),
        ([LOCAL, LOCAL], LOCAL, True),  # a third bus of the Region
        ([LOCAL, LOCAL], FAR, False),
        ([LOCAL, FAR], FAR, False),
        ([LOCAL, FAR], LOCAL, True),  # back, and so to another Region for the second time
        ([LOCAL, FAR], f"eu-west-1:{ACCOUNT[::-1]}", False),
        ([LOCAL, f"{REGION}:{ACCOUNT[::-1]}"], f"eu-west-1:{'9' * 12}", True),  # a third account
    ],
)
def test_an_event_does_not_reach_a_third_bus(passed, to, is_refused):
    places = [*passed, to]
    *passed, to = (f"arn:aws:events:{one}:event-bus/b{n}" for n, one in enumerate(places))
    assert bool(trace._refused_hop(to, tuple(passed))) is is_refused


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("ForAnyValue:StringNotLike: {'events:source': [shop, 'com.example.*']}", "allowed"),
        ("ForAnyValue:StringNotLike: {'events:source': ['com.example.*']}", "denied"),
        ("StringEquals: {'events:detail-type': placed}", "denied"),
        ("StringEquals: {'events:detail-type': shipped}", "allowed"),
        ("Bool: {'events:eventBusInvocation': 'true'}", "denied"),
        ("Bool: {'events:eventBusInvocation': 'false'}", "allowed"),
    ],
)
def test_a_deny_in_the_policy_of_a_bus_binds_the_role_of_a_rule(condition, code):
    policy = f"""
  Policy: {{Type: AWS::Events::EventBusPolicy, Properties: {{EventBusName: !Ref Bus, StatementId: x, Statement: {{
    Effect: Deny, Principal: '*', Action: 'events:PutEvents', Resource: !GetAtt Bus.Arn, Condition: {{{condition}}}}}}}}}
"""
    [delivery] = route(
        flow_of(BUS + ROLE + policy + hop(DEFAULT.replace("default", "b")))
    ).deliveries
    assert delivery.code == code


@pytest.mark.parametrize(
    ("place", "role", "fate", "code"),
    [
        ("us-east-1:123456789012", True, "lost", "no_such_bus"),
        ("us-east-1:123456789012", False, "lost", "no_such_bus"),
        ("eu-west-1:123456789012", True, "delivered", "allowed"),
        ("us-east-1:999999999999", True, "delivered", "allowed"),
        ("us-east-1:999999999999", False, "unknown", "not_in_stacks"),
    ],
)
def test_of_an_account_that_was_read_it_is_known_which_buses_there_are(place, role, fate, code):
    to = hop(f"arn:aws:events:{place}:event-bus/absent")
    flow = flow_of(ROLE + (to if role else to.replace(", RoleArn: !GetAtt Role.Arn", "")))
    flow.is_whole = True
    [delivery] = route(flow).deliveries
    assert (delivery.fate, delivery.onward, delivery.code) == (fate, None, code), delivery


@pytest.mark.parametrize(
    ("place", "role", "fate", "code"),
    [
        ("us-east-1:123456789012", True, "delivered", "allowed"),
        ("us-east-1:123456789012", False, "unknown", "not_in_stacks"),
        ("eu-west-1:123456789012", True, "delivered", "allowed"),
        ("eu-west-1:123456789012", False, "refused", "refused_role"),
        ("us-east-1:999999999999", False, "refused", "refused_role"),
    ],
)
def test_a_bus_of_another_region_or_account_needs_a_role(place, role, fate, code):
    to = hop(f"arn:aws:events:{place}:event-bus/other")
    flow = flow_of(ROLE + (to if role else to.replace(", RoleArn: !GetAtt Role.Arn", "")))
    [delivery] = route(flow).deliveries
    assert (delivery.fate, delivery.code) == (fate, code), delivery


def environment(*stacks):
    return Environment(
        "test", None, ("us-east-1", "eu-west-1"), {one.name: one for one in stacks}, account=ACCOUNT
    )


BUS_ONLY = parse_template(
    "Resources:\n" + BUS + "Outputs: {Arn: {Value: !GetAtt Bus.Arn, Export: {Name: bus-arn}}}", "b"
)
FORWARDS = parse_template(
    "Parameters: {To: {Type: String}}\nResources:\n" + ROLE + hop("X").replace("'X'", "!Ref To"),
    "f",
)


def test_an_event_crosses_one_border_of_a_region_and_no_second():
    three = {
        "target": BUS_ONLY,
        "there": FORWARDS,
        "again": parse_template(
            "Resources:\n" + ROLE + hop(DEFAULT.replace("default", "c"), "Again", "b"), "a"
        ),
    }
    stacks = (
        StackSettings("target", "p-target", "target", ("eu-west-1",)),
        StackSettings(
            "there",
            "p-there",
            "there",
            ("us-east-1",),
            {"To": OutputReference("target", "Arn", "eu-west-1")},
        ),
        StackSettings("again", "p-again", "again", ("eu-west-1",)),
    )
    flow = graph.of_environment(environment(*stacks), templates(**three))
    there = route(flow).deliveries[0]
    assert there.onward.bus == f"arn:aws:events:eu-west-1:{ACCOUNT}:event-bus/b"
    second = there.onward.routes[0].deliveries[0]
    assert (second.fate, second.code) == ("lost", "loop")


def test_exports_are_found_among_the_stacks_of_a_region():
    importing = parse_template(
        "Resources:\n" + ROLE + hop("X").replace("'X'", "!ImportValue bus-arn"), "i"
    )
    stacks = (
        StackSettings("target", "t", "target", ("us-east-1",)),
        StackSettings("i", "i", "i", ("us-east-1",)),
    )
    flow = graph.of_environment(environment(*stacks), templates(target=BUS_ONLY, i=importing), "i")
    assert flow.rules[0].targets[0].arn == DEFAULT.replace("default", "b")


def test_a_policy_counts_in_whatever_stack_it_stands():
    policy = parse_template(
        "Parameters: {Url: {Type: String}}\nResources:\n"
        + (OPEN % ("Q", "Q")).replace("!Ref Q", "!Ref Url"),
        "p",
    )
    queue = parse_template(
        "Resources:\n" + rule(targets=TO_QUEUE) + QUEUE + "Outputs: {Url: {Value: !Ref Q}}", "q"
    )
    stacks = (
        StackSettings("p", "p", "p", ("us-east-1",), {"Url": OutputReference("q", "Url")}),
        StackSettings("q", "q", "q", ("us-east-1",)),
    )
    [delivery] = route(
        graph.of_environment(environment(*stacks), templates(p=policy, q=queue))
    ).deliveries
    assert (delivery.fate, delivery.permission.reason) == ("delivered", "PQ")


def test_a_permission_is_for_the_function_of_its_own_region():
    template = parse_template(
        """
Resources:
  R: {Type: AWS::Events::Rule, Properties: {EventPattern: {source: [shop]}, Targets: [{Id: f, Arn: !GetAtt F.Arn}]}}
  F: {Type: AWS::Lambda::Function, Properties: {FunctionName: orders}}
  P: {Type: AWS::Lambda::Permission, Properties: {
    FunctionName: !Ref F, Action: 'lambda:InvokeFunction', Principal: events.amazonaws.com, SourceArn: !GetAtt R.Arn}}
""",
        "t",
    )
    both = StackSettings("a", "a", "t", ("us-east-1", "eu-west-1"))
    flow = graph.of_environment(environment(both), templates(t=template))
    fates = [
        delivery.fate
        for bus in flow.buses
        for one in trace.trace(flow, EVENT, bus).routes
        for delivery in one.deliveries
    ]
    assert fates == ["delivered", "delivered"]


@pytest.mark.parametrize("value", ["!Ref To", "!ImportValue 'x'"])
def test_stacks_that_wait_for_each_other_do_not_hang(value):
    template = parse_template(
        f"""
Parameters: {{To: {{Type: String}}}}
Resources: {{Bus: {{Type: AWS::Events::EventBus, Properties: {{Name: {value}}}}}}}
Outputs: {{Out: {{Value: {value}, Export: {{Name: x}}}}}}
""",
        "t",
    )
    pair = [
        StackSettings(one, one, "t", ("us-east-1",), {"To": OutputReference(other, "Out")})
        for one, other in ("ab", "ba")
    ]
    flow = graph.of_environment(environment(*pair), templates(t=template))
    assert [arn for arn in flow.buses if arn in flow.resources] != []


def test_names_of_unnamed_things_differ_between_stacks_and_regions():
    template = parse_template(
        "Resources: {Q: {Type: AWS::SQS::Queue}, B: {Type: AWS::S3::Bucket}}", "t"
    )
    pair = (
        StackSettings("a", "a", "t", ("us-east-1", "eu-west-1")),
        StackSettings("b", "b", "t", ("us-east-1",)),
    )
    assert len(graph.of_environment(environment(*pair), templates(t=template)).resources) == 6


def test_the_trace_as_data_is_json():
    data = trace.as_data(
        trace.trace(flow_of(rule(targets=WITH_DLQ) + QUEUE + OPEN % ("D", "D")), EVENT, DEFAULT)
    )
    [target] = json.loads(json.dumps(data))["rules"][0]["targets"]
    assert (target["fate"], target["dead_letters"], target["permission"]["allowed"]) == (
        "dead letter",
        "D",
        False,
    )


PIPE = """
  T: {Type: AWS::DynamoDB::Table, Properties: {TableName: t, StreamSpecification: {StreamViewType: NEW_IMAGE}}}
  B: {Type: AWS::Events::EventBus, Properties: {Name: b}}
  R: {Type: AWS::Events::Rule, Properties: {EventBusName: !Ref B, EventPattern: {source: [made]}, Targets: []}}
  Role: {Type: AWS::IAM::Role, Properties: {
    AssumeRolePolicyDocument: {Statement: [{Effect: Allow, Principal: {Service: pipes.amazonaws.com}, Action: 'sts:AssumeRole'}]},
    Policies: [{PolicyName: p, PolicyDocument: {Statement: [{Effect: Allow, Action: [%s], Resource: '*'}]}}]}}
  P: {Type: AWS::Pipes::Pipe, Properties: {Source: !GetAtt T.StreamArn, RoleArn: !GetAtt Role.Arn, Target: !GetAtt B.Arn,
    SourceParameters: {DynamoDBStreamParameters: {StartingPosition: LATEST}%s}, TargetParameters: {
      EventBridgeEventBusParameters: {Source: $.dynamodb.NewImage.source.S}, InputTemplate: %s}}}
"""
READ_AND_PUT = "'dynamodb:*', 'events:PutEvents'"
OBJECT = """'{"id": <$.dynamodb.NewImage.id.S>}'"""
FILTER = ', FilterCriteria: {Filters: [{Pattern: \'{"eventName": ["INSERT"]}\'}, {Pattern: \'{"eventName": ["REMOVE"]}\'}]}'
RECORD = {
    "eventSource": "aws:dynamodb",
    "eventSourceARN": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t/stream/⟨s.T.StreamLabel⟩",
    "eventName": "INSERT",
    "dynamodb": {"NewImage": {"id": {"S": "7"}, "source": {"S": "made"}}},
}


def with_source(text):
    image = {**RECORD["dynamodb"]["NewImage"], "source": {"S": text}}
    return {**RECORD, "dynamodb": {"NewImage": image}}


def through_pipe(record=RECORD, actions=READ_AND_PUT, filters="", template=OBJECT):
    flow = flow_of(PIPE % (actions, filters, template))
    [stream] = trace.entrances(flow, record)
    return trace.trace(flow, record, stream)


def test_a_pipe_makes_an_event_of_a_record():
    [route] = through_pipe().routes
    [delivery] = route.deliveries
    assert (route.rule.label, delivery.fate, delivery.label) == ("P", "delivered", "B")
    assert json.loads(delivery.payload.text) == {"id": "7"}
    assert [one.rule.label for one in delivery.onward.routes if one.matched] == ["R"]


@pytest.mark.parametrize(
    ("name", "matched"), [("INSERT", True), ("MODIFY", False), ("REMOVE", True)]
)
def test_one_filter_of_a_pipe_is_enough(name, matched):
    [route] = through_pipe({**RECORD, "eventName": name}, filters=FILTER).routes
    assert route.matched is matched


@pytest.mark.parametrize(
    ("change", "fate", "code"),
    [
        ({"actions": "'dynamodb:*'"}, "lost", "role_policy"),
        ({"actions": "'events:PutEvents'"}, "lost", "role_policy"),
        ({"template": "'text <$.eventName>'"}, "lost", "payload"),
        ({"template": "'[<$.eventName>]'"}, "lost", "payload"),
        ({"record": {**RECORD, "dynamodb": {"NewImage": {}}}}, "lost", "payload"),  # no source
        ({"record": with_source("x" * 257)}, "lost", "payload"),
    ],
)
def test_a_pipe_that_cannot_deliver(change, fate, code):
    [delivery] = through_pipe(**change).routes[0].deliveries
    assert (delivery.fate, delivery.code) == (fate, code)


@pytest.mark.parametrize(
    ("invocation", "source", "fate", "code"),
    [
        ("false", "made", "lost", "denied"),
        ("true", "made", "delivered", "allowed"),
        ("false", "other", "delivered", "allowed"),
    ],
)
def test_a_deny_in_the_policy_of_a_bus_binds_a_pipe(invocation, source, fate, code):
    policy = f"""
  Policy: {{Type: AWS::Events::EventBusPolicy, Properties: {{EventBusName: b, StatementId: x, Statement: {{
    Effect: Deny, Principal: '*', Action: 'events:PutEvents', Resource: !GetAtt B.Arn, Condition: {{
      Bool: {{'events:eventBusInvocation': '{invocation}'}}, StringEquals: {{'events:source': {source}}}}}}}}}}}
"""
    flow = flow_of(PIPE % (READ_AND_PUT, "", OBJECT) + policy)
    [stream] = trace.entrances(flow, RECORD)
    [delivery] = trace.trace(flow, RECORD, stream).routes[0].deliveries
    assert (delivery.fate, delivery.code) == (fate, code)


def test_a_stream_that_no_pipe_reads():
    found = through_pipe({**RECORD, "eventSourceARN": RECORD["eventSourceARN"] + "x"})
    assert (found.exists, found.routes) == (False, ())
