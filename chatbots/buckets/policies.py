"""The minimal IAM policies that a client must grant."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from chatbots.buckets.locations import require_bucket
from chatbots.models import Bucket, Chatbot

Policy = dict[str, Any]

# Placeholder where STS_IDENTITY_ARN is not set.
UNKNOWN_IDENTITY = "arn:aws:iam::<the service's account>:user/<the service's user>"

# It removes objects in every version.
_OBJECT_ACTIONS = (
    *("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"),
    *("s3:DeleteObject", "s3:DeleteObjectVersion"),
)


def access_policy(*, chatbot: Chatbot) -> Policy:
    """Return the policy for access to a chatbot's files. Raises ValidationError if no bucket is set.

    For a client's bucket: what our access key or role needs. For the hosted bucket: what the client's own credentials
    need to read its files, and no other client's.
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
