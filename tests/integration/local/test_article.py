"""The article's own stacks on the embedded AWS: they deploy, and lose events."""

from raw_stacks import snapshot
from waiting import eventually


def test_article_bus_deploys_and_its_log_group_stays_empty(deploy):
    stack = deploy("article/custom-event-bus.yaml")
    assert stack.status == "CREATE_COMPLETE"
    stack.put(f"{stack.name}-MyCustomEventBus", service="myapp")
    assert stack.lines(stack.ids["Log"]) == []


def test_article_s3_stack_reaches_its_function_and_not_its_log_group(deploy):
    stack = deploy("article/s3-object-events.yaml")
    assert stack.status == "CREATE_COMPLETE"
    stack.client("s3").put_object(Bucket=stack.ids["DataBucket"], Key="a.txt", Body=b"x")
    group = f"/aws/lambda/{stack.ids['Function']}"
    assert eventually(
        lambda: group in str(stack.client("logs").describe_log_groups(logGroupNamePrefix=group))
    )
    assert eventually(lambda: "PutObject" in str(stack.lines(group)))
    assert stack.lines(stack.ids["Log"]) == []


def test_article_rds_stack_deploys_and_its_log_group_stays_empty(deploy, unique):
    stack = deploy("article/rds-snapshot-events.yaml", region="eu-west-3")
    assert stack.status == "CREATE_COMPLETE"
    snapshot(stack.client("rds"), unique)
    assert stack.lines(stack.ids["Log"]) == []
