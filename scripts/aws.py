"""The one place where AWS clients are made."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from scripts.environment import EMBEDDED
from scripts.errors import ToolError

if TYPE_CHECKING:
    from scripts.environment import Environment

MADE_UP = "test"  # both halves of the credentials that an endpoint of one's own gets: never the user's


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
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as NoConnection

        try:
            return str(self.client("sts").get_caller_identity()["Account"])
        except (HTTPClientError, NoConnection) as error:
            endpoint, path = self.environment.endpoint, self.environment.path
            raise UnreachedError(
                f"AWS cannot be reached: {error}", where=f"environment {self.environment.name}",
                advice=f"Start what has to answer there, or correct {path}: endpoint." if endpoint else
                       f"Look at the network, the proxy (HTTPS_PROXY) and the regions in {path}.",
            ) from None  # fmt: skip
        except (BotoCoreError, ClientError) as error:
            profile = self.environment.profile
            raise AccountError(
                f"AWS does not say who you are: {error}", where=f"environment {self.environment.name}",
                advice=f"Log in to the profile {profile!r}." if profile else
                       "Give credentials (AWS_PROFILE, aws sso login …) or name a profile in the environment's file.",
            ) from None  # fmt: skip

    def guard(self) -> str:
        """The account id, after making sure that it is the environment's own. Raises AccountError."""
        account = self.account()
        if self.environment.account not in (None, account):
            raise AccountError(
                f"the credentials are for account {account}, this environment is for {self.environment.account}; "
                "nothing was done", where=f"{self.environment.path}: account",
                advice="Use the credentials of the right account, or correct the file.",
            )  # fmt: skip
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
            region_name=region, max_pool_connections=self._connections, connect_timeout=10, read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 5},
        )  # fmt: skip
        if self._endpoint:
            settings = settings.merge(Config(s3={"addressing_style": "path"}))
        return self._session.client(service, endpoint_url=self._endpoint, config=settings)

    def _isolated_session(self) -> Any:
        """A session for an endpoint of one's own: it sees no profile, no file and no credentials of the user's."""
        import boto3
        import botocore.session

        access_key = secret_key = MADE_UP
        self._endpoint = self.environment.endpoint
        if self._endpoint == EMBEDDED:
            from scripts.local_aws import server

            running = server.start()
            self._endpoint, access_key, secret_key = running.url, running.access_key, running.secret_key
        unread = (None, None, None, None)  # neither from the configuration nor from a variable
        core = botocore.session.Session(session_vars={
            "profile": unread, "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        })  # fmt: skip
        return boto3.session.Session(
            botocore_session=core, aws_access_key_id=access_key, aws_secret_access_key=secret_key,
        )  # fmt: skip
