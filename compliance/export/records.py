"""The rows that record each export's key, upload and conversations.

A row is committed before the first call that could create its object. Each attempt has its own key, and reads the
previous one in a transaction of the claim. So a worker that has lost its claim can only touch a key that is no longer
used. The keys are

`chatter_data_exports/<uci value>/<YYYYMMDD>_<HHMMSS>_conversation_export.csv`, the time in UTC; a second file of the
same second ends in `_export_2.csv`, or in a higher number if a deletion has cleared the first one's key. An export by
conversation ids is in the folder `!conversations`, which no value can have: it would be percent-encoded. Copies of
uploaded files are beside it, in a folder named like the file with `_files` in place of `.csv`. An export in several
formats is a folder `..._conversation_export/` with `manifest.json` and all other files, or
`..._conversation_export.zip`. In the hosted bucket all this is below the chatbot's slug.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID

from chatbots import locks
from chatbots.buckets import StorageLocation
from chatbots.models import Chatbot
from common.db import array, execute, fetch
from compliance.models import ComplianceRequest, Export, ExportConversation
from compliance.storage_locations import CLIENT, MANIFEST, RecordedLocation, folder_of
from conversations.placement import by_place

MAX_KEY_BYTES = 900
_BY_CONVERSATIONS = "!conversations"


@dataclass(frozen=True)
class Target:
    """The file of an export. `place` is its number among the files of a claim."""

    request_id: UUID
    chatbot_id: int
    place: int
    export_id: int
    key: str
    include_files: bool
    csv_dialect: str
    formats: tuple[str, ...]
    archive: str

    @property
    def reading_group(self) -> tuple[bool, str] | None:
        """The options that exports of the CSV alone must share to be read together. None: it is read by itself."""
        is_plain = not self.archive and self.formats == (Chatbot.ExportFormat.CSV,)
        return (self.include_files, self.csv_dialect) if is_plain else None


class Leftover(NamedTuple):
    """The file of an earlier attempt, which may exist."""

    request: ComplianceRequest
    where: RecordedLocation
    key: str


# Excludes exports that a deletion has met, and those that another worker has under its own key by now. The keys are
# not joined: without statistics, all exports that never expire would be compared with each.
_OURS = """
SELECT id FROM compliance_export
 WHERE id = ANY(%(ids)s::bigint[]) AND key = (%(keys)s::text[])[array_position(%(ids)s::bigint[], id)]
   AND expires_at IS NULL
"""
_LOCK_OURS = f"{_OURS} ORDER BY id FOR UPDATE"

_NOTE_UPLOADS = """
UPDATE compliance_export e SET upload_id = opened.upload_id
  FROM unnest(%(ids)s::bigint[], %(uploads)s::text[]) AS opened(id, upload_id)
 WHERE e.id = opened.id
"""

# Except the key of an export with copies of files, which are found by it.
_FORGET_KEYS = """
WITH given_up AS (
    SELECT e.id FROM compliance_export e
     WHERE (e.id, e.key) IN (SELECT * FROM unnest(%(ids)s::bigint[], %(keys)s::text[]))
       AND NOT EXISTS (SELECT FROM compliance_exportfile f WHERE f.export_id = e.id)
     ORDER BY e.id
       FOR UPDATE OF e
), holding AS (
    DELETE FROM compliance_exportconversation held USING given_up WHERE held.export_id = given_up.id
)
UPDATE compliance_export e SET key = NULL, upload_id = NULL, expires_at = NULL FROM given_up WHERE e.id = given_up.id
"""

# Retention runs and sweeps take the rows that they erase, and leave those that are locked. Intake waits briefly.
_KEEP = """
SELECT FROM conversations_conversation
 WHERE id = ANY(%(conversations)s::bigint[]) AND chatbot_id = ANY(%(chatbots)s::bigint[])
 ORDER BY id
   FOR KEY SHARE
"""
# Conversations that a deletion closed, or with messages that were redacted after the export began, which its snapshot
# may contain.
# OFFSET 0: if statistics show no mark, all marked ones would be read for each (`test_stale_statistics`).
_CLOSED = """
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(%(exports)s::bigint[], %(conversations)s::bigint[]) AS wanted(export_id, conversation_id)
), closed AS MATERIALIZED (
    SELECT DISTINCT wanted.export_id
      FROM wanted
     CROSS JOIN LATERAL (
           SELECT deletion_request_id FROM conversations_conversation
            WHERE id = wanted.conversation_id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
     WHERE c.deletion_request_id IS NOT NULL
)
SELECT export_id FROM closed
 UNION
SELECT wanted.export_id
  FROM wanted
 CROSS JOIN LATERAL (
       SELECT request_id FROM compliance_redaction WHERE conversation_id = wanted.conversation_id) AS x
 CROSS JOIN LATERAL (
       SELECT cutoff_at FROM compliance_compliancerequest WHERE id = x.request_id) AS redacted
 CROSS JOIN LATERAL (
       SELECT began.cutoff_at
         FROM (SELECT request_id FROM compliance_export WHERE id = wanted.export_id) AS e
        CROSS JOIN LATERAL (
              SELECT cutoff_at FROM compliance_compliancerequest WHERE id = e.request_id) AS began) AS began
 WHERE redacted.cutoff_at >= began.cutoff_at
"""
_HOLD = """
INSERT INTO compliance_exportconversation (chatbot_id, export_id, conversation_id)
SELECT e.chatbot_id, e.id, wanted.conversation_id
  FROM unnest(%(exports)s::bigint[], %(conversations)s::bigint[]) AS wanted(export_id, conversation_id)
  JOIN compliance_export e ON e.id = wanted.export_id
 WHERE e.id = ANY(%(ours)s::bigint[])
 ORDER BY wanted.conversation_id, e.id
"""


def record(
    requests: Sequence[ComplianceRequest],
    now: datetime,
    *,
    places: Mapping[int, StorageLocation],
    purged: Collection[Leftover] = (),
) -> list[Target | Leftover]:
    """Record a new key for each export, in the caller's transaction and under its chatbots' intake locks.

    `places` are those of the chatbots. An earlier attempt's file is returned in place of the export's target, and has
    to be purged first, unless it is in `purged`.
    """
    known = Export.objects.select_for_update().filter(request__in=requests).order_by("pk")
    exports = {export.request_id: export for export in known}
    leftovers: list[Leftover] = []
    ready = []
    for request in requests:
        left = exports.get(request.pk)
        if left and left.key:
            where = RecordedLocation(left.chatbot_id, left.hosting, left.bucket, left.endpoint)
            leftover = Leftover(request, where, left.key)
            if leftover not in purged:
                leftovers.append(leftover)
                continue
        ready.append(request)
    return [*_save(ready, _fresh_keys(ready, now, places), places), *leftovers]


def met_since(targets: Collection[Target], *, lock: bool = False) -> set[Target]:
    """Return the targets that a deletion has met by now: their failures come from their removal.

    With `lock`, lock the others in the caller's transaction, so that it can write to them.
    """
    ours = {export_id for (export_id,) in fetch(_LOCK_OURS if lock else _OURS, _located(targets))}
    return {target for target in targets if target.export_id not in ours}


def record_uploads(uploads: Mapping[Target, str]) -> set[Target]:
    """Record the uploads' ids, in the caller's transaction; return the targets that a deletion has met since."""
    met = met_since(uploads, lock=True)
    noted = {target: upload for target, upload in uploads.items() if target not in met}
    execute(_NOTE_UPLOADS, {**_located(noted), "uploads": list(noted.values())})
    return met


def record_conversations(contents: Collection[tuple[Target, int]]) -> set[Target]:
    """Record which conversations exports will hold, in the caller's transaction and under the intake locks.

    This happens before any of their data is sent. A mark or an erasure comes either before, and the conversation is
    found closed here, or after, and finds the record. A redaction comes either before, and the export is sent only if
    it began after the redaction, or after, and finds the record as well. Returns the targets with a closed
    conversation, or that have expired: they must not be sent.
    """
    if not contents:
        return set()  # Citus refuses the statement for no chatbot, which is of no shard
    for together in by_place({(number, target.chatbot_id): target.chatbot_id for target, number in contents}):
        numbers, chatbots = zip(*together, strict=True)
        execute(_KEEP, {"conversations": array(numbers), "chatbots": array(set(chatbots))})
    values = {
        "exports": array(target.export_id for target, _ in contents),
        "conversations": array(conversation for _, conversation in contents),
        "chatbots": array({target.chatbot_id for target, _ in contents}),
    }
    wanted = {target for target, _ in contents}
    closed = {export_id for (export_id,) in fetch(_CLOSED, values)}
    ours = {target for target in wanted if target.export_id not in closed}
    ours -= met_since(ours, lock=True)
    execute(_HOLD, {**values, "ours": array(target.export_id for target in ours)})
    return wanted - ours


def forget_keys(targets: Collection[Target]) -> None:
    """Clear keys that have no object and cannot get one, in the caller's transaction."""
    execute(_FORGET_KEYS, _located(targets))


def _located(targets: Collection[Target]) -> dict[str, list[int] | list[str]]:
    return {"ids": [target.export_id for target in targets], "keys": [target.key for target in targets]}


def _fresh_keys(
    requests: Sequence[ComplianceRequest], now: datetime, places: Mapping[int, StorageLocation]
) -> dict[ComplianceRequest, str]:
    # One worker at a time per chatbot: two values under two variables, or shortened ones, can share a folder.
    chatbots = {request.chatbot_id for request in requests}
    locks.lock(*chatbots)
    forgotten = _with_forgotten_files([each for each in requests if not places[each.chatbot_id].is_hosted], now)
    keys: dict[ComplianceRequest, str] = {}
    number = 0
    while left := [request for request in requests if request not in keys]:
        number += 1
        named = {
            request: export_key(
                prefix=places[request.chatbot_id].prefix,
                value=request.uci_value,
                at=now,
                number=number + request.seq if request in forgotten else number,
                ending=_ending(request),
            )
            for request in left
        }
        rows = Export.objects.filter(chatbot__in=chatbots, key__in=set(named.values()))
        taken = set(rows.values_list("chatbot_id", "key"))
        for request, key in named.items():
            if (request.chatbot_id, key) not in taken:
                taken.add((request.chatbot_id, key))
                keys[request] = key
    return keys


def _with_forgotten_files(requests: Collection[ComplianceRequest], now: datetime) -> set[ComplianceRequest]:
    """Return the requests whose chatter may have a file of this second in the client's bucket under a cleared key.

    A deletion clears the key of a delivered file. The file stays, and must not be overwritten.
    """
    if not requests:
        return set()
    ended = ComplianceRequest.objects.filter(
        variable__in={each.variable_id for each in requests},
        uci_digest__in={each.uci_digest for each in requests},
        status=ComplianceRequest.Status.COMPLETED,
        completed_at__gte=now.replace(microsecond=0),
        export__hosting=CLIENT,
        export__key=None,
    )
    chatters = set(ended.values_list("variable_id", "uci_digest"))
    return {each for each in requests if (each.variable_id, each.uci_digest) in chatters}


def _save(
    requests: Sequence[ComplianceRequest],
    keys: Mapping[ComplianceRequest, str],
    places: Mapping[int, StorageLocation],
) -> list[Target]:
    # Conversations of an earlier attempt, whose file is removed.
    ExportConversation.objects.filter(export__request__in=requests).delete()
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
        update_fields=["key", "upload_id", "hosting", "bucket", "endpoint", "expires_at", "removed_at"],
    )
    return [
        Target(
            request_id=request.pk,
            chatbot_id=request.chatbot_id,
            place=request.seq,
            export_id=export.pk,
            key=keys[request],
            include_files=request.include_files,
            csv_dialect=request.csv_dialect,
            formats=tuple(request.formats.split()),
            archive=request.archive,
        )
        for request, export in zip(requests, exports, strict=True)
    ]


def _ending(request: ComplianceRequest) -> str:
    """Return the end of the key of the object that the export itself is: the CSV, the ZIP, or the manifest."""
    if request.archive:
        return f".{request.archive}"
    return f"/{MANIFEST}" if request.is_folder else ".csv"


def export_key(*, prefix: str, value: str | None, at: datetime, number: int = 1, ending: str = ".csv") -> str:
    """Return the key of the `number`-th export of a UCI value (None: by conversation ids) in the second of `at`.

    `prefix` is empty, or ends in `/`.
    """
    suffix = "" if number == 1 else f"_{number}"
    file_name = f"{at.astimezone(UTC):%Y%m%d_%H%M%S}_conversation_export{suffix}{ending}"
    above = f"{prefix}chatter_data_exports/"
    room = MAX_KEY_BYTES - len(above.encode()) - len(f"/{file_name}")
    folder = _BY_CONVERSATIONS if value is None else _folder(value, room)
    return f"{above}{folder}/{file_name}"


def beside(key: str, name: str | int) -> str:
    """Return the key of a file beside the export with this key. The copy of an uploaded file has its number."""
    return f"{folder_of(key)}{name}"


def _folder(value: str, room: int) -> str:
    """Percent-encode a value, except ASCII letters, digits and `-_.@`, into at most `room` bytes.

    A longer one ends in the SHA-256 of the whole value, so that two long values have two folders.
    """
    encoded = quote(value, safe="@").replace("~", "%7E")
    if encoded in {".", ".."}:
        # These would be other folders.
        encoded = encoded.replace(".", "%2E")
    if len(encoded) <= room:
        return encoded
    digest = hashlib.sha256(value.encode()).hexdigest()
    kept = encoded[: room - len(digest) - 1]
    # The cut is not inside of an escape.
    cut = kept.rfind("%", len(kept) - 2)
    return f"{kept[:cut] if cut >= 0 else kept}-{digest}"
