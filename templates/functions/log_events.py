"""Log the events of a bus of the new kind (AWS::EventsV2)."""

import json
import logging
from typing import Any

LOGGER = logging.getLogger(__name__)
LOGGER.setLevel(logging.INFO)


def handler(event: Any, context: object) -> None:
    """Log one line for each event. Events arrive at least once.

    A subscriber delivers batches. That a batch is a list, and one event without a batch is the
    event itself, was not tried on a real account: both are accepted. Anything else is logged as it
    is, so that no event is lost.
    """
    for one in event if isinstance(event, list) else [event]:
        fields = one if isinstance(one, dict) else {"payload": one}
        source, kind = fields.get("source", ""), fields.get("detail-type", "")
        LOGGER.info(
            "Event received", extra={"source": source, "type": kind, "event": json.dumps(one)}
        )
