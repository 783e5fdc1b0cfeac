"""Issue and revoke a client's credentials in tests, and use them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from chatbots.buckets.locations import storage_read_with
from chatbots.models import BucketCredential, ChangeLogEntry, Chatbot
from chatbots.operations.credentials import NewCredential, issue_bucket_credential, revoke_bucket_credential
from common.storage import ObjectStorage, StorageError
from tests.iam import FILES

OWN, FOREIGN = FILES[0], FILES[1:]


def issue(chatbot: Chatbot, label: str = "Data team") -> NewCredential:
    return issue_bucket_credential(chatbot=chatbot, label=label, actor="command")


def revoke(chatbot: Chatbot, name: str, **options: Any) -> BucketCredential:
    return revoke_bucket_credential(chatbot=chatbot, name=name, actor="command", **options)


def reader(new: NewCredential) -> ObjectStorage:
    return storage_read_with(access_key_id=new.credential.access_key_id, secret=new.secret)


def is_denied(action: Callable[[], object]) -> bool:
    try:
        action()
    except StorageError as error:
        return error.code == "storage_access_denied"
    return False


def events() -> list[tuple[str, dict[str, Any]]]:
    entries = ChangeLogEntry.objects.filter(event__startswith="bucket_credential.").order_by("pk")
    return list(entries.values_list("event", "data"))


def some_time_later() -> None:
    BucketCredential.objects.update(created_at=Now() - timedelta(minutes=5))
    BucketCredential.objects.filter(revoking_at__isnull=False).update(revoking_at=Now() - timedelta(minutes=5))
