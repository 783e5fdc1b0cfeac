"""Clients' roles: temporary credentials from STS, requested with the external id of the role's trust policy."""

from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    Credentials,
    DeferredRefreshableCredentials,
)
from django.conf import settings

from common import outbound
from common.storage import transport
from common.storage.sessions import core_session, session_on

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=5, read_timeout=5)
_HOUR = 3600


@dataclass(frozen=True)
class Role:
    """A client's role; `session_name` appears in the client's audit trail."""

    arn: str
    external_id: str
    session_name: str


def session_of(role: Role) -> boto3.Session:
    """Return a session with the role's credentials, requested at first use and again before they expire.

    Threads share them. An error of STS is raised by the call to S3 that needed them, as a ClientError of
    `AssumeRole`. Our own identity is read from the settings `STS_*` now.
    """
    core = core_session()
    core.register_component("credential_provider", CredentialResolver([_RoleProvider(role)]))
    return session_on(core)


class _RoleProvider(CredentialProvider):
    METHOD = "assume-role"

    def __init__(self, role: Role) -> None:
        super().__init__()
        self._fetcher = AssumeRoleCredentialFetcher(
            client_creator=_sts_client,
            source_credentials=Credentials(settings.STS_ACCESS_KEY_ID, settings.STS_SECRET_ACCESS_KEY),
            role_arn=role.arn,
            extra_args={
                "ExternalId": role.external_id,
                "RoleSessionName": role.session_name,
                "DurationSeconds": _HOUR,
            },
        )

    def load(self) -> DeferredRefreshableCredentials:
        return DeferredRefreshableCredentials(refresh_using=self._fetch, method=self.METHOD)

    def _fetch(self) -> Any:
        with outbound.within(outbound.STS_SECONDS):
            return self._fetcher.fetch_credentials()


def _sts_client(service: str, **credentials: Any) -> Any:
    session = core_session()
    transport.carry(session.get_component("event_emitter"))
    return session.create_client(
        service,
        region_name=settings.STS_REGION,
        endpoint_url=settings.STS_ENDPOINT_URL,
        config=_CONFIG,
        **credentials,
    )
