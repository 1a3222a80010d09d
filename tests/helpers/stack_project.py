"""A project of its own, whose stacks are deployed on the embedded AWS."""

import json
import os
import subprocess
import sys
from pathlib import Path

import in_process

from eventstacks import environment as environments
from eventstacks import rendering
from eventstacks.aws import Aws
from eventstacks.cloudformation import delete, deploy
from eventstacks.cloudformation.change_set import Options
from eventstacks.cloudformation.run import Listener, Scope
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


REGIONS = ["us-east-1", "eu-west-1"]
BUCKET = """
Resources:
  Bucket:
    Type: AWS::S3::Bucket
Outputs:
  Name:
    Value: !Ref Bucket
"""


class Project:
    """A directory with an environment 'test' and templates, and the verbs that run there."""

    def __init__(self, path, prefix):
        self.path, self.prefix = path, prefix

    def write(self, stacks, regions=REGIONS, **more):
        (self.path / "parameters").mkdir(exist_ok=True)
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
        (self.path / "parameters" / "test.yaml").write_text(
            text.replace('"!Output ', "!Output ").replace('!"', "")
        )
        return self.load()

    def template(self, name, text):
        (self.path / "templates").mkdir(exist_ok=True)
        (self.path / "templates" / f"{name}.yaml.j2").write_text(text)

    def load(self):
        self.environment = environments.load("test")
        self.aws = Aws(self.environment, server.start)
        self.templates = rendering.render_all()
        return self.environment

    def scope(self, listener=None):
        return Scope(self.aws, self.environment.choose(), listener or Listener())

    def deploy(self, listener=None, **options):
        return deploy.deploy(self.scope(listener), self.templates, Options(**options))

    def plan(self, **options):
        return deploy.plan(self.scope(), self.templates, Options(**options))

    def delete(self):
        scope = self.scope()
        return delete.delete(scope, delete.preview(scope), empty_buckets=True)

    def start(self, *arguments, **more):
        root = Path(rendering.__file__).parents[1]
        return subprocess.Popen(
            [sys.executable, "-m", "eventstacks", *arguments, "--env", "test"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": str(root)},
            **more,
        )

    def run(self, *arguments):
        done = in_process.run(*arguments, "--env", "test")
        done.out, done.err = done.stdout, done.stderr
        return done

    def client(self, region="us-east-1"):
        return self.aws.client("cloudformation", region)

    def states(self):
        return {
            one["StackName"]: one["StackStatus"]
            for one in self.client().describe_stacks()["Stacks"]
            if one["StackName"].startswith(self.prefix)
        }

    def change_sets(self, stack_name, region="us-east-1"):
        return self.client(region).list_change_sets(StackName=stack_name)["Summaries"]
