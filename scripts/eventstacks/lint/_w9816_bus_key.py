from eventstacks.flow.permissions import key_of
from eventstacks.lint._rule import GUIDE, Findings, FlowRule, Node, View

BUS, QUEUE, KEY = "AWS::Events::EventBus", "AWS::SQS::Queue", "KmsKeyIdentifier"


class BusKey(FlowRule):
    id = "W9816"
    shortdesc = "A bus with a customer key needs a dead-letter queue"
    description = (
        "An event that cannot be encrypted or decrypted with the key is lost unless the bus has a DeadLetterConfig; "
        "a queue with the same key cannot take it either."
    )
    source_url = f"{GUIDE}eb-encryption-event-bus-dlq.html"
    kinds = frozenset({BUS})

    def check(self, view: View) -> Findings:
        for name, node in view.each(BUS):
            key = node.get(KEY)
            if key and key.value and "DeadLetterConfig" not in node:
                yield (
                    key,
                    "If this key cannot be used, events are lost: give the bus a DeadLetterConfig",
                )
            for queue in {one for one, _ in view.each(QUEUE)} if "DeadLetterConfig" in node else ():
                yield from self._check_queue(view, name, queue)

    def _check_queue(self, view: View, bus: str, queue: str) -> Findings:
        for stack in view.scenarios(bus, queue):  # the queue's conditions count, too
            mine, its = (
                Node(view.resources[one], ("Resources", one), stack).get("Properties")
                for one in (bus, queue)
            )
            key, arn = mine and mine.get(KEY), mine and mine.get("DeadLetterConfig", "Arn")
            other = its and its.get("KmsMasterKeyId")
            if key and arn and other and arn.value == stack.resolve({"Fn::GetAtt": [queue, "Arn"]}):
                same = key_of(view.flow, key.value, stack.region)
                # Symbols of functions may be equal where what they stand for is not.
                if key.raw == other.raw or (
                    same and same == key_of(view.flow, other.value, stack.region)
                ):
                    yield (
                        arn,
                        (
                            "This queue has the same key: when the bus cannot use it, the queue cannot either. Give it "
                            "SqsManagedSseEnabled: true instead"
                        ),
                    )
