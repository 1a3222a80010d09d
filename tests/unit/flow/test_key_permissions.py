"""Encrypted queues and topics: whether EventBridge may use the key."""

import pytest
from rule_target import POLICY, QUEUE, ROLE, TOPIC, WITH_ROLE, queue_policy, verdict

from eventstacks.documents import parse_template
from eventstacks.flow import graph, permissions
from eventstacks.flow.resolve import Stack


def key_with(condition="", actions="['kms:Decrypt', 'kms:GenerateDataKey']"):
    document = POLICY % (actions, condition)
    return f"  Key2: {{Type: AWS::KMS::Key, Properties: {{KeyPolicy: {document}}}}}\n"


def test_an_encrypted_queue_needs_a_statement_in_the_key_policy():
    keyed = QUEUE.replace("SQS::Queue}", "SQS::Queue, Properties: {KmsMasterKeyId: %s}}")
    key = key_with()
    assert verdict(keyed % "!Ref Key2" + queue_policy() + key).allowed is True
    assert (
        verdict(
            keyed % "!GetAtt Key2.Arn" + queue_policy() + key.replace("'kms:Decrypt', ", "")
        ).allowed
        is False
    )
    properties = "{AliasName: alias/mine, TargetKeyId: !Ref Key2}"
    alias = f"  Alias: {{Type: AWS::KMS::Alias, Properties: {properties}}}\n"
    for named in ("!Ref Alias", "alias/mine"):
        assert verdict(keyed % named + queue_policy() + key + alias).allowed is True
        refusing = key.replace("'kms:Decrypt', ", "") + alias
        assert verdict(keyed % named + queue_policy() + refusing).code == "key_policy"
    assert verdict(keyed % "alias/aws/sqs" + queue_policy()).code == "key_aws_managed"
    through = key_with(
        ", Condition: {StringEquals: {'kms:ViaService': sqs.us-east-1.amazonaws.com}}"
    )
    assert verdict(keyed % "!Ref Key2" + queue_policy() + through).allowed is None
    assert verdict(keyed % "!Ref Key" + queue_policy()).allowed is None


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [("", True), (", Condition: {StringEquals: {'aws:SourceAccount': '123456789012'}}", False)],
)
def test_the_key_of_a_topic_gets_no_source_account(condition, allowed):
    topic = TOPIC.replace("SNS::Topic", "SNS::Topic, Properties: {KmsMasterKeyId: !Ref Key2}")
    policy = queue_policy(action="'sns:Publish'", kind="SNS::TopicPolicy", key="Topics")
    assert verdict(topic + policy + key_with(condition), "!Ref T").allowed is allowed


@pytest.mark.parametrize("key", ["!Ref Key2", "!Ref Key", "alias/aws/sqs"])
def test_whether_a_role_may_use_the_key_of_a_queue_is_unknown(key):
    keyed = QUEUE.replace("SQS::Queue}", f"SQS::Queue, Properties: {{KmsMasterKeyId: {key}}}}}")
    keyed += key_with(actions="kms:Decrypt")
    role = (
        (ROLE % "events.amazonaws.com")
        .replace("states:StartExecution", "sqs:SendMessage")
        .replace("!Ref T", "'*'")
    )
    found = verdict(keyed + role, more=WITH_ROLE)
    assert (found.allowed, found.code) == (None, "not_in_stacks")
    refused = verdict(keyed + role.replace("sqs:SendMessage", "sqs:Other"), more=WITH_ROLE)
    assert refused.allowed is False
    assert verdict(QUEUE + role, more=WITH_ROLE).allowed is True


@pytest.mark.parametrize(
    ("key", "code"), [("!Ref Key2", "not_in_stacks"), ("alias/aws/kinesis", "allowed")]
)
def test_a_role_needs_the_customer_key_of_a_stream(key, code):
    encryption = f"{{EncryptionType: KMS, KeyId: {key}}}"
    properties = f"{{StreamEncryption: {encryption}}}"
    stream = f"  T: {{Type: AWS::Kinesis::Stream, Properties: {properties}}}\n"
    role = (ROLE % "events.amazonaws.com").replace("states:StartExecution", "kinesis:PutRecord")
    role = role.replace("!Ref T", "'*'")
    assert verdict(stream + key_with() + role, more=WITH_ROLE).code == code


def test_a_key_alias_belongs_to_its_region():
    text = """
Resources:
  K: {Type: AWS::KMS::Key}
  A: {Type: AWS::KMS::Alias, Properties: {AliasName: alias/mine, TargetKeyId: !Ref K}}
"""
    both = [
        Stack(
            parse_template(text, "t"),
            name="s",
            region=one,
            account="123456789012",
            scope=f"s@{one}",
        )
        for one in ("us-east-1", "eu-west-1")
    ]
    flow = graph.of_stacks(both)
    regions = ["us-east-1", "eu-west-1"]
    assert [permissions.key_of(flow, "alias/mine", one).region for one in regions] == regions
