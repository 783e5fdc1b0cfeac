"""The rows that name the files: which key each gets, and which upload writes it.

A row is committed before the first call that could make something under its key. Each attempt has a key of its
own, and reads the one before in a bite. So a worker that wakes after its claim was lost can only touch a key that
nobody uses any more.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from chatbots.buckets import Place
from chatbots.models import Chatbot
from compliance.claims import HeldClaim
from compliance.export.naming import export_key
from compliance.models import ComplianceRequest, Export
from compliance.whereabouts import Whereabouts
from conversations.locks import share_with_intake


@dataclass(frozen=True)
class Target:
    """Where the file of an export goes. `place` is its place among the files of a claim."""

    request_id: UUID
    chatbot_id: int
    place: int
    export_id: int
    key: str
    include_files: bool


class Leftover(NamedTuple):
    """Where the file of an attempt before is, or may be."""

    where: Whereabouts
    key: str


@dataclass
class Recorded:
    """What `record` found: exports whose file can be written, keys that have to be purged first, exports whose
    former file a deletion still has to remove."""

    targets: list[Target] = field(default_factory=list)
    leftovers: dict[ComplianceRequest, Leftover] = field(default_factory=dict)
    overtaken: list[UUID] = field(default_factory=list)


_RECORD_UPLOADS = """
WITH opened AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(keys)s::text[], %(uploads)s::text[]) AS upload(id, key, upload_id)
), ours AS (
    SELECT e.id FROM compliance_export e JOIN opened ON opened.id = e.id
     WHERE e.key = opened.key AND e.doomed_by IS NULL
     ORDER BY e.id
       FOR UPDATE OF e
)
UPDATE compliance_export e SET upload_id = opened.upload_id
  FROM ours JOIN opened ON opened.id = ours.id
 WHERE e.id = ours.id
RETURNING e.id
"""

# Not while there are copies of files beside it: the next attempt, or whoever removes the export, finds them by it.
_FORGET_KEYS = """
UPDATE compliance_export e SET key = NULL, upload_id = NULL
 WHERE (e.id, e.key) IN (SELECT * FROM unnest(%(ids)s::bigint[], %(keys)s::text[])) AND e.doomed_by IS NULL
   AND NOT EXISTS (SELECT FROM compliance_exportfile f WHERE f.export_id = e.id)
"""


@contextmanager
def sharing_bite(held: HeldClaim, chatbot_ids: Iterable[int]) -> Iterator[datetime]:
    """Open a bite under the intake locks of these chatbots, which exclude their marks."""
    with held.bite() as now:
        share_with_intake(chatbot_ids)
        yield now


def record(
    requests: Sequence[ComplianceRequest],
    now: datetime,
    *,
    places: Mapping[int, Place],
    purged: Mapping[ComplianceRequest, Leftover],
) -> Recorded:
    """Give each export a row that names a fresh key, in the caller's bite and under its chatbots' intake locks.

    `places` are those of the chatbots. `purged` names what former attempts made and of which nothing is left; any
    other is told as a leftover.
    """
    known = Export.objects.select_for_update().filter(request__in=requests).order_by("pk")
    exports = {export.request_id: export for export in known}
    recorded = Recorded()
    ready = []
    for request in requests:
        export = exports.get(request.pk)
        left = _leftover(export) if export else None
        if export and left and left != purged.get(request):
            recorded.leftovers[request] = left
        elif export and left and export.doomed_by:
            # Its deletion still has to note that the object is gone.
            recorded.overtaken.append(request.pk)
        else:
            ready.append(request)
    recorded.targets = _save(ready, _fresh_keys(ready, now, places), places)
    return recorded


def _leftover(export: Export) -> Leftover | None:
    if not export.key:
        return None
    return Leftover(Whereabouts(export.chatbot_id, export.hosting, export.bucket, export.endpoint), export.key)


def record_uploads(uploads: Mapping[Target, str]) -> set[Target]:
    """Note the uploads' ids, in the caller's bite; return those that a deletion has not doomed since."""
    with connection.cursor() as cursor:
        cursor.execute(_RECORD_UPLOADS, {**_located(uploads), "uploads": list(uploads.values())})
        noted = {row[0] for row in cursor.fetchall()}
    return {target for target in uploads if target.export_id in noted}


def forget_keys(targets: Collection[Target]) -> None:
    """Forget keys under which nothing is and nothing can come, in the caller's bite."""
    with connection.cursor() as cursor:
        cursor.execute(_FORGET_KEYS, _located(targets))


def _located(targets: Iterable[Target]) -> dict[str, list[int] | list[str]]:
    targets = list(targets)
    return {"ids": [target.export_id for target in targets], "keys": [target.key for target in targets]}


def _fresh_keys(
    requests: Sequence[ComplianceRequest], now: datetime, places: Mapping[int, Place]
) -> dict[ComplianceRequest, str]:
    # One worker at a time per chatbot: equal values under two variables, or that are shortened, share a folder.
    ids = {request.chatbot_id for request in requests}
    chatbots = list(
        Chatbot.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk").values_list("pk", flat=True)
    )
    keys: dict[ComplianceRequest, str] = {}
    left = list(requests)
    for number in count(1):
        if not left:
            break
        named = {
            request: export_key(
                prefix=places[request.chatbot_id].prefix, value=request.uci_value, at=now, number=number
            )
            for request in left
        }
        rows = Export.objects.filter(chatbot__in=chatbots, key__in=set(named.values()))
        taken = set(rows.values_list("chatbot_id", "key"))
        left = []
        for request, key in named.items():
            if (request.chatbot_id, key) in taken:
                left.append(request)
            else:
                taken.add((request.chatbot_id, key))
                keys[request] = key
    return keys


def _save(
    requests: Sequence[ComplianceRequest], keys: Mapping[ComplianceRequest, str], places: Mapping[int, Place]
) -> list[Target]:
    exports = Export.objects.bulk_create(
        [
            Export(
                chatbot_id=request.chatbot_id,
                request=request,
                key=keys[request],
                hosting=places[request.chatbot_id].hosting,
                bucket="" if places[request.chatbot_id].is_hosted else places[request.chatbot_id].bucket,
                endpoint=places[request.chatbot_id].endpoint,
            )
            for request in requests
        ],
        update_conflicts=True,
        unique_fields=["request"],
        update_fields=["key", "upload_id", "hosting", "bucket", "endpoint", "doomed_by", "left_by", "removed_at"],
    )
    return [
        Target(
            request_id=request.pk,
            chatbot_id=request.chatbot_id,
            place=request.seq,
            export_id=export.pk,
            key=keys[request],
            include_files=request.include_files,
        )
        for request, export in zip(requests, exports, strict=True)
    ]
