"""What a deployment does inside nested stacks: seen before it is done.

Against a scripted CloudFormation.
"""

import pytest
from scripted_aws import environment
from scripted_cloudformation import QUEUE, STACK, TEMPLATE

from eventstacks.errors import ToolError

NESTING = {"Resources": {**TEMPLATE["Resources"], "Orders": {"Type": STACK}}}
ORDERS = {
    "Action": "Modify",
    "LogicalResourceId": "Orders",
    "ResourceType": STACK,
    "Replacement": "False",
}
CHANGED = {**QUEUE, "Action": "Modify", "Replacement": "False"}
TABLE = {"Action": "Modify", "LogicalResourceId": "Table", "ResourceType": "AWS::DynamoDB::Table"}
OUTER, INNER = (
    f"arn:aws:cloudformation:us-east-1:123456789012:changeSet/{name}/1"
    for name in ("outer", "inner")
)


def answer(*changes):
    return {"Changes": [{"Type": "Resource", "ResourceChange": one} for one in changes]}


@pytest.fixture
def nesting(world):
    """A stack that exists, with a stack in a stack in it.

    What happens in the innermost is the table's change.
    """

    def make(found=None, **table):
        w = world(found)
        w.template = NESTING
        w.cfn.add_stack("t-bus")
        w.cfn.changes = [
            CHANGED,
            {**ORDERS, "ChangeSetId": OUTER},
            {**CHANGED, "LogicalResourceId": "Last"},
        ]
        w.cfn.nested = {
            OUTER: answer({**ORDERS, "LogicalResourceId": "Data", "ChangeSetId": INNER}),
            INNER: answer({**TABLE, **table}),
        }
        return w

    return make


def test_a_plan_shows_what_happens_in_nested_stacks(nesting):
    w = nesting(Replacement="True")
    (plan,) = w.plan()
    assert [(one["LogicalResourceId"], one["Replacement"]) for one in plan.change_set.changes] == [
        ("Queue", "False"),
        ("Orders", "False"),
        ("Orders/Data", "False"),
        ("Orders/Data/Table", "True"),
        ("Last", "False"),
    ]
    assert w.cfn.change_sets == {}


def test_a_protected_environment_refuses_losses_in_nested_stacks(nesting):
    w = nesting(environment(protect=True), Replacement="True")
    with pytest.raises(
        ToolError, match=r"Orders/Data/Table \(AWS::DynamoDB::Table\) would be replaced in"
    ):
        w.deploy()
    assert "execute_change_set" not in w.cfn.names()
    (result,) = w.deploy(allow_replace=frozenset({"Orders/Data/Table"}))
    assert result.outcome == "updated"


def test_a_protected_environment_lets_other_changes_of_nested_stacks_pass(nesting):
    (result,) = nesting(environment(protect=True), Replacement="False").deploy()
    assert result.outcome == "updated"


def test_a_protected_environment_refuses_what_it_was_told_not_to_look_at(nesting):
    w = nesting(environment(protect=True))
    w.cfn.changes = [ORDERS]
    with pytest.raises(
        ToolError, match=r"Orders \(AWS::CloudFormation::Stack\) might lose resources"
    ):
        w.deploy(nested=False)


def test_what_is_in_a_nested_stack_does_not_count_among_the_stacks_own(nesting):
    w = nesting()
    w.deploy()
    assert [*w.listener.totals.values()] == [3]


@pytest.mark.parametrize(
    ("template", "options", "wanted"),
    [
        (NESTING, {}, True),
        ({"Resources": {"App": {"Type": "AWS::Serverless::Application"}}}, {}, True),
        (NESTING, {"nested": False}, None),
        (TEMPLATE, {}, None),
    ],
)
def test_nested_stacks_are_looked_into_where_there_are_any(world, template, options, wanted):
    w = world()
    w.template = template
    w.plan(**options)
    (given,) = w.cfn.arguments("create_change_set")
    assert given.get("IncludeNestedStacks") is wanted


def test_a_failed_change_set_of_a_nested_stack_gives_the_reason(nesting):
    w = nesting()
    w.cfn.reason = f"Nested change set {OUTER} was not successfully created: Currently in FAILED."
    w.cfn.nested = {
        OUTER: {"StackName": "t-bus-Orders-1X", "StatusReason": w.cfn.reason.replace(OUTER, INNER)},
        INNER: {
            "StackName": "t-bus-Orders-1X-Data-2Y",
            "StatusReason": "Parameters: [Size] must have values",
        },
    }
    (plan,) = w.plan()
    assert plan.problem.what == (
        "AWS refuses the change: in the nested stack t-bus-Orders-1X-Data-2Y: "
        "Parameters: [Size] must have values"
    )
    assert "ARGS=--no-nested" in plan.problem.advice
    assert w.cfn.change_sets == {}


@pytest.mark.parametrize("said", [{}, {"StackName": "t-bus-Orders-1X", "StatusReason": ""}])
def test_a_nested_change_set_that_tells_nothing_leaves_its_parents_words(nesting, said):
    w = nesting()
    w.cfn.reason = f"Nested change set {OUTER} was not successfully created: Currently in FAILED."
    w.cfn.nested = {OUTER: said} if said else {}
    (plan,) = w.plan()
    assert "was not successfully created" in plan.problem.what
