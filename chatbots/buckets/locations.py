"""Which storage a chatbot's files go to: the operator's bucket, below the chatbot's slug, or the client's own."""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings

from chatbots.models import Bucket, Chatbot
from common.crypto import decrypt
from common.storage import errors
from common.storage.roles import Role
from common.storage.s3 import LINK_LIFE, ObjectStorage
from common.storage.sessions import AWS_CONFIG, CLIENT_CONFIG, OTHER_CONFIG

Hosting = Bucket.Hosting


@dataclass(frozen=True)
class StorageLocation:
    """Where files of a chatbot go. A key begins with `prefix`, which is empty or ends in `/`.

    `endpoint` is that of a client's bucket, empty for AWS.
    """

    hosting: Bucket.Hosting
    bucket: str
    prefix: str
    storage: ObjectStorage
    endpoint: str = ""

    @property
    def is_hosted(self) -> bool:
        return self.hosting == Hosting.HOSTED


def hosted_storage() -> ObjectStorage:
    """Return the operator's bucket, from the settings `S3_*`. Cheap to call, safe in threads and forks."""
    return _storage(
        bucket_name=settings.S3_BUCKET,
        endpoint_url=settings.S3_ENDPOINT_URL,
        public_endpoint_url=settings.S3_PUBLIC_ENDPOINT_URL,
        region_name=settings.S3_REGION,
        access_key=settings.S3_ACCESS_KEY_ID,
        secret_key=settings.S3_SECRET_ACCESS_KEY,
        client_config=CLIENT_CONFIG,
    )


def hosted_location(chatbot: Chatbot) -> StorageLocation:
    """Return the chatbot's part of the operator's bucket, whatever its bucket is set to."""
    return StorageLocation(Hosting.HOSTED, settings.S3_BUCKET, f"{chatbot.slug}/", hosted_storage())


def location_of(bucket: Bucket) -> StorageLocation:
    """Return where a chatbot's files go now. Cheap to call, and calls nobody.

    Raises SecretUnreadable (common.crypto), and StorageError for a role while the settings hold no identity
    with which to assume it.
    """
    if bucket.hosting == Hosting.HOSTED:
        return hosted_location(bucket.chatbot)
    storage = _storage(
        bucket_name=bucket.bucket,
        endpoint_url=bucket.endpoint or None,
        public_endpoint_url=None,
        region_name=bucket.region,
        sse=bucket.sse,
        kms_key_id=bucket.kms_key_id,
        client_config=OTHER_CONFIG if bucket.endpoint else AWS_CONFIG,
        guarded=True,
        **_credentials(bucket),
    )
    return StorageLocation(Hosting.CLIENT, bucket.bucket, bucket.prefix, storage, bucket.endpoint)


def bucket_secret_binding(chatbot_id: int) -> str:
    """Name row and field of a bucket's secret, for `common.crypto`. A chatbot has one bucket."""
    return f"bucket:{chatbot_id}:secret"


def _credentials(bucket: Bucket) -> dict[str, Any]:
    if not bucket.role_arn:
        binding = bucket_secret_binding(bucket.chatbot_id)
        return {
            "access_key": bucket.access_key_id,
            "secret_key": decrypt(bucket.secret_encrypted, bound_to=binding),
        }
    if not settings.STS_ACCESS_KEY_ID:
        raise errors.no_identity()
    role = Role(bucket.role_arn, bucket.external_id, session_name=f"data-compliance-{bucket.chatbot_id}")
    return {"access_key": None, "secret_key": None, "role": role}


# More than a worker calls within the time of one call: what one that is dropped has learned is lost. 0.5 MB each.
@lru_cache(maxsize=512)
def _storage(**options: Any) -> ObjectStorage:
    return ObjectStorage(
        **options,
        # Else S3Storage takes them from AWS_* variables, which are not settings of ours.
        security_token=None,
        session_profile=None,
        file_overwrite=True,
        default_acl=None,
        querystring_expire=int(LINK_LIFE.total_seconds()),
    )


def forget_storages() -> None:
    """Let every storage be made anew: its connections, and what its breaker knows."""
    _storage.cache_clear()


# A forked worker must not speak on its parent's connections.
os.register_at_fork(after_in_child=forget_storages)
