"""A stack for a test, by CloudFormation's own calls."""

import pytest
from raw_stacks import FIXTURES, Stack


@pytest.fixture
def deploy(clients, unique):
    def make(body, name=unique, **options):
        return Stack(
            clients, name, FIXTURES / body if str(body).endswith(".yaml") else body, **options
        )

    return make
