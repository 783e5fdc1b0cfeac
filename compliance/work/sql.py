"""SQL that several statements about requests share. `r` is the request of a statement."""

import json
from collections.abc import Collection, Iterable
from uuid import UUID

from common.db import array, as_json, fetch
from compliance.models import ComplianceRequest

# Lists of states.
RUNNABLE = "('accepted', 'processing')"
OPEN = "('accepted', 'on_hold', 'processing', 'failed')"

# Whether the database may be worked on: it was not restored, or was replayed since (`compliance.ledger.service`).
# Citus takes no empty list of columns in a statement that also reads a distributed table.
IS_OPEN = "NOT EXISTS (SELECT 1 FROM compliance_service WHERE state <> 'open')"

# A request that a worker may claim, once it is due.
IS_QUEUED = "r.status = 'accepted' AND r.claim_id IS NULL"
# Its place in the queue: when it is due.
DUE_AT = "coalesce(r.not_before, r.queued_at)"

# Joins the `earlier` requests of the same chatter.
IS_EARLIER = "earlier.variable_id = r.variable_id AND earlier.uci_digest = r.uci_digest AND earlier.seq < r.seq"

# Whether any request is by conversations. Most chatbots never have one, so statements about those are skipped. Each
# is in the order of an index, the second of a partial one: without statistics, PostgreSQL would read another.
IS_ANY = "(SELECT TRUE FROM compliance_requestsubject ORDER BY id LIMIT 1)"
IS_ANY_OPEN = f"""
(SELECT TRUE FROM compliance_compliancerequest
  WHERE named_conversations IS NOT NULL AND status IN {OPEN}
  ORDER BY chatbot_id, seq LIMIT 1)
"""


def ids_naming(digests: str) -> str:
    """Return the SQL of an array: the ids of the requests by one of these conversations, which are an array too."""
    return f"ARRAY(SELECT request_id FROM compliance_requestsubject WHERE digest = ANY({digests}))"


def naming(digests: str) -> str:
    """Return the SQL of these requests, each once."""
    return f"(SELECT * FROM compliance_compliancerequest WHERE id = ANY({ids_naming(digests)}))"


def digests_of(request: str) -> str:
    """Return the SQL of `conversation_digests` for `conversations.sql`, for a row of the requests."""
    return f"""CASE WHEN {request}.named_conversations IS NOT NULL
            THEN ARRAY(SELECT digest FROM compliance_requestsubject WHERE request_id = {request}.id) END"""


# The requests with a conversation in common with `r`, including `r`; and those by the conversation `c`.
SHARING = naming(digests_of("r"))
NAMING = naming("ARRAY[c.external_id_digest]")

# The requests `ids` as the first WITH, `r`, of a statement that goes on with others. No part of a statement reads the
# conversation tables and the requests' table, or others like it: if the former are distributed, they can be joined
# with the result of a WITH, and with nothing else that is local (docs/explanation/citus.md).
REQUESTS = f"""
WITH r AS MATERIALIZED (
    SELECT id, seq, chatbot_id, kind, variable_id, uci_digest, {digests_of("q")} AS conversation_digests, slice,
           cutoff_at, cutoff_number, erase_exports, withholds
      FROM compliance_compliancerequest AS q WHERE id = ANY(%(ids)s::uuid[])
)
"""

# The requests `r` as a parameter (`given`), for statements that lock or change rows of the conversation tables. If
# those are distributed, no such statement can also read the requests' table (docs/explanation/citus.md).
GIVEN = """
json_to_recordset(%(requests)s::json)
    AS r(id uuid, seq bigint, chatbot_id bigint, variable_id bigint, uci_digest bytea, conversation_digests bytea[],
         cutoff_at timestamptz, cutoff_number bigint, erase_exports boolean, withholds boolean)
"""
_GIVEN = f"""
SELECT coalesce(json_agg(r), '[]')::text
  FROM (SELECT id, seq, chatbot_id, variable_id, uci_digest, {digests_of("q")} AS conversation_digests, cutoff_at,
               cutoff_number, withholds
          FROM compliance_compliancerequest AS q WHERE id = ANY(%s)) AS r
"""

# The chatbots by request. A request never changes its chatbot, so an entry stays true.
_chatbots: dict[UUID, int] = {}
_MOST_KNOWN = 20_000

# Replaces the chatbots of no request. No chatbot has this number, but a statement without a chatbot would have no
# shard, and Citus refuses most of those.
_NO_CHATBOT = 0

_OF_UNFILED = ("id", "chatbot_id", "variable_id", "uci_digest", "conversation_digests", "erase_exports")
# The highest number that PostgreSQL has.
_LAST = 2**63 - 1


def is_open() -> bool:
    return bool(fetch(f"SELECT {IS_OPEN}")[0][0])


def subjects(request_ids: Collection[UUID]) -> dict[str, str]:
    """Return the parameters of a statement about these requests: `ids`, and their `chatbots`."""
    return {"ids": array(request_ids), "chatbots": _array_of_chatbots(request_ids)}


def given(request_ids: Collection[UUID]) -> dict[str, str]:
    """Return the parameters of a statement about GIVEN requests as they are now: `requests`, and their `chatbots`."""
    [(requests,)] = fetch(_GIVEN, [array(request_ids)])
    return {"requests": requests, "chatbots": _array_of_chatbots(request_ids)}


def given_unfiled(chatbot_id: int, requests: Iterable[ComplianceRequest]) -> dict[str, str]:
    """Return parameters as `given`, for requests of a chatbot that are not filed or wait, as if carried out now.

    All stored data is in their scope, and all filed requests precede those that are not filed.
    """
    rows = [
        {name: as_json(getattr(one, name)) for name in _OF_UNFILED}
        | {"seq": _LAST if one._state.adding else one.seq, "cutoff_number": _LAST}
        for one in requests
    ]
    return {"requests": json.dumps(rows), "chatbots": array([chatbot_id])}


def _array_of_chatbots(request_ids: Collection[UUID]) -> str:
    return array(chatbots_of(request_ids) or [_NO_CHATBOT])


def chatbots_of(request_ids: Collection[UUID]) -> set[int]:
    known = {_chatbots.get(each, _NO_CHATBOT) for each in request_ids}
    return known if _NO_CHATBOT not in known else set(chatbot_of_each(request_ids).values())


def chatbot_of_each(request_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return these requests in their order, with their chatbots; queries those that this process has not cached."""
    known = {each: _chatbots.get(each) for each in request_ids}
    if unknown := [each for each, chatbot_id in known.items() if chatbot_id is None]:
        found = dict(
            fetch("SELECT id, chatbot_id FROM compliance_compliancerequest WHERE id = ANY(%s)", [array(unknown)])
        )
        if len(_chatbots) > _MOST_KNOWN:
            _chatbots.clear()
        _chatbots.update(found)
        known |= found
    return {each: chatbot_id for each, chatbot_id in known.items() if chatbot_id is not None}
