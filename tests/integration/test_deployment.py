"""The life of stacks on the embedded AWS, by way of the command line where that is what people use."""

import json
import os
import signal
import subprocess
import sys
import time

import in_process
import pytest

from eventstacks import environment as environments
from eventstacks import rendering
from eventstacks.aws import Aws
from eventstacks.cloudformation import delete, deployer, outputs
from eventstacks.cloudformation.change_set import Options
from eventstacks.local import server

QUEUES = """
Parameters:
  Delay:
    Type: Number
    Default: 0
Resources:
  Queue:
    Type: AWS::SQS::Queue
    Properties:
      DelaySeconds: !Ref Delay
Outputs:
  Arn:
    Value: !GetAtt Queue.Arn
"""
TAKER = """
Parameters:
  Target:
    Type: String
Resources:
  Parameter:
    Type: AWS::SSM::Parameter
    Properties:
      Type: String
      Value: !Ref Target
Outputs:
  Name:
    Value: !Ref Parameter
"""
BROKEN = """
Resources:
  Rule:
    Type: AWS::Events::Rule
    Properties:
      EventBusName: no-such-bus
      EventPattern:
        source: [shop]
"""
REGIONS = ["us-east-1", "eu-west-1"]


@pytest.fixture
def project(tmp_path, endpoint, unique, monkeypatch):  # noqa: C901 - a class of small helpers
    """A project of its own: project.write(stacks, templates) → environment; run(verb, …) → the finished process."""

    class Project:
        prefix = f"{unique}-"

        def write(self, stacks, regions=REGIONS, **more):
            (tmp_path / "parameters").mkdir(exist_ok=True)
            text = json.dumps(
                {
                    "account": "000000000000",
                    "endpoint": "embedded",
                    "regions": regions,
                    "prefix": self.prefix,
                    "stacks": stacks,
                    **more,
                }
            )
            (tmp_path / "parameters" / "test.yaml").write_text(
                text.replace('"!Output ', "!Output ").replace('!"', "")
            )
            return self.load()

        def template(self, name, text):
            (tmp_path / "templates").mkdir(exist_ok=True)
            (tmp_path / "templates" / f"{name}.yaml.j2").write_text(text)

        def load(self):
            self.environment = environments.load("test")
            self.aws = Aws(self.environment, server.start)
            self.templates = rendering.render_all()
            return self.environment

        def deploy(self, listener=None, **options):
            chosen = deployer.create(self.aws, self.environment.choose(), listener=listener)
            return chosen.deploy(self.templates, Options(**options))

        def plan(self, **options):
            chosen = deployer.create(self.aws, self.environment.choose())
            return chosen.plan(self.templates, Options(**options))

        def delete(self):
            chosen = deployer.create(self.aws, self.environment.choose())
            return chosen.delete(chosen.preview_deletion(), empty_buckets=True)

        def start(self, *arguments, **more):
            from pathlib import Path

            root = Path(rendering.__file__).parents[1]
            return subprocess.Popen(
                [sys.executable, "-m", "eventstacks", *arguments, "--env", "test"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(root)},
                **more,
            )

        def run(self, *arguments):
            done = in_process.run(*arguments, "--env", "test")
            done.out, done.err = done.stdout, done.stderr
            return done

        def client(self, region="us-east-1"):
            return self.aws.client("cloudformation", region)

        def change_sets(self, stack_name, region="us-east-1"):
            return self.client(region).list_change_sets(StackName=stack_name)["Summaries"]

    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nversion = '1'\n")
    found = Project()
    found.template("queues", QUEUES)
    found.template("taker", TAKER)
    found.template("broken", BROKEN)
    yield found
    found.delete()


def test_create_no_change_update_delete(project):
    project.write({"queues": {}})
    assert project.run("plan").returncode == 3
    created = project.run("deploy", "--yes", "--json")
    assert created.returncode == 0, created.err
    found = json.loads(created.out)
    assert [(one["region"], one["outcome"]) for one in found] == [
        ("us-east-1", "created"),
        ("eu-west-1", "created"),
    ]
    for one in found:
        assert one["outputs"] == outputs.read(
            project.aws, project.environment.ref(one["stack"], one["region"])
        )
        assert f":{one['region']}:" in one["outputs"]["Arn"]
    assert project.run("plan").returncode == 0
    again = project.run("deploy", "--json")  # nothing to ask
    assert again.returncode == 0, again.err
    assert {one["outcome"] for one in json.loads(again.out)} == {"unchanged"}
    assert again.err.splitlines()[-1] == "No changes."
    project.write({"queues": {"parameters": {"Delay": {"us-east-1": 5, "eu-west-1": 0}}}})
    plan = project.run("plan")
    assert plan.returncode == 3
    assert "DelaySeconds: 0 → 5" in plan.out
    assert [one.outcome for one in project.deploy()] == ["updated", "unchanged"]
    assert project.run("delete", "--yes").returncode == 0
    assert project.run("status").out.count("NOT_DEPLOYED") == 2


def test_a_plan_leaves_nothing_behind(project):
    project.write({"queues": {}})
    project.plan()
    assert [
        one
        for one in project.client().describe_stacks()["Stacks"]
        if one["StackName"].startswith(project.prefix)
    ] == []
    project.deploy()
    project.write({"queues": {"parameters": {"Delay": 3}}})
    assert project.run("plan").returncode == 3
    assert [
        one
        for one in project.change_sets(f"{project.prefix}queues")
        if one["ExecutionStatus"] == "AVAILABLE"
    ] == []


def test_without_an_answer_nothing_is_changed(project):
    project.write({"queues": {}})
    refused = project.run("deploy")
    assert refused.returncode == 2
    assert "YES=1" in refused.err
    assert [
        one
        for one in project.client().describe_stacks()["Stacks"]
        if one["StackName"].startswith(project.prefix)
    ] == []


def test_outputs_of_another_stack_and_of_another_region(project):
    project.write(
        {
            "taker": {
                "parameters": {
                    "Target": {
                        "us-east-1": "!Output queues.Arn!",
                        "eu-west-1": "!Output queues.Arn@us-east-1!",
                    }
                }
            },
            "queues": {},
        }
    )
    results = {(one.ref.stack, one.ref.region): one for one in project.deploy()}
    assert {one.outcome for one in results.values()} == {"created"}
    for region in REGIONS:
        value = project.aws.client("ssm", region).get_parameter(
            Name=results["taker", region].outputs["Name"]
        )["Parameter"]["Value"]
        assert value == results["queues", "us-east-1"].outputs["Arn"]


EXPORTER = QUEUES + "    Export:\n      Name: !Sub '${AWS::StackName}-arn'\n"
IMPORTER = """
Parameters:
  Source:
    Type: String
Resources:
  Parameter:
    Type: AWS::SSM::Parameter
    Properties:
      Type: String
      Value:
        Fn::ImportValue: !Sub '${Source}-arn'
"""


def test_an_importer_follows_the_exporter_both_ways(project):
    project.template("exporter", EXPORTER)
    project.template("importer", IMPORTER)
    parameters = {"Source": f"{project.prefix}exporter"}
    project.write({"importer": {"parameters": parameters}, "exporter": {}}, regions=["us-east-1"])
    assert [one.outcome for one in project.deploy()] == ["created", "created"]
    alone = project.run("delete", "--yes", "--stack", "exporter", "--json")
    assert (alone.returncode, json.loads(alone.out)[0]["error"]["code"]) == (1, "stack_in_use")
    assert [one.outcome for one in project.delete()] == ["deleted", "deleted"]


def test_a_failed_creation_says_why_and_recover_clears_it(project):
    project.write({"broken": {}, "queues": {}}, regions=["us-east-1"])
    failed = project.run("deploy", "--yes")
    assert failed.returncode == 1
    assert "Rule (AWS::Events::Rule) could not be created" in failed.err
    assert "make recover" in failed.err
    assert "\tcreated\t" in failed.out  # the other one
    project.load()
    again = project.run("deploy", "--yes")
    assert again.returncode == 1
    assert "ROLLBACK_COMPLETE" in again.err
    assert project.run("recover", "--yes", "--stack", "broken").returncode == 0
    assert "NOT_DEPLOYED" in project.run("status", "--stack", "broken").out


def test_disable_rollback_leaves_what_was_made(project):
    project.write({"broken": {}}, regions=["us-east-1"])
    (result,) = project.deploy(disable_rollback=True)
    assert result.status == "CREATE_FAILED"
    chosen = deployer.create(project.aws, project.environment.choose())
    (step,) = chosen.propose_recovery()
    assert step.method == "delete_stack"
    assert [one.outcome for one in chosen.recover([step])] == ["deleted"]


def test_drift_is_shown_property_by_property(project):
    project.write({"queues": {}}, regions=["us-east-1"])
    (result,) = project.deploy()
    sqs = project.aws.client("sqs", "us-east-1")
    url = sqs.get_queue_url(QueueName=result.outputs["Arn"].rsplit(":", 1)[1])["QueueUrl"]
    assert project.run("drift").returncode == 0
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "9"})
    (found,) = deployer.create(project.aws, project.environment.choose()).drift()
    assert found.status == "DRIFTED"
    (difference,) = found.resources[0]["PropertyDifferences"]
    assert (difference["PropertyPath"], difference["ActualValue"]) == ("/DelaySeconds", "9")
    assert project.run("drift").returncode == 3


def test_a_bucket_with_objects_is_not_lost_unasked(project):
    project.template(
        "bucket",
        "Resources:\n  Bucket:\n    Type: AWS::S3::Bucket\nOutputs:\n  Name:\n    Value: !Ref Bucket\n",
    )
    project.write({"bucket": {}}, regions=["us-east-1"])
    (result,) = project.deploy()
    project.aws.client("s3", "us-east-1").put_object(
        Bucket=result.outputs["Name"], Key="a", Body=b"x"
    )
    refused = project.run("delete", "--yes")
    assert refused.returncode == 1
    assert "--empty-buckets" in refused.err
    assert project.run("delete", "--yes", "--empty-buckets").returncode == 0


def test_protection(project):
    project.write({"queues": {}}, regions=["us-east-1"], protect=True)
    project.deploy()
    name = f"{project.prefix}queues"
    assert project.client().describe_stacks(StackName=name)["Stacks"][0][
        "EnableTerminationProtection"
    ]
    assert project.run("delete", "--yes").returncode == 1
    project.client().update_termination_protection(
        StackName=name, EnableTerminationProtection=False
    )
    project.write({"queues": {}}, regions=["us-east-1"])


def test_another_account_is_refused(project):
    project.write({"queues": {}}, account="111111111111")
    refused = project.run("deploy", "--yes")
    assert refused.returncode == 1
    assert "111111111111" in refused.err
    project.write({"queues": {}})


def test_a_body_that_is_too_long_goes_by_way_of_s3(project):
    project.template("long", QUEUES + "".join(f"  # {number:060}\n" for number in range(1000)))
    project.write({"long": {}}, regions=["us-east-1"])
    (result,) = project.deploy()
    assert "bucket: <name>" in str(result.problem)
    bucket = f"{project.prefix}templates"
    project.aws.client("s3", "us-east-1").create_bucket(Bucket=bucket)
    project.write({"long": {}}, regions=["us-east-1"], bucket=bucket)
    (result,) = project.deploy()
    assert result.outcome == "created", result.problem
    held = project.client().get_template(StackName=f"{project.prefix}long")["TemplateBody"]
    assert "0999" in str(held)


SLOW = """
Resources:
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
  Wait:
    Type: AWS::CloudFormation::WaitCondition
    Properties:
      Handle: !Ref Handle
      Timeout: '6'
      Count: 1
"""


def until(check, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "never came"
        time.sleep(0.05)
    return found


def states(project):
    return {
        one["StackName"]: one["StackStatus"]
        for one in project.client().describe_stacks()["Stacks"]
        if one["StackName"].startswith(project.prefix)
    }


def test_ctrl_c_says_what_goes_on_and_anyone_can_follow(project):
    project.template("slow", SLOW)
    project.write({"slow": {}}, regions=["us-east-1"])
    process = project.start("deploy", "--yes")
    until(lambda: states(project).get(f"{project.prefix}slow") == "CREATE_IN_PROGRESS")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "make follow ENV=test STACK=slow REGION=us-east-1" in err
    assert "Traceback" not in err
    followed = project.run("follow")
    assert followed.returncode == 1  # no signal comes: the creation fails
    assert "Wait (AWS::CloudFormation::WaitCondition) could not be created" in followed.err


def test_killed_in_the_middle_and_run_again(project):
    project.template("slow", SLOW)
    project.write({"slow": {}}, regions=["us-east-1"])
    process = project.start("deploy", "--yes")
    until(lambda: states(project).get(f"{project.prefix}slow") == "CREATE_IN_PROGRESS")
    process.kill()
    process.communicate()
    project.template("slow", SLOW.split("  Wait:", maxsplit=1)[0])
    busy = project.run("deploy", "--yes")
    assert busy.returncode == 1
    assert "make follow" in busy.err
    again = project.run("follow")  # until the first one's end, which is a failure
    assert again.returncode == 1
    assert "ROLLBACK_COMPLETE" in again.err
    assert project.run("recover", "--yes").returncode == 0
    assert project.run("deploy", "--yes").returncode == 0


def test_delete_failed_and_the_way_out(project):
    project.template(
        "bucket",
        "Resources:\n  Bucket:\n    Type: AWS::S3::Bucket\nOutputs:\n  Name:\n    Value: !Ref Bucket\n",
    )
    project.write({"bucket": {}}, regions=["us-east-1"])
    (result,) = project.deploy()
    s3 = project.aws.client("s3", "us-east-1")
    s3.put_object(Bucket=result.outputs["Name"], Key="a", Body=b"x")
    name = f"{project.prefix}bucket"
    project.client().delete_stack(StackName=name)  # somebody's, by the console
    until(lambda: states(project).get(name) == "DELETE_FAILED")
    refused = project.run("deploy", "--yes")
    assert refused.returncode == 1
    assert "DELETE_FAILED" in refused.err
    again = project.run("recover", "--yes")
    assert again.returncode == 1
    assert "--retain Bucket" in again.err
    assert project.run("recover", "--yes", "--retain", "Bucket").returncode == 0
    assert states(project) == {}
    assert s3.list_objects_v2(Bucket=result.outputs["Name"])["KeyCount"] == 1  # it was kept
    delete.empty_bucket(s3, result.outputs["Name"])
    s3.delete_bucket(Bucket=result.outputs["Name"])


UPDATING = """
Parameters:
  Broken:
    Type: String
    Default: 'no'
Conditions:
  IsBroken: !Equals [!Ref Broken, 'yes']
Resources:
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
  Bucket:
    Type: AWS::S3::Bucket
    Condition: IsBroken
  Wait:
    Type: AWS::CloudFormation::WaitCondition
    Condition: IsBroken
    DependsOn: Bucket
    Properties:
      Handle: !Ref Handle
      Timeout: '4'
      Count: 1
"""


def test_an_update_that_is_rolled_back(project):
    # A rollback that fails as well cannot be had from the embedded AWS; tests/unit/cloudformation/test_recovery.py has it.
    project.template("updating", UPDATING)
    project.write({"updating": {}}, regions=["us-east-1"])
    project.deploy()
    project.write({"updating": {"parameters": {"Broken": "yes"}}}, regions=["us-east-1"])
    (failed,) = project.deploy()
    assert failed.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "Wait (AWS::CloudFormation::WaitCondition) could not be" in str(failed.problem)
    project.write({"updating": {}}, regions=["us-east-1"])
    assert project.run("deploy", "--yes").returncode == 0
