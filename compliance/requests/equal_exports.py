"""Return a waiting export in place of filing an equal one.

Its file will contain the data at the time a worker starts it, which is right for every call before that. An export
that has started is not returned, since it contains the data of an earlier instant. An export that was filed before a
deletion of the same subject is not returned either: it runs first, and contains the data that the deletion erases.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from chatbots import changelog
from common.db import as_json
from compliance.models import ComplianceRequest
from compliance.requests.idempotency import Answer
from compliance.requests.inputs import RequestInput
from compliance.work.sql import digests_of, ids_naming

_NAMING = ids_naming("given.conversation_digests")
# Conditions for one subject, by the selector's columns: (the same export, a deletion of the same subject).
_UCI = (
    "r.variable_id = given.variable_id AND r.uci_digest = given.uci_digest",
    "d.variable_id = given.variable_id AND d.uci_digest = given.uci_digest",
)
_CONVERSATIONS = (
    f"""r.id = ANY({_NAMING}) AND r.named_conversations = cardinality(given.conversation_digests)
          AND {digests_of("r")} <@ given.conversation_digests""",
    f"d.id = ANY({_NAMING})",
)

# The lock keeps the export from starting or being cancelled before the call is answered. Rows that others have locked
# may be about to do either. An export of another origin may wait longer, and be cancelled by other people.
_FIND = """
SELECT given.id AS asked_id, found.*
  FROM jsonb_to_recordset(%s::jsonb)
       AS given(id uuid, chatbot_id bigint, origin text, variable_id bigint, uci_digest bytea,
                conversation_digests bytea[], reference text, callback_url text, requested_at timestamptz,
                include_shared bool, include_files bool, csv_dialect text, formats text, archive text)
 CROSS JOIN LATERAL (
       SELECT * FROM compliance_compliancerequest r
        WHERE {same} AND r.chatbot_id = given.chatbot_id AND r.kind = 'export' AND r.status = 'accepted'
          AND r.claim_id IS NULL AND r.cutoff_at IS NULL AND r.origin = given.origin
          AND r.reference = given.reference AND r.callback_url = given.callback_url
          AND r.requested_at IS NOT DISTINCT FROM given.requested_at
          AND r.include_shared = given.include_shared AND r.include_files = given.include_files
          AND r.csv_dialect = given.csv_dialect AND r.formats = given.formats AND r.archive = given.archive
          AND NOT EXISTS (
              SELECT FROM compliance_compliancerequest d
               WHERE {same_deletion} AND d.kind = 'deletion' AND d.seq > r.seq
                 AND d.status NOT IN ('cancelled', 'rejected') OFFSET 0)
        ORDER BY r.seq DESC LIMIT 1 FOR SHARE OF r SKIP LOCKED) AS found
"""
_GIVEN = (
    *("chatbot_id", "origin", "variable_id", "uci_digest", "conversation_digests", "reference", "callback_url"),
    *("requested_at", "include_shared", "include_files", "csv_dialect", "formats", "archive"),
)

_OPTIONS = _GIVEN[_GIVEN.index("reference") :]


def find(requests: Sequence[ComplianceRequest]) -> dict[UUID, ComplianceRequest]:
    """Return, by the id of each unsaved request, the waiting export that equals it.

    Locks these exports: none starts before the caller's transaction ends.
    """
    found: dict[UUID, ComplianceRequest] = {}
    for is_by_uci, (same, same_deletion) in ((True, _UCI), (False, _CONVERSATIONS)):
        asked = {one.pk: one for one in requests if (one.variable_id is not None) == is_by_uci}
        if not asked:
            continue
        given = [
            {"id": str(one.pk)} | {name: as_json(getattr(one, name)) for name in _GIVEN} for one in asked.values()
        ]
        statement = _FIND.format(same=same, same_deletion=same_deletion)
        for equal in ComplianceRequest.objects.raw(statement, [json.dumps(given)]):
            asked_id = equal.asked_id  # type: ignore[attr-defined]
            equal.chatbot = asked[asked_id].chatbot
            found[asked_id] = equal
    return found


def answers(
    inputs: Mapping[int, RequestInput],
    unsaved: Mapping[int, ComplianceRequest],
    waiting: Mapping[UUID, ComplianceRequest],
) -> dict[int, Answer]:
    """Return the answer of each item of a call, in order: the request itself or, for an export, an equal one.

    `waiting` is the result of `find`. A deletion between two equal exports separates them.
    """
    filed: dict[object, ComplianceRequest] = {}
    deleted: set[bytes] = set()
    answers: dict[int, Answer] = {}
    for place, request in sorted(unsaved.items()):
        subject = _subject(request)
        answers[place] = Answer(request)
        if request.kind == ComplianceRequest.Kind.DELETION:
            deleted |= subject
            filed = {same: one for same, one in filed.items() if subject.isdisjoint(_subject(one))}
            continue
        same = (subject, *(getattr(request, name) for name in _OPTIONS))
        if inputs[place].accepts_equal:
            stored = waiting.get(request.pk) if subject.isdisjoint(deleted) else None
            if equal := filed.get(same) or stored:
                answers[place] = Answer(equal, existing=True)
        filed[same] = answers[place].request
    return answers


def _subject(request: ComplianceRequest) -> frozenset[bytes]:
    """Return the digests of the request's subject. A chatter and a conversation never share a digest."""
    digests = [request.uci_digest] if request.uci_digest else request.conversation_digests or []
    return frozenset(map(bytes, digests))


def entries(equals: Iterable[ComplianceRequest], *, origin: str, actor: str) -> list[changelog.Entry]:
    """Return the change-log entries of exports that answer for others: one for each, with the number of answers."""
    times = Counter((one.chatbot_id, one.pk) for one in equals)
    return [
        changelog.entry(
            "request.reused",
            chatbot_id=chatbot_id,
            request_id=request_id,
            actor=actor,
            data={"origin": str(origin), "times": count},
        )
        for (chatbot_id, request_id), count in times.items()
    ]
