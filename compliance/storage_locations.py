"""Where a recorded object lies, and the storage that reaches it.

A row that names an object also says whether it lies in the hosted bucket or in which client's bucket. A chatbot has
one bucket at a time: what lies in a former one of the client's is out of our reach.
"""

from typing import NamedTuple

from django.db.models import Exists, OuterRef, Q

from chatbots.buckets import StorageLocation, hosted_storage, location_of
from chatbots.models import Bucket
from common.crypto import SecretUnreadable
from common.storage import ObjectStorage, StorageError
from compliance.errors import StepFailed

HOSTED = Bucket.Hosting.HOSTED.value
CLIENT = Bucket.Hosting.CLIENT.value

# A condition on rows of `compliance_export e`: it lies in a bucket that is no longer the chatbot's.
OUT_OF_REACH = """
e.hosting = 'client' AND NOT EXISTS (
    SELECT FROM chatbots_bucket b
     WHERE b.chatbot_id = e.chatbot_id AND b.hosting = 'client' AND b.bucket = e.bucket
       AND b.endpoint = e.endpoint)
"""
# The same for a queryset of exports, negated.
WITHIN_REACH = Q(hosting=HOSTED) | Exists(
    Bucket.objects.filter(
        chatbot=OuterRef("chatbot"), hosting=CLIENT, bucket=OuterRef("bucket"), endpoint=OuterRef("endpoint")
    )
)


MANIFEST = "manifest.json"


class RecordedLocation(NamedTuple):
    """Where a row says that its object lies. `bucket` and `endpoint` are empty in the hosted bucket."""

    chatbot_id: int
    hosting: str = HOSTED
    bucket: str = ""
    endpoint: str = ""


def folder_of(key: str) -> str:
    """Return the beginning of the keys of all files beside the export with this key, and of no others."""
    return key.removesuffix(MANIFEST) if key.endswith(f"/{MANIFEST}") else f"{key.removesuffix('.csv')}_files/"


def storage_of(where: RecordedLocation) -> ObjectStorage:
    """Return the storage in which the object lies. Raises StepFailed, also if the bucket is out of reach."""
    if where.hosting == HOSTED:
        return hosted_storage()
    bucket = (
        Bucket.objects.filter(chatbot=where.chatbot_id, hosting=CLIENT, bucket=where.bucket, endpoint=where.endpoint)
        .select_related("chatbot")
        .first()
    )
    if bucket is None:
        raise StepFailed("bucket_changed", "The chatbot's bucket was changed in the middle of the work.")
    return open_location(bucket).storage


def open_location(bucket: Bucket) -> StorageLocation:
    """Return where a chatbot's files go now. Raises StepFailed."""
    detail = ""
    try:
        return location_of(bucket)
    except StorageError as error:
        raise StepFailed.of(error) from None
    except SecretUnreadable:
        detail = "The stored secret of the client's bucket does not open with ENCRYPTION_KEYS. Set the bucket anew."
    raise StepFailed("bucket_secret_unreadable", detail, retryable=False)
