"""Read the objects of the ledger that this database does not know, and store their lines, merged by request.

Whatever the order in which lines are merged, the same is left of a request: what it has erased before what was
withdrawn, that before that it has begun, and that before that it was accepted; of several such lines the latest, with
the conversations of all. What was accepted and what has begun name the same conversations, so these are added up too.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from django.db import transaction

from chatbots import changelog
from chatbots.buckets import hosted_storage
from chatbots.models import ApiKey, Variable
from common.db import array, execute, fetch
from compliance.ledger import objects
from compliance.ledger.content import Fault, InvalidLedgerObject, Line
from compliance.models import JournalEntry, LedgerObject, LineKind, Service

ACTOR = "replay"

_KEYS_AT_ONCE = 1_000
_LOOKED_FOR = 10

# What a line must have, by its kind and that of its request. All of an authentic object was written here, so what
# lacks any of it is of a version that this one does not know.
_OF_REQUEST = {"request", "chatbot"}
_FILED = {*_OF_REQUEST, "received_at", "due_at"}
_NAMED = {*_FILED, "variable", "chatter", "erase_exports"}
_OF_MESSAGES = {*_NAMED, "conversation", "messages", "reason"}
_MEMBERS: Mapping[tuple[str, str | None], set[str]] = {
    **{
        (kind, request_kind): _OF_MESSAGES if request_kind == "redaction" else {*_NAMED, "conversations"}
        for kind in ("accepted", "intended")
        for request_kind in ("deletion", "export", "redaction")
    },
    ("withdrawn", None): {*_OF_REQUEST, "status", "at"},
    ("exact", None): {*_NAMED, "named", "cutoff_at", "conversations"},
    ("redacted", None): _OF_MESSAGES,
    ("retention", None): {*_FILED, "older_than", "day", "retention_days"},
    ("key_revoked", None): {"chatbot", "key", "revoked_at"},
}

_RANK = "CASE {}.kind WHEN 'accepted' THEN 0 WHEN 'intended' THEN 1 WHEN 'withdrawn' THEN 2 ELSE 3 END"
_OF_NEW, _OF_KNOWN = _RANK.format("excluded"), _RANK.format("known")
_TAKES = f"({_OF_NEW} > {_OF_KNOWN} OR ({_OF_NEW} = {_OF_KNOWN} AND excluded.key >= known.key))"
_MERGED = ", ".join(
    f"{name} = CASE WHEN {_TAKES} THEN excluded.{name} ELSE known.{name} END" for name in ("kind", "key", "at")
)
# A replay that does not find the variable writes a line of what it erased by conversations alone. The chatter is kept
# from any other.
_WITH_CHATTER = """
{0}.line || CASE WHEN {0}.kind <> 'exact' OR {0}.line->>'variable' IS NOT NULL OR {1}.line->>'variable' IS NULL
                 THEN '{{}}'
                 ELSE (SELECT jsonb_object_agg(key, value) FROM jsonb_each({1}.line)
                        WHERE key IN ('variable', 'variable_name', 'variable_category', 'chatter')) END
"""
_LINE = f"""
CASE WHEN {_TAKES} THEN {_WITH_CHATTER.format("excluded", "known")}
     ELSE {_WITH_CHATTER.format("known", "excluded")} END
"""
# Whatever was planned before is planned anew, but for what an operator has decided, unless a later line says more.
_SAYS_MORE = f"""
({_OF_NEW} > {_OF_KNOWN}
 OR ({_OF_NEW} = {_OF_KNOWN} AND NOT excluded.conversation_digests <@ known.conversation_digests))
"""
_IS_DECIDED = f"known.outcome = 'decided' AND NOT (excluded.key > known.key AND {_SAYS_MORE})"
_MERGE = f"""
INSERT INTO compliance_ledgerline AS known
       (request_id, kind, chatbot_id, line, conversation_digests, key, at, incarnation, plan, numbers, conversations,
        outcome)
SELECT given.request_id, given.kind, (SELECT id FROM chatbots_chatbot WHERE public_id = given.chatbot), given.line,
       ARRAY(SELECT decode(each, 'hex') FROM jsonb_array_elements_text(given.digests) AS each),
       %(key)s, %(at)s, %(incarnation)s, '', NULL, 0, ''
  FROM jsonb_to_recordset(%(lines)s::jsonb)
         AS given(request_id uuid, kind text, chatbot uuid, line jsonb, digests jsonb)
 ORDER BY given.request_id
    ON CONFLICT (request_id) DO UPDATE
   SET {_MERGED}, line = {_LINE},
       conversation_digests = CASE
           WHEN {_OF_NEW} > greatest({_OF_KNOWN}, 1) THEN excluded.conversation_digests
           WHEN greatest({_OF_NEW}, 1) < {_OF_KNOWN} OR excluded.conversation_digests = '{{}}'
           THEN known.conversation_digests
           ELSE ARRAY(SELECT DISTINCT unnest(known.conversation_digests || excluded.conversation_digests)) END,
       chatbot_id = excluded.chatbot_id, incarnation = excluded.incarnation,
       plan = CASE WHEN {_IS_DECIDED} THEN known.plan ELSE '' END, numbers = NULL, conversations = 0,
       outcome = CASE WHEN {_IS_DECIDED} THEN known.outcome ELSE '' END
"""  # noqa: S608  (texts of ours)

# A restore can have lost a UCI, or that it was designated. A lost export is not carried out: it erases nobody.
_UCIS = """
SELECT DISTINCT chatbot_id, (line->>'variable')::uuid, line->>'variable_name', line->>'variable_category'
  FROM compliance_ledgerline
 WHERE request_id = ANY(%s) AND chatbot_id IS NOT NULL AND line->>'variable_name' IS NOT NULL
   AND line->>'request_kind' IS DISTINCT FROM 'export'
"""


class RevokedKey(NamedTuple):
    chatbot: str
    prefix: str


class Loaded(NamedTuple):
    """An authentic object whose lines are to be stored."""

    key: str
    at: datetime
    incarnation: UUID
    lines: Sequence[Line]
    sha256: bytes | None = None


class Refused(NamedTuple):
    """An object that is not believed. Nothing of it was used.

    `key` is escaped as Python does: whoever wrote the object may have put a line break into it.
    """

    key: str
    fault: Fault


def keys(*, since: datetime | None = None) -> Iterator[str]:
    """Yield the keys in this service's folder that no row names, in the order of writing. Raises StorageError.

    With `since` all from then on, but for those that a copy of the database has written (`tripwire`).
    """
    folder = objects.folder()
    every = objects.keys(folder, after=f"{folder}{since.astimezone(UTC):%Y/%m/%d}" if since else "")
    while some := list(islice(every, _KEYS_AT_ONCE)):
        rows = LedgerObject.objects.filter(key__in=some)
        if since:
            rows = rows.filter(request_ids=[], key_prefixes=[])
        known = set(rows.values_list("key", flat=True))
        yield from (key for key in some if key not in known)


def is_ledger_gone() -> bool:
    """Return whether the bucket has none of the objects that this database knows of. Raises StorageError.

    Then it is another bucket, or it was lost as well. Looks at the newest and the oldest of them.
    """
    known = LedgerObject.objects.filter(written_at__isnull=False, at__gt=objects.last_kept()).order_by("at")
    ends = [each.values_list("key", flat=True)[:_LOOKED_FOR] for each in (known.reverse(), known)]
    found = dict.fromkeys(key for keys in ends for key in keys)
    return bool(found) and not any(map(hosted_storage().exists, found))


def read(key: str, service: Service) -> Loaded | Refused:
    """Return the object at a key if it is an authentic one of this service, of whatever incarnation.

    Raises StorageError.
    """
    try:
        found = objects.read(key, service_id=service.service_id)
        if not all(_members_of(line) <= line.keys() for line in found.lines):
            raise InvalidLedgerObject(Fault.UNREADABLE)
    except InvalidLedgerObject as error:
        return Refused(repr(key)[1:-1], error.fault)
    return Loaded(key, found.header.at, found.header.incarnation, found.lines, found.sha256)


def load(found: Loaded, service: Service) -> list[RevokedKey]:
    """Store the lines of an object, and its row if there is none, and revoke its keys, in one transaction.

    Returns the keys.
    """
    of_keys = [line for line in found.lines if line["kind"] == LineKind.KEY_REVOKED]
    with transaction.atomic():
        revoked = _revoke(of_keys)
        merge(found, service)
        row = LedgerObject(
            key=found.key,
            at=found.at,
            request_ids=list(dict.fromkeys(UUID(line["request"]) for line in found.lines if "request" in line)),
            key_prefixes=[line["key"] for line in of_keys],
            sha256=found.sha256,
            written_at=found.at,
        )
        LedgerObject.objects.bulk_create([row], ignore_conflicts=True)
    return revoked


def merge(found: Loaded, service: Service) -> None:
    """Merge the lines of an object about requests with those that are known of them."""
    for lines in _rounds(found.lines):
        values = {
            "key": found.key,
            "at": found.at,
            "incarnation": service.incarnation,
            "lines": json.dumps([_row(line) for line in lines]),
        }
        execute(_MERGE, values)


def declare_ucis(request_ids: Sequence[UUID]) -> None:
    """Declare the variables that these lines name as former UCIs, under their public ids, unless they are UCIs here.

    So intake refuses their erased chatters, whenever an officer designates them again. Where another variable has the
    name by now it stays as it is, and a person decides about the line.
    """
    entries = []
    for chatbot_id, public_id, name, category in fetch(_UCIS, [array(request_ids)]):
        known = Variable.objects.filter(chatbot=chatbot_id)
        found = known.filter(public_id=public_id).first() or known.filter(name=name).first()
        if found is None:
            Variable.objects.create(
                chatbot_id=chatbot_id, name=name, category=category, public_id=public_id, was_uci=True
            )
        elif found.public_id == public_id and not (found.is_uci or found.was_uci):
            Variable.objects.filter(pk=found.pk).update(was_uci=True)
        else:
            continue
        data = {"variable": name, "category": category}
        entries.append(changelog.entry("variable.declared_again", chatbot_id=chatbot_id, actor=ACTOR, data=data))
    changelog.record_all(entries)


def _members_of(line: Line) -> set[str]:
    """Return what a line of this kind has. Raises InvalidLedgerObject for a kind that is not known here."""
    kind = str(line.get("kind"))
    members = _MEMBERS.get((kind, None)) or _MEMBERS.get((kind, line.get("request_kind")))
    if members is None:
        raise InvalidLedgerObject(Fault.UNREADABLE)
    return members


def _revoke(lines: Sequence[Line]) -> list[RevokedKey]:
    revoked, entries = [], []
    for line in lines:
        keys = ApiKey.objects.filter(prefix=line["key"], chatbot__public_id=line["chatbot"], revoked_at=None)
        for pk, chatbot_id, slug in list(keys.values_list("pk", "chatbot_id", "chatbot__slug")):
            ApiKey.objects.filter(pk=pk).update(revoked_at=line["revoked_at"])
            revoked.append(RevokedKey(slug, line["key"]))
            data = {"prefix": line["key"]}
            entries.append(changelog.entry("apikey.revoked", chatbot_id=chatbot_id, actor=ACTOR, data=data))
    changelog.record_all(entries)
    # The ledger has them.
    JournalEntry.objects.filter(key_prefix__in=[key.prefix for key in revoked]).delete()
    return revoked


def _rounds(lines: Sequence[Line]) -> list[list[Line]]:
    """Return the lines about requests in rounds, each request at most once in each, in their order."""
    rounds: list[dict[str, Line]] = []
    for line in lines:
        if "request" in line:
            free = next((one for one in rounds if line["request"] not in one), None)
            if free is None:
                rounds.append(free := {})
            free[line["request"]] = line
    return [list(one.values()) for one in rounds]


def _row(line: Line) -> Line:
    kept = {name: value for name, value in line.items() if name != "conversations"}
    return {
        "request_id": line["request"],
        "kind": line["kind"],
        "chatbot": line["chatbot"],
        "line": kept,
        "digests": line.get("conversations") or [],
    }
