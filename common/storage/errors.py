"""Errors of object storage, with codes and texts of our own."""

import re

# The storage's own codes. The answer to HEAD has no body, so its code is the status.
GONE = frozenset({"404", "NotFound", "NoSuchKey", "NoSuchUpload", "NoSuchVersion"})
DENIED = frozenset({"403", "AccessDenied", "AllAccessDisabled", "Forbidden", "UnauthorizedAccess"})
_BAD_CREDENTIALS = frozenset(
    {"ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed", "SignatureDoesNotMatch"}
)
_BUSY = frozenset({"429", "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling"})
_NO_IAM = frozenset(
    {"404", "405", "501", "InvalidAction", "MethodNotAllowed", "NotImplemented", "UnsupportedOperation"}
)

# The permissions that each operation needs.
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

# The code that opens the circuit breaker, and the code that an open one raises.
UNAVAILABLE = "storage_unavailable"
RESTING = "storage_resting"
# Errors of one object, not of the storage.
INCOMPLETE = "storage_incomplete"

# Refusals that can end within minutes by themselves: a store that starts, a policy being set, a failing identity
# service. So the work is tried this many times, over some two and a half minutes.
REFUSALS = frozenset({"storage_access_denied", "storage_role_refused", "storage_bucket_missing"})
REFUSED_ATTEMPTS = 4


def max_attempts(code: str, *, retryable: bool, most: int) -> int:
    """Return how many attempts work has after this error: `most` if a later attempt can succeed."""
    if retryable:
        return most
    return REFUSED_ATTEMPTS if code in REFUSALS else 1


class StorageError(Exception):
    """A failed call. `code` and `detail` are ours and contain neither keys nor values.

    Codes: `storage_unavailable`, `storage_resting`, `storage_access_denied` (`detail` names the permission to grant),
    `storage_role_refused`, `storage_address_refused`, `storage_locked`, `storage_bucket_missing`,
    `storage_incomplete`. `retryable`: the same call can succeed later without any change. `permission` is set if
    granting it is enough.
    """

    def __init__(self, code: str, detail: str, retryable: bool = False, permission: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.permission = permission


class IamError(StorageError):
    """A failed call to IAM: `iam_missing`, `iam_refused` or `iam_unavailable`. No request depends on one."""


def unavailable() -> StorageError:
    return StorageError("storage_unavailable", "The storage does not answer, or is overloaded.", retryable=True)


def resting() -> StorageError:
    detail = "The storage did not answer before, so it is not called for a while."
    return StorageError(RESTING, detail, retryable=True)


def denied(permission: str) -> StorageError:
    detail = f"The storage denies this to our access key. Grant it {permission}."
    return StorageError("storage_access_denied", detail, permission=permission)


def locked() -> StorageError:
    return StorageError(
        "storage_locked", "Object lock protects a version of an object. Wait until it ends, or remove it."
    )


def incomplete(detail: str) -> StorageError:
    return StorageError(INCOMPLETE, detail, retryable=True)


def incomplete_removal() -> StorageError:
    return incomplete("Part of an object still exists after its removal.")


def from_code(code: str, *, operation: str, status: int = 0) -> StorageError:
    """Return the error for a code of the storage; `operation` is S3's or STS's name of the call."""
    if code in _BUSY or status >= 500:
        return unavailable()
    if operation == "AssumeRole":
        return _role_refused(code)
    if code == "NoSuchBucket":
        return StorageError("storage_bucket_missing", "The bucket does not exist, or not in this region.")
    if code in _BAD_CREDENTIALS:
        detail = "The storage rejects our access key, its secret, or our clock."
        return StorageError("storage_access_denied", detail)
    gone = "The object or the upload no longer exists."
    other = gone if code in GONE else f"The storage answered {operation} with {_named(code)}."
    return denied(_PERMISSIONS.get(operation, operation)) if code in DENIED else incomplete(other)


def _role_refused(code: str) -> StorageError:
    if code in DENIED:
        detail = (
            "STS does not let us assume the client's role. Its trust policy must name our identity and the external "
            "id, as `bucket_policy --trust` prints them, and our identity must be allowed to assume it."
        )
    elif code in _BAD_CREDENTIALS or code == "InvalidClientTokenId":
        detail = "STS rejects our own identity. Check STS_ACCESS_KEY_ID, STS_SECRET_ACCESS_KEY and the clock."
    else:
        detail = f"STS answered {_named(code)} for the client's role."
    return StorageError("storage_role_refused", detail)


def of_iam(code: str, *, operation: str, status: int) -> IamError:
    """As `from_code`, for a call to IAM."""
    if code in _NO_IAM:
        return IamError("iam_missing", "The server at IAM_ENDPOINT_URL does not offer IAM.")
    if code in _BUSY or status >= 500:
        return IamError("iam_unavailable", "IAM does not answer, or is overloaded.", retryable=True)
    if code in DENIED:
        detail = (
            f"IAM denies iam:{operation} to the identity of IAM_ACCESS_KEY_ID. Grant it, and allow changes in the "
            "server (SeaweedFS: -s3.iam.readOnly=false)."
        )
    elif code in _BAD_CREDENTIALS or code == "InvalidClientTokenId":
        detail = "IAM rejects IAM_ACCESS_KEY_ID, its secret, or our clock."
    elif code == "DeleteConflict":
        detail = "The user has more than it was created with, such as a group. Take that away from it by hand."
    else:
        detail = f"IAM answered {operation} with {_named(code)}."
    return IamError("iam_refused", detail)


def _named(code: str) -> str:
    """Return a code that is one word, as in S3's list; anything else is not repeated."""
    return code if re.fullmatch(r"[A-Za-z0-9]{1,64}", code) else "an error"
