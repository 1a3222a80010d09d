"""What the templates of the article allow and lack."""

from pathlib import Path

import pytest

from eventstacks.documents import parse_template, read_text
from eventstacks.flow import graph, permissions
from eventstacks.flow.targets import service_of

WHERE = {"name": "s", "region": "us-east-1", "account": "123456789012"}


@pytest.mark.parametrize("stack", ["custom-event-bus", "s3-object-events", "rds-snapshot-events"])
def test_the_article_has_no_logs_policy_and_no_dead_letter_queue(stack):
    flow = graph.of_template(
        parse_template(read_text(Path("tests/fixtures/article") / f"{stack}.yaml"), "t"), **WHERE
    )
    [rule] = flow.rules
    groups = [one for one in rule.targets if service_of(one.arn) == "logs"]
    assert [permissions.of_target(flow, rule, one).allowed for one in groups] == [False]
    assert not any(one.dead_letters for one in rule.targets)


def test_the_function_of_the_article_is_reached():
    flow = graph.of_template(
        parse_template(read_text(Path("tests/fixtures/article/s3-object-events.yaml")), "t"),
        **WHERE,
    )
    [rule] = flow.rules
    assert [
        permissions.of_target(flow, rule, one).allowed
        for one in rule.targets
        if service_of(one.arn) == "lambda"
    ] == [True]
