"""Restricted conversations (Article 18 GDPR): a legal hold covers them, and a request to erase them waits for it.

They are kept for the matter of the hold alone, so only officers read them. Intake goes on, and the person's own
export is carried out. While an officer lets a deletion erase what is not held, it is not on hold and restricts
nothing; the deletion of the rest does.
"""

from collections.abc import Collection

from common.db import array, fetch
from compliance.models import ComplianceRequest, Redaction, RequestSubject
from compliance.work import legal_holds

Kind = ComplianceRequest.Kind

# A digest belongs to one UCI of one chatbot.
_NAMED = """
SELECT c.id
  FROM unnest(%(numbers)s::bigint[]) AS given(number)
 CROSS JOIN LATERAL (
       SELECT id, external_id_digest FROM conversations_conversation
        WHERE id = given.number AND chatbot_id = ANY(%(chatbots)s) OFFSET 0) AS c
 WHERE c.external_id_digest = ANY(%(ids)s::bytea[])
    OR EXISTS (
       SELECT 1 FROM conversations_identity
        WHERE conversation_id = c.id AND chatbot_id = ANY(%(chatbots)s) AND digest = ANY(%(chatters)s::bytea[]))
"""


def find_restricted(chatbot_id: int, numbers: Collection[int] | None = None) -> set[int]:
    """Return which of these conversations of a chatbot are restricted; without `numbers`, all that are.

    One query if no request of the chatbot waits for a legal hold, as in most chatbots.
    """
    waiting = ComplianceRequest.objects.filter(
        chatbot=chatbot_id,
        status=ComplianceRequest.Status.ON_HOLD,
        hold_reason=ComplianceRequest.HoldReason.LEGAL_HOLD,
    )
    requests = list(waiting.values_list("pk", "kind", "uci_digest", "cutoff_at"))
    if not requests or (numbers is not None and not numbers):
        return set()
    redactions = [request_id for request_id, kind, *_ in requests if kind == Kind.REDACTION]
    named = set(Redaction.objects.filter(request__in=redactions).values_list("conversation_id", flat=True))
    deletions = {request_id: digest for request_id, kind, digest, _ in requests if kind == Kind.DELETION}
    # One with a cutoff, after a replay, is about nothing newer. There are few.
    read = [each for each, *_, cutoff_at in requests if each in deletions and (numbers is None or cutoff_at)]
    if read:
        named = named.union(*legal_holds.find_named(read).values())
    if numbers is not None:
        others = deletions.keys() - set(read)
        given = {
            "numbers": array(numbers),
            "chatbots": array([chatbot_id]),
            "ids": list(RequestSubject.objects.filter(request__in=others).values_list("digest", flat=True)),
            "chatters": [digest for each in others if (digest := deletions[each])],
        }
        named = named.intersection(numbers).union(number for (number,) in fetch(_NAMED, given))
    return legal_holds.find_held([chatbot_id], named)
