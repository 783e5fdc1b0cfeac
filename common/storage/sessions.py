"""Configuration of boto3. Sessions share botocore's data from disk: otherwise each would hold 12 MB of its own."""

from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.loaders import Loader, create_loader
from botocore.session import Session

from common import outbound

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


def core_session() -> Session:
    core = Session()
    core.register_component("data_loader", _loader())
    return core


def session_on(core: Session, **credentials: Any) -> boto3.Session:
    session = boto3.Session(botocore_session=core, **credentials)
    # Each session adds boto3's own folder to the shared loader.
    _loader().search_paths[:] = dict.fromkeys(_loader().search_paths)
    return session


@cache
def _loader() -> Loader:
    return create_loader()
