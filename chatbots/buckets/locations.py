"""The location of a chatbot's files: in the operator's bucket, below the chatbot's slug, or in the client's own.

The minimal IAM policies that a client must grant are here too.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from chatbots.models import SERVICE_FOLDERS, Bucket, Chatbot
from common.crypto import decrypt
from common.storage.errors import StorageError
from common.storage.s3 import ObjectStorage
from common.storage.sessions import AWS_CONFIG, CLIENT_CONFIG, OTHER_CONFIG, Role

Hosting = Bucket.Hosting
Policy = dict[str, Any]

# Placeholder if STS_IDENTITY_ARN is not set.
UNKNOWN_IDENTITY = "arn:aws:iam::<the service's account>:user/<the service's user>"

# The service removes objects in every version.
_OBJECT_ACTIONS = (
    *("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"),
    *("s3:DeleteObject", "s3:DeleteObjectVersion"),
)


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
    return _storage(**_hosted(access_key=settings.S3_ACCESS_KEY_ID, secret_key=settings.S3_SECRET_ACCESS_KEY))


def storage_read_with(*, access_key_id: str, secret: str) -> ObjectStorage:
    """Return the operator's bucket, accessed with other credentials. The secret is kept only in this object."""
    return ObjectStorage(**_hosted(access_key=access_key_id, secret_key=secret))


def hosted_location(chatbot: Chatbot) -> StorageLocation:
    """Return the chatbot's folder in the operator's bucket, whatever its bucket is set to."""
    return StorageLocation(Hosting.HOSTED, settings.S3_BUCKET, f"{chatbot.slug}/", hosted_storage())


def location_of(bucket: Bucket) -> StorageLocation:
    """Return the present location of a chatbot's files. Cheap: no network call.

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
    """Return the context to which a bucket's encrypted secret is bound (`common.crypto`)."""
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


def _hosted(*, access_key: str, secret_key: str) -> dict[str, Any]:
    return {
        "bucket_name": settings.S3_BUCKET,
        "endpoint_url": settings.S3_ENDPOINT_URL,
        "public_endpoint_url": settings.S3_PUBLIC_ENDPOINT_URL,
        "region_name": settings.S3_REGION,
        "access_key": access_key,
        "secret_key": secret_key,
        "client_config": CLIENT_CONFIG,
    }


# More storages than a worker uses within the time of one call: a dropped one loses the state of its breaker. Each has
# 0.5 MB.
_storage = lru_cache(maxsize=512)(ObjectStorage)


def forget_storages() -> None:
    """Discard every storage, with its connections and the state of its breaker."""
    _storage.cache_clear()


# A forked worker must not use its parent's connections.
os.register_at_fork(after_in_child=forget_storages)


def is_folder_shared(slug: str) -> bool:
    """Return whether another folder of the operator's bucket has this name in upper or lower case.

    Some stores compare the resources of a policy without regard to case, so that it grants both.
    """
    same = Chatbot.objects.filter(slug__iexact=slug).exclude(slug=slug)
    return slug.lower() in SERVICE_FOLDERS or same.exists()


def hosted_place(chatbot: Chatbot) -> dict[str, str]:
    """Return the settings that a client needs, beside credentials, to reach its files in the operator's bucket."""
    return {
        "bucket": settings.S3_BUCKET,
        "prefix": f"{chatbot.slug}/",
        "region": settings.S3_REGION,
        "endpoint": settings.S3_PUBLIC_ENDPOINT_URL or "",
    }


def access_policy(*, chatbot: Chatbot) -> Policy:
    """Return the policy for access to a chatbot's files. Raises ValidationError if no bucket is set.

    For a client's bucket: the permissions that our access key or role needs. For the hosted bucket: those that the
    client's own credentials need to read its files, and no other client's.
    """
    bucket = require_bucket(chatbot)
    if bucket.hosting == Bucket.Hosting.HOSTED:
        name, prefix, region = settings.S3_BUCKET, f"{chatbot.slug}/", settings.S3_REGION
        arn = f"arn:{_partition(region)}:s3:::{name}"
        return _policy(
            _statement("ReadFiles", ["s3:GetObject"], f"{arn}/{prefix}*"),
            _statement("ListFiles", ["s3:ListBucket"], arn, _below(prefix)),
        )
    arn = f"arn:{_partition(bucket.region)}:s3:::{bucket.bucket}"
    return _policy(
        _statement("Files", list(_OBJECT_ACTIONS), f"{arn}/{bucket.prefix}*"),
        _statement("ListFiles", ["s3:ListBucket", "s3:ListBucketVersions"], arn, _below(bucket.prefix)),
        # S3 supports no prefix condition here.
        _statement("ListOpenUploads", ["s3:ListBucketMultipartUploads"], arn),
        *_of_kms(bucket),
    )


def trust_policy(*, chatbot: Chatbot) -> Policy:
    """Return the policy that lets our identity assume the role. Raises ValidationError without a role."""
    bucket = require_bucket(chatbot)
    if not bucket.role_arn:
        raise ValidationError({"role_arn": "This bucket has no role, so it needs no trust policy."})
    return _policy(
        {
            "Sid": "AssumeWithExternalId",
            "Effect": "Allow",
            "Principal": {"AWS": settings.STS_IDENTITY_ARN or UNKNOWN_IDENTITY},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": bucket.external_id}},
        }
    )


def _policy(*statements: Policy) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _statement(sid: str, actions: list[str], resource: str, condition: Policy | None = None) -> Policy:
    granted = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}
    return granted | ({"Condition": condition} if condition else {})


def _below(prefix: str) -> Policy | None:
    return {"StringLike": {"s3:prefix": f"{prefix}*"}} if prefix else None


def _of_kms(bucket: Bucket) -> list[Policy]:
    """Return the grant for a named KMS key; S3's default key needs none."""
    key, actions = bucket.kms_key_id, ["kms:GenerateDataKey", "kms:Decrypt"]
    if not key:
        return []
    if key.startswith("arn:") and ":key/" in key:
        return [_statement("EncryptFiles", actions, key)]
    every_key = f"arn:{_partition(bucket.region)}:kms:{bucket.region}:*:key/"
    if "alias/" in key:
        alias = "alias/" + key.partition("alias/")[2]
        condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias}}
        return [_statement("EncryptFiles", actions, f"{every_key}*", condition)]
    return [_statement("EncryptFiles", actions, f"{every_key}{key}")]


def _partition(region: str) -> str:
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
