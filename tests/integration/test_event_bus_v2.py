"""The embedded AWS has no buses of the new kind.

It refuses the stack, and drops no event that is sent to one.
"""

import json

import in_process
from operators import REGION
from waiting import eventually

BUS = f"arn:aws:events:{REGION}:000000000000:event-busv2/shop/a1b2c3d4e5f6g7h8i9j0k1l2m"


def test_the_stack_is_refused(endpoint, checkout, clients, unique):
    (checkout / "parameters/test.yaml").write_text(
        f"endpoint: embedded\nregions: [{REGION}]\nprefix: {unique}-\nstacks: {{event-bus-v2: }}\n"
    )
    done = in_process.run("deploy", "--env", "test", "--yes")
    assert done.returncode == 1
    assert "AWS::EventsV2::" in done.stderr
    assert not clients("sqs", REGION).list_queues(QueueNamePrefix=unique).get("QueueUrls")
    in_process.run("delete", "--env", "test", "--yes")


def test_sending_to_a_new_bus_is_refused(endpoint, checkout, tmp_path):
    path = tmp_path / "event.json"
    path.write_text('{"Source": "a.b", "DetailType": "x", "Detail": "{}"}')
    done = in_process.run("send", "--bus", BUS, str(path))
    assert done.returncode == 1
    assert "no buses of the new kind (AWS::EventsV2)" in done.stderr


def test_an_event_for_a_new_bus_is_kept_in_the_dead_letter_queue(clients, unique):
    events, sqs, iam = (clients(name, REGION) for name in ("events", "sqs", "iam"))
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}}
    trust = {"Version": "2012-10-17", "Statement": [{**statement, "Action": "sts:AssumeRole"}]}
    role = iam.create_role(RoleName=unique, AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    allowed = {"Effect": "Allow", "Action": "events:Put*Events", "Resource": BUS}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName=unique, PolicyName="bus", PolicyDocument=document)
    url = sqs.create_queue(QueueName=unique)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    queue = attributes["Attributes"]["QueueArn"]
    opened = {**statement, "Action": "sqs:SendMessage", "Resource": queue}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [opened]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    events.put_rule(Name=unique, EventPattern=json.dumps({"source": [unique]}))
    target = {"Id": "bus", "Arn": BUS, "RoleArn": role["Arn"]}
    events.put_targets(Rule=unique, Targets=[{**target, "DeadLetterConfig": {"Arn": queue}}])
    events.put_events(Entries=[{"Source": unique, "DetailType": "x", "Detail": "{}"}])
    (message,) = eventually(
        lambda: sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages")
    )
    assert json.loads(message["Body"])["source"] == unique
    assert message["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_RESOURCE"
