"""Where a chatbot's files are stored: in the operator's bucket, below the chatbot's slug, or in the client's own."""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from chatbots.models import Bucket, Chatbot
from common.crypto import decrypt
from common.storage.errors import StorageError
from common.storage.s3 import LINK_LIFE, ObjectStorage
from common.storage.sessions import AWS_CONFIG, CLIENT_CONFIG, OTHER_CONFIG, Role

Hosting = Bucket.Hosting


@dataclass(frozen=True)
class StorageLocation:
    """A place for a chatbot's files. Keys begin with `prefix`, which is empty or ends in `/`.

    `endpoint` is the one of a client's bucket, empty for AWS.
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
    """Return the chatbot's folder in the operator's bucket, whatever its bucket is set to."""
    return StorageLocation(Hosting.HOSTED, settings.S3_BUCKET, f"{chatbot.slug}/", hosted_storage())


def location_of(bucket: Bucket) -> StorageLocation:
    """Return where a chatbot's files are stored now. Cheap: no network call.

    Raises SecretUnreadable (common.crypto), and StorageError for a role if the settings have no identity to assume
    it with.
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


def require_bucket(chatbot: Chatbot) -> Bucket:
    """Return the chatbot's bucket. Raises ValidationError if none is set."""
    bucket = Bucket.objects.select_related("chatbot").filter(chatbot=chatbot).first()
    if bucket is None:
        raise ValidationError({"bucket": "This chatbot has no bucket. Set one first, with set_bucket."})
    return bucket


def bucket_secret_binding(chatbot_id: int) -> str:
    """Return what a bucket's encrypted secret is bound to (`common.crypto`)."""
    return f"bucket:{chatbot_id}:secret"


def _credentials(bucket: Bucket) -> dict[str, Any]:
    if not bucket.role_arn:
        binding = bucket_secret_binding(bucket.chatbot_id)
        return {
            "access_key": bucket.access_key_id,
            "secret_key": decrypt(bucket.secret_encrypted, bound_to=binding),
        }
    if not settings.STS_ACCESS_KEY_ID:
        raise StorageError(
            "storage_role_refused",
            "There is no identity to assume roles with. Set STS_ACCESS_KEY_ID and STS_SECRET_ACCESS_KEY.",
        )
    role = Role(bucket.role_arn, bucket.external_id, session_name=f"data-compliance-{bucket.chatbot_id}")
    return {"access_key": None, "secret_key": None, "role": role}


# More than a worker uses within the time of one call: a dropped one loses the state of its breaker. 0.5 MB each.
@lru_cache(maxsize=512)
def _storage(**options: Any) -> ObjectStorage:
    return ObjectStorage(
        **options,
        # Otherwise S3Storage takes them from AWS_* variables.
        security_token=None,
        session_profile=None,
        file_overwrite=True,
        default_acl=None,
        querystring_expire=int(LINK_LIFE.total_seconds()),
    )


def forget_storages() -> None:
    """Discard every storage, with its connections and the state of its breaker."""
    _storage.cache_clear()


# A forked worker must not use its parent's connections.
os.register_at_fork(after_in_child=forget_storages)
