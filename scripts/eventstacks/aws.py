"""The one place where AWS clients are made."""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from eventstacks.environment import EMBEDDED
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from eventstacks.environment import Environment

MADE_UP = (
    "test"  # both halves of the credentials that an endpoint of one's own gets: never the user's
)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def _check_answer(url: str, operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Raises ResponseParserError for an answer that is not AWS's: botocore makes a KeyError of it, or nothing at all.

    Of the protocols whose answers have an outermost element or bracket; a 5xx may come from whatever is in between.
    """
    from botocore.parsers import ResponseParserError

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
        from botocore.parsers import ResponseParserError

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
        from botocore.exceptions import BotoCoreError, ProfileNotFound

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
