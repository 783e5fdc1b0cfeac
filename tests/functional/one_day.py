"""The work of the service in a day, while the database is watched (`test_plans`)."""

from contextlib import nullcontext
from datetime import timedelta
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from chatbots.models import Chatbot
from common.db import sessions_find_by_index
from compliance import worker
from compliance.callbacks import queue as callbacks
from compliance.callbacks.queue import RECEIVERS
from compliance.erasure import extracts, rows, verify
from compliance.lookups.queue import RESOLVERS, look_up
from compliance.models import Callback, Claim, ComplianceRequest, Export, ExportConversation, RetentionRun
from compliance.requests import decisions
from compliance.retention import policy
from compliance.work.lookups import overview_of
from conversations import uploads
from conversations.models import Conversation, DailyExtract, Identity, IdentityLookup, Message, VariableValue
from tests import factories
from tests.calls import SigningCaller
from tests.conversations.documents import message, parsed, update
from tests.conversations.intakes import results
from tests.functional.one_day_read import CHATTERS, DayOfReaders
from tests.looking_up import send, with_resolver
from tests.receivers import receiving

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status


# What sessions of workers do.
WORKERS = {
    *("draining", "draining_what_takes_chunks", "telling", "looking_up", "extracting", "sweeping", "verify"),
    *("redacting", "retaining"),
}


class Day(DayOfReaders):
    """The day of one chatbot: each kind of event once."""

    def work(self) -> None:
        for step in (
            self.intake,
            self.previewing,
            self.filing,
            self.deciding,
            self.draining,
            self.draining_what_takes_chunks,
            self.telling,
            self.telling_again,
            self.looking_up,
            self.finding,
            self.holding,
            self.late_data,
            self.extracting,
            self.sweeping,
            self.verify,
            self.reading,
            self.browsing,
            self.looking,
            self.being_watched,
            self.redacting,
            self.retaining,
        ):
            connection.close()
            as_worker = sessions_find_by_index() if step.__name__ in WORKERS else nullcontext()
            with as_worker, self.watch.step(f"{step.__name__}, {self.name}"):
                step()

    def intake(self) -> None:
        for outcome in ("created", "unchanged"):
            documents = [
                parsed(
                    f"{self.name} {number}",
                    custom_variables={"member_id": self.members[number % CHATTERS]},
                    user_channel_variables={"plan": "gold"},
                    user_name="Some Döe",
                )
                for number in range(3 * CHATTERS)
            ]
            assert set(results(self.chatbot, *documents)) == {outcome}
        more = [
            update(f"{self.name} {number}", messages=[message("m9")], csat={"score": 9}, user_name="Someone Dœ")
            for number in range(3 * CHATTERS)
        ]
        assert set(results(self.chatbot, *more)) == {"updated"}
        anonymous = [parsed(f"{self.name} late {number}", custom_variables={}) for number in range(3)]
        assert set(results(self.chatbot, *anonymous)) == {"created"}
        assert self._identify("unknown", self.members[:3]) == {"unknown_conversation"}
        strangers = [parsed(f"{self.name} stranger {number}", custom_variables={}) for number in range(3)]
        assert set(results(self.chatbot, *strangers)) == {"created"}
        for outcome in ("created", "confirmed"):
            assert self._identify("stranger", ["a stranger"] * 3) == {outcome}
        assert self._sign("stranger", ["a stranger"] * 3) == {"unchanged"}
        assert self._sign("stranger", ["another", "another"]) == {"updated"}
        with self.watch.paused():
            open_one = Conversation.objects.get(chatbot=self.chatbot, external_id=f"{self.name} 0")
        uploads.receive(
            conversation=open_one,
            name="photo.jpg",
            content_type="image/jpeg",
            chunks=[b"photo"],
            message_external_id="m0",
        )

    def filing(self) -> None:
        with self.watch.paused():
            factories.export_of(self.chatbot, self.members[0], include_files=True)
            # Given up, and named again below.
            self.failed = factories.of_conversations(
                self.chatbot,
                f"{self.name} {7 + CHATTERS}",
                status=Status.FAILED,
                failed_at=timezone.now(),
                error_code="x",
            )
        signing = SigningCaller(self.chatbot, secret=f"secret of {self.name}")
        signing.timestamp = str(int(timezone.now().timestamp()))
        for path in ("data-export", "data-deletion"):
            for value in (self.members[0], self._member_with_files()):
                body = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": value}
                calls = [
                    signing.post(path, body),
                    signing.post(path, body),
                    self.token.post(path, body, Idempotency_Key=f"{self.name} {path} {value}"),
                ]
                assert [answer.status_code for answer in calls] == [200, 200, 200]
            for number in (7, 8):
                ids = [f"{self.name} {number}", f"{self.name} {number + CHATTERS}", "nobody's"]
                assert self.token.post(path, {"conversation_ids": ids}).status_code == 200
        batch_of = {
            "requests": [
                {
                    "action": "delete" if number % 20 else "export",
                    "unique_chatter_identifier_key": "member_id",
                    "unique_chatter_identifier_value": f"{self.name} batch {number}",
                }
                for number in range(200)
            ]
        }
        for _ in range(2):
            assert signing.post("requests/batch", batch_of, Idempotency_Key=f"{self.name} batch").status_code == 200
        with self.watch.paused():
            for value in self.members[1:]:
                factories.deletion_of(self.chatbot, value)
            for value in self.members[1:5]:
                factories.export_of(self.chatbot, value)

    def deciding(self) -> None:
        now = timezone.now()
        held = [
            factories.deletion_of(
                self.chatbot, f"{self.name} held {n}", status=Status.ON_HOLD, hold_reason=reason, held_at=now
            )
            for n, reason in enumerate(ComplianceRequest.HoldReason)
        ]
        failed = factories.export_of(
            self.chatbot, f"{self.name} failed", status=Status.FAILED, failed_at=now, error_code="x"
        )
        decisions.approve(request_id=held[0].pk, actor="command", note="of a chatter who will be erased")
        decisions.reject(request_id=held[1].pk, actor="command", reason="other")
        decisions.cancel(request_id=held[2].pk, actor="command")
        decisions.approve(request_id=held[3].pk, actor="command", note="filed again")
        decisions.cancel(request_id=held[4].pk, actor="command")
        decisions.retry(request_id=failed.pk, actor="command")

    def draining(self) -> None:
        with self.watch.paused():
            self._lose_a_claim()
        assert not worker.drain(seconds=120)
        with self.watch.paused():
            left = ComplianceRequest.objects.exclude(status__in=["completed", "rejected", "cancelled"])
            assert not left.exclude(status="failed", named_conversations=None).exists()
            self.failed.refresh_from_db()
            assert self.failed.conversation_digests is None
            assert ComplianceRequest.objects.filter(include_files=True).latest("seq").files == 1

    def draining_what_takes_chunks(self) -> None:
        """A chatter with more than one transaction erases, whose conversations are in exports, too."""
        with self.watch.paused():
            large = factories.deletion_of(self.chatbot, self._member_with_files())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows, "CHUNK_MESSAGES", 8)
            assert not worker.drain(seconds=120)
        with self.watch.paused():
            large.refresh_from_db()
            assert (large.status, large.messages) == ("completed", 10 * large.conversations)
            assert large.exports == 1  # one whose grace is over

    def telling(self) -> None:
        with self.watch.paused():
            RECEIVERS.forget()
        assert not callbacks.deliver(seconds=60)
        assert not callbacks.deliver(seconds=60)  # what is put off now
        with self.watch.paused():
            result = Callback.objects.filter(chatbot=self.chatbot, url="")
            assert result.filter(state="waiting", last_error__in=["no_answer", "receiver_resting"]).count() > 50

    def telling_again(self) -> None:
        with self.watch.paused():
            one = Callback.objects.filter(chatbot=self.chatbot, state="waiting", url="").latest("id")
        assert self.token.get(f"requests/{one.request_id}/callbacks").status_code == 200
        assert self.token.post(f"requests/{one.request_id}/callbacks/resend", {}).status_code == 200

    def looking_up(self) -> None:
        """Of two chatbots with a backlog, one's address is down."""
        ids = [f"{self.name} unknown {number}" for number in range(40)]
        with receiving(body=b'{"value": "looked-up"}') as receiver:
            with self.watch.paused():
                RESOLVERS.forget()
                other = Chatbot.objects.exclude(pk=self.chatbot.pk).latest("pk")
                with_resolver(self.chatbot, receiver.url())
                with_resolver(other, "http://127.0.0.1:9/")
            for chatbot in (self.chatbot, self.chatbot, other):
                send(chatbot, *ids)
            assert not look_up(seconds=60)
            seen = overview_of(self.chatbot)
        assert seen
        assert seen.ended["Resolved"] >= len(ids)
        with self.watch.paused():
            assert Identity.objects.filter(chatbot=self.chatbot, value="looked-up").count() >= len(ids)
            assert IdentityLookup.objects.filter(chatbot=other, last_error="resolver_resting").exists()

    def late_data(self) -> None:
        known = [update(f"{self.name} {number}", csat={"score": 1}) for number in range(CHATTERS)]
        assert set(results(self.chatbot, *known)) == {"conversation_deleted"}
        late = [
            update(f"{self.name} late {number}", custom_variables={"member_id": self.members[number]})
            for number in range(3)
        ]
        assert set(results(self.chatbot, *late)) == {"chatter_erased"}
        assert self._identify("stranger", self.members[:3]) == {"chatter_erased"}
        assert self._sign("stranger", self.members[:3]) == {"chatter_erased"}

    def extracting(self) -> None:
        with self.watch.paused():
            day = timezone.now().date() - timedelta(days=30)
            extract = DailyExtract.objects.get(chatbot=self.chatbot, day=day)
            DailyExtract.objects.filter(pk=extract.pk).update(state="stale", made_version=None, key=None)
            open_ones = Message.objects.filter(
                chatbot=self.chatbot, conversation__chatbot=self.chatbot, conversation__deletion_request_id=None
            )
            expected = open_ones.filter(sent_at__gte=extract.starts_at, sent_at__lt=extract.ends_at).count()
        assert extracts.build_next(settled=False)
        with self.watch.paused():
            extract.refresh_from_db()
            assert (extract.state, extract.rows) == ("done", expected)
            assert expected > 0

    def sweeping(self) -> None:
        """A few expired rows of each kind that expires."""
        now = timezone.now()
        with self.watch.paused():
            some = VariableValue.objects.order_by("-id").values("pk")[:3]
            VariableValue.objects.filter(pk__in=some).update(expires_at=now - timedelta(hours=1))
            exports = list(
                Export.objects.filter(key__startswith="filling/").order_by("id").values_list("pk", flat=True)[:3]
            )
            Export.objects.filter(pk__in=exports).update(expires_at=now - timedelta(hours=1))
            erased = Conversation.objects.filter(deleted_at__isnull=False, external_id_digest__isnull=False)
            old = list(erased.order_by("id").values_list("pk", flat=True)[:3])
            Conversation.objects.filter(pk__in=old).update(deleted_at=now - 2 * settings.ERASURE_LEDGER_DAYS)
            named = ComplianceRequest.objects.filter(status=Status.COMPLETED).exclude(reference="").order_by("seq")
            ended = list(named.values_list("pk", flat=True)[:3])
            ComplianceRequest.objects.filter(pk__in=ended).update(completed_at=now - 2 * settings.ERASURE_LEDGER_DAYS)
        worker.sweep()
        with self.watch.paused():
            assert not Export.objects.filter(pk__in=exports, key__isnull=False).exists()
            assert not ExportConversation.objects.filter(export__in=exports).exists()
            assert not Conversation.objects.filter(pk__in=old, external_id_digest__isnull=False).exists()
            assert not ComplianceRequest.objects.filter(pk__in=ended).exclude(reference="").exists()

    def verify(self) -> None:
        with self.watch.paused():
            completed = ComplianceRequest.objects.filter(kind=Kind.DELETION, status=Status.COMPLETED).latest("seq")
        audit = verify.audit([completed.pk])
        assert (audit.verified, audit.left) == (1, {})

    def redacting(self) -> None:
        """A message with a file, in an export and in a day, is redacted; then its conversation is exported again."""
        member, said = f"{self.name} redacted", {**message("m0"), "sent_at": timezone.now().isoformat()}
        with self.watch.paused():
            assert results(self.chatbot, parsed(member, custom_variables={"member_id": member}, messages=[said])) == [
                "created"
            ]
            conversation = Conversation.objects.get(chatbot=self.chatbot, external_id=member)
        for subject in (
            {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": member},
            {"conversation_ids": [member]},
        ):
            assert self.token.post("data-export", subject).status_code == 200
        assert not worker.drain(seconds=60)
        uploads.receive(
            conversation=conversation,
            name="photo.jpg",
            content_type="image/jpeg",
            chunks=[b"photo"],
            message_external_id="m0",
        )
        filed = self.token.post(
            f"conversations/{conversation.pk}/messages/redact", {"ids": ["m0"], "reason": "payment_data"}
        )
        assert filed.status_code == 200
        assert not worker.drain(seconds=60)
        shown = self.token.get(f"requests/{filed.json()['request_id']}").json()
        assert (shown["status"], len(shown["redaction"]["removed_exports"])) == ("completed", 2)
        for one in shown["redaction"]["removed_exports"]:
            for request_id in one.values():
                assert self.token.get(f"requests/{request_id}").json()["status"] == "completed"
        assert not verify.audit([UUID(shown["request_id"])]).left
        page = self.admin.get(reverse("console:request", args=[shown["request_id"]]))
        assert page.status_code == 200

    def retaining(self) -> None:
        """A period's numbers, and a run of a day on which few are due."""
        policy.forecast(self.chatbot, 1095)
        with self.watch.paused():
            RetentionRun.objects.filter(chatbot=self.chatbot).delete()
            Chatbot.objects.filter(pk=self.chatbot.pk).update(retention_days=1095, retention_set_at=Now())
            self.chatbot.refresh_from_db()
            old = Conversation.objects.filter(chatbot=self.chatbot, deletion_request_id=None).order_by("pk")[:300]
            Conversation.objects.filter(pk__in=[one.pk for one in old]).update(
                started_at=timezone.now() - timedelta(days=1100), last_message_at=None
            )
        assert policy.file_due_runs() or policy.file_run(self.chatbot, actor="command")
        assert not worker.drain(seconds=60)
        with self.watch.paused():
            run = RetentionRun.objects.select_related("request").get(chatbot=self.chatbot)
            assert run.request
            assert (run.request.status, run.request.conversations) == (Status.COMPLETED, 300)

    def _identify(self, what: str, values: list[str]) -> set[str]:
        """Name the chatters of the first conversations of a kind; return the outcomes, or the codes of errors."""
        identities = [
            {
                "id": f"{self.name} {what} {number}",
                "unique_chatter_identifier_key": "member_id",
                "unique_chatter_identifier_value": value,
            }
            for number, value in enumerate(values)
        ]
        answer = self.token.post("conversations/identify", {"identities": identities}).json()
        return {one["error"]["code"] if one["error"] else one["outcome"] for one in answer["results"]}

    def _sign(self, what: str, values: list[str]) -> set[str]:
        """Send documents with tokens that name chatters, as `_identify` does otherwise."""
        documents = [
            update(f"{self.name} {what} {number}", identity_token=self.backend.token(value))
            for number, value in enumerate(values)
        ]
        return set(results(self.chatbot, *documents))

    def _lose_a_claim(self) -> None:
        """Two requests were claimed by a worker that died; the rest is unclaimed."""
        lost = Claim.objects.create(owner="nobody", token=UUID(int=0), expires_at=timezone.now() - timedelta(hours=1))
        waiting = ComplianceRequest.objects.filter(status=Status.ACCEPTED).order_by("seq").values("pk")[:2]
        ComplianceRequest.objects.filter(pk__in=waiting).update(claim=lost)
