"""Whether a rule matches an event, and what happens to events that cannot be delivered."""

import json

import pytest
from flows import DEFAULT, EVENT, OPEN, QUEUE, TO_QUEUE, flow_of, route, rule

from eventstacks.flow import trace

WITH_DLQ = "{Id: q, Arn: !GetAtt Q.Arn, DeadLetterConfig: {Arn: !GetAtt D.Arn}}"


def test_a_rule_that_matches_delivers_the_event():
    [delivery] = route(flow_of(rule(targets=TO_QUEUE) + QUEUE + OPEN % ("Q", "Q"))).deliveries
    assert (delivery.fate, delivery.permission.reason, delivery.label) == ("delivered", "PQ", "Q")
    assert json.loads(delivery.payload.text) == EVENT


def test_the_refusal_of_a_pattern_is_one_line():
    [why] = route(flow_of(rule(pattern="{detail: {total: 5}}"))).why
    assert why.endswith("must be an object or an array. Write it as a list: [5]")
    assert len(why.splitlines()) == 1


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
        (  # PutTargets looks at the role before anything is delivered
            (
                "{Id: m, Arn: 'arn:aws:states:us-east-1:1:stateMachine:m', "
                "InputTransformer: {InputTemplate: t}}"
            ),
            "",
            "refused",
            "refused_role",
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
    assert (delivery.fate, delivery.verdict.code) == (fate, code), delivery
    assert delivery.dead_letters == ("D" if "D.Arn" in targets else "")
    assert trace.trace(flow, EVENT, DEFAULT).is_lost is (fate != "unknown")


@pytest.mark.parametrize(
    ("more", "words"),
    [(", State: DISABLED", "disabled"), (", ScheduleExpression: rate(1 day)", "no event pattern")],
)
def test_disabled_and_scheduled_rules_match_nothing(more, words):
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
def test_read_only_management_events_need_the_state_for_all_management_events(
    state, detail, matched
):
    event = {"detail-type": "AWS API Call via CloudTrail", "detail": detail}
    assert route(flow_of(rule(more=f", State: {state}")), event).matched is matched


@pytest.mark.parametrize(
    ("trail", "said"),
    [("", True), ("  T: {Type: AWS::CloudTrail::Trail, Properties: {}}\n", False)],
)
def test_api_calls_without_a_trail_have_a_note(trail, said):
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
def test_a_value_that_only_aws_knows_is_unknown(pattern, event, matched):
    found = route(flow_of(rule(pattern=pattern) + "  B: {Type: AWS::S3::Bucket}\n"), event)
    assert found.matched is matched
    assert matched is not None or found.why == ("depends on ⟨s.B⟩",)


def test_a_pattern_given_as_text_or_parameter():
    assert route(flow_of(rule(pattern="!Ref Other"))).matched is None
    assert route(flow_of(rule(pattern="'{source'"))).matched is False
    assert route(flow_of(rule(pattern='!Sub \'{"source": ["shop"]}\''))).matched is True


@pytest.mark.parametrize("levels", [99, 101, 300])  # beyond 100 a pattern stays text
def test_a_deeply_nested_pattern_in_text_is_matched(levels):
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
