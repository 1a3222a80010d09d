"""send to a bus of the new kind (AWS::EventsV2), held to botocore's model of its API."""

import boto3
import pytest
from botocore.stub import ANY, Stubber

from eventstacks.bus import send as sender
from eventstacks.bus import stacks
from eventstacks.bus.put_events import NewBus

ARN = "arn:aws:events:eu-central-1:111122223333:event-busv2/shop/a1b2c3d4e5f6g7h8i9j0k1l2m"
OTHER = ARN.replace("shop", "stock")
PUBLISHED = {"SuccessCode": "PUBLISHED"}


@pytest.fixture
def client():
    return boto3.client(
        "eventbridgev2", "eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


@pytest.fixture
def service(client):
    """The stubbed service; it has the bus."""
    with Stubber(client) as stub:
        stub.add_response("describe_event_bus", {"EventBusArn": ARN}, {"EventBusArn": ARN})
        yield stub
        stub.assert_no_pending_responses()


def entry(number, **more):
    return {"Source": "com.example.shop", "DetailType": "x", "Detail": f'{{"n": {number}}}', **more}


def send(client, events):
    settings = sender.Settings(threads=1, base=0.001)
    return sender.send(events, NewBus(client, ARN), ARN, settings)


def answer(*results):
    failed = sum("ErrorCode" in one for one in results)
    return {"FailedEntryCount": failed, "Entries": list(results)}


def test_100_entries_go_in_a_call_and_a_duplicate_is_a_success(client, service):
    duplicate = {"SuccessCode": "DEDUPLICATED"}
    for first, last in ((0, 100), (100, 150)):
        given = {"EventBusArn": ARN, "Entries": [entry(one) for one in range(first, last)]}
        results = [PUBLISHED] * (last - first - 1) + [duplicate]
        service.add_response("put_events", answer(*results), given)
    summary = send(client, [entry(one) for one in range(150)])
    assert (summary.acknowledged, summary.rejected, summary.calls) == (150, 0, 2)


def test_only_the_entry_that_failed_is_sent_again(client, service):
    busy = {"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"}
    denied = {"ErrorCode": "InvalidInputException", "ErrorMessage": "no"}
    service.add_response(
        "put_events",
        answer(busy, denied, PUBLISHED),
        {"EventBusArn": ARN, "Entries": ANY},
    )
    service.add_response(
        "put_events", answer(PUBLISHED), {"EventBusArn": ARN, "Entries": [entry(0)]}
    )
    summary = send(client, [entry(one) for one in range(3)])
    assert (summary.acknowledged, summary.rejected, summary.retried) == (2, 1, 1)
    assert summary.by_code == {"InvalidInputException": 1}


def test_fields_that_the_api_does_not_have_are_left_out(client, service):
    service.add_response(
        "put_events", answer(PUBLISHED), {"EventBusArn": ARN, "Entries": [entry(0)]}
    )
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793"
    assert send(client, [entry(0, TraceHeader=trace, EventBusName=ARN)]).acknowledged == 1


def test_an_entry_for_another_bus_is_rejected(client, service):
    summary = send(client, [entry(0, EventBusName=OTHER)])
    assert (summary.acknowledged, summary.rejected) == (0, 1)


def test_a_bus_that_does_not_exist_is_an_error(client):
    with Stubber(client) as stub:
        stub.add_client_error("describe_event_bus", "ResourceNotFoundException")
        with pytest.raises(stacks.BusError):
            send(client, [entry(0)])


def test_the_arn_of_a_new_bus_is_accepted():
    assert stacks.parse_bus(ARN) == ("eu-central-1", ARN)
    assert stacks.parse_bus(ARN, "us-east-1") == ("eu-central-1", ARN)
