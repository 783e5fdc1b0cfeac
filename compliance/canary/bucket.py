"""Search the hosted bucket: every version of every object of the canary's chatbot, and of the ledger about it.

The search covers keys, metadata and contents, also inside gzip. It reads only the canary's folders, and the objects
of the erasure ledger with its requests.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from io import BytesIO
from urllib.parse import unquote

from chatbots.buckets import hosted_storage
from chatbots.models import SERVICE_FOLDERS
from common.storage import ObjectStorage
from common.storage.listing import Listed
from compliance.canary.report import Report, check_time
from compliance.canary.words import Planted, Search, Unsearchable
from compliance.canary.work import Work
from compliance.models import CanaryTurn, LedgerObject
from compliance.models.canary import Left, Place

UPLOADS = SERVICE_FOLDERS[0]
EXPORTS, EXTRACTS = "chatter_data_exports", "daily_conversations_extracts"
_FOLDERS = {UPLOADS, EXPORTS, EXTRACTS}
# All objects of a turn are small.
_MOST_BYTES = 16 * 1024 * 1024


def control(planted: Planted, turn: CanaryTurn, *, has_extract: bool) -> list[str]:
    """Return the folders whose files lack the chatter's texts before the deletion.

    Searches for words that are in no key: a match in a key does not show that contents are read.
    """
    wanted = {UPLOADS: turn.file_id is not None, EXPORTS: turn.export_id is not None, EXTRACTS: has_extract}
    report = Report()
    of_chatbot, of_uploads = _prefixes(turn)
    # Beside an export lies a copy of the file.
    _scan_objects([of_chatbot], Search([planted.said, planted.long_ago]), report)
    _scan_objects([of_uploads], Search([planted.in_file]), report)
    if report.trouble:
        raise report.trouble
    seen = {where.partition("/")[0] for _, _, where in report.findings}
    return sorted(folder for folder, is_wanted in wanted.items() if is_wanted and folder not in seen)


def scan(work: Work) -> None:
    """Report the places in the bucket with a word. An object is identified by its folder and a digest of its key."""
    search, report, prefixes = work.search, work.report, _prefixes(work.turn)
    _scan_objects([*prefixes, *_ledger_keys(work)], search, report)
    for prefix in prefixes:
        with report.capture_failure("listing"):
            check_time("listing")
            for upload in hosted_storage().uploads(prefix):
                if search.is_in_text(unquote(upload.key)):
                    report.add_finding(Place.BUCKET, Left.TEXT_LEFT, f"{_name(upload.key)} (open upload)")


def _ledger_keys(work: Work) -> list[str]:
    """Return the keys of the ledger's new objects that contain a request of a turn whose words are searched for."""
    turns = [work.turn, *work.former]
    ids = [each for turn in turns for each in (turn.export_id, turn.deletion_id) if each is not None]
    named = LedgerObject.objects.filter(at__gte=work.since, written_at__isnull=False, request_ids__overlap=ids)
    return list(named.values_list("key", flat=True))


def _prefixes(turn: CanaryTurn) -> list[str]:
    return [f"{turn.chatbot.slug}/", f"{UPLOADS}/{turn.chatbot_id}/"]


def _scan_objects(prefixes: Iterable[str], search: Search, report: Report) -> None:
    storage = hosted_storage()
    for prefix in prefixes:
        with report.capture_failure("listing"):
            check_time("listing")
            for key, versions in storage.versions_by_key(prefix):
                name = _name(key)
                if search.is_in_text(unquote(key)):
                    report.add_finding(Place.BUCKET, Left.TEXT_LEFT, f"{name} (key)")
                for version in versions:
                    with report.capture_failure(name):
                        check_time(name)
                        for part in _parts_with_word(storage, search, version):
                            of = "" if version.is_latest else ", an old version"
                            report.add_finding(Place.BUCKET, Left.TEXT_LEFT, f"{name} ({part}{of})")


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
