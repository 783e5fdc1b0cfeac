"""Links to the files of exports."""

from django.db import transaction
from django.db.models.functions import Now

from chatbots import changelog
from chatbots.buckets import hosted_storage
from chatbots.models import Bucket
from common.storage import StorageError
from compliance.errors import Refused
from compliance.models import ComplianceRequest, Export

Kind = ComplianceRequest.Kind


def download_link(request: ComplianceRequest, *, actor: str, file_id: int | None = None) -> str:
    """Return a short-lived link to an export's file, or to the copy of an uploaded file beside it.

    It contains the chatter's value. The change log records the actor. Raises Refused (`not_found`, `not_ready`,
    `in_client_bucket`, `export_expired`, `unavailable`).
    """
    if request.kind != Kind.EXPORT:
        raise Refused("not_found", "This request makes no export.")
    export = Export.objects.filter(request=request).first()
    if export is None or export.finished_at is None:
        raise Refused("not_ready", "The export is not finished. Ask for its status.")
    if export.hosting == Bucket.Hosting.CLIENT:
        raise Refused("in_client_bucket", "The export was written into your own bucket. Fetch it there.")
    if export.key is None or export.is_due:
        raise _expired()
    try:
        link = _link(export, export.key, file_id)
    except StorageError:
        raise Refused("unavailable", "The storage cannot be used for now.") from None
    with transaction.atomic():
        # A deletion that removes it waits for this lock, or has committed.
        if not Export.objects.select_for_update().filter(pk=export.pk, key=export.key, expires_at__gt=Now()):
            raise _expired()
        changelog.record(
            "export.downloaded",
            chatbot_id=request.chatbot_id,
            request_id=request.pk,
            actor=actor,
            data={"file": file_id},
        )
    return link


def _link(export: Export, key: str, file_id: int | None) -> str:
    if file_id is None:
        return hosted_storage().link(key, filename=key.rpartition("/")[2])
    copy = export.copies.filter(file_id=file_id).first()
    if copy is None:
        raise Refused("not_found", "There is no copy of this file beside the export.")
    # The object's metadata has its name, so the link need not.
    return hosted_storage().link(copy.key)


def _expired() -> Refused:
    return Refused("export_expired", "The export's time is over, or a deletion has removed it.")
