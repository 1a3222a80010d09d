"""Values of NoEcho parameters appear in no plan and no error."""

import json

import pytest
from scripted_aws import environment, stack
from scripted_cloudformation import TEMPLATE, drifting, refusal, steps

HERE = "us-east-1"
SECRET = {
    "Parameters": {"Secret": {"Type": "String", "NoEcho": True}, "Size": {"Type": "String"}},
    "Resources": {
        "Store": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {
                "Value": {"Fn::Sub": "db://u:${Secret}@h"},
                "Description": {"Ref": "Size"},
            },
        },
        "Reader": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "Environment": {"Variables": {"URL": {"Fn::GetAtt": ["Store", "Value"]}}},
                "MemorySize": {"Ref": "Size"},
            },
        },
    },
}


def changed(resource, path, before, after, **more):
    return {
        "Action": "Modify",
        "LogicalResourceId": resource,
        "ResourceType": "AWS::SSM::Parameter",
        "Details": [
            {
                "Target": {
                    "Attribute": "Properties",
                    "Path": f"/Properties/{path}",
                    "BeforeValue": before,
                    "AfterValue": after,
                }
            }
        ],
        **more,
    }


def world_with_secret(world, *, deployed=True):
    w = world(environment(stack(parameters={"Size": "3", "Secret": "s3cret-now"})))
    w.template = SECRET
    if deployed:
        hidden = [{"ParameterKey": "Secret", "ParameterValue": "****"}]
        w.cfn.add_stack("t-bus", Parameters=hidden)
        w.cfn.get_template = lambda **given: (
            w.cfn.calls.append(("get_template", given)) or {"TemplateBody": SECRET}
        )
    return w


def test_secrets_are_not_in_a_plan(world):
    w = world_with_secret(world)
    w.cfn.changes = [
        changed("Store", "Value", "db://u:before@h", "db://u:s3cret-now@h"),
        changed(
            "Reader",
            "Environment/Variables/URL",
            "db://u:before@h",
            "db://u:s3cret-now@h",
            AfterContext='{"Properties":{"Value":"db://u:before@h"}}',
        ),
        changed("Reader", "MemorySize", "1", "3"),
        changed("Other", "Name", "x", "of s3cret-now"),
        changed("Store/InNested", "Name", "before", "x"),  # a nested stack that gets the secret
    ]
    (plan,) = w.plan()
    assert plan.change_set.parameters == {"Size": "3", "Secret": "****"}
    values = [
        (one["Details"][0]["Target"]["BeforeValue"], one["Details"][0]["Target"]["AfterValue"])
        for one in plan.change_set.changes
    ]
    assert values == [
        ("****", "****"),
        ("****", "****"),
        ("1", "3"),
        ("x", "of ****"),
        ("****", "****"),
    ]
    text = json.dumps(plan.document())
    assert "before" not in text
    assert "s3cret-now" not in text


@pytest.mark.parametrize(
    ("no_echo", "use"),
    [
        (True, {"Fn::GetAtt": ["Store", "Value"]}),
        ("true", {"Fn::GetAtt": "Store.Value"}),
        ("True", {"Fn::Sub": "x ${Store.Value}"}),
        (True, {"Fn::Sub": ["x ${it}", {"it": {"Ref": "Secret"}}]}),
    ],
)
def test_secrets_are_found_in_every_form_of_a_template(world, no_echo, use):
    w = world_with_secret(world)
    reader = {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": use}}
    w.template = {
        "Parameters": {"Secret": {"Type": "String", "NoEcho": no_echo}, "Size": {"Type": "String"}},
        "Resources": {"Store": SECRET["Resources"]["Store"], "Reader": reader},
    }
    w.cfn.get_template = lambda **_: {"TemplateBody": w.template}
    w.cfn.changes = [changed("Reader", "DisplayName", "is-before", "s3cret-now")]
    text = json.dumps(w.plan()[0].document())
    assert "is-before" not in text
    assert "s3cret-now" not in text
    assert all(given["IncludePropertyValues"] for given in w.cfn.arguments("describe_change_set"))


def test_secrets_in_metadata_are_not_in_a_plan(world):
    w = world_with_secret(world)
    setup = {"Type": "AWS::EC2::Instance", "Metadata": {"Password": {"Ref": "Secret"}}}
    w.template = {**SECRET, "Resources": {"Server": setup}}
    target = {"Attribute": "Metadata", "BeforeValue": "is-before", "AfterValue": "s3cret-now"}
    change = changed("Server", "X", "", "", BeforeContext='{"Metadata":{"Password":"is-before"}}')
    w.cfn.changes = [change, {**change, "Details": [{"Target": target}]}]
    text = json.dumps(w.plan()[0].document())
    assert "is-before" not in text
    assert "s3cret-now" not in text


@pytest.mark.parametrize("has_secret", [True, False])
def test_secrets_are_not_in_drift(world, has_secret):
    w = world_with_secret(world)
    if not has_secret:
        (found,) = w.cfn.stacks.values()
        found["more"]["Parameters"] = []
    differences = [
        {"PropertyPath": "/Value", "ExpectedValue": "db://u:s3cret@h", "ActualValue": "db://mine"},
        {"PropertyPath": "/Description", "ExpectedValue": "3", "ActualValue": "4"},
    ]
    drifting(w, "Store", differences)
    (found,) = w.drift()
    secret, size = (
        (one["ExpectedValue"], one["ActualValue"])
        for one in found.resources[0]["PropertyDifferences"]
    )
    assert secret == (("****", "****") if has_secret else ("db://u:s3cret@h", "db://mine"))
    assert size == ("3", "4")
    assert ("get_template" in w.cfn.names()) == has_secret


def test_secrets_of_the_deployed_template_are_not_in_a_plan(world):
    w = world_with_secret(world)
    w.template = TEMPLATE
    w.cfn.changes = [changed("Store", "Value", "db://u:before@h", "plain")]
    (plan,) = w.plan()
    assert "before" not in json.dumps(plan.document())


@pytest.mark.parametrize(
    ("secrets", "text", "masked"),
    [
        ({"abcd", "abcd-longer"}, "is abcd-longer", "is ****"),
        ({"7"}, "7 of 17", "**** of 17"),
        ({'a "quoted" one'}, r'{"x": "a \"quoted\" one"}', '{"x": "****"}'),
        ({""}, "nothing", "nothing"),
    ],
)
def test_secrets_are_masked_whole_and_nothing_else(world, secrets, text, masked):
    w = world()
    client = w.scope().stack(w.environment.ref("bus", HERE))
    client.secrets.update(secrets)
    assert client.mask(text) == masked


@pytest.mark.parametrize("at", ["create_change_set", "execute_change_set"])
def test_secrets_are_not_in_an_error_of_aws(world, at):
    w = world_with_secret(world)
    w.cfn.fail(at, refusal("ValidationError", "Value 's3cret-now' at 'x' is too long"), times=9)
    (result,) = w.deploy()
    assert result.problem.what == "AWS says: Value '****' at 'x' is too long"


@pytest.mark.parametrize("deployed", [True, False])
def test_secrets_are_not_in_the_reason_of_a_failure(world, deployed):
    w = world_with_secret(world, deployed=deployed)
    failed = steps(
        (0, "STACK", "CREATE_IN_PROGRESS"),
        (1, "Store", "CREATE_FAILED", "invalid value db://u:s3cret-now@h"),
        (2, "STACK", "ROLLBACK_COMPLETE"),
    )
    w.cfn.timelines |= {"CREATE": failed, "UPDATE": failed}
    (result,) = w.deploy()
    assert "invalid value db://u:****@h" in result.problem.what
    assert "s3cret-now" not in "".join(one.reason for one in w.listener.events)
    w = world_with_secret(world)
    w.cfn.reason = "Parameter Secret: s3cret-now is not allowed"
    (result,) = w.deploy()
    assert "Secret: **** is not allowed" in result.problem.what
    refused = {"EventType": "VALIDATION_ERROR", "ValidationStatusReason": "no s3cret-now here"}
    w.cfn.operation_events = [refused]
    (result,) = w.deploy()
    assert result.problem.what.endswith("no **** here")
