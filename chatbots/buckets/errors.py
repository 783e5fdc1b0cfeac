"""What can go wrong with object storage, in our words. `ObjectStorage` raises it."""

import re

# The storage's own codes. A HEAD has no body, so only its status tells.
GONE = frozenset({"404", "NotFound", "NoSuchKey", "NoSuchUpload", "NoSuchVersion"})
DENIED = frozenset({"403", "AccessDenied", "AllAccessDisabled", "Forbidden", "UnauthorizedAccess"})
_BAD_CREDENTIALS = frozenset(
    {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed", "SignatureDoesNotMatch"}
)
_BUSY = frozenset({"429", "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling"})

# What the access key has to be granted, by the operation that was refused.
_PERMISSIONS = {
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "PutObject": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectVersions": "s3:ListBucketVersions",
    "ListObjectsV2": "s3:ListBucket",
    "HeadObject": "s3:GetObject and s3:ListBucket",
    "GetObject": "s3:GetObject",
    "DeleteObjects": "s3:DeleteObject and s3:DeleteObjectVersion",
    "HeadBucket": "s3:ListBucket",
    "CreateBucket": "s3:CreateBucket",
}


# What the circuit breaker looks for, and what it says: nothing was asked of a storage that did not answer before.
UNAVAILABLE = "storage_unavailable"
RESTING = "storage_resting"


class StorageError(Exception):
    """The storage could not do what was asked. `code` and `detail` are ours and hold no key and no value.

    Codes: `storage_unavailable`, `storage_resting`, `storage_access_denied` (`detail` names the permission to grant),
    `storage_locked`, `storage_bucket_missing`, `storage_incomplete`. `retryable` says whether the same call
    can succeed later without anyone changing anything.
    """

    def __init__(self, code: str, detail: str, retryable: bool = False) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retryable = retryable


def unavailable() -> StorageError:
    return StorageError("storage_unavailable", "The storage does not answer, or is overloaded.", retryable=True)


def resting() -> StorageError:
    detail = "The storage did not answer before, so it is left alone for a while."
    return StorageError(RESTING, detail, retryable=True)


def denied(permission: str) -> StorageError:
    return StorageError(
        "storage_access_denied", f"The storage refuses this to our access key. Grant it {permission}."
    )


def locked() -> StorageError:
    return StorageError(
        "storage_locked", "Object lock protects a version of an object. Wait for its end, or lift it."
    )


def left_over() -> StorageError:
    return StorageError(
        "storage_incomplete", "Something of an object is still there after its removal.", retryable=True
    )


def unusable() -> StorageError:
    return StorageError("storage_incomplete", "The storage's address or its settings cannot be used.")


def from_code(code: str, *, operation: str, status: int = 0) -> StorageError:
    """Choose our words for an error code of the storage; `operation` is S3's name of the call."""
    if code == "NoSuchBucket":
        return StorageError("storage_bucket_missing", "The bucket does not exist, or not in this region.")
    if code in _BAD_CREDENTIALS:
        detail = "The storage refuses our access key, its secret, or our clock."
        return StorageError("storage_access_denied", detail)
    if code in DENIED:
        return denied(_PERMISSIONS.get(operation, operation))
    if code in GONE:
        detail = "The object or the upload is no longer there."
        return StorageError("storage_incomplete", detail, retryable=True)
    if code in _BUSY or status >= 500:
        return unavailable()
    # A code is one word of S3's list; anything else is not repeated.
    named = code if re.fullmatch(r"[A-Za-z0-9]{1,64}", code) else "an error"
    return StorageError("storage_incomplete", f"The storage answered {operation} with {named}.", retryable=True)
