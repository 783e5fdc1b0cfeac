"""How boto3 is set up: what all clients of S3 have in common.

Sessions share what botocore reads from disk: else each bucket's would hold 12 MB of its own.
"""

from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.loaders import Loader, create_loader
from botocore.session import Session

from common import outbound

# What ends a call is its limit (common/storage/calls.py). These count for whoever calls without one.
CLIENT_CONFIG = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    retries={"mode": "standard", "total_max_attempts": 3},
    connect_timeout=10,
    read_timeout=outbound.STORAGE_SECONDS,
)
# AWS_ENDPOINT_URL of the environment is not for clients.
AWS_CONFIG = CLIENT_CONFIG.merge(Config(ignore_configured_endpoint_urls=True))  # type: ignore[call-arg]
# Some stores refuse the checksums that botocore adds to each call by itself.
OTHER_CONFIG = AWS_CONFIG.merge(
    Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
)


def core_session() -> Session:
    """Return a session of botocore's."""
    core = Session()
    core.register_component("data_loader", _loader())
    return core


def session_on(core: Session, **credentials: Any) -> boto3.Session:
    """Return boto3's session on one of ours."""
    session = boto3.Session(botocore_session=core, **credentials)
    # Each session adds boto3's own folder to it.
    _loader().search_paths[:] = dict.fromkeys(_loader().search_paths)
    return session


@cache
def _loader() -> Loader:
    return create_loader()
