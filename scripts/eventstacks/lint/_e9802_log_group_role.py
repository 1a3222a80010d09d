from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View


class LogGroupRole(FlowRule):
    id = "E9802"
    shortdesc = "A log group takes no RoleArn"
    description = "PutTargets refuses a target that is a log group and has a RoleArn: log groups are guarded by a Logs policy."
    source_url = f"{GUIDE}eb-use-resource-based.html#eb-cloudwatchlogs-permissions"

    def check(self, view: View) -> Findings:
        for target in view.targets:
            if target.service == "logs" and (role := target.node.get("RoleArn")):
                yield (
                    role,
                    "PutTargets refuses a RoleArn on a log group: have an AWS::Logs::ResourcePolicy instead",
                )
