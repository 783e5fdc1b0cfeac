"""Sessions of botocore and their configuration, also with the credentials of a client's role.

They share botocore's data from disk: otherwise each would hold 12 MB of its own.
"""

from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, Credentials, DeferredRefreshableCredentials
from botocore.loaders import Loader, create_loader
from botocore.session import Session
from django.conf import settings

from common import outbound
from common.storage import transport

# Calls end by their limit (common/storage/calls.py). These timeouts are for calls without one.
CLIENT_CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    retries={"mode": "standard", "total_max_attempts": 3},
    connect_timeout=10,
    read_timeout=outbound.STORAGE_SECONDS,
)
# AWS_ENDPOINT_URL of the environment is not for clients' buckets.
AWS_CONFIG = CLIENT_CONFIG.merge(Config(ignore_configured_endpoint_urls=True))  # type: ignore[call-arg]
# Some stores reject the checksums that botocore adds by default.
OTHER_CONFIG = AWS_CONFIG.merge(
    Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
)
# For STS.
_STS_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=5, read_timeout=5)
_HOUR = 3600


def core_session() -> Session:
    core = Session()
    core.register_component("data_loader", _loader())
    return core


@cache
def _loader() -> Loader:
    return create_loader()


@dataclass(frozen=True)
class Role:
    """A client's role; `session_name` appears in the client's audit trail."""

    arn: str
    external_id: str
    session_name: str


def session_of(role: Role) -> Session:
    """Return a session with the role's credentials, requested at first use and again before they expire.

    Threads share them. An error of STS is raised by the call to S3 that needed them, as a ClientError of
    `AssumeRole`. Our own identity is read from the settings `STS_*` now.
    """
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=_sts_client,
        source_credentials=Credentials(settings.STS_ACCESS_KEY_ID, settings.STS_SECRET_ACCESS_KEY),
        role_arn=role.arn,
        extra_args={
            "ExternalId": role.external_id,
            "RoleSessionName": role.session_name,
            "DurationSeconds": _HOUR,
        },
    )

    def fetch() -> Any:
        with outbound.within(outbound.STS_SECONDS):
            return fetcher.fetch_credentials()

    lent = DeferredRefreshableCredentials(refresh_using=fetch, method="assume-role")
    core = core_session()
    core.register_component("credential_provider", SimpleNamespace(load_credentials=lambda: lent))
    return core


def _sts_client(service: str, **credentials: Any) -> Any:
    return transport.limited_client(
        core_session(),
        service,
        region_name=settings.STS_REGION,
        endpoint_url=settings.STS_ENDPOINT_URL,
        config=_STS_CONFIG,
        **credentials,
    )
