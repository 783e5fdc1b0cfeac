"""Which conversations legal holds cover. Every statement that marks or erases originals asks here first.

Placing and releasing a hold excludes all marks of the chatbot (`conversations.locks`). So call these functions in the
transaction that marks or erases, after it has taken the chatbot's lock, shared or exclusively: then no hold can be
placed between the answer and the commit. A marked conversation is not covered: it is being erased.

A hold covers a live conversation if it began in the hold's window and has the chatter's identity, or is one of the
hold's conversations, or if the hold is on the whole chatbot. That is decided by the data of the moment, so a hold
covers what is stored after it was placed.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

from django.db.models import Count, Q
from django.db.models.functions import Now

from common.db import array, as_json, fetch
from compliance.models import ComplianceRequest, LegalHold
from compliance.work.sql import GIVEN, given
from conversations.sql import SELECTED_CONVERSATIONS

# Whether a chatbot `ours.chatbot_id` has a hold in force.
ANY_IN_FORCE = """
EXISTS (SELECT 1 FROM compliance_legalhold WHERE chatbot_id = ours.chatbot_id AND released_at IS NULL)
"""
_IN_FORCE = """
SELECT coalesce(json_agg(h), '[]')::text
  FROM (SELECT id, chatbot_id, scope, variable_id, uci_digest, began_from, began_before,
               CASE WHEN scope = 'conversations' THEN ARRAY(
                    SELECT digest FROM compliance_legalholdconversation WHERE hold_id = hold.id) END AS digests
          FROM compliance_legalhold AS hold WHERE {which}) AS h
"""
_OF_CHATBOTS = _IN_FORCE.format(which="chatbot_id = ANY(%s::bigint[]) AND released_at IS NULL")
_THESE = _IN_FORCE.format(which="id = ANY(%s::uuid[])")

_COLUMNS = ("chatbot_id", "scope", "variable_id", "uci_digest", "began_from", "began_before")
# The holds are a parameter (`compliance.work.sql.GIVEN`).
HOLDS = """
json_to_recordset(%(holds)s::json)
    AS h(id uuid, chatbot_id bigint, scope text, variable_id bigint, uci_digest bytea, began_from timestamptz,
         began_before timestamptz, digests bytea[])
"""
# Whether a hold `h` covers a live conversation `c`.
IS_COVERED = """
(h.chatbot_id = c.chatbot_id
 AND (h.began_from IS NULL OR c.started_at >= h.began_from)
 AND (h.began_before IS NULL OR c.started_at < h.began_before)
 AND CASE h.scope
     WHEN 'chatbot' THEN TRUE
     WHEN 'conversations' THEN c.external_id_digest = ANY(h.digests)
     ELSE EXISTS (SELECT 1 FROM conversations_identity AS i
                   WHERE i.conversation_id = c.id AND i.chatbot_id = ANY(%(chatbots)s)
                     AND i.variable_id = h.variable_id AND i.digest = h.uci_digest) END)
"""
_COVERED = f"""
SELECT c.id
  FROM unnest(%(numbers)s::bigint[]) AS given(number)
 CROSS JOIN LATERAL (
       SELECT id, chatbot_id, started_at, external_id_digest FROM conversations_conversation
        WHERE id = given.number AND chatbot_id = ANY(%(chatbots)s) AND deletion_request_id IS NULL OFFSET 0) AS c
 WHERE EXISTS (SELECT 1 FROM {HOLDS} WHERE {IS_COVERED})
"""
_COVERING = f"""
SELECT DISTINCT h.id
  FROM unnest(%(numbers)s::bigint[]) AS given(number)
 CROSS JOIN LATERAL (
       SELECT id, chatbot_id, started_at, external_id_digest FROM conversations_conversation
        WHERE id = given.number AND chatbot_id = ANY(%(chatbots)s) AND deletion_request_id IS NULL OFFSET 0) AS c
  JOIN {HOLDS} ON {IS_COVERED}
"""
# Of a request with a cutoff, only what is in its scope (`compliance.work.scope`): it erases nothing newer.
_ERASED = f"""
  FROM {GIVEN}
 CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
 CROSS JOIN LATERAL (
       SELECT id, chatbot_id, started_at, external_id_digest FROM conversations_conversation
        WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s) AND deletion_request_id IS NULL OFFSET 0
       ) AS c
 WHERE (r.cutoff_at IS NULL OR c.id <= r.cutoff_number
        OR (named.identity_id IS NOT NULL AND c.started_at < r.cutoff_at))
"""
_NAMED = f"SELECT r.id, c.id {_ERASED}"
_ERASES_SOMETHING = f"""
SELECT EXISTS (SELECT {_ERASED} AND NOT EXISTS (SELECT 1 FROM {HOLDS} WHERE {IS_COVERED}))
"""


class HoldsOfChatbot(NamedTuple):
    """The number of holds of a chatbot that are in force, and how many of them are past their review."""

    slug: str
    in_force: int
    review_due: int


def in_force() -> list[HoldsOfChatbot]:
    """Return the holds in force of each chatbot that has any."""
    holds = LegalHold.objects.filter(released_at=None).values_list("chatbot__slug").order_by("chatbot__slug")
    counts = Count("pk"), Count("pk", filter=Q(review_at__lte=Now()))
    return [HoldsOfChatbot(*row) for row in holds.annotate(in_force=counts[0], review_due=counts[1])]


def any_in_force() -> bool:
    return LegalHold.objects.filter(released_at=None).exists()


def find_withholding(request_ids: Collection[UUID]) -> set[UUID]:
    """Return which of these deletions have left out conversations under a hold."""
    return set(ComplianceRequest.objects.filter(pk__in=request_ids, withholds=True).values_list("pk", flat=True))


def holds_any(chatbot_id: int) -> bool:
    """Return whether a hold of the chatbot is in force."""
    return LegalHold.objects.filter(chatbot=chatbot_id, released_at=None).exists()


def find_held(chatbot_ids: Collection[int], numbers: Collection[int]) -> set[int]:
    """Return which of these conversations of the chatbots are live, unmarked and under a hold."""
    if not numbers:
        return set()
    [(holds,)] = fetch(_OF_CHATBOTS, [array(chatbot_ids)])
    return _covered(holds, chatbot_ids, numbers)


def find_held_by_request(request_ids: Collection[UUID], chatbot_ids: Collection[int]) -> dict[UUID, set[int]]:
    """Return the conversations under a hold of each of these deletions that has any."""
    [(holds,)] = fetch(_OF_CHATBOTS, [array(chatbot_ids)])
    if json.loads(holds) == []:
        return {}
    numbers_of = find_named(request_ids)
    covered = _covered(holds, chatbot_ids, set[int]().union(*numbers_of.values()))
    return {each: numbers & covered for each, numbers in numbers_of.items() if numbers & covered}


def find_named(request_ids: Collection[UUID]) -> dict[UUID, set[int]]:
    """Return the unmarked conversations that each of these deletions would erase, under a hold or not."""
    numbers_of: dict[UUID, set[int]] = defaultdict(set)
    for request_id, number in fetch(_NAMED, given(request_ids)):
        numbers_of[request_id].add(number)
    return numbers_of


def covers_all_of(request_id: UUID, chatbot_id: int) -> bool:
    """Return whether holds cover everything that a deletion would erase now."""
    [(holds,)] = fetch(_OF_CHATBOTS, [array([chatbot_id])])
    return fetch(_ERASES_SOMETHING, given([request_id]) | {"holds": holds}) == [(False,)]


def find_covered(hold_ids: Collection[UUID], chatbot_id: int, numbers: Collection[int]) -> set[int]:
    """Return which of these conversations these holds cover, in force or not."""
    [(holds,)] = fetch(_THESE, [array(hold_ids)])
    return _covered(holds, [chatbot_id], numbers)


def find_covering(chatbot_id: int, numbers: Collection[int]) -> set[UUID]:
    """Return the holds in force that cover any of these conversations."""
    [(holds,)] = fetch(_OF_CHATBOTS, [array([chatbot_id])])
    values = {"holds": holds, "numbers": array(numbers), "chatbots": array([chatbot_id])}
    return {hold_id for (hold_id,) in fetch(_COVERING, values)}


def find_covered_by(hold: LegalHold, digests: Sequence[bytes], numbers: Collection[int]) -> set[int]:
    """Return which of these conversations a hold that is not stored would cover. `digests`: those that it names."""
    columns = {name: as_json(getattr(hold, name)) for name in _COLUMNS} | {"digests": as_json(list(digests))}
    return _covered(json.dumps([columns]), [hold.chatbot_id], numbers)


def _covered(holds: str, chatbot_ids: Collection[int], numbers: Collection[int]) -> set[int]:
    if holds == "[]" or not numbers:
        return set()
    values = {"holds": holds, "numbers": array(numbers), "chatbots": array(chatbot_ids)}
    return {number for (number,) in fetch(_COVERED, values)}
