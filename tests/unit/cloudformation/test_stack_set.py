"""StackSets on moto."""

import importlib.util
import sys
import types

import pytest

ACCOUNTS = ("111111111111", "222222222222")
REGIONS = ("us-east-1", "eu-west-1")
TEMPLATE = "Resources:\n  Bus:\n    Type: AWS::Events::EventBus\n    Properties:\n      Name: shop\n"


def stand_in(name, **names):
    """moto's CloudFormation imports API Gateway, and that a validator of OpenAPI which no test here needs."""
    module = types.ModuleType(name)
    module.__dict__.update(names, __path__=[])
    sys.modules.setdefault(name, module)


@pytest.fixture
def moto_aws(monkeypatch):
    if "openapi_spec_validator" not in sys.modules and importlib.util.find_spec("openapi_spec_validator") is None:
        stand_in("openapi_spec_validator", validate=None)
        stand_in("openapi_spec_validator.validation")
        stand_in("openapi_spec_validator.validation.exceptions", OpenAPIValidationError=Exception)
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield


@pytest.fixture
def sets(moto_aws, tmp_path, clock):
    from scripted_cloudformation import environment, stack

    from scripts.aws import Aws
    from scripts.cloudformation import deletion, deployment, status
    from scripts.cloudformation.options import Options
    from scripts.environment import StackSet

    (tmp_path / "queue.yaml").write_text(TEMPLATE)
    templates = {"queue": {"Resources": {"Bus": {"Type": "AWS::Events::EventBus"}}}}

    class World:
        def __init__(self, *stacks, **target):
            target = {
                "permissions": "SELF_MANAGED",
                "accounts": ACCOUNTS,
                "concurrency": 5,
                "failure_tolerance": 1,
                **target,
            }
            self.environment = environment(
                *(stacks or [stack(regions=REGIONS, tags={"team": "shop"})]), stack_set=StackSet(**target)
            )
            self.aws = Aws(self.environment)
            self.client = self.aws.client("cloudformation", "us-east-1")
            self.build, self.clock = tmp_path, clock
            self.given = (self.aws, templates, self.environment.choose())

        def plan(self):
            return deployment.plan(*self.given, options=Options(build=tmp_path), clock=clock)

        def deploy(self, **more):
            return deployment.deploy(*self.given, options=Options(build=tmp_path), clock=clock, **more)

        def delete(self):
            pairs = self.environment.choose()
            return deletion.delete(self.aws, deletion.survey(self.aws, pairs), pairs=pairs, clock=clock)

        def status(self):
            return [(one.place.region, one.status) for one in status.read(self.aws, self.environment.choose())]

        def instances(self):
            return sorted(
                (one["Account"], one["Region"])
                for one in self.client.list_stack_instances(StackSetName="t-bus")["Summaries"]
            )

    return World


def stack_with(regions=REGIONS, **more):
    from scripted_cloudformation import stack

    return stack(regions=regions, **more)


def test_created_in_every_account_and_region_then_nothing_to_do(sets):
    w = sets()
    assert [plan.settings for plan in w.plan()] == [("stack set t-bus", f"stacks in {', '.join(ACCOUNTS)}")] * 2
    assert w.client.list_stack_sets()["Summaries"] == []
    assert [one.outcome for one in w.deploy()] == ["created", "created"]
    assert w.instances() == sorted((account, region) for account in ACCOUNTS for region in REGIONS)
    assert [plan.changes for plan in w.plan()] == [False, False]
    assert [one.outcome for one in w.deploy()] == ["unchanged", "unchanged"]
    assert w.status() == [("us-east-1", "2 CURRENT"), ("eu-west-1", "2 CURRENT")]
    assert w.client.describe_stack_set(StackSetName="t-bus")["StackSet"]["Tags"] == [{"Key": "team", "Value": "shop"}]


def test_a_template_that_changed_is_an_update(sets):
    w = sets()
    w.deploy()
    (w.build / "queue.yaml").write_text(TEMPLATE.replace("shop", "stock"))
    assert [plan.settings for plan in w.plan()] == [("stack set t-bus: template",)] * 2
    assert [one.outcome for one in w.deploy()] == ["updated", "updated"]
    assert "stock" in w.client.describe_stack_set(StackSetName="t-bus")["StackSet"]["TemplateBody"]


def test_an_account_more_gets_its_stacks(sets):
    sets(accounts=ACCOUNTS[:1]).deploy()
    w = sets()
    assert [plan.settings for plan in w.plan()] == [(f"stacks in {ACCOUNTS[1]}",)] * 2
    w.deploy()
    assert len(w.instances()) == 4


def test_saying_no_changes_nothing(sets):
    from scripts.cloudformation.deployment import Listener

    class No(Listener):
        def confirm(self, plans):
            return False

    w = sets()
    assert w.deploy(listener=No()) == []
    assert w.client.list_stack_sets()["Summaries"] == []


def test_deleted_with_all_its_stacks(sets):
    w = sets()
    w.deploy()
    assert [one.outcome for one in w.delete()] == ["deleted", "deleted"]
    assert w.status() == [("us-east-1", "NOT_DEPLOYED"), ("eu-west-1", "NOT_DEPLOYED")]
    assert [one.outcome for one in w.delete()] == ["unchanged", "unchanged"]


def test_units_are_the_targets_of_service_managed_sets(sets):
    w = sets(permissions="SERVICE_MANAGED", organizational_units=("ou-abcd-12345678",), accounts=ACCOUNTS[:1])
    from scripts.cloudformation import stack_set

    (found,) = stack_set._sets(w.aws, w.environment.choose(), w.clock)
    assert found.targets(["ou-abcd-12345678"]) == {
        "DeploymentTargets": {
            "OrganizationalUnitIds": ["ou-abcd-12345678"],
            "Accounts": ["111111111111"],
            "AccountFilterType": "INTERSECTION",
        }
    }


def test_a_failed_account_is_named_with_its_reason(sets, monkeypatch):
    w = sets()
    # moto's operations always succeed: the answers of one that did not are put in their place.
    monkeypatch.setattr(
        w.client, "describe_stack_set_operation", lambda **_: {"StackSetOperation": {"Status": "FAILED"}}
    )

    found = [
        {"Account": ACCOUNTS[0], "Region": "us-east-1", "Status": "SUCCEEDED"},
        {"Account": ACCOUNTS[1], "Region": "eu-west-1", "Status": "FAILED", "StatusReason": "role is missing"},
    ]
    monkeypatch.setattr(w.client, "list_stack_set_operation_results", lambda **_: {"Summaries": found})
    here, there = w.deploy()
    assert (here.outcome, there.outcome) == ("created", "failed")
    assert f"account {ACCOUNTS[1]}: role is missing" in str(there.problem)


def test_what_failed_within_the_tolerance_has_failed(sets, monkeypatch):
    w = sets(failure_tolerance=1)
    found = [
        {"Account": ACCOUNTS[0], "Region": "us-east-1", "Status": "SUCCEEDED"},
        {"Account": ACCOUNTS[1], "Region": "eu-west-1", "Status": "FAILED", "StatusReason": "role is missing"},
        {"Account": ACCOUNTS[0], "Region": "eu-west-1", "Status": "CANCELLED", "StatusReason": "not tried"},
    ]
    monkeypatch.setattr(w.client, "list_stack_set_operation_results", lambda **_: {"Summaries": found})
    here, there = w.deploy()  # moto's operation has SUCCEEDED
    assert (here.ok, there.ok) == (True, False)
    assert f"account {ACCOUNTS[1]}: role is missing; account {ACCOUNTS[0]}: not tried" in str(there.problem)


def test_a_failure_in_a_region_that_the_file_does_not_name_is_not_lost(sets, monkeypatch):
    w = sets()
    found = [{"Account": ACCOUNTS[1], "Region": "eu-north-1", "Status": "FAILED", "StatusReason": "role is missing"}]
    monkeypatch.setattr(w.client, "list_stack_set_operation_results", lambda **_: {"Summaries": found})
    here, there = w.deploy()
    assert (here.ok, there.ok) == (False, True)
    assert f"account {ACCOUNTS[1]} in eu-north-1: role is missing" in str(here.problem)


def test_a_running_operation_is_waited_for(sets, monkeypatch):
    w = sets()
    w.deploy()
    (w.build / "queue.yaml").write_text(TEMPLATE.replace("shop", "stock"))
    states = iter(["RUNNING", "RUNNING", *["SUCCEEDED"] * 9])
    monkeypatch.setattr(
        w.client,
        "list_stack_set_operations",
        lambda **_: {"Summaries": [{"OperationId": "somebody-elses", "Status": "RUNNING"}]},
    )
    asked = []
    monkeypatch.setattr(
        w.client,
        "describe_stack_set_operation",
        lambda **given: asked.append(given["OperationId"]) or {"StackSetOperation": {"Status": next(states)}},
    )
    assert [one.outcome for one in w.deploy()] == ["updated", "updated"]
    assert asked[:3] == ["somebody-elses"] * 3
    assert asked[3] != "somebody-elses"


def test_a_secret_that_aws_hides_is_no_change(sets, monkeypatch):
    w = sets(stack_with(parameters={"Secret": "s3cret", "Size": "1"}))
    w.deploy()
    held = w.client.describe_stack_set(StackSetName="t-bus")
    given = [{"ParameterKey": "Secret", "ParameterValue": "****"}, {"ParameterKey": "Size", "ParameterValue": "1"}]
    held["StackSet"] |= {"Parameters": given}
    monkeypatch.setattr(w.client, "describe_stack_set", lambda **_: held)
    assert [plan.changes for plan in w.plan()] == [False, False]
    given[1]["ParameterValue"] = "2"
    assert [plan.settings for plan in w.plan()] == [("stack set t-bus: parameters",)] * 2


def test_a_value_per_region_need_not_name_the_administrators(sets):
    w = sets(stack_with(regions=REGIONS[1:], parameters={"Size": {"eu-west-1": "1"}}))
    assert [plan.problem for plan in w.plan()] == [None]


def test_what_stack_sets_cannot_do_is_said(sets):
    w = sets(stack_with(parameters={"Size": {"us-east-1": "1", "eu-west-1": "2"}}))
    assert all("differ between regions" in str(plan.problem) for plan in w.plan())
