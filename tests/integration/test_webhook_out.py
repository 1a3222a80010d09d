"""webhook-out on the embedded AWS, with a receiver that answers, fails, delays and throttles."""

import base64
import json
import time

import pytest
from raw_stacks import Stack, refusal
from receiver import Receiver
from waiting import eventually

from eventstacks import rendering

TEMPLATE = rendering.render_all()["webhook-out"].text


@pytest.fixture
def receiver():
    one = Receiver()
    yield one
    one.close()


@pytest.fixture
def deploy(clients, unique, receiver):
    """deploy(**parameters): a stack that sends events with the source `unique` to the receiver."""
    made = []

    def create(**parameters):
        given = {"EventSources": unique, "Endpoint": f"{receiver.url}/hook", **parameters}
        stack = Stack(clients, f"{unique}-{len(made)}", TEMPLATE, **given)
        made.append(stack)
        assert stack.status == "CREATE_COMPLETE", stack.reasons()
        return stack

    yield create
    for stack in made:
        stack.cloudformation.delete_stack(StackName=stack.name)


def put(stack, source, bus="default", **detail):
    """Put an event; return its ID."""
    entry = {"Source": source, "DetailType": "OrderPlaced", "Detail": json.dumps(detail)}
    answer = stack.client("events").put_events(Entries=[{**entry, "EventBusName": bus}])
    return answer["Entries"][0]["EventId"]


def dead_letter(stack, seconds=15):
    """The one message of the dead-letter queue: its event, and its attributes."""
    (message,) = eventually(lambda: stack.messages("DeadLetterQueue"), seconds)
    attributes = {key: one["StringValue"] for key, one in message["MessageAttributes"].items()}
    return json.loads(message["Body"]), attributes


def secret_of(stack):
    value = stack.client("secretsmanager").get_secret_value(SecretId=stack.ids["Secret"])
    return json.loads(value["SecretString"])


def test_the_receiver_gets_the_event_with_its_id_and_the_generated_key(deploy, receiver, unique):
    stack = deploy()
    event_id = put(stack, unique, order="4711")
    ((method, path, headers, body),) = eventually(lambda: receiver.requests)
    assert (method, path) == ("POST", "/hook")
    assert json.loads(body)["detail"] == {"order": "4711"}
    assert json.loads(body)["id"] == headers["Idempotency-Key"] == event_id
    assert headers["x-api-key"] == secret_of(stack)["apiKey"]
    assert headers["User-Agent"] == "Amazon/EventBridge/ApiDestinations"
    assert headers["Host"] == f"localhost:{receiver.port}"
    assert stack.messages("DeadLetterQueue") == []


def test_a_failure_is_retried_with_the_same_id(deploy, receiver, unique):
    stack = deploy()
    receiver.answers = [(503, {}, 0), (429, {"Retry-After": "1"}, 0), (401, {}, 0)]
    event_id = put(stack, unique)
    begin = time.monotonic()
    requests = eventually(lambda: len(receiver.requests) == 4 and receiver.requests)
    assert requests
    assert time.monotonic() - begin >= 1, "Retry-After is respected"
    assert {headers["Idempotency-Key"] for _, _, headers, _ in requests} == {event_id}
    assert stack.messages("DeadLetterQueue") == []


def test_retries_end_in_the_dead_letter_queue(deploy, receiver, unique):
    stack = deploy(MaximumRetryAttempts="2")
    receiver.always = (500, {}, 0)
    event_id = put(stack, unique, order="4711")
    event, why = dead_letter(stack)
    assert (event["id"], event["detail"]) == (event_id, {"order": "4711"})
    assert (why["ERROR_CODE"], why["RETRY_ATTEMPTS"]) == ("ERROR_FROM_TARGET", "2")
    assert why["EXHAUSTED_RETRY_CONDITION"] == "MaximumRetryAttempts"
    assert why["RULE_ARN"].endswith(f":rule/{stack.name}-webhook")
    assert len(receiver.requests) == 3


@pytest.mark.parametrize(
    ("status", "headers"), [(404, {}), (302, {"Location": "/other"}), (503, {"Retry-After": "-1"})]
)
def test_what_eventbridge_does_not_retry_is_dead_lettered_at_once(
    deploy, receiver, unique, status, headers
):
    stack = deploy()
    receiver.always = (status, headers, 0)
    put(stack, unique)
    _, why = dead_letter(stack)
    assert (why["ERROR_CODE"], why["RETRY_ATTEMPTS"]) == ("ERROR_FROM_TARGET", "0")
    assert "EXHAUSTED_RETRY_CONDITION" not in why
    assert len(receiver.requests) == 1


def test_a_receiver_that_does_not_run_is_retried_and_then_dead_lettered(deploy, receiver, unique):
    stack = deploy(MaximumRetryAttempts="1")
    receiver.close()
    put(stack, unique)
    assert dead_letter(stack)[1]["ERROR_CODE"] == "CONNECTION_FAILURE"


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com", "10.0.0.1", "127.0.0.2"])
def test_no_event_leaves_the_machine(deploy, unique, host):
    stack = deploy(Endpoint=f"https://{host}/hook")
    put(stack, unique)
    _, why = dead_letter(stack)
    assert why["ERROR_CODE"] == "CONNECTION_FAILURE"
    assert host in why["ERROR_MESSAGE"]
    assert "RETRY_ATTEMPTS" not in why


def test_only_these_events_of_the_named_bus_are_sent(deploy, clients, receiver, unique):
    clients("events").create_event_bus(Name=unique)
    stack = deploy(EventBusName=unique, DetailTypes="OrderPlaced", MaximumRetryAttempts="0")
    put(stack, unique)  # on the default bus
    put(stack, "com.example.other", bus=unique)
    receiver.answers = [(404, {}, 0)]
    event_id = put(stack, unique, bus=unique)
    event, why = dead_letter(stack)
    assert event["id"] == event_id
    assert why["RULE_ARN"].endswith(f":rule/{unique}/{stack.name}-webhook")
    assert len(receiver.requests) == 1


def test_the_credentials_are_those_of_the_secret(deploy, clients, receiver, unique):
    secrets = clients("secretsmanager")
    secrets.create_secret(
        Name=f"{unique}/basic", SecretString='{"username": "shop", "password": "for-tests"}'
    )
    stack = deploy(Authorization="BASIC", SecretId=f"{unique}/basic")
    assert "Secret" not in stack.ids
    put(stack, unique)
    ((_, _, headers, _),) = eventually(lambda: receiver.requests)
    given = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode()
    assert given == "shop:for-tests"
    described = stack.client("events").describe_connection(Name=stack.ids["Connection"])
    assert described["AuthParameters"] == {"BasicAuthParameters": {"Username": "shop"}}


def test_an_access_token_that_is_refused_is_renewed(deploy, clients, receiver, unique):
    secrets = clients("secretsmanager")
    name = secrets.create_secret(
        Name=unique, SecretString='{"clientId": "id", "clientSecret": "for-tests"}'
    )["ARN"]
    deploy_with = {"SecretId": name, "TokenEndpoint": f"{receiver.url}/token"}
    stack = deploy(Authorization="OAUTH_CLIENT_CREDENTIALS", TokenScope="orders", **deploy_with)
    receiver.answers = [(401, {}, 0)]
    put(stack, unique)
    requests = eventually(lambda: len(receiver.requests) == 2 and receiver.requests)
    assert [headers["Authorization"] for _, _, headers, _ in requests] == [
        "Bearer token-1",
        "Bearer token-2",
    ]


def test_a_role_that_may_not_call_the_destination_is_a_dead_letter(deploy, receiver, unique):
    stack, other = deploy(), deploy(EventSources=f"{unique}.other")
    events = stack.client("events")
    ((target),) = events.list_targets_by_rule(Rule=f"{stack.name}-webhook")["Targets"]
    ((foreign),) = events.list_targets_by_rule(Rule=f"{other.name}-webhook")["Targets"]
    events.put_targets(Rule=f"{stack.name}-webhook", Targets=[{**target, "Arn": foreign["Arn"]}])
    put(stack, unique)
    assert dead_letter(stack)[1]["ERROR_CODE"] == "NO_PERMISSIONS"
    events.put_targets(
        Rule=f"{stack.name}-webhook", Targets=[{**target, "RoleArn": foreign["RoleArn"]}]
    )
    put(stack, unique)  # the other role allows its own rule and destination only
    assert dead_letter(stack)[1]["ERROR_CODE"] == "NO_PERMISSIONS"
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"Authorization": "OAUTH_CLIENT_CREDENTIALS", "SecretId": "x"}, "TokenEndpoint"),
        ({"SecretVersionId": "a" * 32}, "SecretId"),
        ({"Endpoint": "http://example.com/"}, "Endpoint"),
        ({"InvocationsPerSecond": "0"}, "InvocationsPerSecond"),
        ({"MaximumEventAgeInSeconds": "86401"}, "MaximumEventAgeInSeconds"),
    ],
)
def test_an_invalid_parameter_is_named(clients, unique, parameters, named):
    given = {"EventSources": unique, "Endpoint": "https://localhost/hook", **parameters}
    assert named in refusal(clients, unique, TEMPLATE, **given)
