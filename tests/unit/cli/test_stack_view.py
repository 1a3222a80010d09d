"""Plans and deletions as text and as a comment."""

import json
from dataclasses import replace

import pytest
from refs import stack_ref

from eventstacks.cli import stack_view
from eventstacks.cloudformation.change_set import ChangeSet
from eventstacks.cloudformation.failure import DeploymentError
from eventstacks.cloudformation.outputs import NotDeployedError
from eventstacks.cloudformation.run import Plan, Preview

STACK = stack_ref("test", "bus", "t-bus", "us-east-1")


def plan(*changes, region="us-east-1", kind="UPDATE", **more):
    found = ChangeSet("arn", "stack", kind, changes=changes, parameters=more.pop("parameters", {}))
    return Plan(stack_ref("test", "bus", "t-bus", region), found, **more)


def text(*plans):
    return [line.plain for line in stack_view.show(plans)]


def change(action="Modify", *details, **more):
    return {
        "Action": action,
        "LogicalResourceId": "Queue",
        "ResourceType": "AWS::SQS::Queue",
        "Details": list(details),
        **more,
    }


def detail(before, after, **more):
    return {
        "Target": {
            "Attribute": "Properties",
            "Name": "DelaySeconds",
            "Path": "/Properties/DelaySeconds",
            "BeforeValue": before,
            "AfterValue": after,
            **more,
        }
    }


def test_a_resolved_ssm_parameter_is_a_change_only_if_its_value_differs():
    held = {"ParameterKey": "Ami", "ParameterValue": "/aws/ami", "ResolvedValue": "ami-1"}
    assert "Ami" not in " ".join(
        text(plan(parameters={"Ami": "ami-1"}, stack={"Parameters": [held]}))
    )
    assert "parameter Ami: ami-1 → ami-2" in " ".join(
        text(plan(parameters={"Ami": "ami-2"}, stack={"Parameters": [held]}))
    )


def test_a_problem_of_another_stack_names_it():
    giver = stack_ref("test", "orders", "t-orders", "eu-west-1")
    lines = text(replace(plan(), problem=NotDeployedError("this stack is not deployed", giver)))
    assert lines[1] == "  ! t-orders in eu-west-1: this stack is not deployed"
    own = text(replace(plan(), problem=NotDeployedError("this stack is not deployed", plan().ref)))
    assert own[1] == "  ! this stack is not deployed"


def test_a_property_before_and_after():
    lines = text(plan(change("Modify", detail("0", "5"))))
    assert lines == [
        "t-bus in us-east-1: update",
        "  ~ change   Queue  AWS::SQS::Queue",
        "      DelaySeconds: 0 → 5",
        "1 of 1 stack to change.",
    ]


@pytest.mark.parametrize("action", ["Add", "Modify", "Remove", "Dynamic", "SomethingNew"])
def test_every_action_can_be_shown(action):
    assert any("Queue" in line for line in text(plan(change(action))))


def test_a_replacement_is_highlighted_and_says_what_happens_to_the_old_resource():
    replaced = change(
        "Modify",
        detail("a", "b", RequiresRecreation="Always"),
        Replacement="True",
        PolicyAction="ReplaceAndDelete",
        PhysicalResourceId="q-1",
    )
    lines = list(stack_view.show([plan(replaced)]))
    assert lines[1].plain == "  ! REPLACE  Queue  AWS::SQS::Queue  q-1"
    assert "red" in str(lines[1].spans[0].style)
    assert lines[2].plain == "      the old resource is deleted"
    assert lines[3].plain.endswith("a → b  requires replacement")


def test_only_the_differences_of_a_policy_document_are_shown():
    before = '{"Statement": [{"Effect": "Allow", "Action": "x"}]}'
    lines = text(plan(change("Modify", detail(before, before.replace("Allow", "Deny")))))
    assert lines[2] == "      DelaySeconds.Statement.0.Effect: Allow → Deny"


def test_a_property_without_values_is_named_once():
    target = {"Target": {"Attribute": "Properties", "Name": "DelaySeconds"}}
    lines = text(plan(change("Modify", target, {**target, "CausingEntity": "Delay"})))
    assert lines[2:-1] == ["      DelaySeconds"]


def test_regions_with_the_same_changes_share_lines_and_others_do_not():
    same = [plan(change(), region=region) for region in ("us-east-1", "eu-west-1")]
    assert text(*same)[0] == "t-bus in us-east-1, eu-west-1: update"
    other = plan(change("Remove"), region="eu-west-1")
    assert sum("t-bus in" in line for line in text(same[0], other)) == 2


def test_a_plan_without_changes_says_so():
    same = Plan(STACK)
    assert text(same) == ["t-bus in us-east-1: no changes", "No changes."]


def test_secrets_are_not_shown():
    held = {
        "StackStatus": "CREATE_COMPLETE",
        "Parameters": [
            {"ParameterKey": "Secret", "ParameterValue": "****"},
            {"ParameterKey": "Size", "ParameterValue": "1"},
        ],
    }
    lines = text(plan(change(), stack=held, parameters={"Secret": "s3cret", "Size": "2"}))
    assert "    parameter Size: 1 → 2" in lines
    assert not any("s3cret" in line for line in lines)


def test_problems_and_dependencies_are_shown():
    assert "  ! refused" in text(Plan(STACK, problem=DeploymentError("refused")))
    lines = text(Plan(STACK, waits_for=("rules",)))
    assert lines[0] == "t-bus in us-east-1: created after rules, whose outputs it uses"


LOSSES = {
    "Delete": "red",
    "Snapshot": "yellow",
    "Retain": "",
    "ReplaceAndDelete": "red",
    "ReplaceAndSnapshot": "yellow",
    "ReplaceAndRetain": "",
}


@pytest.mark.parametrize("policy", LOSSES)
def test_deletions_of_data_are_coloured(policy):
    (_, _, line, _) = stack_view.show([plan(change("Remove", PolicyAction=policy))])
    assert [str(span.style) for span in line.spans] == list(filter(None, [LOSSES[policy]]))
    assert ("snapshot" in line.plain) == ("Snapshot" in policy)


def targets(*names):
    return json.dumps([{"Id": name, "Arn": f"arn:{name}"} for name in names])


def of_list(before, after):
    path = {"Name": "Targets", "Path": "/Properties/Targets"}
    return text(plan(change("Modify", detail(before, after, **path))))[2:-1]


def test_an_added_target_is_named_by_its_id():
    assert of_list(targets("A", "B"), targets("OrderQueue", "A", "B")) == [
        '      + Targets[OrderQueue]: {"Id": "OrderQueue", "Arn": "arn:OrderQueue"}'
    ]
    assert of_list(targets("A", "B"), targets("B")) == [
        '      - Targets[A]: {"Id": "A", "Arn": "arn:A"}'
    ]
    assert of_list(targets("A", "B"), targets("B", "A")) == ["      Targets"]


def test_a_changed_element_is_named_by_its_key():
    before = json.dumps([{"Key": "team", "Value": "a"}, {"Key": "cost", "Value": "1"}])
    after = json.dumps([{"Key": "cost", "Value": "1"}, {"Key": "team", "Value": "b"}])
    assert of_list(before, after) == ["      Targets[team].Value: a → b"]


def test_added_and_removed_strings_of_a_list_are_shown():
    assert of_list('["a", "b", "c"]', '["a", "c", "d"]') == [
        "      - Targets: b",
        "      + Targets: d",
    ]


def test_the_whole_properties_are_compared_where_aws_gives_them():
    """AWS compares lists by position: an element added at the front changes all after it."""
    contexts = {
        f"{side}Context": json.dumps({"Properties": {"Targets": json.loads(targets(*names))}})
        for side, names in (("Before", "A"), ("After", ("B", "A")))
    }
    by_position = [
        detail("A", "B", Name="Targets", Path="/Properties/Targets/0/Id"),
        detail(None, '{"Id": "A"}', Name="Targets", Path="/Properties/Targets/1"),
    ]
    lines = text(plan(change("Modify", *by_position, **contexts)))
    assert lines[2:-1] == ['      + Targets[B]: {"Id": "B", "Arn": "arn:B"}']


@pytest.mark.parametrize("action", ["Add", "Remove"])
def test_properties_are_shown_only_for_modified_resources(action):
    side = "AfterContext" if action == "Add" else "BeforeContext"
    lines = text(plan(change(action, **{side: '{"Properties": {"DelaySeconds": "5"}}'})))
    assert not any("DelaySeconds" in line for line in lines)


def test_a_value_that_is_not_known_yet():
    lines = text(plan(change("Modify", detail("0", "{{changeSet:KNOWN_AFTER_APPLY}}"))))
    assert lines[2] == "      DelaySeconds: 0 → (known after apply)"


def test_a_changed_deletion_policy_has_its_values():
    found = change(
        "Modify",
        {"Target": {"Attribute": "DeletionPolicy", "RequiresRecreation": "Never"}},
        BeforeContext='{"Properties": {}, "DeletionPolicy": "Delete"}',
        AfterContext='{"Properties": {}, "DeletionPolicy": "Retain"}',
    )
    assert text(plan(found))[2] == "      DeletionPolicy: Delete → Retain"


def test_tags_of_the_stack_that_change_are_named():
    tags = [{"Key": "team", "Value": "x"}, {"Key": "aws:own", "Value": "y"}]
    lines = text(plan(change(), stack={"StackStatus": "CREATE_COMPLETE", "Tags": tags}))
    assert lines[1] == "    - tag team: x"
    assert not any("aws:own" in line for line in lines)


def test_outputs_and_exports_that_change_are_named():
    stack = {"StackStatus": "CREATE_COMPLETE"}
    outputs = {"Arn": "added", "Name": "removed", "Version": "1 → 2", "Url": "export added"}
    lines = text(plan(stack=stack, outputs=outputs))
    assert lines[1:5] == [
        "  + output   Arn",
        "  - output   Name",
        "  ~ output   Version: 1 → 2",
        "  ~ output   Url: export added",
    ]


@pytest.mark.parametrize("run", ["`", "```", "````", "`````````"])
def test_a_value_cannot_leave_the_code_fence_of_a_comment(run):
    evil = f"x\n{run}\n# heading\n{run}"
    comment = stack_view.markdown("dev", [plan(change("Modify", detail("0", evil)))], [])
    fence = next(line for line in comment.splitlines() if line.endswith("text"))[:-4]
    assert set(fence) == {"`"}
    assert len(fence) > len(run)
    body = comment.split(f"{fence}text\n")[1]
    assert body.count(fence) == 1
    assert body.endswith(f"\n{fence}\n")
    assert comment.startswith("<!-- plan of dev -->\n")


def test_a_long_comment_says_that_it_was_cut():
    many = [change("Modify", detail("0", "→" * 150), LogicalResourceId=f"R{n}") for n in range(200)]
    comment = stack_view.markdown("dev", [plan(*many)], [])
    assert 59_000 < len(comment.encode()) < 61_000
    assert "The plan was cut" in comment.splitlines()[-1]
    short = stack_view.markdown("dev", [plan(*many[:10])], [])
    assert "was cut" not in short


def test_a_comment_of_a_failed_plan_has_the_reason():
    error = DeploymentError("denied", where="t-bus in us-east-1")
    comment = stack_view.markdown("dev", (), [error])
    assert "The plan failed." in comment
    assert "Error: denied" in comment


def test_a_deletion_lists_deleted_and_retained_resources_and_consumers():
    survey = Preview(
        STACK,
        {"StackStatus": "CREATE_COMPLETE"},
        deleted={"Bus": "AWS::Events::EventBus"},
        retained={"Bucket": "b-1"},
        snapshots=("Db",),
        full_buckets=("b-2",),
        importers={"t-bus-Arn": ["x"]},
        consumers={"BusName": ["t-rules in us-east-1"]},
    )
    assert [line.plain for line in stack_view.deletion(survey)] == [
        "t-bus in us-east-1: deletes 1 resource",
        "  retained: Bucket  b-1",
        "  deleted after a snapshot: Db",
        "  not empty: b-2",
        "  in use: export t-bus-Arn by x",
        "  in use: output BusName by t-rules in us-east-1",
    ]
