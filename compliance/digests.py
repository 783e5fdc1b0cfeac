"""Recomputes keyed digests after another `DIGEST_KEY` was accepted, while web server and workers are stopped.

A digest follows from the value beside it, so a run can be repeated, also after it was killed. Digests whose value is
gone, those of erased data, cannot be recomputed and stay as they are.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction

from chatbots.models import Chatbot, Variable
from common.crypto import OfClients, decrypt, digest
from common.db import array, execute, fetch
from compliance.models import ComplianceRequest, JournalEntry, LegalHold
from compliance.models.holds import legal_hold_binding

_BATCH_ROWS = 5_000

# A row, the digest that it has, and the right one.
_Wrong = tuple[int, bytes, bytes]


class _Digest(NamedTuple):
    """A column with digests: whose scope they have, of which column, and which other row would have the same."""

    table: str
    column: str
    value: str
    purpose: OfClients
    scope: str
    same: str


_DIGESTS = {
    "conversations": _Digest(
        "conversations_conversation", "external_id_digest", "external_id", "conversation", "chatbot_id", ""
    ),
    "identities": _Digest(
        *("conversations_identity", "digest", "value", "chatter", "variable_id"),
        "AND other.conversation_id = mine.conversation_id AND other.variable_id = mine.variable_id",
    ),
}

_READ = """
SELECT id, {scope}, {value}, {column}
  FROM {table}
 WHERE chatbot_id = ANY(%(chatbots)s::bigint[]) AND id > %(after)s AND {value} IS NOT NULL
 ORDER BY id
 LIMIT %(limit)s
"""
_UPDATE = """
UPDATE {table} AS mine SET {column} = new.digest
  FROM unnest(%(ids)s::bigint[], %(digests)s::bytea[]) AS new(id, digest)
 WHERE mine.id = new.id AND mine.chatbot_id = ANY(%(chatbots)s::bigint[])
   AND NOT EXISTS (
       SELECT FROM {table} AS other
        WHERE other.chatbot_id = ANY(%(chatbots)s::bigint[]) AND other.chatbot_id = mine.chatbot_id
          AND other.{column} = new.digest {same})
RETURNING mine.id
"""
_UPDATE_FOLLOWING = """
UPDATE {table} s SET {column} = new.digest
  FROM unnest(%s::bytea[], %s::bytea[]) AS new(old, digest) WHERE s.{column} = new.old
"""
# The digests without a value beside them, by the purpose of the digests that they follow.
_FOLLOWING = {
    "conversation": [("compliance_requestsubject", "digest"), ("compliance_legalholdconversation", "digest")],
    "chatter": [("compliance_legalhold", "uci_digest")],
}
# The digests of legal holds in force that have no value beside them, and those of stored data among them.
_HELD = {
    "conversation": """
SELECT n.chatbot_id, n.digest
  FROM compliance_legalholdconversation n JOIN compliance_legalhold h ON h.id = n.hold_id
 WHERE h.released_at IS NULL
""",
    "chatter": """
SELECT chatbot_id, uci_digest FROM compliance_legalhold
 WHERE released_at IS NULL AND scope = 'uci' AND value_encrypted = ''
""",
}
_STORED = """
SELECT DISTINCT {column} FROM {table}
 WHERE chatbot_id = ANY(%(chatbots)s::bigint[]) AND {column} = ANY(%(digests)s::bytea[])
"""


@dataclass
class Recomputed:
    """Digests of one kind: how many there are, how many were wrong, and how many of these were left.

    Those are left that another row has already: it was stored under the new key before this was run.
    """

    rows: int = 0
    wrong: int = 0
    left: int = 0


def recompute(
    *, dry_run: bool = False, progress: Callable[[int], object] = lambda _rows: None
) -> dict[str, Recomputed]:
    """Recompute the digests of conversations' ids, identities, requests that still have their value, and holds.

    Nothing may be stored or filed meanwhile. With `dry_run` it counts. `progress` is called with numbers of rows.
    """
    scopes = {
        "chatbot_id": dict(Chatbot.objects.values_list("pk", "public_id")),
        "variable_id": dict(Variable.objects.values_list("pk", "public_id")),
    }
    found = {}
    for name, one in _DIGESTS.items():
        counts = found[name] = Recomputed()
        for rows in _batches(one, list(scopes["chatbot_id"])):
            wrong = list(_wrong(one, rows, scopes[one.scope]))
            counts.rows += len(rows)
            counts.wrong += len(wrong)
            if wrong and not dry_run:
                counts.left += len(wrong) - _update(one, wrong, list(scopes["chatbot_id"]))
            progress(len(rows))
    found["requests"] = _of_rows(_requests(), scopes["variable_id"], dry_run=dry_run)
    found["legal holds"] = _of_holds(scopes["variable_id"], dry_run=dry_run)
    return found


def _batches(one: _Digest, chatbots: list[int]) -> Iterator[list[tuple[Any, ...]]]:
    statement = _READ.format(**one._asdict())
    after = 0
    while rows := fetch(statement, {"chatbots": array(chatbots), "after": after, "limit": _BATCH_ROWS}):
        yield rows
        after = rows[-1][0]


def _wrong(one: _Digest, rows: list[tuple[Any, ...]], public_ids: dict[int, UUID]) -> Iterator[_Wrong]:
    for row_id, scope, value, stored in rows:
        right = digest(one.purpose, public_ids[scope], value)
        if right != bytes(stored):
            yield row_id, bytes(stored), right


def _update(one: _Digest, wrong: list[_Wrong], chatbots: list[int]) -> int:
    ids, _, digests = zip(*wrong, strict=True)
    parameters = {"ids": array(ids), "digests": list(digests), "chatbots": array(chatbots)}
    with transaction.atomic():
        updated = {row_id for (row_id,) in fetch(_UPDATE.format(**one._asdict()), parameters)}
        followed = {old: new for row_id, old, new in wrong if row_id in updated}
        for table, column in _FOLLOWING[one.purpose]:
            statement = _UPDATE_FOLLOWING.format(table=table, column=column)
            execute(statement, [list(followed), list(followed.values())])
    return len(updated)


def _of_rows(
    rows: Iterable[tuple[ComplianceRequest | LegalHold, str]], public_ids: dict[int, UUID], *, dry_run: bool
) -> Recomputed:
    """Recompute the digests of rows, each with its value."""
    counts = Recomputed()
    for row, value in rows:
        right = digest("chatter", public_ids[row.variable_id or 0], value)
        counts.rows += 1
        if right != bytes(row.uci_digest or b""):
            counts.wrong += 1
            if not dry_run:
                type(row)._default_manager.filter(pk=row.pk).update(uci_digest=right)
    return counts


def _of_holds(public_ids: dict[int, UUID], *, dry_run: bool) -> Recomputed:
    """Those in force. After a restore a hold has no value: then it follows the identities, or is left."""
    in_force = LegalHold.objects.filter(released_at=None)
    with_value = (
        (hold, decrypt(hold.value_encrypted, bound_to=legal_hold_binding(hold.pk)))
        for hold in in_force.exclude(value_encrypted="")
    )
    counts = _of_rows(with_value, public_ids, dry_run=dry_run)
    if not dry_run:
        counts.left = _count_unknown_holds()
        # The ledger has their former digests.
        JournalEntry.objects.bulk_create(
            JournalEntry(kind=JournalEntry.Kind.HOLD, request_id=pk) for pk in in_force.values_list("pk", flat=True)
        )
    return counts


def _count_unknown_holds() -> int:
    """Count the digests of which nobody knows whether they are right: a hold that finds nothing holds nothing."""
    unknown = 0
    for one in _DIGESTS.values():
        held = fetch(_HELD[one.purpose])
        for at in range(0, len(held), _BATCH_ROWS):
            page = held[at : at + _BATCH_ROWS]
            digests = {bytes(each) for _, each in page}
            values = {"chatbots": array({chatbot_id for chatbot_id, _ in page}), "digests": list(digests)}
            unknown += len(digests) - len(fetch(_STORED.format(**one._asdict()), values))
    return unknown


def _requests() -> Iterator[tuple[ComplianceRequest, str]]:
    """Yield those that are open or can be retried: the others have no value any more.

    They are read in pages: a cursor would need the same session for all, which a pooler does not give.
    """
    having = ComplianceRequest.objects.filter(uci_value__isnull=False).only("variable", "uci_value", "uci_digest")
    after = UUID(int=0)
    while page := list(having.filter(pk__gt=after).order_by("pk")[:_BATCH_ROWS]):
        yield from ((one, one.uci_value or "") for one in page)
        after = page[-1].pk
