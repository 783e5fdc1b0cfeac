"""Open exports of the restored database of which a replay leaves nothing: they are cancelled and named.

Each was delivered before the deletion that it meets, or given up, in the former life. Carried out afterwards it would
deliver an empty file as if it were all. One that has something else to deliver goes on, as any export that a deletion
meets; but the chatter's own, which the deletion would wait for while the service is closed.
"""

from collections.abc import Collection, Mapping
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now
from psycopg import sql

from chatbots import changelog
from common.db import array, execute, fetch
from compliance.export.delivery import wanted
from compliance.models import ComplianceRequest, LedgerLine
from compliance.replay.loading import ACTOR
from compliance.work.outbox import announce
from compliance.work.sql import digests_of
from conversations.placement import by_place
from conversations.sql import SELECTED_CONVERSATIONS
from conversations.transcripts import Transcripts

Plan = LedgerLine.Plan
Status = ComplianceRequest.Status

_OPEN = [Status.ACCEPTED, Status.ON_HOLD, Status.PROCESSING]

# With a deletion that is carried out again, which each meets, and whether it is of the same chatter.
_MET = f"""
WITH r AS MATERIALIZED (
    SELECT id, seq, chatbot_id, variable_id, uci_digest, {digests_of("q")} AS conversation_digests
      FROM compliance_compliancerequest AS q
     WHERE chatbot_id = ANY(%(chatbots)s::bigint[]) AND kind = 'export' AND status = ANY(%(open)s)
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
# They are in the report as lines of their own.
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


def end(incarnation: UUID) -> None:
    """Cancel and name them, once all is filed and before anything of it is carried out."""
    erasing = LedgerLine.objects.filter(incarnation=incarnation, plan=Plan.ERASE, outcome=LedgerLine.Outcome.FILED)
    chatbots = {chatbot_id: chatbot_id for chatbot_id in erasing.values_list("chatbot", flat=True).distinct()}
    for together in by_place(chatbots):
        with transaction.atomic():
            met = fetch(_MET, {"chatbots": array(together), "incarnation": incarnation, "open": _OPEN})
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
    """Cancel these exports, given with the deletions that they meet, and name them."""
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
