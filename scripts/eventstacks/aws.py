"""The one place where AWS clients are made."""

from __future__ import annotations

import functools
import os
import random
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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

from eventstacks.environment import EMBEDDED
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eventstacks.environment import Environment

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
    {
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
    }
)
MADE_UP = (
    "test"  # both halves of the credentials that an endpoint of one's own gets: never the user's
)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _check_answer(url: str, operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Raises ResponseParserError for an answer that is not AWS's: botocore makes a KeyError of it, or nothing at all.

    Of the protocols whose answers have an outermost element or bracket; a 5xx may come from whatever is in between.
    """
    protocol, status = operation_model.service_model.resolved_protocol, response_dict["status_code"]
    body = response_dict["body"]
    if status >= 500 or not isinstance(body, bytes):
        return
    if protocol == "query":
        is_known = (
            f"<{operation_model.name}Response".encode() in body
            if status < 300
            else b"<Error" in body
        )
    elif protocol == "json":
        is_known = body.lstrip()[:1] == b"{" if body or operation_model.output_shape else True
    else:
        return
    if not is_known:
        raise ResponseParserError(f"{url} answers something that is not AWS (HTTP {status})")


class AccountError(ToolError):
    """The credentials are for another account than the environment says, or for none."""


class UnreachedError(ToolError):
    """Nobody answers, or not as AWS does: no word about credentials was heard."""


class Aws:
    """The clients of one environment, one per service and region, made when first asked for.

    Safe to share between threads: botocore clients are, and their making is locked here.
    """

    def __init__(self, environment: Environment, *, connections: int = 32) -> None:
        self.environment = environment
        self._connections = connections
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.RLock()
        self._session: Any = None
        self._endpoint: str | None = None

    def client(self, service: str, region: str | None = None) -> Any:
        """The boto3 client of a service in a region (default: the environment's first)."""
        key = (service, region or self.environment.regions[0])
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._make(*key)
            return self._clients[key]

    def account(self) -> str:
        """The account id of the credentials in force. Raises AccountError when there are none that work.

        Raises UnreachedError when nobody answers.
        """
        from botocore import exceptions as trouble

        try:
            return str(self.client("sts").get_caller_identity()["Account"])
        except (trouble.HTTPClientError, trouble.ConnectionError, ResponseParserError) as error:
            endpoint, path = self.environment.endpoint, self.environment.path
            raise UnreachedError(
                f"AWS cannot be reached: {error}",
                where=f"environment {self.environment.name}",
                advice=f"Start what has to answer there, or correct {path}: endpoint."
                if endpoint
                else f"Look at the network, the proxy (HTTPS_PROXY) and the regions in {path}.",
            ) from None
        except (trouble.ConfigParseError, trouble.InvalidRegionError) as error:
            raise AccountError(
                str(error),
                where=f"environment {self.environment.name}",
                advice="Correct that file, or name another one (AWS_CONFIG_FILE, AWS_SHARED_CREDENTIALS_FILE)."
                if isinstance(error, trouble.ConfigParseError)
                else f"Correct {self.environment.path}: regions.",
            ) from None
        except (trouble.BotoCoreError, trouble.ClientError) as error:
            profile = self.environment.profile
            raise AccountError(
                f"AWS does not say who you are: {error}",
                where=f"environment {self.environment.name}",
                advice=f"Log in to the profile {profile!r}."
                if profile
                else "Give credentials (AWS_PROFILE, aws sso login …) or name a profile in the environment's file.",
            ) from None

    def guard(self) -> str:
        """The account id, after making sure that it is the environment's own. Raises AccountError."""
        account = self.account()
        if self.environment.account not in (None, account):
            raise AccountError(
                f"the credentials are for account {account}, this environment is for {self.environment.account}; "
                "nothing was done",
                where=f"{self.environment.path}: account",
                advice="Use the credentials of the right account, or correct the file.",
            )
        return account

    def _make(self, service: str, region: str) -> Any:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import ProfileNotFound

        if self._session is None:
            try:
                self._session = (
                    boto3.session.Session(profile_name=self.environment.profile)
                    if not self.environment.endpoint
                    else self._isolated_session()
                )
            except ProfileNotFound as error:
                raise AccountError(str(error), where=f"{self.environment.path}: profile") from None
        settings = Config(
            region_name=region,
            max_pool_connections=self._connections,
            connect_timeout=10,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 5},
        )
        if self._endpoint:
            settings = settings.merge(Config(s3={"addressing_style": "path"}))
            if (
                urlsplit(self._endpoint).hostname in LOOPBACK
            ):  # no proxy leads there, whatever HTTP_PROXY says
                settings = settings.merge(Config(proxies={}))
        try:  # the credentials are looked for here, too: what a credential_process prints is read
            client = self._session.client(service, endpoint_url=self._endpoint, config=settings)
        except (OSError, ValueError) as error:
            if isinstance(error, BotoCoreError):
                raise
            raise AccountError(
                f"AWS cannot be asked with these settings: {error}",
                where=f"environment {self.environment.name}",
                advice="Look at AWS_ENDPOINT_URL…, and at endpoint_url and credential_process of the profile.",
            ) from None
        client.meta.events.register(
            "before-parse", functools.partial(_check_answer, client.meta.endpoint_url)
        )
        return client

    def _isolated_session(self) -> Any:
        """A session for an endpoint of one's own: it sees no profile, no file and no credentials of the user's."""
        import boto3
        import botocore.session

        access_key = secret_key = MADE_UP
        self._endpoint = self.environment.endpoint
        if self._endpoint == EMBEDDED:
            from eventstacks.local import server

            running = server.start()
            self._endpoint, access_key, secret_key = (
                running.url,
                running.access_key,
                running.secret_key,
            )
        unread = (None, None, None, None)  # neither from the configuration nor from a variable
        core = botocore.session.Session(
            session_vars={
                "profile": unread,
                "config_file": (None, None, os.devnull, None),
                "credentials_file": (None, None, os.devnull, None),
            }
        )
        return boto3.session.Session(
            botocore_session=core,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
        )


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
    return (
        str(error.response.get("Error", {}).get("Code", ""))
        if isinstance(error, ClientError)
        else ""
    )


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
    return isinstance(error, HTTPClientError | ConnectionError | ResponseParserError)


def backoff(first: float = 0.5) -> Iterator[float]:
    """Yield growing delays in seconds, with jitter so that throttled clients spread out."""
    longest = first
    while True:
        yield random.uniform(longest / 2, longest)  # noqa: S311 - no secret
        longest = min(longest * 2, _MAX_BACKOFF)


def call(
    method: Callable[..., Any], *, clock: Clock, retry_for: float = RETRY_SHORT, **arguments: Any
) -> Any:
    """Return ``method(**arguments)``; retry transient errors for up to ``retry_for`` seconds.

    This is in addition to botocore's own retries. Raises the error that is not transient, or the
    last one when the time is over.
    """
    begun = clock.now()
    for pause in backoff():
        try:
            return method(**arguments)
        except AWS_ERRORS as error:
            if not is_transient(error) or clock.now() + pause - begun > retry_for:
                raise
            clock.on_retry(error)
        clock.sleep(pause)
    raise AssertionError  # backoff() does not end


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
