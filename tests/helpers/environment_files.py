"""A valid environment file, and how tests load it or a variant."""

from eventstacks import environment

GOOD = """
account: '111122223333'
regions: [us-east-1, eu-west-1]
prefix: dev-
tags: {environment: dev}
stacks:
  bus:
    parameters: {Days: 7, Names: [a, b], Loud: true}
  rules:
    template: bus
    regions: [us-east-1]
    tags: {team: orders}
    parameters:
      Days: {us-east-1: 3}
      BusArn: !Output bus.Arn@eu-west-1
"""


def load(tmp_path, text):
    (tmp_path / "dev.yaml").write_text(text)
    return environment.load("dev", tmp_path)
