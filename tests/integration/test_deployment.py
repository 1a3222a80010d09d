"""Plan, deploy, update and delete stacks on the embedded AWS."""

import json

from stack_project import BUCKET, QUEUES, REGIONS

from eventstacks.cloudformation import inspect, outputs

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
    assert [one.outcome for one in project.delete()] == ["unchanged", "unchanged"]


def test_a_plan_leaves_neither_stack_nor_change_set(project):
    project.write({"queues": {}})
    project.plan()
    assert project.states() == {}
    project.deploy()
    project.write({"queues": {"parameters": {"Delay": 3}}})
    assert project.run("plan").returncode == 3
    assert [
        one
        for one in project.change_sets(f"{project.prefix}queues")
        if one["ExecutionStatus"] == "AVAILABLE"
    ] == []


def test_deploy_without_a_terminal_needs_yes_and_changes_nothing(project):
    project.write({"queues": {}})
    refused = project.run("deploy")
    assert refused.returncode == 2
    assert "YES=1" in refused.err
    assert project.states() == {}


def test_outputs_of_another_stack_and_of_another_region(project):
    project.template("taker", TAKER)
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


def test_an_importer_is_created_after_and_deleted_before_its_exporter(project):
    project.template("exporter", EXPORTER)
    project.template("importer", IMPORTER)
    parameters = {"Source": f"{project.prefix}exporter"}
    project.write({"importer": {"parameters": parameters}, "exporter": {}}, regions=["us-east-1"])
    assert [one.outcome for one in project.deploy()] == ["created", "created"]
    alone = project.run("delete", "--yes", "--stack", "exporter", "--json")
    assert (alone.returncode, json.loads(alone.out)[0]["error"]["code"]) == (1, "stack_in_use")
    assert [one.outcome for one in project.delete()] == ["deleted", "deleted"]


def test_drift_is_shown_property_by_property(project):
    project.write({"queues": {}}, regions=["us-east-1"])
    (result,) = project.deploy()
    sqs = project.aws.client("sqs", "us-east-1")
    url = sqs.get_queue_url(QueueName=result.outputs["Arn"].rsplit(":", 1)[1])["QueueUrl"]
    assert project.run("drift").returncode == 0
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "9"})
    (found,) = inspect.drift(project.scope())
    assert found.status == "DRIFTED"
    (difference,) = found.resources[0]["PropertyDifferences"]
    assert (difference["PropertyPath"], difference["ActualValue"]) == ("/DelaySeconds", "9")
    assert project.run("drift").returncode == 3


def test_a_bucket_with_objects_is_deleted_only_with_empty_buckets(project):
    project.template("bucket", BUCKET)
    project.write({"bucket": {}}, regions=["us-east-1"])
    (result,) = project.deploy()
    project.aws.client("s3", "us-east-1").put_object(
        Bucket=result.outputs["Name"], Key="a", Body=b"x"
    )
    refused = project.run("delete", "--yes")
    assert refused.returncode == 1
    assert "--empty-buckets" in refused.err
    assert project.run("delete", "--yes", "--empty-buckets").returncode == 0


def test_a_protected_environment_protects_its_stacks_from_deletion(project):
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


def test_a_template_over_the_size_limit_is_uploaded_to_s3(project):
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
