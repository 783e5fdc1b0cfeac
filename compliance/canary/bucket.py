"""Search the hosted bucket: every version of every object of the canary's chatbot, and of the ledger about it.

The search covers keys, metadata and contents, also inside gzip. It reads only the canary's folders, and the objects
of the erasure ledger with its requests.
"""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from urllib.parse import unquote

from chatbots.buckets import hosted_storage
from chatbots.models import SERVICE_FOLDERS
from common.storage import ObjectStorage
from common.storage.listing import Listed
from compliance.canary.errors import check_time
from compliance.canary.words import Search, Unsearchable
from compliance.canary.work import Work
from compliance.models import LedgerObject
from compliance.models.canary import Left, Place

_FOLDERS = {"chatter_data_exports", "daily_conversations_extracts"}
# All objects of a turn are small.
_MOST_BYTES = 16 * 1024 * 1024


def scan(work: Work) -> None:
    """Report the places in the bucket with a word. An object is identified by its folder and a digest of its key."""
    storage = hosted_storage()
    folders = [f"{work.turn.chatbot.slug}/", f"uploads/{work.turn.chatbot_id}/"]
    for prefix in [*folders, *_ledger_keys(work)]:
        with work.capture_failure("listing"):
            check_time("listing")
            for key, versions in storage.versions_by_key(prefix):
                name = _name(key)
                if work.search.is_in_text(unquote(key)):
                    work.add_finding(Place.BUCKET, Left.TEXT_LEFT, f"{name} (key)")
                for version in versions:
                    with work.capture_failure(name):
                        check_time(name)
                        for part in _parts_with_word(storage, work.search, version):
                            of = "" if version.is_latest else ", an old version"
                            work.add_finding(Place.BUCKET, Left.TEXT_LEFT, f"{name} ({part}{of})")
    for prefix in folders:
        with work.capture_failure("listing"):
            check_time("listing")
            for upload in storage.uploads(prefix):
                if work.search.is_in_text(unquote(upload.key)):
                    work.add_finding(Place.BUCKET, Left.TEXT_LEFT, f"{_name(upload.key)} (open upload)")


def _ledger_keys(work: Work) -> list[str]:
    """Return the keys of the ledger's new objects that contain a request of a turn whose words are searched for."""
    turns = [work.turn, *work.former]
    ids = [each for turn in turns for each in (turn.export_id, turn.deletion_id) if each is not None]
    named = LedgerObject.objects.filter(at__gte=work.since, written_at__isnull=False, request_ids__overlap=ids)
    return list(named.values_list("key", flat=True))


def _parts_with_word(storage: ObjectStorage, search: Search, version: Listed) -> Iterator[str]:
    """Yield the parts of a version that contain a word. Raises StorageError, Unsearchable."""
    stored = None
    if not version.is_marker:
        stored = storage.read_version(version.key, "" if version.is_latest else version.version_id)
    if stored is None:
        return
    with closing(stored.pieces) as pieces:
        if search.is_in_text(unquote(stored.headers)):
            yield "headers"
        if version.bytes > _MOST_BYTES:
            raise Unsearchable
        if search.is_in_file(BytesIO(b"".join(pieces))):
            yield "content"


def _name(key: str) -> str:
    """Return an object's folder and 12 hex digits of its key's SHA-256: the key can contain the value."""
    first, _, rest = key.partition("/")
    second = rest.partition("/")[0]
    folder = first if first in SERVICE_FOLDERS else second if second in _FOLDERS else "other"
    return f"{folder}/{hashlib.sha256(key.encode()).hexdigest()[:12]}"
