"""Look in the hosted bucket: every version of every object of the canary's chatbot, and of the ledger about it.

Keys, what is stored with an object, and contents, also inside gzip. Read are the canary's folders alone, and those
objects of the erasure ledger that name its requests.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from urllib.parse import unquote
from uuid import UUID

from chatbots.buckets import hosted_storage
from chatbots.models import SERVICE_FOLDERS
from common.storage import ObjectStorage, StorageError
from common.storage.listing import Listed
from compliance.canary.api import Code, Sighting
from compliance.canary.trouble import Budget, CannotTell, Doubts, Trouble
from compliance.canary.words import Planted, Search, Unsearchable
from compliance.models import CanaryTurn, LedgerObject

UPLOADS = SERVICE_FOLDERS[0]
EXPORTS, EXTRACTS = "chatter_data_exports", "daily_conversations_extracts"
_FOLDERS = {UPLOADS, EXPORTS, EXTRACTS}

# In the canary's folders and the ledger's objects together. Some are there at a time.
_MOST_VERSIONS = 2_000
_MOST_LEDGER_OBJECTS = 500


def control(planted: Planted, turn: CanaryTurn, *, has_extract: bool, budget: Budget) -> list[str]:
    """Return the folders whose files should have the chatter's texts before the deletion, and do not.

    Searches for words that are in no key: a key that is found does not show that contents are read.
    """
    wanted = {UPLOADS} if turn.file_id is not None else set()
    if turn.export_id is not None:
        wanted.add(EXPORTS)
    if has_extract:
        wanted.add(EXTRACTS)
    doubts = Doubts()
    seen: set[str] = set()
    # Beside an export lies a copy of the file.
    for prefix, labels in zip(_prefixes(turn), [("said", "long ago"), ("file",)], strict=True):
        found = _in_objects([prefix], Search(planted.only(*labels)), doubts, budget)
        seen |= {sighting.where.partition("/")[0] for sighting in found}
    doubts.tell()
    return sorted(wanted - seen)


def look(search: Search, turn: CanaryTurn, *, ledger_keys: Sequence[str] = (), budget: Budget) -> Iterator[Sighting]:
    """Yield where in the bucket a word is, then raise CannotTell if not all could be read.

    Names an object by its folder and a digest of its key.
    """
    doubts = Doubts()
    prefixes = _prefixes(turn)
    yield from _in_objects([*prefixes, *ledger_keys[:_MOST_LEDGER_OBJECTS]], search, doubts, budget)
    if len(ledger_keys) > _MOST_LEDGER_OBJECTS:
        doubts.note(CannotTell(Trouble.TOO_MUCH, SERVICE_FOLDERS[1]))
    for prefix in prefixes:
        with doubts.passing(), _answering("listing"):
            budget.check("listing")
            for upload in hosted_storage().uploads(prefix):
                if search.is_in_text(unquote(upload.key)):
                    yield Sighting(Code.TEXT_LEFT, f"{_name(upload.key)} (open upload)")
    doubts.tell()


def _prefixes(turn: CanaryTurn) -> list[str]:
    return [f"{turn.chatbot.slug}/", f"{UPLOADS}/{turn.chatbot_id}/"]


def _in_objects(prefixes: Iterable[str], search: Search, doubts: Doubts, budget: Budget) -> Iterator[Sighting]:
    storage = hosted_storage()
    number = 0
    for prefix in prefixes:
        with doubts.passing(), _answering("listing"):
            budget.check("listing")
            for key, versions in storage.versions_by_key(prefix):
                number += len(versions)
                if number > _MOST_VERSIONS:
                    raise CannotTell(Trouble.TOO_MUCH, _name(key))
                if search.is_in_text(unquote(key)):
                    yield Sighting(Code.TEXT_LEFT, f"{_name(key)} (key)")
                for version in versions:
                    with doubts.passing(), _answering(_name(key)):
                        yield from _in_version(storage, search, version, budget)


@contextmanager
def _answering(where: str) -> Iterator[None]:
    """Raise CannotTell for a storage that does not answer, or refuses."""
    failure: StorageError | None = None
    try:
        yield
    except StorageError as error:
        failure = error
    # Raised outside the except block: an error of the storage can name the key.
    if failure:
        raise CannotTell(Trouble.STORAGE_UNAVAILABLE, f"{where} ({failure.code})")


def _in_version(storage: ObjectStorage, search: Search, version: Listed, budget: Budget) -> Iterator[Sighting]:
    where = _name(version.key)
    budget.check(where)
    stored = None
    if not version.is_marker:
        stored = storage.read_version(version.key, "" if version.is_latest else version.version_id)
    if stored is None:
        return
    of = "" if version.is_latest else ", an old version"
    with closing(stored.pieces) as pieces:
        if search.is_in_text(unquote(stored.headers)):
            yield Sighting(Code.TEXT_LEFT, f"{where} (headers{of})")
        with suppress(Unsearchable):
            if search.is_in_any(_in_time(pieces, where, budget)):
                yield Sighting(Code.TEXT_LEFT, f"{where} (content{of})")
            return
    raise CannotTell(Trouble.TOO_MUCH, where)


def _in_time(pieces: Iterable[bytes], where: str, budget: Budget) -> Iterator[bytes]:
    for piece in pieces:
        budget.check(where)
        yield piece


def ledger_keys(request_ids: Sequence[UUID], *, since: datetime) -> Sequence[str]:
    """Return the keys of the ledger's objects since then that name one of these requests.

    At most one more than are read, by which `look` knows that there are too many.
    """
    named = LedgerObject.objects.filter(at__gte=since, written_at__isnull=False, request_ids__overlap=request_ids)
    return list(named.order_by("at").values_list("key", flat=True)[: _MOST_LEDGER_OBJECTS + 1])


def _name(key: str) -> str:
    """Name an object by its folder and 12 hex digits of its key's SHA-256: the key can have the value."""
    first, _, rest = key.partition("/")
    second = rest.partition("/")[0]
    folder = first if first in SERVICE_FOLDERS else second if second in _FOLDERS else "other"
    return f"{folder}/{hashlib.sha256(key.encode()).hexdigest()[:12]}"
