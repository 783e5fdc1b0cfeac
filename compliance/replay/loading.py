"""Store the lines of the ledger, merged by request, revoke keys, and declare UCIs that are lost.

Whatever the order in which lines are merged, the same is left of a request: what it has erased before what was
withdrawn, that before that it has begun, and that before that it was accepted; of several such lines the latest, with
the conversations of all. What was accepted and what has begun name the same conversations, so these are added up too.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction

from chatbots import changelog
from chatbots.models import Variable
from common.db import array, execute, fetch
from compliance.ledger.content import LedgerContent, Line
from compliance.models import LedgerObject, LineKind, Service

ACTOR = "replay"

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

_TO_REVOKE = """
SELECT k.id, k.prefix, k.chatbot_id, b.slug, given.revoked_at
  FROM jsonb_to_recordset(%s::jsonb) AS given(chatbot uuid, key text, revoked_at timestamptz)
  JOIN chatbots_chatbot b ON b.public_id = given.chatbot
  JOIN chatbots_apikey k ON k.chatbot_id = b.id AND k.prefix = given.key AND k.revoked_at IS NULL
"""
_REVOKE = "UPDATE chatbots_apikey SET revoked_at = %s WHERE id = %s AND revoked_at IS NULL"
_DROP_REVOKED = "DELETE FROM compliance_journalentry WHERE key_prefix = ANY(%s)"
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
    """An object whose lines are to be stored: what is left of it once it is known to be authentic."""

    key: str
    at: datetime
    lines: Sequence[Line]

    @classmethod
    def of(cls, found: LedgerContent) -> "Loaded":
        return cls(found.header.key, found.header.at, found.lines)


def load(found: Loaded, service: Service, *, sha256: bytes | None = None) -> list[RevokedKey]:
    """Store the lines of an object, and its row if there is none, and revoke its keys, in one transaction.

    Returns the keys.
    """
    with transaction.atomic():
        revoked = _revoke(found)
        merge(found, service)
        row = LedgerObject(
            key=found.key,
            at=found.at,
            request_ids=list(dict.fromkeys(UUID(line["request"]) for line in found.lines if "request" in line)),
            key_prefixes=[line["key"] for line in found.lines if line["kind"] == LineKind.KEY_REVOKED],
            sha256=sha256,
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


def keys_to_revoke(found: Loaded) -> list[RevokedKey]:
    """Return the keys that `load` would revoke."""
    return [RevokedKey(slug, prefix) for _, prefix, _, slug, _ in _to_revoke(found)]


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


def _to_revoke(found: Loaded) -> list[tuple[Any, ...]]:
    keys = [line for line in found.lines if line["kind"] == LineKind.KEY_REVOKED]
    return fetch(_TO_REVOKE, [json.dumps(keys)]) if keys else []


def _revoke(found: Loaded) -> list[RevokedKey]:
    keys = _to_revoke(found)
    for key_id, _, _, _, revoked_at in keys:
        execute(_REVOKE, [revoked_at, key_id])
    changelog.record_all(
        changelog.entry("apikey.revoked", chatbot_id=chatbot_id, actor=ACTOR, data={"prefix": prefix})
        for _, prefix, chatbot_id, _, _ in keys
    )
    # The ledger has them.
    execute(_DROP_REVOKED, [[prefix for _, prefix, _, _, _ in keys]])
    return [RevokedKey(slug, prefix) for _, prefix, _, slug, _ in keys]


def _rounds(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Yield the lines about requests in rounds, each request at most once in each, in their order."""
    met: Counter[str] = Counter()
    rounds: list[list[Line]] = []
    for line in lines:
        if "request" in line:
            if met[line["request"]] == len(rounds):
                rounds.append([])
            rounds[met[line["request"]]].append(line)
            met[line["request"]] += 1
    yield from rounds


def _row(line: Line) -> Line:
    kept = {name: value for name, value in line.items() if name != "conversations"}
    return {
        "request_id": line["request"],
        "kind": line["kind"],
        "chatbot": line["chatbot"],
        "line": kept,
        "digests": line.get("conversations") or [],
    }
