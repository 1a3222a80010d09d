"""The order that exports, imports and depends_on give, both ways.

Against a scripted CloudFormation.
"""

import pytest
from rendered import templates
from scripted_aws import FakeAws, RecordingListener, environment, stack

from eventstacks.cloudformation import delete, deploy, outputs
from eventstacks.cloudformation.run import Scope
from eventstacks.errors import ErrorCode


def before(found, refs, made):
    return outputs.predecessors(found, refs, outputs.uses(found, made))


BUS = {
    "Resources": {"Bus": {"Type": "AWS::Events::EventBus"}},
    "Outputs": {
        "Name": {"Value": "x", "Export": {"Name": {"Fn::Sub": "${AWS::StackName}-${AWS::Region}"}}}
    },
}
RULES = {
    "Parameters": {"Source": {"Type": "String", "Default": "t-bus"}},
    "Resources": {
        "Rule": {
            "Type": "AWS::Events::Rule",
            "Properties": {
                "EventBusName": {
                    "Fn::ImportValue": {
                        "Fn::Join": ["-", [{"Ref": "Source"}, {"Ref": "AWS::Region"}]]
                    }
                }
            },
        }
    },
}


def exchange(**more):
    """Rules that import what the bus exports, listed before it."""
    rules = stack("rules", **more)
    object.__setattr__(rules, "template", "rules")
    return environment(rules, stack("bus"))


def test_an_import_gives_the_order():
    found = exchange()
    rules, bus = found.choose()
    made = templates(queue=BUS, rules=RULES)
    assert before(found, found.choose(), made) == {rules: {bus}, bus: set()}
    other = exchange(parameters={"Source": "somebody-elses"})
    assert not any(before(other, other.choose(), made).values())


def test_a_broken_template_beside_them_is_no_obstacle():
    found = exchange()
    made = templates(queue=BUS)
    assert not any(before(found, found.choose("bus"), made).values())


@pytest.fixture
def importing(clock):
    """importing(): the environment of ``exchange``; its scripted CloudFormation knows exports."""
    found = exchange()
    aws = FakeAws(found, clock)
    cfn, listener = aws.client("cloudformation", "us-east-1"), RecordingListener()
    cfn.outputs["t-bus"] = {"Name": "shop"}
    cfn.exports["t-bus"] = {"Name": "t-bus-us-east-1"}

    def run(verb):
        scope = Scope(aws, found.choose(), listener, clock)
        if verb is delete.delete:
            return verb(scope, delete.preview(scope))
        return verb(scope, templates(queue=BUS, rules=RULES))

    run.cfn = cfn
    return run


def test_an_importer_is_created_after_the_exporter_and_deleted_before_it(importing):
    rules, bus = importing(deploy.plan)
    assert (rules.waits_for, bus.waits_for) == (("bus",), ())
    assert [one.outcome for one in importing(deploy.deploy)] == ["created", "created"]
    made = [
        given["StackName"] for name, given in importing.cfn.calls if name == "create_change_set"
    ]
    assert made[-2:] == ["t-bus", "t-rules"]
    importing.cfn.imports["t-bus-us-east-1"] = ["t-rules"]
    importing.cfn.calls.clear()
    assert [one.outcome for one in importing(delete.delete)] == ["deleted", "deleted"]
    deleted = [
        given["StackName"].split("/")[1]
        for name, given in importing.cfn.calls
        if name == "delete_stack"
    ]
    assert deleted == ["t-rules", "t-bus"]


def test_depends_on_gives_the_order(world):
    w = world(environment(stack("first", depends_on=("second",)), stack("second")))
    w.deploy()
    done = [
        given["ChangeSetName"].split("/")[1].split("-eventstacks-")[0]
        for given in w.cfn.arguments("execute_change_set")
    ]
    assert done == ["t-second", "t-first"]
    w.delete()
    deleted = [given["StackName"].split("/")[1] for given in w.cfn.arguments("delete_stack")]
    assert deleted == ["t-first", "t-second"]


def test_an_importer_outside_of_the_run_needs_the_exporter(importing, clock):
    found = exchange()
    scope = Scope(FakeAws(found, clock), found.choose("rules"), clock=clock)
    (plan,) = deploy.plan(scope, templates(queue=BUS, rules=RULES))
    assert plan.problem.code == ErrorCode.STACK_NOT_DEPLOYED
    assert plan.problem.where == "t-bus in us-east-1"
