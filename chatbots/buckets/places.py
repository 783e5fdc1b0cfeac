"""Which storage a chatbot's files go to: the operator's bucket, below the chatbot's slug, or the client's own."""

import os
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings

from chatbots.buckets.storage import CLIENT_CONFIG, LINK_LIFE, ObjectStorage
from chatbots.models import Bucket, Chatbot
from chatbots.secrets import decrypt

Hosting = Bucket.Hosting


@dataclass(frozen=True)
class Place:
    """Where files of a chatbot go. A key begins with `prefix`, which is empty or ends in `/`."""

    hosting: Bucket.Hosting
    bucket: str
    prefix: str
    storage: ObjectStorage

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
    )


def hosted_place(chatbot: Chatbot) -> Place:
    """Return the chatbot's part of the operator's bucket, whatever its bucket is set to."""
    return Place(Hosting.HOSTED, settings.S3_BUCKET, f"{chatbot.slug}/", hosted_storage())


def place_of(bucket: Bucket) -> Place:
    """Return where a chatbot's files go now. Cheap to call. Raises SecretUnreadable (chatbots.secrets)."""
    if bucket.hosting == Hosting.HOSTED:
        return hosted_place(bucket.chatbot)
    storage = _storage(
        bucket_name=bucket.bucket,
        endpoint_url=bucket.endpoint or None,
        public_endpoint_url=None,
        region_name=bucket.region,
        access_key=bucket.access_key_id,
        secret_key=decrypt(bucket.secret_encrypted, bound_to=bucket_secret_binding(bucket.chatbot_id)),
    )
    return Place(Hosting.CLIENT, bucket.bucket, bucket.prefix, storage)


def bucket_secret_binding(chatbot_id: int) -> str:
    """Name row and field of a bucket's secret, for `chatbots.secrets`. A chatbot has one bucket."""
    return f"bucket:{chatbot_id}:secret"


@lru_cache(maxsize=64)
def _storage(**options: str | None) -> ObjectStorage:
    return ObjectStorage(
        **options,
        # Else S3Storage takes them from AWS_* variables, which are not settings of ours.
        security_token=None,
        session_profile=None,
        client_config=CLIENT_CONFIG,
        file_overwrite=True,
        default_acl=None,
        querystring_expire=int(LINK_LIFE.total_seconds()),
    )


def forget_storages() -> None:
    """Let every storage be made anew: its connections, and what its breaker knows."""
    _storage.cache_clear()


# A forked worker must not speak on its parent's connections.
os.register_at_fork(after_in_child=forget_storages)
