"""Read the objects of the ledger without a row in this database, and store their lines, merged by request.

The result does not depend on the order in which lines are merged. An erasure takes precedence over a withdrawal, that
over a begun request, and that over an accepted one. Of several such lines the latest is kept, with the conversations
of all. Accepted and begun lines have the same conversations, so these are added up too.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction

from chatbots import changelog
from chatbots.buckets import hosted_storage
from chatbots.models import ApiKey, Chatbot, Variable
from common.db import array, fetch, insert_many
from compliance.ledger import objects
from compliance.ledger.content import Fault, InvalidLedgerObject, Line
from compliance.ledger.lines import HOLD_ACTORS, HOLD_TIMES, OF_HOLD, known_actors
from compliance.models import (
    JournalEntry,
    LedgerLine,
    LedgerObject,
    LegalHold,
    LegalHoldConversation,
    LineKind,
    Service,
)

logger = logging.getLogger(__name__)

ACTOR = "replay"

_KEYS_AT_ONCE = 1_000
_LOOKED_FOR = 10

# The members of a line, by its kind and that of its request. This service has written every authentic object, so a
# line without one of them is from an unknown version.
_OF_REQUEST = {"request", "chatbot"}
_EXTENSION = {"extended_at", "extension_reason"}
_FILED = {*_OF_REQUEST, "received_at", "requested_at", "due_at", "deadline", "answered_at", *_EXTENSION}
_NAMED = {*_FILED, "variable", "chatter", "erase_exports"}
_OF_MESSAGES = {*_NAMED, "conversation", "messages", "csat_comment", "reason"}
_MEMBERS: Mapping[tuple[str, str | None], set[str]] = {
    **{
        (kind, request_kind): _OF_MESSAGES if request_kind == "redaction" else {*_NAMED, "conversations"}
        for kind in ("accepted", "intended")
        for request_kind in ("deletion", "export", "redaction")
    },
    ("withdrawn", None): {*_OF_REQUEST, "status", "at"},
    ("exact", None): {*_NAMED, "named", "cutoff_at", "conversations"},
    ("redacted", None): _OF_MESSAGES,
    ("retention", None): {*_FILED, "older_than", "day", "retention_days", "announced", "previous_days"},
    ("key_revoked", None): {"chatbot", "key", "revoked_at"},
    ("hold", None): {"hold", "chatbot", "variable", "chatter", "conversations", *OF_HOLD, *HOLD_ACTORS, *HOLD_TIMES},
}

# The order of precedence; a line of any other kind records erased data.
_RANKS = {LineKind.ACCEPTED: 0, LineKind.INTENDED: 1, LineKind.WITHDRAWN: 2}
_ENDED = 3
_CHATTER = ("variable", "variable_name", "variable_category", "chatter")

# A restore can have lost a UCI, or its designation. A lost export is not carried out: it erases nothing.
_UCIS = """
SELECT DISTINCT chatbot_id, (line->>'variable')::uuid, line->>'variable_name', line->>'variable_category'
  FROM compliance_ledgerline
 WHERE request_id = ANY(%s) AND chatbot_id IS NOT NULL AND line->>'variable_name' IS NOT NULL
   AND line->>'request_kind' IS DISTINCT FROM 'export'
"""


class RevokedKey(NamedTuple):
    chatbot: str
    prefix: str


class LoadedObject(NamedTuple):
    """An authentic object whose lines are to be stored."""

    key: str
    at: datetime
    incarnation: UUID
    lines: Sequence[Line]
    sha256: bytes | None = None


class Refused(NamedTuple):
    """A refused object. Nothing of it was used. `key` is escaped as in Python: it may contain a line break."""

    key: str
    fault: Fault


def keys(*, since: datetime | None = None) -> Iterator[str]:
    """Yield the keys in this service's folder without a row, in the order of writing. Raises StorageError.

    With `since` all keys from then on, except those that a copy of the database has written (`tripwire`).
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
    """Return whether the bucket has none of the objects in this database's rows. Raises StorageError.

    Then it is another bucket, or it was lost as well. Checks the newest and the oldest of them.
    """
    known = LedgerObject.objects.filter(written_at__isnull=False, at__gt=objects.expiry_cutoff()).order_by("at")
    ends = [each.values_list("key", flat=True)[:_LOOKED_FOR] for each in (known.reverse(), known)]
    found = dict.fromkeys(key for keys in ends for key in keys)
    return bool(found) and not any(map(hosted_storage().exists, found))


def read(key: str, service: Service) -> LoadedObject | Refused:
    """Return the object at a key if it is an authentic one of this service, of whatever incarnation.

    Raises StorageError.
    """
    try:
        found = objects.read(key, service_id=service.service_id)
        if not all(_members_of(line) <= line.keys() for line in found.lines):
            raise InvalidLedgerObject(Fault.UNREADABLE)
    except InvalidLedgerObject as error:
        return Refused(repr(key)[1:-1], error.fault)
    return LoadedObject(key, found.header.at, found.header.incarnation, found.lines, found.sha256)


def load(found: LoadedObject, service: Service) -> list[RevokedKey]:
    """Store the lines of an object, and its row if there is none, restore its legal holds and revoke its keys.

    In one transaction.

    Returns the keys.
    """
    of_keys = [line for line in found.lines if line["kind"] == LineKind.KEY_REVOKED]
    of_holds = [line for line in found.lines if line["kind"] == LineKind.HOLD]
    with transaction.atomic():
        revoked = _revoke(of_keys)
        _restore_holds(of_holds)
        merge(found, service)
        row = LedgerObject(
            key=found.key,
            at=found.at,
            request_ids=list(
                dict.fromkeys(UUID(line[of]) for of in ("hold", "request") for line in found.lines if of in line)
            ),
            key_prefixes=[line["key"] for line in of_keys],
            sha256=found.sha256,
            written_at=found.at,
        )
        LedgerObject.objects.bulk_create([row], ignore_conflicts=True)
    return revoked


def merge(found: LoadedObject, service: Service) -> None:
    """Merge the lines of an object about requests with the stored lines about them."""
    about = [line for line in found.lines if "request" in line]
    chatbots = Chatbot.objects.filter(public_id__in={line["chatbot"] for line in about})
    chatbot_of = {str(public_id): pk for public_id, pk in chatbots.values_list("public_id", "pk")}
    merged: dict[UUID, LedgerLine] = {}
    for line in about:
        new = LedgerLine(
            request_id=UUID(line["request"]),
            kind=line["kind"],
            chatbot_id=chatbot_of.get(line["chatbot"]),
            line={name: value for name, value in line.items() if name != "conversations"},
            conversation_digests=[bytes.fromhex(each) for each in line.get("conversations") or ()],
            key=found.key,
            at=found.at,
            incarnation=service.incarnation,
        )
        former = merged.get(new.request_id)
        if former and not _merge(former, into=new):
            new.conversation_digests = list({*former.conversation_digests, *new.conversation_digests})
        merged[new.request_id] = new
    # There can be millions of digests, so PostgreSQL merges them.
    known = LedgerLine.objects.defer("conversation_digests").in_bulk(merged)
    replaced = [pk for pk, one in known.items() if _merge(one, into=merged[pk])]
    LedgerLine.objects.filter(pk__in=replaced).update(conversation_digests=[])
    insert_many(merged.values(), on_conflict="request_id", add_to="conversation_digests")


def declare_ucis(request_ids: Sequence[UUID]) -> None:
    """Declare the variables of these lines as former UCIs, under their public ids, unless they are UCIs here.

    So intake refuses their erased chatters, whenever an officer designates them again. If another variable has the
    name by now, it stays unchanged, and a person decides on the line.
    """
    for chatbot_id, public_id, name, category in fetch(_UCIS, [array(request_ids)]):
        _declare_uci(chatbot_id, public_id, name, category)


def _declare_uci(chatbot_id: int, public_id: UUID, name: str, category: str) -> None:
    known = Variable.objects.filter(chatbot=chatbot_id)
    found = known.filter(public_id=public_id).first() or known.filter(name=name).first()
    if found is None:
        Variable.objects.create(
            chatbot_id=chatbot_id, name=name, category=category, public_id=public_id, was_uci=True
        )
    elif found.public_id == public_id and not (found.is_uci or found.was_uci):
        Variable.objects.filter(pk=found.pk).update(was_uci=True)
    else:
        return
    data = {"variable": name, "category": category}
    changelog.record("variable.declared_again", chatbot_id=chatbot_id, actor=ACTOR, data=data)


def _members_of(line: Line) -> set[str]:
    """Return the members of a line of this kind. Raises InvalidLedgerObject for an unknown kind."""
    kind = str(line.get("kind"))
    members = _MEMBERS.get((kind, None)) or _MEMBERS.get((kind, line.get("request_kind")))
    if members is None:
        raise InvalidLedgerObject(Fault.UNREADABLE)
    return members


def _restore_holds(lines: Sequence[Line]) -> None:
    """Place, review and release legal holds as these lines have them, before anything is erased.

    A release is final, whichever line came first. A hold on a variable that this database does not have, and whose
    name another one has, cannot be restored.
    """
    actors = known_actors(line[name] for line in lines for name in HOLD_ACTORS)
    for line in lines:
        chatbot = Chatbot.objects.filter(public_id=line["chatbot"]).first()
        if chatbot is None:
            continue
        if line["variable"]:
            _declare_uci(chatbot.pk, UUID(line["variable"]), line["variable_name"], line["variable_category"])
        variable = Variable.objects.filter(chatbot=chatbot, public_id=line["variable"]).first()
        hold = LegalHold.objects.filter(pk=line["hold"]).first()
        if line["variable"] and variable is None:
            logger.error("replay.hold_not_restored hold=%s", line["hold"])
            continue
        fields: dict[str, Any] = {name: line[name] for name in OF_HOLD}
        fields |= {name: line[name] and datetime.fromisoformat(line[name]) for name in HOLD_TIMES}
        fields |= {name: actors.get(line[name], line[name]) for name in HOLD_ACTORS}
        event = "hold.placed" if not fields["released_at"] else "hold.released"
        if hold is None:
            chatter = bytes.fromhex(line["chatter"]) if line["chatter"] else None
            hold = LegalHold(pk=UUID(line["hold"]), chatbot=chatbot, variable=variable, uci_digest=chatter, **fields)
            hold.save(force_insert=True)
            LegalHoldConversation.objects.bulk_create(
                LegalHoldConversation(hold=hold, chatbot=chatbot, digest=bytes.fromhex(digest))
                for digest in line["conversations"]
            )
        elif hold.released_at is None and fields["released_at"]:
            LegalHold.objects.filter(pk=hold.pk).update(value_encrypted="", **fields)
        elif hold.released_at is None and (fields["reviewed_at"] or hold.placed_at) > (
            hold.reviewed_at or hold.placed_at
        ):
            LegalHold.objects.filter(pk=hold.pk).update(**fields)
            event = "hold.reviewed"
        else:
            continue
        data = {"hold": str(hold.pk)}
        if event == "hold.placed":
            data |= {"scope": hold.scope, "basis": hold.basis}
        changelog.record(event, chatbot_id=chatbot.pk, actor=ACTOR, data=data)
    # The ledger has them.
    JournalEntry.objects.filter(kind=JournalEntry.Kind.HOLD, request_id__in=[line["hold"] for line in lines]).delete()


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


def _merge(known: LedgerLine, *, into: LedgerLine) -> bool:
    """Merge the stored line of a request into a line about it that has no plan yet.

    Returns whether the line's conversations replace the stored ones; otherwise they are added to them.
    """
    new = into
    ranks = [_RANKS.get(LineKind(one.kind), _ENDED) for one in (new, known)]
    if known.outcome == LedgerLine.Outcome.DECIDED:
        names_more = not set(new.conversation_digests) <= set(known.conversation_digests)
        if new.key <= known.key or (ranks[0], names_more) <= (ranks[1], False):
            new.plan, new.outcome = known.plan, known.outcome
    latest, other = (new, known) if (ranks[0], new.key) >= (ranks[1], known.key) else (known, new)
    line = latest.line
    if latest.kind == LineKind.EXACT and line.get("variable") is None and other.line.get("variable") is not None:
        # A replay that does not find the variable records the erased conversations only.
        line |= {name: other.line[name] for name in _CHATTER if name in other.line}
    new.kind, new.line, new.key, new.at = latest.kind, line, latest.key, latest.at
    # Accepted and begun lines are treated alike here.
    rank, rank_of_known = (max(each, _RANKS[LineKind.INTENDED]) for each in ranks)
    if rank < rank_of_known:
        new.conversation_digests = []
    return rank > rank_of_known
