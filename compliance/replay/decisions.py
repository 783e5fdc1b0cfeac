"""Lines that a replay cannot carry out: each closes its own chatbot until an operator has decided."""

import logging
from collections.abc import Collection
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from chatbots import changelog
from chatbots.models import Chatbot
from compliance.models import LedgerLine

logger = logging.getLogger(__name__)

Outcome = LedgerLine.Outcome


class NotUndecided(Exception):
    """No line of these requests waits for a decision. Names them."""

    def __init__(self, request_ids: Collection[UUID]) -> None:
        super().__init__(", ".join(map(str, request_ids)))


def leave(request_ids: Collection[UUID]) -> None:
    """Decide that nothing more is done for these requests, and open the chatbots that wait for no other decision.

    Raises NotUndecided, and changes nothing then.
    """
    with transaction.atomic():
        lines = LedgerLine.objects.filter(outcome=Outcome.UNDECIDED)
        waiting = set(lines.select_for_update().filter(pk__in=request_ids).values_list("pk", flat=True))
        if missing := set(request_ids) - waiting:
            raise NotUndecided(missing)
        for line in lines.filter(pk__in=waiting, chatbot__isnull=False):
            changelog.record("request.left", chatbot_id=line.chatbot_id or 0, request_id=line.pk, actor="command")
        lines.filter(pk__in=waiting).update(outcome=Outcome.UNCHANGED)
        close_undecided()
    logger.warning("replay.left requests=%s", ",".join(map(str, request_ids)))


def try_again(incarnation: UUID) -> None:
    """Have the replay plan and file undecided lines again."""
    undecided = LedgerLine.objects.filter(outcome=Outcome.UNDECIDED)
    undecided.update(incarnation=incarnation, plan="", outcome="", numbers=None, conversations=0)


def close_undecided() -> None:
    """Close the chatbots of undecided lines, and open all others."""
    undecided = LedgerLine.objects.filter(outcome=Outcome.UNDECIDED, chatbot__isnull=False)
    ids = list(undecided.values_list("chatbot", flat=True).distinct())
    Chatbot.objects.filter(pk__in=ids, closed_at=None).update(closed_at=Now())
    Chatbot.objects.filter(closed_at__isnull=False).exclude(pk__in=ids).update(closed_at=None)
