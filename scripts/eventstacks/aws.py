"""AWS clients, retries and error codes: the one place where AWS clients are made."""

import functools
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's name
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.parsers import ResponseParserError
from botocore.utils import JSONFileCache

from eventstacks.environment import EMBEDDED, Environment
from eventstacks.errors import ErrorCode, ToolError

UNREACHABLE = (HTTPClientError, ConnectionError, ResponseParserError)
AWS_ERRORS = (ClientError, BotoCoreError, ResponseParserError)  # whatever a call may raise
# Seconds to keep retrying: before an operation was started, and while one is in progress.
RETRY_SHORT, RETRY_LONG = 30.0, 600.0
_MAX_BACKOFF = 20.0
LOGIN_ERRORS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
LOGIN_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
    }
)
BUSY_CODES = frozenset(
    [
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
        "SlowDown",
        "RequestTimeout",
        "RequestTimeoutException",
    ]
)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _check_response(
    url: str, operation_model: Any, response_dict: dict[str, Any], **_: Any
) -> None:
    """Raise ResponseParserError for a response that is not AWS's; botocore raises another error.

    Only for protocols whose responses have an outermost element or bracket; a 5xx can come from a
    proxy.
    """
    status, body = response_dict["status_code"], response_dict["body"]
    expected = {
        "query": rf"(?s).*<{operation_model.name}Response" if status < 300 else "(?s).*<Error",
        "json": r"\s*\{" if body or operation_model.output_shape else "",
    }.get(operation_model.service_model.resolved_protocol, "")
    if status < 500 and isinstance(body, bytes) and not re.match(expected.encode(), body):
        raise ResponseParserError(f"{url} answers something that is not AWS (HTTP {status})")


@dataclass(frozen=True)
class Endpoint:
    """Address and credentials of an AWS that is not the public one.

    By default credentials that say nothing.

    Never the user's own: the server at the address could keep them.
    """

    url: str
    access_key: str = field(default="test", repr=False)
    secret_key: str = field(default="test", repr=False)

    def variables(self, region: str) -> dict[str, str]:
        """Return the environment variables with which the AWS CLI and SDKs use this endpoint."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": region,
            "AWS_REGION": region,
        }


class Aws:
    """The clients of one environment, one per service and Region, made when first asked for.

    ``connect`` returns the endpoint of an environment that has ``endpoint: embedded``. Safe to
    share between threads: botocore clients are, and making them is locked here. ``client_options``:
    of botocore's Config.
    """

    def __init__(
        self,
        environment: Environment,
        connect: Callable[[], Endpoint],
        **client_options: Any,
    ) -> None:
        self.environment = environment
        self._connect, self._client_options = connect, client_options
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.RLock()

    def client(self, service: str, region: str | None = None) -> Any:
        """Return the client of a service in a Region (default: the environment's first)."""
        key = (service, region or self.environment.regions[0])
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._make(*key)
            return self._clients[key]

    @functools.cached_property
    def account(self) -> str:
        """The account ID of the credentials; AWS is asked once.

        Raises ToolError: CREDENTIALS, ENDPOINT_UNREACHABLE.
        """
        path, profile = self.environment.path, self.environment.profile
        endpoint = self._endpoint  # its errors are not about credentials
        try:
            return str(self.client("sts").get_caller_identity()["Account"])
        except UNREACHABLE as error:
            raise ToolError(
                f"cannot reach AWS: {error}",
                code=ErrorCode.ENDPOINT_UNREACHABLE,
                where=f"environment {self.environment.name}",
                advice=f"Start what answers at this address, or correct {path}: endpoint."
                if endpoint
                else f"Check the network, the proxy (HTTPS_PROXY) and the Regions in {path}.",
            ) from None
        # Also of a credential_process, and of an MFA prompt without a terminal.
        except (BotoCoreError, ClientError, OSError, ValueError, EOFError) as error:
            raise ToolError(
                f"cannot get AWS credentials: {error_message(error).rstrip(' :')}",
                code=ErrorCode.CREDENTIALS,
                where=f"environment {self.environment.name}",
                advice=f"Log in to the profile {profile!r}, or correct it in {path}."
                if profile
                else f"Set AWS_PROFILE, run aws sso login, or name a profile in {path}.",
            ) from None

    def guard(self) -> str:
        """Return the account ID if it is the environment's own.

        Raises ToolError: as ``account``, WRONG_ACCOUNT.
        """
        if self.environment.account not in (None, self.account):
            raise ToolError(
                f"the credentials are for account {self.account}, this environment is for "
                f"{self.environment.account}; nothing was changed",
                code=ErrorCode.WRONG_ACCOUNT,
                where=f"{self.environment.path}: account",
                advice="Use credentials of the right account, or correct the file.",
            )
        return self.account

    @functools.cached_property
    def _endpoint(self) -> Endpoint | None:
        url = self.environment.endpoint
        if url == EMBEDDED:
            return self._connect()
        return Endpoint(url) if url else None

    @functools.cached_property
    def _session(self) -> botocore.session.Session:
        if not self._endpoint:
            session = botocore.session.Session(profile=self.environment.profile)
            provider = session.get_component("credential_provider").get_provider("assume-role")
            # The cache of the AWS CLI: an MFA code is asked for once, by whichever comes first.
            provider.cache = JSONFileCache(Path("~/.aws/cli/cache").expanduser())
            return session
        # No profile, no file and no credentials of the user.
        session = botocore.session.Session(
            {
                "profile": (None, None, None, None),
                "config_file": (None, None, os.devnull, None),
                "credentials_file": (None, None, os.devnull, None),
            }
        )
        session.set_credentials(self._endpoint.access_key, self._endpoint.secret_key)
        return session

    def _make(self, service: str, region: str) -> Any:
        url = self._endpoint.url if self._endpoint else None
        more: dict[str, Any] = {"s3": {"addressing_style": "path"}} if url else {}
        if url and urlsplit(url).hostname in LOOPBACK:
            more["proxies"] = {}  # no proxy reaches this machine, whatever HTTP_PROXY says
        settings = Config(
            region_name=region,
            max_pool_connections=32,
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 5},
            **more,
        ).merge(Config(**self._client_options))
        client: Any = self._session.create_client(service, endpoint_url=url, config=settings)
        client.meta.events.register(
            "before-parse", functools.partial(_check_response, client.meta.endpoint_url)
        )
        return client


class Cancelled(Exception):  # noqa: N818 - the user pressed Ctrl-C: not an error
    """Raised in waiting threads after Ctrl-C."""


class Clock:
    """Time and cancellation for everything that waits. Tests pass their own clock.

    ``on_retry`` is called with each transient error before the retry, in any thread.
    """

    def __init__(self, on_retry: Callable[[Exception], None] = lambda _trouble: None) -> None:
        self.on_retry = on_retry
        self._stop = threading.Event()

    def now(self) -> float:
        """Return seconds of a monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait. Raises Cancelled as soon as ``stop`` is called."""
        if self._stop.wait(seconds):
            raise Cancelled

    def stop(self) -> None:
        """Wake all threads that sleep on this clock."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Return True after ``stop`` was called."""
        return self._stop.is_set()


def error_code(error: Exception) -> str:
    """Return the error code of an AWS response, or ''."""
    details = error.response.get("Error", {}) if isinstance(error, ClientError) else {}
    return str(details.get("Code", ""))


def error_message(error: Exception) -> str:
    """Return the message of an AWS response, or the text of the exception."""
    words = (
        error.response.get("Error", {}).get("Message") if isinstance(error, ClientError) else None
    )
    # botocore quotes the bytes of a response that it cannot parse: b'<html>…
    return str(words or error).partition(", invalid XML received")[0]


def is_login_error(error: Exception) -> bool:
    """Return True if credentials are missing, invalid or expired: retrying cannot help."""
    return isinstance(error, LOGIN_ERRORS) or error_code(error) in LOGIN_CODES


def is_transient(error: Exception) -> bool:
    """Return True if retrying the call can succeed: throttling, 5xx, lost connections.

    Source: CloudFormation API Reference, Common Errors.
    """
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error_code(error) in BUSY_CODES or status >= 500
    return isinstance(error, UNREACHABLE)


def call(
    method: Callable[..., Any], *, clock: Clock, retry_for: float = RETRY_SHORT, **arguments: Any
) -> Any:
    """Return ``method(**arguments)``; retry transient errors for up to ``retry_for`` seconds.

    This is in addition to botocore's own retries. Raises the error that is not transient, or the
    last one when the time is over.
    """
    begun, pause = clock.now(), 0.5
    while True:
        try:
            return method(**arguments)
        except AWS_ERRORS as error:
            if not is_transient(error) or clock.now() + pause - begun > retry_for:
                raise
            clock.on_retry(error)
        # With jitter, so that throttled clients spread out.
        clock.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
        pause = min(pause * 2, _MAX_BACKOFF)


def wait_for(
    is_done: Callable[[Any], bool],
    method: Callable[..., Any],
    *,
    clock: Clock,
    longest: float,
    **arguments: Any,
) -> Any:
    """Call until ``is_done(answer)``, with growing pauses of at most ``longest`` seconds."""
    pause = 0.1
    while not is_done(answer := call(method, clock=clock, **arguments)):
        clock.sleep(pause)
        pause = min(pause * 1.5, longest)
    return answer


@contextmanager
def suppress_aws_error(*codes: str) -> Iterator[None]:
    """Suppress AWS errors with these codes.

    Compares codes, not classes: threads that share a client can get different exception classes.
    """
    try:
        yield
    except ClientError as error:
        if error_code(error) not in codes:
            raise
