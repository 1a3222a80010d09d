from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View
from eventstacks.lint._w9816_bus_key import KEY


class DiscovererKey(FlowRule):
    id = "E9815"
    shortdesc = "No schema discovery on a bus with a customer key"
    description = "EventBridge refuses a schema discoverer on a bus that is encrypted with a customer managed key."
    source_url = f"{GUIDE}eb-encryption-event-bus-cmkey.html"
    kinds = frozenset({"AWS::EventSchemas::Discoverer"})

    def check(self, view: View) -> Findings:
        buses = {one.arn: one.label for one in view.flow.buses.values() if one.resource}
        for name, node in view.each(*self.kinds):
            source = node.get("SourceArn")
            bus = buses.get(str(source.value)) if source else None
            if (
                source
                and bus
                and any(view.properties(bus, one).get(KEY) for one in view.scenarios(name, bus))
            ):
                yield (
                    source,
                    f"{bus} has a customer key ({KEY}), and such a bus takes no discoverer: drop one of the two",
                )
