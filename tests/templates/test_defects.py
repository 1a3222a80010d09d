"""Each defect of the article's templates is one that the tests would see, and none of ours."""

from pathlib import Path

import defects
import pytest

from eventstacks import documents, rendering

ARTICLE = Path(__file__).parent.parent / "fixtures" / "article"
PAIRS = [
    (stack, check)
    for stack, checks in defects.OF_STACK.items()
    for check in (*defects.EVERYWHERE, *checks)
]
ALL = sorted(
    {check for _, check in PAIRS} | set(defects.ELSEWHERE), key=lambda check: check.__name__
)


@pytest.mark.parametrize(
    ("stack", "check"), PAIRS, ids=lambda value: getattr(value, "__name__", value)
)
def test_the_articles_template_has_the_defect(stack, check):
    assert check(documents.parse_template(documents.read_text(ARTICLE / f"{stack}.yaml"), "t"))


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("stack", rendering.find(Path(__file__).parent.parent.parent / "templates"))
def test_no_template_of_ours_has_it(stack, check):
    assert check(rendering.render(stack).document) == []


BAD = """
Resources:
  Bus:
    Type: AWS::Events::EventBus
    Properties: {Name: orders, Policy: {Statement: []}}
  Queue:
    Type: AWS::SQS::Queue
    Properties: {}
  Function:
    Type: AWS::Lambda::Function
    Properties: {Runtime: python3.6}
  Permission:
    Type: AWS::Lambda::Permission
    Properties: {FunctionName: f, SourceArn: x, SourceAccount: y}
"""


@pytest.mark.parametrize("check", defects.ELSEWHERE, ids=lambda check: check.__name__)
def test_the_other_defects_are_seen(check):
    assert check(documents.parse_template(BAD, "bad.yaml"))
