"""buffered-worker on the embedded AWS: events through rule, queue and function.

And what ends in the dead-letter queues.
"""

import json

import pytest
from raw_stacks import ACCOUNT, Stack
from waiting import eventually

from eventstacks import rendering

NAME, SOURCE = "buffered-worker", "com.example.shop"
ORDERS, POISON, TWICE = 50, 5, 5


@pytest.fixture
def deploy(clients, unique):
    made = []

    def make(**parameters):
        # Each batch at the same time starts an interpreter, which takes seconds here.
        given = {"MaximumConcurrency": "2", **parameters}
        stack = Stack(clients, unique, rendering.render(NAME).text, **given)
        assert stack.status == "CREATE_COMPLETE", stack.reasons()
        # A failed message is visible again after a second instead of four minutes.
        stack.client("sqs").set_queue_attributes(
            QueueUrl=stack.ids["WorkQueue"], Attributes={"VisibilityTimeout": "1"}
        )
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.cloudformation.delete_stack(StackName=stack.name)


def publish(stack, details):
    entries = [
        {"Source": SOURCE, "DetailType": "OrderPlaced", "Detail": json.dumps(one)}
        for one in details
    ]
    for start in range(0, len(entries), 10):
        answer = stack.client("events").put_events(Entries=entries[start : start + 10])
        assert answer["FailedEntryCount"] == 0


def processed(stack, key="order"):
    """The orders that the function has processed, once for each time."""
    lines = stack.lines(stack.ids["WorkFunctionLogGroup"])
    texts = [json.loads(line)["message"] for line in lines if "Processed {" in line]
    return [json.loads(text.partition(" ")[2])["detail"][key] for text in texts]


def drain(stack, queue, received):
    """Add the messages of a queue to those that were received before."""
    sqs = stack.client("sqs")
    for one in stack.messages(queue):
        received.append(one)
        sqs.delete_message(QueueUrl=stack.ids[queue], ReceiptHandle=one["ReceiptHandle"])
    return received


def waiting(stack, queue):
    """How many messages a queue has, in flight or not."""
    found = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.ids[queue], AttributeNames=["All"]
    )["Attributes"]
    kinds = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    return sum(int(found[kind]) for kind in kinds)


def arn_of(stack, queue):
    return f"arn:aws:sqs:{stack.region}:{ACCOUNT}:{stack.ids[queue].rsplit('/', 1)[1]}"


def test_each_good_event_is_processed_once_and_each_poison_one_is_kept(deploy):
    stack = deploy(KeyPath="detail.order")
    orders = [f"o{number}" for number in range(ORDERS)]
    # Without an order number the function cannot tell what the event is about, and fails.
    publish(stack, [*({"order": one} for one in orders), *({"poison": n} for n in range(POISON))])
    # Published again: another event ID, the same order.
    publish(stack, [{"order": one} for one in orders[:TWICE]])
    kept = []
    assert eventually(lambda: len(drain(stack, "WorkDeadLetterQueue", kept)) == POISON, seconds=60)
    assert sorted(json.loads(one["Body"])["detail"]["poison"] for one in kept) == [*range(POISON)]
    assert sorted(processed(stack)) == sorted(orders)
    assert waiting(stack, "WorkQueue") == waiting(stack, "DeadLetterQueue") == 0


def test_after_a_correction_the_kept_messages_are_moved_back_and_processed(deploy):
    stack = deploy(KeyPath="detail.order")
    publish(stack, [{"number": "n1"}, {"number": "n2"}])
    sqs = stack.client("sqs")
    assert eventually(lambda: waiting(stack, "WorkDeadLetterQueue") == 2, seconds=60)
    function = stack.client("lambda")
    variables = function.get_function_configuration(FunctionName=stack.ids["WorkFunction"])[
        "Environment"
    ]["Variables"]
    function.update_function_configuration(
        FunctionName=stack.ids["WorkFunction"],
        Environment={"Variables": {**variables, "KEY_PATH": "detail.number"}},
    )
    arn = arn_of(stack, "WorkDeadLetterQueue")
    sqs.start_message_move_task(SourceArn=arn)

    assert eventually(lambda: sorted(processed(stack, "number")) == ["n1", "n2"], seconds=30)
    assert waiting(stack, "WorkDeadLetterQueue") == 0


def test_an_event_that_the_work_queue_rejects_is_kept_for_its_rule(deploy):
    stack = deploy()
    stack.client("sqs").set_queue_attributes(
        QueueUrl=stack.ids["WorkQueue"], Attributes={"Policy": ""}
    )
    publish(stack, [{"order": "o1"}])
    (kept,) = eventually(lambda: drain(stack, "DeadLetterQueue", []))
    assert kept["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"
    assert processed(stack) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"BatchSize": "20"},
        {"BatchSize": "11"},
        {"MaximumReceives": "4"},
        {"KeyPath": "detail..order"},
        {"RememberDays": "13"},
        {"MaximumConcurrency": "1"},
    ],
)
def test_wrong_parameters_are_refused_by_name(clients, unique, parameters):
    cloudformation = clients("cloudformation")
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    with pytest.raises(cloudformation.exceptions.ClientError) as refused:
        cloudformation.create_stack(
            StackName=unique,
            TemplateBody=rendering.render(NAME).text,
            Parameters=given,
            Capabilities=["CAPABILITY_IAM"],
        )
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert next(iter(parameters)) in str(refused.value)


def test_large_batches_work_with_a_window(deploy):
    stack = deploy(BatchSize="50", BatchWindowInSeconds="1", EventBusName="default")
    publish(stack, [{"order": f"o{number}"} for number in range(12)])
    assert eventually(lambda: len(processed(stack)) == 12, seconds=30)
    (mapping,) = stack.client("lambda").list_event_source_mappings(
        FunctionName=stack.ids["WorkFunction"]
    )["EventSourceMappings"]
    assert (mapping["BatchSize"], mapping["MaximumBatchingWindowInSeconds"]) == (50, 1)
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2}
