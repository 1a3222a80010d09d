from scripts.lint_rules._rule import GUIDE, Findings, FlowRule, View

KEY = "KmsKeyIdentifier"


class BusKey(FlowRule):
    id = "W9816"
    shortdesc = "A bus with a customer key needs a dead-letter queue"
    description = (
        "An event that cannot be encrypted or decrypted with the key is lost unless the bus has a DeadLetterConfig."
    )
    source_url = f"{GUIDE}eb-encryption-event-bus-dlq.html"
    kinds = frozenset({"AWS::Events::EventBus"})

    def check(self, view: View) -> Findings:
        for _, node in view.each(*self.kinds):
            key = node.get(KEY)
            if key and key.value and "DeadLetterConfig" not in node:
                yield key, "If this key cannot be used, events are lost: give the bus a DeadLetterConfig"
