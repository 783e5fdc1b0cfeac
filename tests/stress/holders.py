"""Officers who place and release legal holds."""

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from chatbots.models import Chatbot
from compliance import holds
from compliance.errors import Refused
from compliance.holds import HoldInput
from compliance.models import LegalHold
from compliance.requests.decisions import erase_unheld
from compliance.requests.selectors import ByConversations, ByUci, Selector
from tests.holding import OTHER, PLACER
from tests.oracle.model import now
from tests.stress.truth import Hold, Truth


class Holders:
    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self._ids: dict[str, UUID] = {}

    def keep(self, name: str, bot: str, chatter: str) -> None:
        self._place(name, Hold(now(), bot=bot, value=chatter), ByUci("member_id", chatter))

    def keep_ids(self, name: str, bot: str, ids: str) -> None:
        named = tuple(ids.split(","))
        self._place(name, Hold(now(), bot=bot, ids=named), ByConversations(named))

    def keep_all(self, name: str, bot: str) -> None:
        self._place(name, Hold(now(), bot=bot), None)

    def let_go(self, name: str) -> None:
        """Release a hold, unless it was released, or a restore has lost it."""
        if name in self._ids:
            self._release(LegalHold.objects.filter(pk=self._ids[name]).first())
            self.truth.holds[name].released_at = now()

    def free(self) -> None:
        """Release all holds, also those of a backup."""
        for hold in LegalHold.objects.filter(released_at=None):
            self._release(hold)
        for one in self.truth.holds.values():
            one.released_at = one.released_at or now()

    def limit(self, name: str) -> None:
        """Let a deletion erase what no hold covers, if one keeps it."""
        filed = self.truth.named.get(name)
        if filed and filed.id:
            filed.limited_at = filed.limited_at or now()
            with suppress(Refused):
                erase_unheld(request_id=UUID(filed.id), actor=PLACER)

    def _place(self, name: str, hold: Hold, selector: Selector | None) -> None:
        if name in self.truth.holds:
            return
        self.truth.holds[name] = hold
        chatbot = Chatbot.objects.get(slug=hold.bot)
        review_at = timezone.now() + timedelta(days=90)
        given = HoldInput(selector=selector, matter=name, basis="legal_claims", review_at=review_at)
        self._ids[name] = holds.place(chatbot=chatbot, given_input=given, actor=PLACER)[0].pk

    def _release(self, hold: LegalHold | None) -> None:
        if hold is not None and hold.released_at is None:
            reason = LegalHold.ReleaseReason.MATTER_CLOSED
            holds.release(chatbot=hold.chatbot, hold_id=hold.pk, reason=reason, actor=OTHER)
