"""The least that a client must grant, as IAM policies."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError

from chatbots.models import Bucket, Chatbot

Policy = dict[str, Any]

# The ARN that stands where the operator has told none.
UNKNOWN_IDENTITY = "arn:aws:iam::<the service's account>:user/<the service's user>"

# What the service does with its objects. Versions: what it removes, it removes in each version.
_OBJECT_ACTIONS = (
    *("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"),
    *("s3:DeleteObject", "s3:DeleteObjectVersion"),
)


def access_policy(*, chatbot: Chatbot) -> Policy:
    """Return the policy for the access to a chatbot's files. Raises ValidationError when no bucket is set.

    For a client's bucket it is what our access key or role needs. For the hosted bucket it is for credentials with
    which this client reads its own files, and no one else's.
    """
    bucket = _bucket_of(chatbot)
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
        # S3 knows no prefix as a condition of this one.
        _statement("ListOpenUploads", ["s3:ListBucketMultipartUploads"], arn),
        *_of_kms(bucket),
    )


def trust_policy(*, chatbot: Chatbot) -> Policy:
    """Return who may assume the role: our identity, with the external id. Raises ValidationError without a role."""
    bucket = _bucket_of(chatbot)
    if not bucket.role_arn:
        raise ValidationError({"role_arn": "This bucket is not reached by a role, so there is nothing to trust."})
    return _policy(
        {
            "Sid": "AssumeWithExternalId",
            "Effect": "Allow",
            "Principal": {"AWS": settings.STS_IDENTITY_ARN or UNKNOWN_IDENTITY},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": bucket.external_id}},
        }
    )


def _bucket_of(chatbot: Chatbot) -> Bucket:
    bucket = Bucket.objects.filter(chatbot=chatbot).first()
    if bucket is None:
        raise ValidationError({"bucket": "This chatbot has no bucket. Set one first, with set_bucket."})
    return bucket


def _policy(*statements: Policy) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _statement(sid: str, actions: list[str], resource: str, condition: Policy | None = None) -> Policy:
    granted = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}
    return granted | ({"Condition": condition} if condition else {})


def _below(prefix: str) -> Policy | None:
    return {"StringLike": {"s3:prefix": f"{prefix}*"}} if prefix else None


def _of_kms(bucket: Bucket) -> list[Policy]:
    """A named KMS key wants its own grant; S3's default key needs none."""
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
