"""An embedded AWS of the test run's own: one per pytest-xdist worker, on a free port, gone at the end."""

import os
import uuid

import boto3
import pytest

from scripts.local_aws import server


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory):
    """scripts.local_aws.server.Endpoint of a running embedded AWS that nobody else uses."""
    directory = tmp_path_factory.mktemp("local-aws")
    server.INHERITED += tuple(name for name in os.environ if name.startswith("COVERAGE_"))  # its code is measured, too
    try:
        yield server.start(directory, 0)
    finally:
        server.stop(directory)


@pytest.fixture(scope="session")
def clients(endpoint):
    """clients(service, region="eu-central-1", **options): a boto3 client of the embedded AWS."""

    def make(service, region="eu-central-1", **options):
        keys = {"aws_access_key_id": endpoint.access_key, "aws_secret_access_key": endpoint.secret_key}
        return boto3.client(service, region_name=region, endpoint_url=endpoint.url, **{**keys, **options})

    return make


@pytest.fixture
def unique():
    """A name that no other test uses: stacks and what they hold stay apart."""
    return f"t{uuid.uuid4().hex[:10]}"
