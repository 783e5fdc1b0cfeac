"""The acts of staff on a chatbot's settings and messages.

They set the reliability of exports, four eyes, the Unique Chatter Identifier and retention, and redact messages.
"""

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from chatbots import locks
from chatbots.buckets.locations import bucket_secret_binding
from chatbots.models import Bucket, Chatbot
from chatbots.operations.chatbots import NewVariable, change_chatbot
from common.crypto import encrypt
from compliance.errors import Refused
from compliance.models import ComplianceRequest, RetentionRun
from compliance.redaction import filing
from compliance.requests import decisions
from compliance.requests.early_start import start_now
from compliance.requests.reasons import Letter
from compliance.retention import policy
from conversations.extracts.days import ONE_DAY
from conversations.models import Conversation
from tests.clients import use_bucket_at, use_hosted_bucket
from tests.oracle.filing import selected
from tests.oracle.model import now
from tests.stress.truth import RETAINED_FOR, Demand, FiledRequest, Truth

# The user who sets a period is not the one who approves its first run.
_OFFICER = "user:1"
_OTHER = NewVariable("custom", "account_id")
_BROKEN = "no-such-bucket"


def clients_bucket() -> str:
    return f"{settings.S3_BUCKET}-clients"


class Officers:
    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.lost_periods: dict[str, int | None] = {}  # those of the life that a restore has ended, by chatbot
        self._days = timedelta()

    def demand(self, bot: str, least: str) -> None:
        demand = Demand(now(), bot=bot, least=least)
        self.truth.demands.append(demand)
        chatbot = Chatbot.objects.get(slug=bot)
        change_chatbot(chatbot=chatbot, changes={"export_assurance": least}, actor="command")
        demand.answered_at = now()

    def eyes(self, bot: str, state: str) -> None:
        change_chatbot(chatbot=Chatbot.objects.get(slug=bot), changes={"four_eyes": state == "on"}, actor=_OFFICER)

    def bucket(self, bot: str, which: str) -> None:
        """Let exports be delivered to the client's own bucket, to none (`broken`), or hosted again.

        `other`: to the client's own bucket if they are hosted, or else hosted.
        """
        chatbot = Chatbot.objects.get(slug=bot)
        is_hosted = Bucket.objects.filter(chatbot=chatbot, hosting=Bucket.Hosting.HOSTED).exists()
        if which == "other":
            which = "client" if is_hosted else "hosted"
        if which == "hosted":
            use_hosted_bucket(chatbot)
            return
        self.truth.had_clients_bucket.add(bot)
        use_bucket_at(chatbot, str(settings.S3_ENDPOINT_URL))
        secret = encrypt(settings.S3_SECRET_ACCESS_KEY, bound_to=bucket_secret_binding(chatbot.pk))
        Bucket.objects.filter(chatbot=chatbot).update(
            bucket=clients_bucket() if which == "client" else _BROKEN,
            access_key_id=settings.S3_ACCESS_KEY_ID,
            secret_encrypted=secret,
        )

    def mend_buckets(self) -> None:
        Bucket.objects.filter(bucket=_BROKEN).update(bucket=clients_bucket())

    def redesignate(self, bot: str) -> None:
        """Make another variable the Unique Chatter Identifier for a moment."""
        chatbot = Chatbot.objects.get(slug=bot)
        change_chatbot(chatbot=chatbot, variables=[_OTHER], uci=_OTHER.name, actor=_OFFICER)
        change_chatbot(chatbot=chatbot, uci="member_id", actor=_OFFICER)

    def select(self, name: str, bot: str, conversation: str, place: int | str) -> None:
        filed = self.truth.ask_redaction(name, bot, conversation, place)
        number = self.truth.at(bot, conversation).number
        if filed is None or number is None:
            return
        chatbot, origin = Chatbot.objects.get(slug=bot), ComplianceRequest.Origin.CONSOLE
        what = selected(filed.redacts) | {"reason": "payment_data", "origin": origin, "actor": _OFFICER}
        try:
            request = filing.redact(chatbot=chatbot, number=number, **what)
        except Refused as refused:
            self.truth.drop(filed)
            # An unfinished redaction may be about the same message or comment.
            others = [one for one in self.truth.named.values() if one.ids == filed.ids and one.kind == filed.kind]
            is_waited_for = refused.code == "invalid" and not all(one.is_final for one in others)
            if refused.code != "conversation_deleted" and not is_waited_for:
                raise
            return
        filed.received_at, filed.id, filed.is_by_staff = request.received_at, str(request.pk), True

    def start(self, name: str) -> None:
        """End the time in which staff can cancel a request."""
        filed = self.truth.named.get(name)
        if filed and filed.id:
            with suppress(Refused):
                start_now(request_id=UUID(filed.id), actor=_OFFICER)

    def extend(self, name: str) -> None:
        """Extend a deadline, which must change nothing of what is erased."""
        filed = self.truth.named.get(name)
        if filed and filed.id:
            with suppress(Refused):
                decisions.extend(request_id=UUID(filed.id), actor=_OFFICER, reason="complexity")

    def answer(self, name: str) -> None:
        """Record the letter that fits the state, if any does."""
        filed = self.truth.named.get(name)
        for letter in Letter if filed and filed.id else ():
            with suppress(Refused):
                decisions.record_answer(request_id=UUID(filed.id), actor=_OFFICER, letter=letter)

    def retain(self, name: str, bot: str) -> None:
        """File the retention run of another day, unless one is under way or nothing is due.

        Without a period in force, of one that is set for a moment: it has ended before the run is carried out.
        """
        if name in self.truth.named:
            return
        self.truth.ask(name, "retention", bot)
        request = None
        # No sweep sees the period, and files a run that the model does not know.
        with transaction.atomic():
            chatbot = locks.locked(Chatbot.objects.get(slug=bot).pk)
            before = chatbot.retention_days
            if before is None:
                Chatbot.objects.filter(pk=chatbot.pk).update(retention_days=RETAINED_FOR.days, retention_set_at=Now())
                chatbot.refresh_from_db()
            with suppress(policy.NotFiled):
                request = policy.file_run(chatbot, actor="command")
            # A day on which no other one is filed. The first is that of a first run that was filed today.
            self._days += ONE_DAY
            RetentionRun.objects.filter(request=request, request__isnull=False).update(day=F("day") + self._days)
            Chatbot.objects.filter(pk=chatbot.pk).update(retention_days=before)
        self._note(name, RetentionRun.objects.filter(request=request).first() if request else None, days=before)

    def period(self, name: str, bot: str, days: int | None) -> None:
        """Set, shorten, lengthen or end the period; a first run that follows is the request of this name."""
        if name in self.truth.named:
            return
        self.truth.ask(name, "retention", bot)
        chatbot = Chatbot.objects.get(slug=bot)
        is_first = days is not None and policy.needs_confirmation(chatbot, days)
        confirmed = policy.forecast(chatbot, days or 0).first_run if is_first else None
        self._change(chatbot, days, confirmed)
        self._note(name, policy.waiting_first_run(chatbot) if is_first else None, days=days)

    def end_restored_period(self, run: FiledRequest) -> bool:
        """End a period that was ended or lengthened before a restore brought it back; return whether it was.

        In place of an approval of its run, which would erase what was to be kept.
        """
        chatbot = Chatbot.objects.get(slug=run.bot)
        if run.kind != "retention" or chatbot.retention_set_at or chatbot.retention_days is None:
            return False
        lost = self.lost_periods[run.bot]
        if lost is not None and lost <= chatbot.retention_days:
            return False
        self._change(chatbot, None, None)
        return True

    def _change(self, chatbot: Chatbot, days: int | None, confirmed: int | None) -> None:
        """Set a period: no earlier run erases what is open by then."""
        changed = policy.change_period(chatbot=chatbot, days=days, actor=_OFFICER, confirmed=confirmed)
        if changed.retention_set_at == chatbot.retention_set_at:
            return
        open_ones = Conversation.objects.filter(chatbot=chatbot, deletion_request_id=None)
        spared = {self.truth.at(chatbot.slug, str(one)) for one in open_ones.values_list("external_id", flat=True)}
        for one in self.truth.of("retention"):
            if one.bot == chatbot.slug:
                one.spared |= spared

    def _note(self, name: str, run: RetentionRun | None, *, days: int | None) -> None:
        if run is None:
            self.truth.drop(self.truth.named[name])
            return
        filed = self.truth.named[name]
        filed.older_than, filed.days, filed.may_be_cancelled = run.older_than, days, True
        filed.received_at, filed.id = run.request.received_at, str(run.request_id)
