from eventstacks.lint._rule import Findings, FlowRule, View


class TrailSelectors(FlowRule):
    id = "E9814"
    shortdesc = "A trail has one kind of event selectors"
    description = "PutEventSelectors takes EventSelectors or AdvancedEventSelectors, not both."
    source_url = (
        "https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_PutEventSelectors.html"
    )
    kinds = frozenset({"AWS::CloudTrail::Trail"})

    def check(self, view: View) -> Findings:
        for _, node in view.each(*self.kinds):
            basic, advanced = node.get("EventSelectors"), node.get("AdvancedEventSelectors")
            if basic and advanced and basic.value and advanced.value:
                yield (
                    basic,
                    "CloudTrail refuses both kinds of selectors: move these into AdvancedEventSelectors",
                )
