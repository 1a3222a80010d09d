"""StackSets on moto."""

import dataclasses
import functools
import importlib.util
import re
import signal
import sys
import threading
import time
import types

import pytest
from click.testing import CliRunner
from rendered import rendered
from scripted_cloudformation import FakeAws, environment, refusal, stack

from eventstacks.__main__ import as_tool_error, cli
from eventstacks.aws import Aws
from eventstacks.cli import plan_view, stacks
from eventstacks.cloudformation import deployer, protection, stack_set
from eventstacks.cloudformation.change_set import Options
from eventstacks.cloudformation.run import Interrupted
from eventstacks.environment import StackSet
from eventstacks.errors import ErrorCode

ACCOUNTS = ("111111111111", "222222222222")
REGIONS = ("us-east-1", "eu-west-1")
TEMPLATE = (
    "Resources:\n  Bus:\n    Type: AWS::Events::EventBus\n    Properties:\n      Name: shop\n"
)


def stand_in(name, **names):
    """moto's CloudFormation imports API Gateway, and that a validator of OpenAPI which no test here needs."""
    module = types.ModuleType(name)
    module.__dict__.update(names, __path__=[])
    sys.modules.setdefault(name, module)


@pytest.fixture
def moto_aws(monkeypatch):
    if (
        "openapi_spec_validator" not in sys.modules
        and importlib.util.find_spec("openapi_spec_validator") is None
    ):
        stand_in("openapi_spec_validator", validate=None)
        stand_in("openapi_spec_validator.validation")
        stand_in("openapi_spec_validator.validation.exceptions", OpenAPIValidationError=Exception)
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield


class World:
    """An environment with a stack set, on moto, and what is in front of it."""

    def __init__(self, clock, monkeypatch, *stacks, **target):
        target = {
            "permissions": "SELF_MANAGED",
            "accounts": ACCOUNTS,
            "concurrency": 5,
            "failure_tolerance": 1,
            **target,
        }
        self.environment = environment(
            *(stacks or [stack(regions=REGIONS, tags={"team": "shop"})]),
            stack_set=StackSet(**target),
        )
        self.aws = Aws(self.environment)
        self.client = self.aws.client("cloudformation", "us-east-1")
        self.clock, self.patch = clock, monkeypatch
        document = {"Resources": {"Bus": {"Type": "AWS::Events::EventBus"}}}
        self.templates = {"queue": rendered(document, "queue", TEMPLATE)}
        self.given = (self.aws, self.templates, self.environment.choose())

    def only(self, region):
        """As with --region."""
        self.given = (self.aws, self.templates, self.environment.choose(None, region))
        return self

    def protect(self):
        self.environment = self.aws.environment = dataclasses.replace(
            self.environment, protect=True
        )
        self.given = (self.aws, self.templates, self.environment.choose())

    def change(self):
        self.write(TEMPLATE.replace("shop", "stock"))

    def write(self, text):
        self.templates["queue"] = dataclasses.replace(self.templates["queue"], text=text)

    def answer(self, method, answer):
        """AWS's answer in place of moto's."""
        self.patch.setattr(self.client, method, lambda **_: answer)

    def heard(self, *methods):
        """(method, arguments) of the calls from now on; moto answers them."""
        calls = []

        def listen(name, real):
            self.patch.setattr(
                self.client, name, lambda **given: calls.append((name, given)) or real(**given)
            )

        for name in methods:
            listen(name, getattr(self.client, name))
        return calls

    def deployer(self, listener=None):
        aws, _, refs = self.given
        return deployer.create(aws, refs, listener=listener, clock=self.clock)

    def plan(self, **how):
        return self.deployer().plan(self.templates, Options(**how))

    def deploy(self, how=None, listener=None):
        return self.deployer(listener).deploy(self.templates, Options(**how or {}))

    def delete(self, **more):
        chosen = deployer.create(self.aws, self.environment.choose(), clock=self.clock)
        return chosen.delete(chosen.preview_deletion(), **more)

    def status(self):
        chosen = deployer.create(self.aws, self.environment.choose(), clock=self.clock)
        return [(one.ref.region, one.status) for one in chosen.status()]

    def instances(self):
        return sorted(
            (one["Account"], one["Region"])
            for one in self.client.list_stack_instances(StackSetName="t-bus")["Summaries"]
        )


@pytest.fixture
def sets(moto_aws, clock, monkeypatch):
    return functools.partial(World, clock, monkeypatch)


def stack_with(regions=REGIONS, **more):
    return stack(regions=regions, **more)


def test_created_in_every_account_and_region_then_nothing_to_do(sets):
    w = sets()
    assert [plan.settings for plan in w.plan()] == [
        ("stack set t-bus", f"stacks in {', '.join(ACCOUNTS)}")
    ] * 2
    assert w.client.list_stack_sets()["Summaries"] == []
    assert [one.outcome for one in w.deploy()] == ["created", "created"]
    assert w.instances() == sorted((account, region) for account in ACCOUNTS for region in REGIONS)
    assert [plan.changes for plan in w.plan()] == [False, False]
    assert [one.outcome for one in w.deploy()] == ["unchanged", "unchanged"]
    assert w.status() == [("us-east-1", "2 CURRENT"), ("eu-west-1", "2 CURRENT")]
    assert w.client.describe_stack_set(StackSetName="t-bus")["StackSet"]["Tags"] == [
        {"Key": "team", "Value": "shop"}
    ]


def test_a_template_that_changed_is_an_update(sets):
    w = sets()
    w.deploy()
    w.change()
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
    from eventstacks.cloudformation.run import Listener

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


@pytest.mark.parametrize("told", [{"retain": ["Queue"]}, {"force": True}])
def test_stacks_in_many_accounts_are_deleted_whole(sets, told):
    w = sets()
    w.deploy()
    with pytest.raises(stack_set.RefusedError, match="--retain and --force"):
        w.delete(**told)
    assert len(w.instances()) == 4


def test_a_failed_account_is_named_with_its_reason(sets, monkeypatch):
    w = sets()
    # moto's operations always succeed: the answers of one that did not are put in their place.
    monkeypatch.setattr(
        w.client,
        "describe_stack_set_operation",
        lambda **_: {"StackSetOperation": {"Status": "FAILED"}},
    )

    found = [
        {"Account": ACCOUNTS[0], "Region": "us-east-1", "Status": "SUCCEEDED"},
        {
            "Account": ACCOUNTS[1],
            "Region": "eu-west-1",
            "Status": "FAILED",
            "StatusReason": "role is missing",
        },
    ]
    monkeypatch.setattr(
        w.client, "list_stack_set_operation_results", lambda **_: {"Summaries": found}
    )
    here, there = w.deploy()
    assert (here.outcome, there.outcome) == ("created", "failed")
    assert f"account {ACCOUNTS[1]} in eu-west-1: role is missing" in str(there.problem)


def test_what_failed_within_the_tolerance_has_failed(sets, monkeypatch):
    w = sets(failure_tolerance=1)
    found = [
        {"Account": ACCOUNTS[0], "Region": "us-east-1", "Status": "SUCCEEDED"},
        {
            "Account": ACCOUNTS[1],
            "Region": "eu-west-1",
            "Status": "FAILED",
            "StatusReason": "role is missing",
        },
        {
            "Account": ACCOUNTS[0],
            "Region": "eu-west-1",
            "Status": "CANCELLED",
            "StatusReason": "not tried",
        },
    ]
    monkeypatch.setattr(
        w.client, "list_stack_set_operation_results", lambda **_: {"Summaries": found}
    )
    here, there = w.deploy()  # moto's operation has SUCCEEDED
    assert (here.ok, there.ok) == (True, False)
    assert f"account {ACCOUNTS[1]} in eu-west-1: role is missing; account {ACCOUNTS[0]}" in str(
        there.problem
    )


def test_a_failure_in_a_region_that_the_file_does_not_name_is_not_lost(sets, monkeypatch):
    w = sets()
    found = [
        {
            "Account": ACCOUNTS[1],
            "Region": "eu-north-1",
            "Status": "FAILED",
            "StatusReason": "role is missing",
        }
    ]
    monkeypatch.setattr(
        w.client, "list_stack_set_operation_results", lambda **_: {"Summaries": found}
    )
    here, there = w.deploy()
    assert (here.ok, there.ok) == (False, True)
    assert f"account {ACCOUNTS[1]} in eu-north-1: role is missing" in str(here.problem)


def test_a_running_operation_is_waited_for(sets, monkeypatch):
    w = sets()
    w.deploy()
    w.change()
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
        lambda **given: (
            asked.append(given["OperationId"]) or {"StackSetOperation": {"Status": next(states)}}
        ),
    )
    assert [one.outcome for one in w.deploy()] == ["updated", "updated"]
    assert asked[:3] == ["somebody-elses"] * 3
    assert asked[3] != "somebody-elses"


CHANGES = (
    "create_stack_set",
    "update_stack_set",
    "delete_stack_set",
    "create_stack_instances",
    "delete_stack_instances",
)


def test_an_update_cannot_be_kept_to_one_region(sets):
    w = sets(stack_with(), stack_with(name="other"))
    one = sets(stack_with())  # the other one is new, and is not created first
    one.deploy()
    w.change()
    calls = w.heard(*CHANGES)
    plans = w.only("eu-west-1").plan()
    assert ["also updates us-east-1" in str(plan.problem) for plan in plans] == [
        True,
        False,
    ]
    with pytest.raises(stack_set.RefusedError, match=re.compile("make deploy ENV=test STACK=bus$")):
        w.deploy()
    assert calls == []


def test_what_to_do_about_stacks_that_are_behind_names_no_region(sets):
    w = sets()
    w.deploy()
    one = {"Account": ACCOUNTS[0], "Region": "eu-west-1", "Status": "OUTDATED"}
    w.answer("list_stack_instances", {"Summaries": [one]})
    found = [(one.status, one.advice) for one in w.deployer().status()]
    assert found == [("NOT_DEPLOYED", ""), ("1 OUTDATED", "make deploy ENV=test STACK=bus")]


@pytest.mark.parametrize("how", [{"disable_rollback": True}, {"nested": False}])
def test_options_that_stack_sets_do_not_have_are_refused(sets, how):
    w = sets()
    calls = w.heard(*CHANGES)
    with pytest.raises(stack_set.RefusedError, match="not supported"):
        w.plan(**how)
    with pytest.raises(stack_set.RefusedError, match="not supported"):
        w.deploy(how)
    assert calls == []


def test_a_protected_environment_updates_a_stack_set_only_by_its_name(sets):
    w = sets()
    w.protect()
    assert [one.outcome for one in w.deploy()] == [
        "created",
        "created",
    ]  # what is new loses nothing
    assert [one.outcome for one in w.deploy()] == ["unchanged", "unchanged"]
    w.change()
    assert [plan.settings for plan in w.plan()] == [("stack set t-bus: template",)] * 2
    calls = w.heard(*CHANGES)
    for how in ({}, {"allow_replace": frozenset({"Bus"})}):
        with pytest.raises(
            protection.ProtectedError, match=re.compile("ARGS='--allow-replace t-bus'$")
        ):
            w.deploy(how)
    assert calls == []
    assert [one.outcome for one in w.deploy({"allow_replace": frozenset({"t-bus"})})] == [
        "updated",
        "updated",
    ]


def test_stacks_are_created_in_one_region_when_nothing_else_changes(sets):
    w = sets()
    w.only("eu-west-1").deploy()
    assert w.instances() == [(account, "eu-west-1") for account in ACCOUNTS]
    assert [one.outcome for one in w.only("us-east-1").deploy()] == ["created"]
    assert len(w.instances()) == 4


ROLE = "arn:aws:iam::123456789012:role/"


def test_other_roles_are_an_update(sets):
    sets().deploy()
    roles = {"administration_role": f"{ROLE}path/Ours", "execution_role": "Theirs"}
    w = sets(**roles)
    assert [plan.settings for plan in w.plan()] == [
        ("stack set t-bus: administration role, execution role",)
    ] * 2
    assert [one.outcome for one in w.deploy()] == ["updated", "updated"]
    held = w.client.describe_stack_set(StackSetName="t-bus")["StackSet"]
    assert (held["AdministrationRoleARN"], held["ExecutionRoleName"]) == tuple(roles.values())
    assert [plan.changes for plan in w.plan()] == [False, False]


UNIT = "ou-abcd-12345678"


def by_unit(sets, there=ACCOUNTS, unit=UNIT, held=None, **target):
    """A service-managed stack set as AWS describes it, with current stacks in ``there``; moto knows little of them."""
    w = sets(
        permissions="SERVICE_MANAGED", **{"organizational_units": (UNIT,), "accounts": (), **target}
    )
    found = {
        "TemplateBody": TEMPLATE,
        "Parameters": [],
        "Tags": [{"Key": "team", "Value": "shop"}],
        "AutoDeployment": {"Enabled": False},
        "OrganizationalUnitIds": [UNIT],
        "AdministrationRoleARN": "arn:aws:iam::123456789012:role/aws-service-role/member.org.stacksets/AWSServiceRole",
        "ExecutionRoleName": "stacksets-exec-0123456789",
        **(held or {}),
    }
    w.answer("describe_stack_set", {"StackSet": found})
    current = [
        {"Account": account, "Region": region, "OrganizationalUnitId": unit, "Status": "CURRENT"}
        for account in there
        for region in REGIONS
    ]
    w.answer("list_stack_instances", {"Summaries": current})
    w.answer("list_stack_set_operations", {"Summaries": []})
    w.answer("list_stack_set_operation_results", {"Summaries": []})
    w.answer("describe_stack_set_operation", {"StackSetOperation": {"Status": "SUCCEEDED"}})
    w.calls = []
    for method in CHANGES:
        w.patch.setattr(
            w.client, method, lambda _name=method, **given: w.calls.append((_name, given)) or {}
        )
    return w


@pytest.mark.parametrize(
    ("given", "wanted", "changes"),
    [
        ({"Enabled": False}, False, False),
        (None, False, False),
        ({"Enabled": False}, True, True),
        ({"Enabled": True, "RetainStacksOnAccountRemoval": False}, True, False),
        ({"Enabled": True, "RetainStacksOnAccountRemoval": True}, True, True),
        ({"Enabled": True, "RetainStacksOnAccountRemoval": False}, False, True),
    ],
)
def test_auto_deployment_is_held_to_the_file(sets, given, wanted, changes):
    w = by_unit(sets, held={"AutoDeployment": given}, auto_deployment=wanted)
    assert [plan.settings for plan in w.plan()] == [
        ("stack set t-bus: auto deployment",) if changes else ()
    ] * 2
    w.deploy()
    sent = (
        {"Enabled": True, "RetainStacksOnAccountRemoval": False} if wanted else {"Enabled": False}
    )
    assert [(name, call["AutoDeployment"]) for name, call in w.calls] == [
        ("update_stack_set", sent)
    ] * changes


def test_capabilities_are_held_to_the_template(sets):
    w = by_unit(sets, held={"Capabilities": ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]})
    assert [plan.settings for plan in w.plan()] == [("stack set t-bus: capabilities",)] * 2
    w.templates["queue"].document["Resources"]["Role"] = {"Type": "AWS::IAM::Role"}
    assert [plan.changes for plan in w.plan()] == [False, False]


def created(w):
    """The regions and targets of the calls that make stacks."""
    return [
        (call["Regions"], call["DeploymentTargets"])
        for name, call in w.calls
        if name == "create_stack_instances"
    ]


def test_units_are_the_targets_of_service_managed_sets(sets):
    w = by_unit(sets, there=(), held={"OrganizationalUnitIds": []})
    assert [plan.settings for plan in w.plan()] == [(f"stacks in {UNIT}",)] * 2
    assert [one.outcome for one in w.deploy()] == ["created", "created"]
    assert created(w) == [(list(REGIONS), {"OrganizationalUnitIds": [UNIT]})]


def test_accounts_narrow_units_down(sets):
    w = by_unit(
        sets, there=(), accounts=ACCOUNTS[:1], organizational_units=(UNIT, "ou-abcd-87654321")
    )
    w.deploy()
    narrowed = {
        "OrganizationalUnitIds": [UNIT, "ou-abcd-87654321"],
        "Accounts": ["111111111111"],
        "AccountFilterType": "INTERSECTION",
    }
    assert created(w) == [(list(REGIONS), narrowed)]


def test_an_account_that_the_file_names_later_gets_its_stacks(sets):
    w = by_unit(sets, there=ACCOUNTS[:1], accounts=ACCOUNTS)
    assert [plan.settings for plan in w.plan()] == [(f"stacks in {ACCOUNTS[1]}",)] * 2
    found = w.deploy()
    assert [targets["Accounts"] for _, targets in created(w)] == [[ACCOUNTS[1]]]
    # AWS says nothing of an account that is in none of the units: nothing has come of it here.
    assert [one.outcome for one in found] == ["failed", "failed"]
    assert f"account {ACCOUNTS[1]} in us-east-1: no stack was created" in str(found[0].problem)


def test_a_unit_without_accounts_is_no_change(sets):
    w = by_unit(sets, there=())
    assert [plan.changes for plan in w.plan()] == [False, False]


def test_a_unit_gets_its_stacks_in_a_region_more(sets):
    w = by_unit(sets)
    here = w.client.list_stack_instances()["Summaries"]
    w.answer(
        "list_stack_instances", {"Summaries": [one for one in here if one["Region"] == "us-east-1"]}
    )
    assert [plan.settings for plan in w.plan()] == [(), (f"stacks in {UNIT}",)]


def test_roles_of_service_managed_sets_are_awss(sets):
    assert [plan.changes for plan in by_unit(sets, execution_role="Ours").plan()] == [False, False]


def test_what_the_file_does_not_name_any_more_stays_and_is_said(sets):
    sets().deploy()
    w = sets(accounts=ACCOUNTS[:1])
    plans = w.plan()
    assert [(plan.changes, plan.settings) for plan in plans] == [(False, ()), (False, ())]
    stays = ["2 stacks stay that the file no longer names"]
    assert [plan.document()["notes"] for plan in plans] == [stays, stays]
    assert f"  · {stays[0]}" in [line.plain for line in plan_view.show(plans)]
    found = w.deploy()
    assert [(one.outcome, list(one.warnings)) for one in found] == [("unchanged", stays)] * 2
    assert len(w.instances()) == 4
    w.change()
    assert [plan.changes for plan in w.plan()] == [True, True]


def test_a_region_and_a_unit_that_the_file_does_not_name_any_more_are_said(sets):
    sets().deploy()
    w = sets(stack_with(regions=REGIONS[1:], tags={"team": "shop"}))
    assert [plan.notes for plan in w.plan()] == [("2 stacks stay that the file no longer names",)]
    w = by_unit(
        sets, unit="ou-abcd-87654321", there=ACCOUNTS[:1], held={"OrganizationalUnitIds": [UNIT]}
    )
    assert all("stacks stay" in plan.notes[0] for plan in w.plan())


def test_deleting_takes_what_is_there_whatever_the_file_names(sets):
    w = by_unit(sets, unit="ou-abcd-87654321", accounts=ACCOUNTS[:1])
    w.delete()
    ((name, given),) = w.calls
    assert name == "delete_stack_instances"  # they are still there: the set is not deleted
    assert given["DeploymentTargets"] == {"OrganizationalUnitIds": ["ou-abcd-87654321"]}


def test_a_stack_set_with_stacks_elsewhere_stays(sets):
    sets().deploy()
    w = sets(stack_with(regions=REGIONS[1:]))
    (found,) = w.delete()
    assert (found.outcome, found.warnings) == (
        "deleted",
        ("the stack set stays: it has stacks in us-east-1",),
    )
    assert w.instances() == [(account, "us-east-1") for account in ACCOUNTS]


def test_a_protected_environment_keeps_its_stack_sets(sets):
    w = by_unit(sets)
    w.protect()
    found = w.delete()
    assert [one.outcome for one in found] == ["failed", "failed"]
    assert found[0].problem.code == ErrorCode.STACK_PROTECTED
    assert w.calls == []


def test_deleting_takes_the_stacks_with_it(sets):
    w = sets()
    w.deploy()
    calls = w.heard(*CHANGES)
    w.delete()
    assert [name for name, _ in calls] == ["delete_stack_instances", "delete_stack_set"]
    given = calls[0][1]
    assert (given["RetainStacks"], given["Accounts"], given["Regions"]) == (
        False,
        [*ACCOUNTS],
        sorted(REGIONS),
    )


@pytest.mark.parametrize(
    ("concurrency", "tolerance", "mode"),
    [(5, 1, "SOFT"), (3, 1, "SOFT"), (2, 1, "STRICT"), (1, 0, "STRICT")],
)
def test_the_concurrency_asked_for_is_what_aws_is_told(sets, concurrency, tolerance, mode):
    w = sets(concurrency=concurrency, failure_tolerance=tolerance)
    calls = w.heard("create_stack_instances")
    w.deploy()
    assert calls[0][1]["OperationPreferences"] == {
        "RegionConcurrencyType": "PARALLEL",
        "MaxConcurrentCount": concurrency,
        "FailureToleranceCount": tolerance,
        "ConcurrencyMode": f"{mode}_FAILURE_TOLERANCE",
    }


@pytest.mark.parametrize(
    ("code", "outcome"), [("OperationIdAlreadyExists", "updated"), ("StaleRequest", "failed")]
)
def test_an_operation_whose_answer_was_lost_is_followed(sets, code, outcome):
    w = by_unit(sets, held={"TemplateBody": "other"})
    asked = []

    def lost(**given):
        w.calls.append(("update_stack_set", given))
        raise refusal(f"{code}Exception")

    w.patch.setattr(w.client, "update_stack_set", lost)
    ended = {"StackSetOperation": {"Status": "SUCCEEDED"}}
    w.patch.setattr(
        w.client,
        "describe_stack_set_operation",
        lambda **given: asked.append(given["OperationId"]) or ended,
    )
    assert [one.outcome for one in w.deploy()] == [outcome] * 2
    assert asked == ([w.calls[0][1]["OperationId"]] if outcome == "updated" else [])


def test_what_is_sent_of_the_file(sets):
    roles = {"administration_role": f"{ROLE}Ours", "execution_role": "Theirs"}
    w = sets(**roles)
    calls = w.heard("create_stack_set")
    w.deploy()
    given = calls[0][1]
    assert (given["AdministrationRoleARN"], given["ExecutionRoleName"]) == tuple(roles.values())
    assert (given["Tags"], given["PermissionModel"]) == (
        [{"Key": "team", "Value": "shop"}],
        "SELF_MANAGED",
    )
    w = sets(stack_with(tags={"team": "stock"}), **roles)
    assert [plan.settings for plan in w.plan()] == [("stack set t-bus: tags",)] * 2


def test_stacks_that_are_behind_are_updated_again(sets):
    w = by_unit(sets)
    here = w.client.list_stack_instances()["Summaries"]
    w.answer("list_stack_instances", {"Summaries": [here[0] | {"Status": "OUTDATED"}, *here[1:]]})
    assert [plan.settings for plan in w.plan()] == [("stack set t-bus: 1 stacks not current",)] * 2
    w.deploy()
    assert [name for name, _ in w.calls] == ["update_stack_set"]


def test_drift_that_could_not_be_looked_for_is_a_problem(clock):
    aws = FakeAws(environment(), clock)
    cfn = aws.client("cloudformation", "us-east-1")
    cfn.add_stack("t-bus")
    answers = {
        "detect_stack_drift": {"StackDriftDetectionId": "1"},
        "describe_stack_drift_detection_status": {
            "DetectionStatus": "DETECTION_FAILED",
            "DetectionStatusReason": "no right to read Queue",
            "StackDriftStatus": "IN_SYNC",
        },
        "describe_stack_resource_drifts": {"StackResourceDrifts": []},
    }
    for name, answer in answers.items():
        setattr(cfn, name, lambda _answer=answer, **_: _answer)
    (found,) = deployer.create(aws, aws.environment.choose(), clock=clock).drift()
    assert "drift could not be detected: no right to read Queue" in str(found.problem)


def moving(w, action="UPDATE", ends="SUCCEEDED"):
    """An operation is in progress on the stack set, and ends after two looks. Gives the ids of those that were stopped."""
    states, stopped = iter(["RUNNING", "RUNNING", *[ends] * 99]), []
    running = {"OperationId": "theirs", "Action": action, "Status": "RUNNING"}
    w.answer(
        "list_stack_set_operations",
        {"Summaries": [{"OperationId": "old", "Status": "FAILED"}, running]},
    )
    w.patch.setattr(
        w.client,
        "describe_stack_set_operation",
        lambda **_: {"StackSetOperation": {"Status": next(states)}},
    )
    w.patch.setattr(w.client, "stop_stack_set_operation", lambda **given: stopped.append(given))
    found = {
        "Account": ACCOUNTS[1],
        "Region": "eu-west-1",
        "Status": "CANCELLED",
        "StatusReason": "not begun",
    }
    w.answer(
        "list_stack_set_operation_results", {"Summaries": [found] if ends != "SUCCEEDED" else []}
    )
    return stopped


def run(w, *arguments):
    """The verb's exit code as __main__ makes it, stdout and stderr with the error's words."""
    w.patch.setattr(stacks, "connect", lambda *_, **__: w.given)
    done = CliRunner().invoke(cli, [*arguments, "--env", "test"], standalone_mode=False)
    if done.exception:
        return 1, done.stdout, done.stderr + str(as_tool_error(done.exception) or done.exception)
    return done.return_value or 0, done.stdout, done.stderr


def outcomes(out):
    """Of the summary in a pipe."""
    return re.findall(r"^t-bus\t\S+\t(\S+)", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("action", "ends", "found"),
    [
        ("UPDATE", "SUCCEEDED", ["updated", "updated"]),
        ("DELETE", "SUCCEEDED", ["deleted", "deleted"]),
        ("DETECT_DRIFT", "SUCCEEDED", ["unchanged", "unchanged"]),
        ("CREATE", "FAILED", ["created", "failed"]),
    ],
)
def test_what_is_under_way_on_a_stack_set_is_followed(sets, action, ends, found):
    w = sets()
    w.deploy()
    stopped = moving(w, action, ends)
    code, out, err = run(w, "follow")
    assert code == (ends != "SUCCEEDED")
    assert outcomes(out) == found
    assert (f"account {ACCOUNTS[1]} in eu-west-1: not begun" in err) is (ends != "SUCCEEDED")
    assert stopped == []


def test_what_failed_in_one_of_several_operations_has_failed(sets):
    w = sets()
    w.deploy()
    running = [
        {"OperationId": one, "Action": "CREATE", "Status": "RUNNING"}
        for one in ("first", "second", "third")
    ]
    w.answer("list_stack_set_operations", {"Summaries": running})
    w.answer("describe_stack_set_operation", {"StackSetOperation": {"Status": "SUCCEEDED"}})
    failed = {
        "first": {
            "Account": ACCOUNTS[0],
            "Region": "us-east-1",
            "Status": "FAILED",
            "StatusReason": "no role",
        },
        "second": {
            "Account": ACCOUNTS[1],
            "Region": "us-east-1",
            "Status": "FAILED",
            "StatusReason": "no quota",
        },
    }
    w.patch.setattr(
        w.client,
        "list_stack_set_operation_results",
        lambda **given: {
            "Summaries": [failed[one] for one in failed if one == given["OperationId"]]
        },
    )
    code, out, err = run(w, "follow")
    assert (code, outcomes(out)) == (1, ["failed", "created"])
    assert f"account {ACCOUNTS[0]} in us-east-1: no role; account {ACCOUNTS[1]}" in err


def test_nothing_is_under_way_on_a_stack_set(sets):
    w = sets()
    assert run(w, "follow") == (0, "", "No operation is in progress.\n")  # not even a stack set
    w.deploy()
    assert run(w, "follow") == (0, "", "No operation is in progress.\n")
    assert run(w, "recover", "--cancel") == (0, "No operation is in progress.\n", "")


def test_what_is_under_way_on_a_stack_set_can_be_stopped(sets):
    w = sets()
    w.deploy()
    stopped = moving(w, ends="STOPPED")
    code, out, err = run(w, "recover", "--cancel", "--yes")
    assert (code, stopped) == (0, [{"StackSetName": "t-bus", "OperationId": "theirs"}])
    assert out.startswith("t-bus in us-east-1 has an operation UPDATE in RUNNING")
    assert outcomes(out) == ["recovered", "recovered"]
    assert f"account {ACCOUNTS[1]} in eu-west-1: not begun" in err


def test_a_stop_is_asked_for(sets):
    w = sets()
    w.deploy()
    stopped = moving(w)
    code, _, err = run(w, "recover", "--cancel")
    assert (code, stopped) == (1, [])
    assert "--yes" in err


def test_what_ctrl_c_advises_works_for_a_stack_set(sets):
    w = sets()
    w.deploy()
    moving(w)
    pressed = threading.Event()

    def look(**_):
        if not pressed.is_set():
            pressed.set()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.01)
        return {"StackSetOperation": {"Status": "RUNNING"}}

    w.patch.setattr(w.client, "describe_stack_set_operation", look)
    with pytest.raises(Interrupted) as caught:
        w.deployer().follow()
    assert [str(one) for one in caught.value.refs] == ["t-bus in eu-west-1", "t-bus in us-east-1"]
    w.only("eu-west-1")  # the verbs that it names say the region
    w.clock._stopped = False
    stopped = moving(w, ends="STOPPED")
    assert run(w, "recover", "--cancel", "--yes")[0] == 0
    assert len(stopped) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("drift",),
            "aws cloudformation detect-stack-set-drift --region us-east-1 --stack-set-name t-bus\n",
        ),
        (
            ("drift", "--json"),
            "aws cloudformation list-stack-instances --region us-east-1 --stack-set-name t-bus",
        ),
        (("recover",), "make deploy ENV=test"),
        (("recover", "--force"), "make status ENV=test"),
    ],
)
def test_verbs_for_single_stacks_are_refused_with_what_to_do_instead(sets, arguments, words):
    w = sets()
    w.deploy()
    code, out, err = run(w, *arguments)
    assert (code, out) == (1, "")
    assert "stack_set" in err
    assert words in err


def test_a_secret_that_aws_hides_is_no_change(sets, monkeypatch):
    w = sets(stack_with(parameters={"Secret": "s3cret", "Size": "1"}))
    w.deploy()
    held = w.client.describe_stack_set(StackSetName="t-bus")
    given = [
        {"ParameterKey": "Secret", "ParameterValue": "****"},
        {"ParameterKey": "Size", "ParameterValue": "1"},
    ]
    held["StackSet"] |= {"Parameters": given}
    monkeypatch.setattr(w.client, "describe_stack_set", lambda **_: held)
    assert [plan.changes for plan in w.plan()] == [False, False]
    given[1]["ParameterValue"] = "2"
    assert [plan.settings for plan in w.plan()] == [("stack set t-bus: parameters",)] * 2


@pytest.mark.parametrize("told", [True, False])
def test_defaults_that_aws_gives_back_are_no_change(sets, told):
    given = [
        {"ParameterKey": "Days", "ParameterValue": "7"},
        {"ParameterKey": "On", "ParameterValue": "true"},
    ]
    w = by_unit(sets, held={"Parameters": given if told else []})
    w.templates["queue"].document["Parameters"] = {"Days": {"Default": 7}, "On": {"Default": True}}
    assert [plan.changes for plan in w.plan()] == [False, False]
    w.templates["queue"].document["Parameters"]["Days"]["Default"] = 8
    assert [plan.changes for plan in w.plan()] == [told, told]
    given[0]["ParameterValue"] = "9"
    assert [plan.changes for plan in w.plan()] == [told, told]


@pytest.mark.parametrize("mangled", [True, False])
def test_characters_that_aws_does_not_give_back_are_no_change(sets, mangled):
    text = TEMPLATE + "# Grüße é 請\n"
    w = by_unit(sets, held={"TemplateBody": text if not mangled else TEMPLATE + "# Gr??e ? ?\n"})
    w.write(text)
    assert [plan.changes for plan in w.plan()] == [False, False]
    w.write(text.replace("請", "x"))
    assert [plan.settings for plan in w.plan()] == [("stack set t-bus: template",)] * 2


def test_a_value_per_region_need_not_name_the_administrators(sets):
    w = sets(stack_with(regions=REGIONS[1:], parameters={"Size": {"eu-west-1": "1"}}))
    assert [plan.problem for plan in w.plan()] == [None]


def test_what_stack_sets_cannot_do_is_said(sets):
    w = sets(stack_with(parameters={"Size": {"us-east-1": "1", "eu-west-1": "2"}}))
    assert all(plan.problem.code == ErrorCode.UNSUPPORTED for plan in w.plan())
