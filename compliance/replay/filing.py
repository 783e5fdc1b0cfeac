"""Write the ledger's lines into the database: rewrite the requests under their ids, and close their conversations.

A line covers a conversation if it has the digest of its id, since nothing is stored under an erased id. It also
covers it if it has its chatter, and the conversation was stored when the restore was noticed (`reach`), or is open
and began before the cutoff. A request that has marked in this database keeps its own cutoff: later messages of its
chatter are new.

Exactly the planned conversations are closed, and stay hidden from then on, whenever they are erased. The ledger has
these requests already, so their entries in the journal are deleted.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now
from psycopg import sql

from chatbots import changelog
from chatbots.models import Chatbot
from common.db import array, execute, fetch, insert_many
from compliance.erasure import exports, marking
from compliance.export.delivery import wanted
from compliance.ledger import lines as lines_of_ledger
from compliance.models import ComplianceRequest, JournalEntry, LedgerLine, LineKind
from compliance.redaction import messages
from compliance.replay import kinds
from compliance.replay.kinds import Outcome, Plan, ReplayedLine, Status
from compliance.replay.loading import ACTOR, declare_ucis
from compliance.requests import insert
from compliance.work import legal_holds
from compliance.work.outbox import announce
from compliance.work.sql import digests_of
from conversations.placement import by_place
from conversations.sql import SELECTED_CONVERSATIONS
from conversations.transcripts import Transcripts

# Before every request.
FIRST = UUID(int=0)
# Their conversations are closed.
ERASING = {Plan.ERASE, Plan.LATE, Plan.RUN}

# The present data about lines whose chatbots live in one place. OFFSET 0 keeps PostgreSQL at one look-up for each.
_READ = f"""
WITH l AS MATERIALIZED (
    SELECT l.request_id, l.kind, l.line, l.chatbot_id, coalesce(b.four_eyes, FALSE) AS four_eyes,
           coalesce(b.max_conversations_per_deletion, 0) AS guard,
           make_interval(mins => coalesce(b.grace_minutes, 0)) AS grace,
           (SELECT id FROM chatbots_variable
             WHERE public_id = (l.line->>'variable')::uuid AND chatbot_id = l.chatbot_id) AS variable_id,
           decode(l.line->>'chatter', 'hex') AS uci_digest, l.conversation_digests,
           known.kind AS known_kind, known.status AS known_status,
           known.cutoff_at AS known_cutoff_at, known.cutoff_number AS known_cutoff_number
      FROM (SELECT * FROM compliance_ledgerline WHERE request_id = ANY(%(lines)s::uuid[])) AS l
      LEFT JOIN LATERAL (SELECT * FROM chatbots_chatbot WHERE id = l.chatbot_id) AS b ON TRUE
      LEFT JOIN LATERAL (
           SELECT kind, status, cutoff_at, cutoff_number
             FROM compliance_compliancerequest WHERE id = l.request_id) AS known ON TRUE
), met AS MATERIALIZED (
    SELECT r.*, named.is_any, named.numbers, named.of_others, person.value
      FROM l AS r
      LEFT JOIN LATERAL (
           SELECT count(*) > 0 AS is_any,
                  array_agg(DISTINCT c.id ORDER BY c.id) FILTER (WHERE c.deleted_at IS NULL AND c.is_meant)
                      AS numbers,
                  array_agg(DISTINCT c.id) FILTER (WHERE c.deleted_at IS NULL AND c.is_of_other) AS of_others
             FROM ({SELECTED_CONVERSATIONS}) AS named
            CROSS JOIN LATERAL (
                  SELECT id, deleted_at,
                         named.identity_id IS NULL AND deletion_request_id <> r.request_id AND NOT EXISTS (
                             SELECT FROM conversations_identity i
                              WHERE i.chatbot_id = ANY(%(chatbots)s) AND i.conversation_id = named.conversation_id
                                AND i.variable_id = r.variable_id AND i.digest = r.uci_digest) AS is_of_other,
                         CASE WHEN r.kind IN ('accepted', 'intended') OR named.identity_id IS NULL THEN TRUE
                              ELSE id <= coalesce(r.known_cutoff_number, %(reach)s)
                                   OR (deletion_request_id IS NULL
                                       AND started_at < coalesce(r.known_cutoff_at,
                                                                 (r.line->>'cutoff_at')::timestamptz))
                              END AND (named.identity_id IS NULL OR r.known_status IS DISTINCT FROM 'completed')
                              AS is_meant
                    FROM conversations_conversation
                   WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
           ) AS named ON TRUE
      LEFT JOIN LATERAL (
           SELECT value FROM conversations_identity
            WHERE chatbot_id = r.chatbot_id AND chatbot_id = ANY(%(chatbots)s) AND variable_id = r.variable_id
              AND variable_id > 0 AND digest = r.uci_digest AND value IS NOT NULL LIMIT 1) AS person ON TRUE
)
SELECT l.request_id, l.kind, l.line::json, l.chatbot_id, l.four_eyes, l.guard, l.grace, l.variable_id, l.uci_digest,
       l.conversation_digests[1:100], coalesce(l.is_any, FALSE), coalesce(l.numbers, '{{}}'),
       coalesce(l.of_others, '{{}}'), l.value,
       EXISTS (SELECT FROM compliance_compliancerequest
                WHERE variable_id = l.variable_id AND uci_digest = l.uci_digest AND kind = 'export'),
       %(reach)s::bigint, statement_timestamp()
  FROM met AS l
"""  # noqa: S608  (a text of ours)
_STORE = """
UPDATE compliance_ledgerline l
   SET plan = given.plan, outcome = given.outcome, numbers = given.numbers, conversations = given.conversations
  FROM jsonb_to_recordset(%s::jsonb)
         AS given(request_id uuid, plan text, outcome text, numbers bigint[], conversations int)
 WHERE l.request_id = given.request_id
"""
# The columns of a rewritten request that the database sets, as for any other. Its place in the queue is a new one.
_NEW = {field.attname for field in ComplianceRequest._meta.concrete_fields if field.has_db_default()} - {
    *("received_at", "deadline", "extended_by", "withholds", "withheld")
}
# A conversation keeps its mark, unless only the ledger connects it with the request (`taken`). The marks are not
# joined as a list (`erasure.rows`).
_MARK = """
UPDATE conversations_conversation c SET deletion_request_id = (%(marks)s::jsonb ->> c.id::text)::uuid
 WHERE c.id = ANY(%(numbers)s::bigint[]) AND c.chatbot_id = ANY(%(chatbots)s::bigint[]) AND c.deleted_at IS NULL
   AND (c.deletion_request_id IS NULL OR c.id = ANY(%(taken)s::bigint[]))
"""
# Each export with a repeated deletion that has it in its scope, and whether it is of the same chatter.
_MET = f"""
WITH r AS MATERIALIZED (
    SELECT id, seq, chatbot_id, variable_id, uci_digest, {digests_of("q")} AS conversation_digests
      FROM compliance_compliancerequest AS q
     WHERE chatbot_id = ANY(%(chatbots)s::bigint[]) AND kind = 'export'
       AND status IN ('accepted', 'on_hold', 'processing')
), closed AS MATERIALIZED (
    SELECT DISTINCT r.id, c.deletion_request_id
      FROM r CROSS JOIN LATERAL ({SELECTED_CONVERSATIONS}) AS named
     CROSS JOIN LATERAL (
           SELECT deletion_request_id FROM conversations_conversation
            WHERE id = named.conversation_id AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
     WHERE c.deletion_request_id IS NOT NULL
), erasing AS MATERIALIZED (
    SELECT d.id, d.seq, d.variable_id, d.uci_digest
      FROM (SELECT request_id FROM compliance_ledgerline
             WHERE outcome = 'filed' AND incarnation = %(incarnation)s AND plan = 'erase') AS l
      JOIN compliance_compliancerequest AS d ON d.id = l.request_id
)
SELECT DISTINCT ON (met.id) met.id, met.deletion_id, met.is_own, r.seq
  FROM (SELECT closed.id, erasing.id AS deletion_id, FALSE AS is_own, erasing.seq
          FROM closed JOIN erasing ON erasing.id = closed.deletion_request_id
         UNION ALL
        SELECT r.id, erasing.id, TRUE, erasing.seq FROM r JOIN erasing USING (variable_id, uci_digest)) AS met
  JOIN r ON r.id = met.id AND r.seq < met.seq
 ORDER BY met.id, met.is_own DESC, met.seq
"""  # noqa: S608  (a text of ours)
# The cancelled exports are in the report as lines of their own.
_NAME = """
INSERT INTO compliance_ledgerline
       (request_id, kind, chatbot_id, line, conversation_digests, key, at, incarnation, plan, conversations, outcome)
SELECT given.export_id, 'accepted', l.chatbot_id, '{"request_kind": "export"}'::jsonb, '{}', l.key, l.at,
       l.incarnation, 'end_export', 0, 'lost_export'
  FROM unnest(%s::uuid[], %s::uuid[]) AS given(export_id, deletion_id)
  JOIN compliance_ledgerline l ON l.request_id = given.deletion_id
    ON CONFLICT (request_id) DO UPDATE
   SET plan = excluded.plan, incarnation = excluded.incarnation, numbers = NULL, conversations = 0,
       outcome = excluded.outcome
"""


def file_next(*, reach: int, incarnation: UUID, after: UUID, most: int, is_dry_run: bool) -> list[UUID]:
    """Plan and file the next lines after the request `after`, in the order of filing; return their requests.

    In one transaction, with immediate constraints.
    """
    with transaction.atomic():
        execute("SET CONSTRAINTS ALL IMMEDIATE")
        planned = _read_next(reach=reach, incarnation=incarnation, after=after, most=most, is_dry_run=is_dry_run)
        file(planned)
    return [one.request_id for one in planned]


def defer_next(*, incarnation: UUID, after: UUID) -> list[UUID]:
    """Let the next line wait for a decision, since it cannot be filed; return it."""
    ids = list(_next(incarnation, after, most=1))
    LedgerLine.objects.filter(pk__in=ids).update(plan=Plan.UNFILED, outcome=Outcome.UNDECIDED)
    return ids


def _next(incarnation: UUID, after: UUID, *, most: int) -> dict[UUID, int | None]:
    """Return the next lines, with their chatbots."""
    lines = LedgerLine.objects.filter(plan="", outcome="", incarnation=incarnation, pk__gt=after)
    return dict(lines.order_by("pk").values_list("pk", "chatbot_id")[:most])


def _read_next(*, reach: int, incarnation: UUID, after: UUID, most: int, is_dry_run: bool) -> list[ReplayedLine]:
    # A line of an unknown chatbot has no data here, in any place.
    chatbot_of = {pk: chatbot_id or 0 for pk, chatbot_id in _next(incarnation, after, most=most).items()}
    declare_ucis(list(chatbot_of))
    planned: list[ReplayedLine] = []
    for lines in by_place(chatbot_of):
        values = {"lines": array(lines), "chatbots": array({chatbot_of[line] for line in lines}), "reach": reach}
        planned += [ReplayedLine(*row) for row in fetch(_READ, values)]
    planned.sort(key=attrgetter("request_id"))
    actors = lines_of_ledger.known_actors(one.line.get(by) for one in planned for by in lines_of_ledger.ACTORS)
    requests = ComplianceRequest.objects.filter(pk__in=chatbot_of).order_by("seq")
    if not is_dry_run:  # which would hold the locks until its end, while the service can be open
        requests = requests.select_for_update(of=("self",))
    known = {request.pk: request for request in requests}
    for one in planned:
        one.known = known.get(one.request_id)
        one.filed_by = actors.get(one.line.get("filed_by")) or ACTOR
        one.approved_by, one.extended_by = (actors.get(one.line.get(by), "") for by in ("approved_by", "extended_by"))
    return planned


def file(planned: Sequence[ReplayedLine]) -> None:
    """File lines, in the caller's transaction, which has read them."""
    for chatbot_id in {one.chatbot for one in planned}:
        of_chatbot = [one for one in planned if one.chatbot == chatbot_id]
        held = legal_holds.find_held([chatbot_id], {number for one in of_chatbot for number in one.numbers})
        for one in of_chatbot:
            one.held = held.intersection(one.numbers)
    for one in planned:
        one.decision = kinds.decide(one)
    filed = [one.decision.request for one in planned if one.decision.request]
    insert_many([request for request in filed if request._state.adding], leave_out=_NEW)
    insert.store_subjects(filed)
    for one in planned:
        for row in one.decision.rows:
            row.save()
    _store(planned)
    _mark([one for one in planned if one.decision.plan in ERASING])
    erased = {one.request_id: one.chatbot for one in planned if one.decision.plan == Plan.ERASE}
    for together in by_place(erased):
        exports.expire_marked(together)
    _remember(planned)
    announce([one.request_id for one in planned if one.decision.is_announced])
    changelog.record_all(_entry(one, one.decision.request) for one in planned if one.decision.request)
    entries = JournalEntry.objects.filter(request_id__in=[one.request_id for one in planned])
    entries.filter(kind=JournalEntry.Kind.ACCEPTED).delete()
    withdrawn = [one.request_id for one in planned if one.decision.plan == Plan.WITHDRAW]
    entries.filter(kind=JournalEntry.Kind.WITHDRAWN, request_id__in=withdrawn).delete()


def _store(planned: Sequence[ReplayedLine]) -> None:
    rows = [
        {
            "request_id": str(one.request_id),
            "plan": one.decision.plan,
            "outcome": one.decision.outcome,
            "numbers": one.numbers or None,
            "conversations": len(one.numbers),
        }
        for one in planned
    ]
    execute(_STORE, [json.dumps(rows)])


def _mark(planned: Sequence[ReplayedLine]) -> None:
    """Mark each conversation for the first request that only the ledger connects with it, or else that covers it."""
    marks: dict[int, str] = {}
    taken: set[int] = set()
    for one in planned:
        of_others = set(one.of_others) if one.named is None else set()
        for number in one.numbers:
            if number not in marks or (number in of_others and number not in taken):
                marks[number] = one.request_id.hex
        taken |= of_others.intersection(one.numbers)
    if marks:
        chatbots = array({one.chatbot for one in planned})
        values = {"numbers": array(marks), "taken": array(taken), "chatbots": chatbots, "marks": json.dumps(marks)}
        execute(_MARK, values)


def _remember(planned: Sequence[ReplayedLine]) -> None:
    """Have intake refuse erased data that has no row here, or store redacted messages as redacted.

    Also for requests that are completed here: a single machine of Citus can have been restored. Not for lines that
    wait for a decision.
    """
    decided = [one for one in planned if one.decision.outcome not in {Outcome.UNDECIDED, Outcome.UNKNOWN_CHATBOT}]
    erased = {LineKind.EXACT, LineKind.RETENTION}
    done = [one for one in decided if one.kind in erased or one.decision.plan == Plan.COMPLETE]
    for together in by_place({one.request_id: one.chatbot for one in done}):
        marking.remember(together)
    for one in decided:
        if one.kind == LineKind.REDACTED or one.decision.plan == Plan.REMEMBER:
            at = one.time("cutoff_at") if one.line.get("cutoff_at") else one.now
            conversation = bytes.fromhex(one.line["conversation"])
            messages.remember(Chatbot(pk=one.chatbot), one.request_id, conversation, one.lost_messages, at)


def _entry(one: ReplayedLine, request: ComplianceRequest) -> changelog.Entry:
    event = "request.replayed"
    data: changelog.Data | None = {"line": str(one.kind), "conversations": len(one.numbers)}
    if one.decision.plan == Plan.WITHDRAW:
        event, data = f"request.{request.status}", None
    elif one.kind in {LineKind.ACCEPTED, LineKind.INTENDED}:
        event, data = "request.accepted", {"kind": str(request.kind), "origin": str(request.origin)}
    return changelog.entry(event, chatbot_id=one.chatbot, request_id=one.request_id, actor=ACTOR, data=data)


def end_exports(incarnation: UUID) -> None:
    """Cancel and report open exports of the restored database that the replay leaves without data.

    Call it once all is filed, and before any of it is carried out. In the former life each of these exports was given
    up, or delivered before the deletion. Carried out afterwards it would deliver an empty file as if it were
    complete. An export with other data continues, as any export in a deletion's scope. The chatter's own does not:
    the deletion would wait for it while the service is closed.
    """
    erasing = LedgerLine.objects.filter(incarnation=incarnation, plan=Plan.ERASE, outcome=LedgerLine.Outcome.FILED)
    chatbots = {chatbot_id: chatbot_id for chatbot_id in erasing.values_list("chatbot", flat=True).distinct()}
    for together in by_place(chatbots):
        with transaction.atomic():
            met = fetch(_MET, {"chatbots": array(together), "incarnation": incarnation})
            left = _left({export_id: seq for export_id, _, is_own, seq in met if not is_own}, together)
            _cancel({export_id: deletion_id for export_id, deletion_id, *_ in met if export_id not in left})


def _left(exports: Mapping[UUID, int], chatbot_ids: Collection[int]) -> set[UUID]:
    """Return those of these exports, given with their numbers, that have something to deliver."""
    if not exports:
        return set()
    which = sql.SQL("r.id = ANY({})").format(sql.Literal(list(exports)))
    found = Transcripts(connection.connection, wanted(which), chatbot_ids=chatbot_ids).count()
    return {export_id for export_id, seq in exports.items() if found[seq].conversations}


def _cancel(deletion_of: Mapping[UUID, UUID]) -> None:
    """Cancel these exports, given with their deletions, and report them."""
    exports = dict(
        ComplianceRequest.objects.filter(pk__in=deletion_of).order_by("seq").values_list("pk", "chatbot_id")
    )
    if not exports:
        return
    ComplianceRequest.objects.filter(pk__in=exports).update(
        status=Status.CANCELLED, cancelled_at=Now(), hold_reason=None, uci_value=None, claim=None, waiting_for=None
    )
    announce(exports)
    changelog.record_all(
        changelog.entry("request.cancelled", chatbot_id=chatbot_id, request_id=pk, actor=ACTOR)
        for pk, chatbot_id in exports.items()
    )
    execute(_NAME, [array(exports), array(deletion_of[pk] for pk in exports)])
