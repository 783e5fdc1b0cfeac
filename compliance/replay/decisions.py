"""Lines that a replay cannot carry out: each closes its own chatbot until an operator has decided."""

import logging
from collections.abc import Collection
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from chatbots import changelog
from chatbots.models import Chatbot
from common.db import execute
from compliance.ledger import service
from compliance.models import LedgerLine

logger = logging.getLogger(__name__)

Outcome = LedgerLine.Outcome

# Their conversations led to these deletions, and are erased. But their variable is not here, so that their chatter
# cannot be remembered. What an operator has decided stays so.
_WITHOUT_VARIABLE = """
UPDATE compliance_ledgerline l SET outcome = 'undecided'
 WHERE incarnation = %s AND plan IN ('erase', 'late') AND outcome <> 'decided' AND line->>'variable' IS NOT NULL
   AND NOT EXISTS (SELECT FROM chatbots_variable v
                    WHERE v.chatbot_id = l.chatbot_id AND v.public_id = (l.line->>'variable')::uuid)
"""


class NotUndecided(Exception):
    """No line of these requests waits for a decision: nothing was changed. Names them."""

    def __init__(self, request_ids: Collection[UUID]) -> None:
        super().__init__(", ".join(map(str, request_ids)))


def leave(request_ids: Collection[UUID]) -> None:
    """Decide that nothing more is done for these requests, and open the chatbots that wait for no other decision.

    While no replay is under way (`operation.leave`). Raises NotUndecided where one of them waits for no decision.
    """
    with transaction.atomic():
        lines = LedgerLine.objects.filter(outcome=Outcome.UNDECIDED, chatbot__isnull=False)
        waiting = dict(lines.filter(pk__in=request_ids).values_list("pk", "chatbot"))
        if missing := set(request_ids) - waiting.keys():
            raise NotUndecided(missing)
        for request_id, chatbot_id in waiting.items():
            changelog.record("request.left", chatbot_id=chatbot_id, request_id=request_id, actor="command")
        lines.filter(pk__in=waiting).update(outcome=Outcome.DECIDED)
        _close()
    logger.warning("replay.left requests=%s", ",".join(map(str, request_ids)))


def try_again(incarnation: UUID) -> None:
    """Have the replay of this life plan and file undecided lines again, of whatever life they are."""
    undecided = LedgerLine.objects.filter(outcome=Outcome.UNDECIDED)
    undecided.update(incarnation=incarnation, plan="", outcome="", numbers=None, conversations=0)


def close_undecided(incarnation: UUID) -> None:
    """Close the chatbots of lines that this replay leaves undecided, and open all others."""
    with transaction.atomic():
        execute(_WITHOUT_VARIABLE, [incarnation])
        _close()


def _close() -> None:
    lines = LedgerLine.objects.filter(chatbot__isnull=False).order_by()
    undecided = list(lines.filter(outcome=Outcome.UNDECIDED).values_list("chatbot", flat=True).distinct())
    # Those of a trial that was stopped.
    ours = Q(incarnation=service.current().incarnation, outcome__in=["", Outcome.FILED])
    unended = list(lines.filter(ours).values_list("chatbot", flat=True).distinct())
    Chatbot.objects.filter(pk__in=undecided, closed_at=None).update(closed_at=Now())
    Chatbot.objects.exclude(closed_at=None).exclude(pk__in=[*undecided, *unended]).update(closed_at=None)
