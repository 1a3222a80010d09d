"""event-hub and event-spoke on the embedded AWS.

What arrives, what is refused, and that nothing goes round.
"""

import json

import pytest
from botocore.exceptions import ClientError
from raw_stacks import ACCOUNT, resource, template
from waiting import eventually

from eventstacks import environment, rendering
from eventstacks.flow import graph, trace
from eventstacks.local import policies

HUB_REGION, OTHER_REGION = "eu-central-1", "us-east-1"  # the first is that of ``start``
OTHER_ACCOUNT = "111122223333"


@pytest.fixture
def hub(start):
    return start("event-hub", "hub", AcceptedSources="com.example.*")


def arn_of(stack, bus="EventBus"):
    return f"arn:aws:events:{stack.region}:{ACCOUNT}:event-bus/{stack.ids[bus]}"


def put(stack, bus, source="com.example.shop", **detail):
    entry = {"Source": source, "DetailType": "order placed", "Detail": json.dumps(detail)}
    answer = stack.client("events").put_events(Entries=[{**entry, "EventBusName": bus}])
    assert answer["FailedEntryCount"] == 0


def logged(hub):
    return [json.loads(line) for line in hub.lines(hub.ids["EventLogGroup"])]


def why(stack, queue="DeadLetterQueue"):
    """The error codes of the messages in a dead-letter queue."""
    return [one["MessageAttributes"]["ERROR_CODE"]["StringValue"] for one in stack.messages(queue)]


@pytest.mark.parametrize("region", [HUB_REGION, OTHER_REGION])
@pytest.mark.parametrize("bus", ["default", "own"])
def test_an_event_of_a_spoke_arrives_in_the_log_of_the_hub(start, hub, unique, region, bus):
    name = bus
    if bus == "own":
        name = f"{unique}-orders"
        start(template(Bus=resource("AWS::Events::EventBus", Name=name)), "bus", region)
    spoke = start("event-spoke", "spoke", region, HubEventBusArn=arn_of(hub), EventBusName=name)
    put(spoke, name, order=unique)
    (event,) = [one for one in logged(hub) if one["detail"] == {"order": unique}]
    assert (event["region"], event["account"]) == (region, ACCOUNT)
    assert event["detail-type"] == "order placed"
    assert why(spoke) == []
    assert why(hub) == []


def test_only_the_chosen_events_are_forwarded(start, hub, unique):
    chosen = {"Sources": "com.example.shop,com.example.stock", "DetailTypes": "order placed"}
    spoke = start("event-spoke", "spoke", OTHER_REGION, HubEventBusArn=arn_of(hub), **chosen)
    put(spoke, "default", "com.example.other", order=unique)
    put(spoke, "default", "com.example.stock", order=unique)
    assert [one["source"] for one in logged(hub) if one["detail"] == {"order": unique}] == [
        "com.example.stock"
    ]


def test_a_disabled_spoke_forwards_nothing(start, hub, unique):
    spoke = start(
        "event-spoke", "spoke", OTHER_REGION, HubEventBusArn=arn_of(hub), ForwardEvents="no"
    )
    put(spoke, "default", order=unique)
    assert [one for one in logged(hub) if one["detail"] == {"order": unique}] == []


def test_events_for_a_hub_that_is_deleted_stay_in_the_spoke(start, hub, unique):
    spoke = start("event-spoke", "spoke", OTHER_REGION, HubEventBusArn=arn_of(hub))
    hub.cloudformation.delete_stack(StackName=hub.name)
    eventually(lambda: hub.client("events").list_event_buses(NamePrefix=unique)["EventBuses"] == [])
    put(spoke, "default", order=unique)
    (message,) = spoke.messages("DeadLetterQueue")
    assert json.loads(message["Body"])["detail"] == {"order": unique}
    assert message["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_RESOURCE"
    assert message["MessageAttributes"]["TARGET_ARN"]["StringValue"] == arn_of(hub)


@pytest.mark.parametrize("region", [HUB_REGION, OTHER_REGION])
def test_a_source_that_the_hub_does_not_accept_stays_in_the_spoke(start, hub, unique, region):
    spoke = start("event-spoke", "spoke", region, HubEventBusArn=arn_of(hub))
    put(spoke, "default", "org.example.shop", order=unique)
    assert why(spoke) == ["NO_PERMISSIONS"]
    assert [one for one in logged(hub) if one["detail"] == {"order": unique}] == []


def test_a_role_without_permission_is_refused(start, hub, unique):
    spoke = start("event-spoke", "spoke", OTHER_REGION, HubEventBusArn=arn_of(hub))
    spoke.client("iam").delete_role_policy(RoleName=spoke.ids["ForwardRole"], PolicyName="target")
    put(spoke, "default", order=unique)
    assert why(spoke) == ["NO_PERMISSIONS"]


def test_the_role_sends_to_the_hub_only_and_for_this_rule_only(start, hub, unique):
    spoke = start("event-spoke", "spoke", OTHER_REGION, HubEventBusArn=arn_of(hub))
    other = start(template(Bus=resource("AWS::Events::EventBus", Name=unique)), "other")
    events = spoke.client("events")
    rule = spoke.ids["ForwardRule"]
    (own,) = events.list_targets_by_rule(Rule=rule)["Targets"]
    # The same rule and role, another bus.
    events.put_targets(Rule=rule, Targets=[{**own, "Arn": arn_of(other, "Bus")}])
    put(spoke, "default", order=unique)
    assert why(spoke) == ["NO_PERMISSIONS"]
    # Another rule with the same role;
    # it may not write to the dead-letter queue of the spoke either.
    events.put_targets(Rule=rule, Targets=[own])
    events.disable_rule(Name=rule)
    pattern = json.dumps({"source": [unique]})
    events.put_rule(Name=unique, EventPattern=pattern)
    events.put_targets(Rule=unique, Targets=[own])
    entry = {"Source": unique, "DetailType": "probe", "Detail": json.dumps({"order": unique})}
    assert events.put_events(Entries=[entry])["FailedEntryCount"] == 0
    assert why(spoke) == []
    assert [one for one in logged(hub) if one["detail"] == {"order": unique}] == []
    events.remove_targets(Rule=unique, Ids=[own["Id"]])
    events.delete_rule(Name=unique)


@pytest.mark.parametrize(
    ("region", "code"),
    [(HUB_REGION, "THIRD_ACCOUNT_HOP_DETECTED"), (OTHER_REGION, "THIRD_REGION_HOP_DETECTED")],
)
def test_a_hub_that_sends_events_back_makes_no_loop(start, hub, unique, region, code):
    spoke = start("event-spoke", "spoke", region, HubEventBusArn=arn_of(hub))
    back = f"arn:aws:events:{region}:{ACCOUNT}:event-bus/default"
    sender = start("event-spoke", "back", HubEventBusArn=back, EventBusName=hub.ids["EventBus"])
    # Without its restriction to events of its own account and Region,
    # this rule would close the loop.
    pattern = json.dumps({"source": [{"prefix": "com.example"}]})
    sender.client("events").put_rule(
        Name=sender.ids["ForwardRule"].rsplit("|", 1)[-1],
        EventBusName=hub.ids["EventBus"],
        EventPattern=pattern,
    )
    put(spoke, "default", order=unique)
    assert len([one for one in logged(hub) if one["detail"] == {"order": unique}]) == 1
    assert why(sender) == [code]


def test_what_was_forwarded_to_the_bus_of_a_spoke_is_not_forwarded_again(start, hub, unique):
    bus = f"{unique}-orders"
    start(template(Bus=resource("AWS::Events::EventBus", Name=bus)), "bus")
    middle = start("event-spoke", "middle", HubEventBusArn=arn_of(hub), EventBusName=bus)
    first = start(
        "event-spoke",
        "first",
        OTHER_REGION,
        HubEventBusArn=f"arn:aws:events:{HUB_REGION}:{ACCOUNT}:event-bus/{bus}",
    )
    put(first, "default", order=unique)
    put(middle, bus, order=f"{unique}-own")
    orders = [one["detail"].get("order") for one in logged(hub)]
    assert (orders.count(unique), orders.count(f"{unique}-own")) == (0, 1)
    assert why(first) == why(middle) == []


def test_put_events_with_a_source_that_is_not_accepted_is_refused(hub):
    entry = {
        "Source": "org.example.shop",
        "DetailType": "order placed",
        "Detail": "{}",
        "EventBusName": hub.ids["EventBus"],
    }
    with pytest.raises(ClientError) as refused:
        hub.client("events").put_events(Entries=[entry])
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"


def test_each_account_may_forward_its_own_sources(start):
    hub = start(
        "event-hub",
        "hub",
        OrganizationId="o-a1b2c3d4e5",
        OrganizationSources="com.example.shared.*",
        Team1Accounts=OTHER_ACCOUNT,
        Team1Sources="com.example.orders.*,com.example.shop",
        Team2Accounts="444455556666,777788889999",
        Team2Sources="com.example.stock.*",
        AcceptedSources="com.example.*",
    )
    bus = hub.client("events").describe_event_bus(Name=hub.ids["EventBus"])
    assert {one["Sid"] for one in json.loads(bus["Policy"])["Statement"]} == {
        "own-account",
        "organization",
        "team-1",
        "team-2",
        "accepted-sources",
    }

    def decided(account, source, *, is_forwarded=True):
        event = {"Source": source, "DetailType": "x"}
        keys = policies.put_events_keys(event, is_forwarded=is_forwarded)
        keys["aws:principalorgid"] = None
        caller = f"arn:aws:iam::{account}:role/forward"
        policy = json.loads(bus["Policy"])
        return policies.decisions([policy], "", "events:PutEvents", bus["Arn"], keys, caller)

    assert decided(OTHER_ACCOUNT, "com.example.orders.eu") == {"Allow"}
    assert decided(OTHER_ACCOUNT, "com.example.shop") == {"Allow"}
    assert decided(OTHER_ACCOUNT, "com.example.stock.eu") == set()
    assert decided(OTHER_ACCOUNT, "com.example.orders.eu", is_forwarded=False) == set()
    assert decided("777788889999", "com.example.stock.eu") == {"Allow"}
    assert decided("222222222222", "com.example.orders.eu") == set()
    assert decided(OTHER_ACCOUNT, "aws.health") == {"Deny"}
    assert decided(ACCOUNT, "org.example") == {"Deny"}


def test_direct_put_events_of_other_accounts_is_a_choice(start):
    hub = start("event-hub", "hub", Team1Accounts=OTHER_ACCOUNT, DirectPutEvents="yes")
    bus = hub.client("events").describe_event_bus(Name=hub.ids["EventBus"])
    keys = policies.put_events_keys(
        {"Source": "com.example.shop", "DetailType": "x"}, is_forwarded=False
    )
    asked = ("", "events:PutEvents", bus["Arn"], keys, f"arn:aws:iam::{OTHER_ACCOUNT}:role/any")
    assert policies.policies_allow([json.loads(bus["Policy"])], *asked)


def test_copies_stand_beside_each_other(start, hub, unique):
    hubs = [hub, start("event-hub", "hub-2")]
    for number, target in enumerate(hubs):
        spoke = start("event-spoke", f"spoke-{number}", OTHER_REGION, HubEventBusArn=arn_of(target))
    put(spoke, "default", order=unique)
    for target in hubs:
        assert [one["detail"] for one in logged(target)].count({"order": unique}) == 1


def test_spokes_of_one_name_in_several_regions_have_roles_of_their_own(start, hub, unique):
    spokes = [
        start("event-spoke", "spoke", region, HubEventBusArn=arn_of(hub))
        for region in (HUB_REGION, OTHER_REGION)
    ]
    for spoke in spokes:
        put(spoke, "default", order=unique)
    assert {one["region"] for one in logged(hub) if one["detail"] == {"order": unique}} == {
        HUB_REGION,
        OTHER_REGION,
    }


def test_trace_follows_an_event_to_the_hub():
    """What trace says about parameters/local.yaml is what the tests above see."""
    local = environment.load("local")
    flow = graph.of_environment(local, rendering.render_all())
    bus = f"arn:aws:events:{OTHER_REGION}:{ACCOUNT}:event-bus/local-custom-event-bus-events"

    def traced(source):
        event = {
            "version": "0",
            "id": "1",
            "source": source,
            "detail-type": "order placed",
            "account": ACCOUNT,
            "region": OTHER_REGION,
            "time": "2026-11-29T00:00:00Z",
            "resources": [],
            "detail": {},
        }
        found = trace.trace(flow, event, bus)
        return {route.rule.label: one for route, one in found.walk() if one}

    arrived = traced("com.example.shop")
    assert arrived["ForwardRule"].fate is trace.Fate.DELIVERED
    assert arrived["LogRule"].fate is trace.Fate.DELIVERED
    refused = traced("org.example.shop")
    assert refused["ForwardRule"].fate is trace.Fate.DEAD_LETTER
    assert "LogRule" not in refused
