"""Downloads of an export's files: an address of this service, and the storage's own when it is opened.

The address has a sealed token and no value in it, and works without a key for LINK_LIFE. Whether the file may still
be had is checked when the address is opened: it ends at once with the export, and who comes too late is told why. The
storage's address, which contains the chatter's value, is valid for a minute then.
"""

import json
from datetime import timedelta
from typing import NamedTuple

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from chatbots import changelog
from chatbots.authentication import active_keys
from chatbots.buckets import hosted_storage
from chatbots.models import ApiKey, Bucket, Chatbot
from chatbots.rate_limits import LIMITER
from common import outbound
from common.crypto import SecretUnreadable, decrypt, encrypt
from common.storage import ObjectStorage, StorageError
from common.storage.s3 import LINK_LIFE
from compliance.errors import Refused
from compliance.export.records import beside
from compliance.models import ComplianceRequest, Export

_PURPOSE = "download of an export"
_STORAGE_LINK_LIFE = timedelta(minutes=1)
# A storage that does not answer us may answer the browser, which can have another address for it.
_LOOK_SECONDS = 3.0


class _Token(NamedTuple):
    """The export, the name of a file beside it or None for its own, who asked, and when (Unix seconds)."""

    export_id: int
    name: str | None
    actor: str
    at: int


def issue(request: ComplianceRequest, *, actor: str, name: str | None = None) -> str:
    """Return the token of an address for an export's file, or for a file beside it by its name (`ExportFile.name`).

    The change log records the actor. Raises Refused (`not_found`, `not_ready`, `in_client_bucket`, `export_expired`).
    """
    if request.kind != ComplianceRequest.Kind.EXPORT:
        raise Refused("not_found", "This request makes no export.")
    export = Export.objects.filter(request=request).first()
    if export is None or export.finished_at is None:
        raise Refused("not_ready", "The export is not finished. Ask for its status.")
    if export.hosting == Bucket.Hosting.CLIENT:
        raise Refused("in_client_bucket", "The export was written into your own bucket. Fetch it there.")
    if export.key is not None and _key_of(export, name) is None:
        raise Refused("not_found", "There is no such file beside the export.")
    with transaction.atomic():
        # A deletion that removes it waits for this lock, or has committed.
        if not _available(export).select_for_update():
            raise Refused("export_expired", "The export's time is over, or a deletion or redaction has removed it.")
        changelog.record(
            "export.downloaded",
            chatbot_id=request.chatbot_id,
            request_id=request.pk,
            actor=actor,
            data={"file": int(name) if name and name.isdecimal() else name},
        )
    token = _Token(export.pk, name, actor, int(timezone.now().timestamp()))
    return encrypt(json.dumps(token), bound_to=_PURPOSE)


def storage_link(token: str) -> str:
    """Return the storage's address for the file of a token, for a minute.

    Raises Refused (`not_found`, `download_expired`, `download_removed`, `rate_limited`, `restored_database`,
    `unavailable`).
    """
    asked = _opened(token)
    export = Export.objects.select_related("chatbot").filter(pk=asked.export_id).first()
    if export is None:
        raise _unknown()
    if export.chatbot.closed_at:
        raise Refused("restored_database", "Something that was erased may be here again: the operator decides.")
    if not export.is_available:
        raise _gone(export)
    if timezone.now().timestamp() - asked.at >= LINK_LIFE.total_seconds():
        raise Refused("download_expired", f"This link worked for {LINK_LIFE.seconds // 60} minutes.")
    _require_right(asked.actor, export.chatbot)
    key = _key_of(export, asked.name)
    if key is None:
        raise _gone(export)
    storage = hosted_storage()
    # The copy of an uploaded file was stored with that file's name.
    filename = "" if asked.name and asked.name.isdecimal() else key.rpartition("/")[2]
    try:
        link = storage.link(key, filename=filename, expires=_STORAGE_LINK_LIFE)
    except StorageError:
        raise Refused("unavailable", "The storage cannot be used for now.") from None
    if not _may_exist(storage, key) or not _available(export).exists():
        export.refresh_from_db()
        raise _gone(export)
    return link


def _opened(token: str) -> _Token:
    try:
        export_id, name, actor, at = json.loads(decrypt(token, bound_to=_PURPOSE))
        # In a token of the version before, a number.
        return _Token(export_id, None if name is None else str(name), actor, at)
    except SecretUnreadable:
        pass
    # Raised outside of the except block: its context would contain the token.
    raise _unknown()


def _unknown() -> Refused:
    return Refused("not_found", "There is no such download. Has the whole address been copied?")


def _available(export: Export) -> QuerySet[Export]:
    return Export.objects.filter(pk=export.pk, key__isnull=False, expires_at__gt=Now())


def _gone(export: Export) -> Refused:
    """Return why an export's file cannot be had any more."""
    # A deletion or redaction ends it earlier.
    began, ended = export.finished_at, export.expires_at
    if began and ended and began + settings.HOSTED_FILE_DAYS <= ended <= timezone.now():
        return Refused("download_expired", "The export was kept for its time, which is over.")
    return Refused("download_removed", "The file is not stored any more: a deletion or a redaction has removed it.")


def _require_right(actor: str, chatbot: Chatbot) -> None:
    """Raise Refused if whoever asked for the address may make no calls any more, or makes too many."""
    kind, _, name = actor.partition(":")
    if kind == "user":
        staff = User.objects.filter(pk=int(name), is_active=True)
        if staff.filter(Q(is_superuser=True) | Q(memberships__chatbot=chatbot)).exists():
            return
    elif key := active_keys(ApiKey.Type.TOKEN).filter(prefix=name).first():
        allowance = LIMITER.take(key)
        if allowance is None or allowance.allowed:
            return
        raise Refused("rate_limited", "The key of this download has made too many calls. Try again in a minute.")
    raise Refused("download_expired", "Whoever asked for this link has no access any more.")


def _key_of(export: Export, name: str | None) -> str | None:
    """Return the key of the object, or None if there is no file of this name beside the export."""
    if name is None or export.key is None:
        return export.key
    key = beside(export.key, name)
    return key if export.copies.filter(key=key).exists() else None


def _may_exist(storage: ObjectStorage, key: str) -> bool:
    try:
        with outbound.within(_LOOK_SECONDS):
            return storage.exists(key)
    except StorageError:
        return True
