"""log_events.py of event-bus-v2: no event is lost, whatever form a delivery has."""

import importlib.util
import json
import logging
from pathlib import Path

import pytest

PATH = Path(__file__).parents[3] / "templates" / "functions" / "log_events.py"
SPEC = importlib.util.spec_from_file_location("log_events", PATH)
log_events = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(log_events)
EVENT = {"source": "com.example.shop", "detail-type": "order placed", "detail": {"order": 1}}


@pytest.mark.parametrize(
    ("delivery", "logged"),
    [
        (EVENT, [EVENT]),
        ([EVENT, EVENT], [EVENT, EVENT]),
        ([], []),
        (["text", 1, None], ["text", 1, None]),
        ({}, [{}]),
    ],
    ids=["one event", "a batch", "an empty batch", "other payloads", "an empty event"],
)
def test_every_event_is_logged(caplog, delivery, logged):
    with caplog.at_level(logging.INFO):
        log_events.handler(delivery, None)
    assert [json.loads(one.event) for one in caplog.records] == logged


def test_source_and_type_can_be_searched(caplog):
    with caplog.at_level(logging.INFO):
        log_events.handler([EVENT], None)
    (record,) = caplog.records
    assert (record.source, record.type) == ("com.example.shop", "order placed")
