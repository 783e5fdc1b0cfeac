"""Sessions of boto3 that share what botocore reads from disk: else each bucket's would hold 12 MB of its own."""

from functools import cache
from typing import Any

import boto3
from botocore.loaders import Loader, create_loader
from botocore.session import Session


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
