"""Where an event arrives, and its route across buses, Regions, accounts and stacks."""

import pytest
from flows import ACCOUNT, DEFAULT, EVENT, OPEN, QUEUE, REGION, TO_QUEUE, flow_of, route, rule
from rendered import templates

from eventstacks.documents import parse_template
from eventstacks.environment import Environment, OutputReference, StackSettings
from eventstacks.errors import ToolError
from eventstacks.flow import graph, trace

BUS = "  Bus: {Type: AWS::Events::EventBus, Properties: {Name: b}}\n"


ARCHIVES = """
  All: {Type: AWS::Events::Archive, Properties: {SourceArn: !GetAtt Bus.Arn}}
  Some: {Type: AWS::Events::Archive, Properties: {
    SourceArn: !GetAtt Bus.Arn, EventPattern: {source: [other]}}}
"""


def test_archives_keep_what_their_pattern_matches():
    bus = DEFAULT.replace("default", "b")
    assert trace.trace(flow_of(BUS + ARCHIVES), EVENT, bus).archives == ("All",)
    assert trace.trace(flow_of(BUS + ARCHIVES), {**EVENT, "source": "other"}, bus).archives == (
        "All",
        "Some",
    )


@pytest.mark.parametrize("bus", ["!Ref Bus", "!GetAtt Bus.Arn", "b"])
def test_a_rule_names_its_bus_by_reference_arn_or_name(bus):
    flow = flow_of(BUS + rule(more=f", EventBusName: {bus}"))
    assert trace.trace(flow, EVENT, DEFAULT).routes == ()
    assert trace.trace(flow, EVENT, DEFAULT.replace("default", "b")).routes[0].matched is True


def test_the_bus_on_which_an_event_arrives():
    flow = flow_of(BUS + rule(more=", EventBusName: !Ref Bus"))
    assert trace.entrances(flow, EVENT) == [DEFAULT.replace("default", "b")]
    assert trace.entrances(flow, {**EVENT, "source": "aws.s3"}) == [DEFAULT]
    assert trace.entrances(flow_of(rule()), EVENT) == [DEFAULT]
    assert trace.entrances(flow, EVENT, "default") == [DEFAULT]
    with pytest.raises(ToolError, match="eu-west-1"):
        trace.entrances(flow, {**EVENT, "region": "eu-west-1"})


def test_an_event_for_a_bus_that_does_not_exist_is_lost():
    flow = flow_of(BUS + rule(more=", EventBusName: !Ref Bus"))
    [bus] = trace.entrances(flow, EVENT, "MyCustomEventBus")
    found = trace.trace(flow, EVENT, bus)
    assert (found.exists, found.is_matched, found.is_lost) == (False, False, True)


ROLE = """
  Role: {Type: AWS::IAM::Role, Properties: {
    AssumeRolePolicyDocument: {Statement: [
      {Effect: Allow, Principal: {Service: events.amazonaws.com}, Action: 'sts:AssumeRole'}]},
    Policies: [{PolicyName: p, PolicyDocument: {Statement: [
      {Effect: Allow, Action: 'events:PutEvents', Resource: '*'}]}}]}}
"""


def hop(to, name="R", on="default", *, with_role=True):
    return rule(
        name,
        targets=f"{{Id: t, Arn: '{to}'{', RoleArn: !GetAtt Role.Arn' if with_role else ''}}}",
        more=f", EventBusName: {on}",
    )


def test_an_event_is_followed_across_buses_until_a_loop():
    other = DEFAULT.replace("default", "b")
    flow = flow_of(BUS + ROLE + hop(other) + hop(DEFAULT, "Back", "!Ref Bus"))
    first = route(flow).deliveries[0]
    assert (first.fate, first.onward.bus) == ("delivered", other)
    back = first.onward.routes[0].deliveries[0]
    assert (back.fate, back.onward) == ("lost", None)
    assert back.verdict.code == "loop"


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
def test_a_deny_in_a_bus_policy_applies_to_the_role_of_a_rule(condition, code):
    policy = f"""
  Policy: {{Type: AWS::Events::EventBusPolicy, Properties: {{
    EventBusName: !Ref Bus, StatementId: x, Statement: {{
      Effect: Deny, Principal: '*', Action: 'events:PutEvents', Resource: !GetAtt Bus.Arn,
      Condition: {{{condition}}}}}}}}}
"""
    [delivery] = route(
        flow_of(BUS + ROLE + policy + hop(DEFAULT.replace("default", "b")))
    ).deliveries
    assert delivery.verdict.code == code


@pytest.mark.parametrize(
    ("place", "role", "fate", "code"),
    [
        ("us-east-1:123456789012", True, "delivered", "allowed"),
        ("us-east-1:123456789012", False, "unknown", "not_in_stacks"),
        ("eu-west-1:123456789012", True, "delivered", "allowed"),
        ("eu-west-1:123456789012", False, "refused", "refused_role"),
        ("us-east-1:999999999999", False, "refused", "refused_role"),
        # The policy of the other account has to allow it, too.
        ("us-east-1:999999999999", True, "unknown", "not_in_stacks"),
        ("eu-west-1:999999999999", True, "unknown", "not_in_stacks"),
    ],
)
def test_a_bus_of_another_region_or_account_needs_a_role(place, role, fate, code):
    flow = flow_of(ROLE + hop(f"arn:aws:events:{place}:event-bus/absent", with_role=role))
    [delivery] = route(flow).deliveries
    assert (delivery.fate, delivery.verdict.code) == (fate, code), delivery


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


def test_an_event_crosses_regions_once():
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
    assert (second.fate, second.verdict.code) == ("lost", "loop")


@pytest.mark.parametrize(
    ("region", "arn"),
    [
        ("us-east-1", DEFAULT.replace("default", "b")),
        ("eu-west-1", "⟨i.ImportValue bus-arn?⟩"),  # exports are those of a Region
    ],
)
def test_an_imported_value_is_resolved_within_the_region(region, arn):
    importing = parse_template(
        "Resources:\n" + ROLE + hop("X").replace("'X'", "!ImportValue bus-arn"), "i"
    )
    stacks = (
        StackSettings("target", "t", "target", (region,)),
        StackSettings("i", "i", "i", ("us-east-1",)),
    )
    flow = graph.of_environment(environment(*stacks), templates(target=BUS_ONLY, i=importing), "i")
    assert flow.rules[0].targets[0].arn == arn


def test_a_queue_policy_in_another_stack_applies():
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
  R: {Type: AWS::Events::Rule, Properties: {
    EventPattern: {source: [shop]}, Targets: [{Id: f, Arn: !GetAtt F.Arn}]}}
  F: {Type: AWS::Lambda::Function, Properties: {FunctionName: orders}}
  P: {Type: AWS::Lambda::Permission, Properties: {
    FunctionName: !Ref F, Action: 'lambda:InvokeFunction',
    Principal: events.amazonaws.com, SourceArn: !GetAtt R.Arn}}
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
def test_circular_references_between_stacks_end(value):
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


def test_generated_names_differ_between_stacks_and_regions():
    template = parse_template(
        "Resources: {Q: {Type: AWS::SQS::Queue}, B: {Type: AWS::S3::Bucket}}", "t"
    )
    pair = (
        StackSettings("a", "a", "t", ("us-east-1", "eu-west-1")),
        StackSettings("b", "b", "t", ("us-east-1",)),
    )
    assert len(graph.of_environment(environment(*pair), templates(t=template)).resources) == 6
