"""Failed, interrupted and killed operations on the embedded AWS, and recovery from them."""

import signal
import time

from stack_project import BUCKET

from eventstacks.aws import Clock
from eventstacks.cloudformation import delete, recover

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


def test_ctrl_c_lists_what_continues_and_follow_reports_its_end(project):
    project.template("slow", SLOW)
    project.write({"slow": {}}, regions=["us-east-1"])
    process = project.start("deploy", "--yes")
    until(lambda: project.states().get(f"{project.prefix}slow") == "CREATE_IN_PROGRESS")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "make follow ENV=test STACK=slow REGION=us-east-1" in err
    assert "Traceback" not in err
    followed = project.run("follow")
    assert followed.returncode == 1  # no signal comes: the creation fails
    assert "Wait (AWS::CloudFormation::WaitCondition) could not be created" in followed.err


def test_a_killed_deployment_can_be_followed_recovered_and_repeated(project):
    project.template("slow", SLOW)
    project.write({"slow": {}}, regions=["us-east-1"])
    process = project.start("deploy", "--yes")
    until(lambda: project.states().get(f"{project.prefix}slow") == "CREATE_IN_PROGRESS")
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


def test_delete_failed_is_recovered_with_retain(project):
    project.template("bucket", BUCKET)
    project.write({"bucket": {}}, regions=["us-east-1"])
    (result,) = project.deploy()
    s3 = project.aws.client("s3", "us-east-1")
    s3.put_object(Bucket=result.outputs["Name"], Key="a", Body=b"x")
    name = f"{project.prefix}bucket"
    project.client().delete_stack(StackName=name)  # somebody's, by the console
    until(lambda: project.states().get(name) == "DELETE_FAILED")
    refused = project.run("deploy", "--yes")
    assert refused.returncode == 1
    assert "DELETE_FAILED" in refused.err
    again = project.run("recover", "--yes")
    assert again.returncode == 1
    assert "--retain Bucket" in again.err
    assert project.run("recover", "--yes", "--retain", "Bucket").returncode == 0
    assert project.states() == {}
    assert s3.list_objects_v2(Bucket=result.outputs["Name"])["KeyCount"] == 1  # it was kept
    delete.empty_bucket(s3, result.outputs["Name"], Clock())
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


def test_a_rolled_back_update_gives_the_reason_and_can_be_repeated(project):
    # A rollback that fails as well cannot be had from the embedded AWS;
    # tests/unit/cloudformation/test_recovery.py has it.
    project.template("updating", UPDATING)
    project.write({"updating": {}}, regions=["us-east-1"])
    project.deploy()
    project.write({"updating": {"parameters": {"Broken": "yes"}}}, regions=["us-east-1"])
    (failed,) = project.deploy()
    assert failed.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "Wait (AWS::CloudFormation::WaitCondition) could not be" in str(failed.problem)
    project.write({"updating": {}}, regions=["us-east-1"])
    assert project.run("deploy", "--yes").returncode == 0


BROKEN = """
Resources:
  Rule:
    Type: AWS::Events::Rule
    Properties:
      EventBusName: no-such-bus
      EventPattern:
        source: [shop]
"""


def test_a_failed_creation_gives_the_reason_and_recover_deletes_it(project):
    project.template("broken", BROKEN)
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


def test_disable_rollback_keeps_the_failed_stack(project):
    project.template("broken", BROKEN)
    project.write({"broken": {}}, regions=["us-east-1"])
    (result,) = project.deploy(disable_rollback=True)
    assert result.status == "CREATE_FAILED"
    scope = project.scope()
    (step,) = recover.propose(scope)
    assert step.method == "delete_stack"
    assert [one.outcome for one in recover.recover(scope, [step])] == ["deleted"]
