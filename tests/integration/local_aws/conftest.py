"""A stack for a test, by CloudFormation's own calls."""

import pytest
from raw_stacks import FIXTURES, Stack


@pytest.fixture
def deploy(clients, unique):
    def make(body, name=unique, **options):
        return Stack(clients, name, body if isinstance(body, dict) else FIXTURES / body, **options)

    return make
