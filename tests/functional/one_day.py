"""The work of the service in a day, while the database is watched (`test_plans`)."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from django.conf import settings
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from chatbots.models import Chatbot
from compliance import worker
from compliance.callbacks import dispatcher
from compliance.callbacks.dispatcher import RECEIVERS
from compliance.erasure import extracts, rows, verify
from compliance.models import Callback, Claim, ComplianceRequest, Export, ExportConversation, RetentionRun
from compliance.requests import decisions
from compliance.requests.preview import preview_many
from compliance.requests.preview.subjects import Options
from compliance.retention import policy
from conversations import uploads
from conversations.filtered_log import StateFilter
from conversations.models import Conversation, DailyExtract, Identity, Message, UploadedFile, VariableValue
from tests import factories
from tests.calls import SigningCaller, TokenCaller
from tests.console.made import LISTS
from tests.conversations.documents import message, parsed, update
from tests.conversations.intakes import results
from tests.every_page import RECORDS, admin_page
from tests.functional.scans import Watch

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

CHATTERS = 60


class Day:
    """The day of one chatbot: each kind of event once."""

    def __init__(self, watch: Watch, chatbot: Chatbot, superuser: Client, name: str) -> None:
        self.watch, self.chatbot, self.admin, self.name = watch, chatbot, superuser, name
        self.token = TokenCaller(chatbot)
        self.members = [f"{name} {number}" for number in range(CHATTERS)]
        self._path = name.replace(" ", "-")
        # No server listens there.
        Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=f"http://127.0.0.1:9/{self._path}")

    def work(self) -> None:
        for step in (
            self.intake,
            self.previewing,
            self.filing,
            self.deciding,
            self.draining,
            self.draining_what_takes_chunks,
            self.telling,
            self.finding,
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
            with self.watch.step(f"{step.__name__}, {self.name}"):
                step()

    def intake(self) -> None:
        for outcome in ("created", "unchanged"):
            documents = [
                parsed(
                    f"{self.name} {number}",
                    custom_variables={"member_id": self.members[number % CHATTERS]},
                    user_channel_variables={"plan": "gold"},
                )
                for number in range(3 * CHATTERS)
            ]
            assert set(results(self.chatbot, *documents)) == {outcome}
        more = [
            update(f"{self.name} {number}", messages=[message("m9")], csat={"score": 9})
            for number in range(3 * CHATTERS)
        ]
        assert set(results(self.chatbot, *more)) == {"updated"}
        anonymous = [parsed(f"{self.name} late {number}", custom_variables={}) for number in range(3)]
        assert set(results(self.chatbot, *anonymous)) == {"created"}
        with self.watch.paused():
            open_one = Conversation.objects.get(chatbot=self.chatbot, external_id=f"{self.name} 0")
        uploads.receive(
            conversation=open_one,
            name="photo.jpg",
            content_type="image/jpeg",
            chunks=[b"photo"],
            message_external_id="m0",
        )

    def previewing(self) -> None:
        for value in (self.members[0], self._member_with_files(), "nobody", f"00{self.members[1].upper()} "):
            body = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": value}
            answer = self.token.post("preview", body | {"include_files": True, "include_shared": True})
            assert answer.status_code == 200
        assert answer.json()["similar"][0]["unique_chatter_identifier_value"] == self.members[1]
        by_id = self.token.post("preview", {"conversation_ids": [f"{self.name} {number}" for number in range(100)]})
        assert by_id.json()["deletion"]["erased"]["conversations"] == 100
        chatters = [(value, "") for value in [*self.members[:50], "nobody", f"00{self.members[1].upper()} "]]
        for kind in (Kind.DELETION, Kind.EXPORT):
            found = preview_many(
                chatbot=self.chatbot,
                key="member_id",
                chatters=chatters,
                kind=kind,
                options=Options(include_files=True),
            )
            assert found.chatters[-1].similar

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
        decisions.approve(request_id=held[0].pk, actor="command", note="of somebody who will be erased")
        decisions.reject(request_id=held[1].pk, actor="command")
        decisions.cancel(request_id=held[2].pk, actor="command")
        decisions.retry(request_id=failed.pk, actor="command")

    def draining(self) -> None:
        with self.watch.paused():
            self._lose_a_claim()
        assert not worker.drain(seconds=120)
        with self.watch.paused():
            left = ComplianceRequest.objects.exclude(status__in=["completed", "rejected", "cancelled"])
            assert not left.exclude(status="failed", conversation_digests=None).exists()
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

    def finding(self) -> None:
        recently = urlencode({"received_after": (timezone.now() - timedelta(minutes=5)).isoformat()})
        filters = ["", recently, "reference=T-1", "kind=export", *(f"status={status}" for status in Status)]
        for query in (*filters, "status=failed&kind=export", f"status=completed&{recently}", "reference=T-1&limit=1"):
            answer = self.token.get(f"requests?{query}")
            assert answer.status_code == 200
            if answer.json()["next"]:
                assert self.token.get(answer.json()["next"].removeprefix("http://testserver")).status_code == 200
        body = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": self.members[0]}
        assert len(self.token.post("requests/lookup", body).json()["results"]) >= 2
        by_ids = {"conversation_ids": [f"{self.name} 7", f"{self.name} 8"]}
        assert len(self.token.post("requests/lookup", by_ids).json()["results"]) == 4

    def telling(self) -> None:
        with self.watch.paused():
            RECEIVERS.forget()
        assert not dispatcher.deliver(seconds=60)
        assert not dispatcher.deliver(seconds=60)  # what is put off now
        with self.watch.paused():
            result = Callback.objects.filter(chatbot=self.chatbot, url__endswith=f"/{self._path}")
            assert result.filter(state="waiting", last_error__in=["no_answer", "receiver_resting"]).count() > 50
            one = result.latest("id")
        assert self.token.get(f"requests/{one.request_id}/callbacks").status_code == 200
        assert self.token.post(f"requests/{one.request_id}/callbacks/resend", {}).status_code == 200

    def late_data(self) -> None:
        known = [update(f"{self.name} {number}", csat={"score": 1}) for number in range(CHATTERS)]
        assert set(results(self.chatbot, *known)) == {"conversation_deleted"}
        late = [
            update(f"{self.name} late {number}", custom_variables={"member_id": self.members[number]})
            for number in range(3)
        ]
        assert set(results(self.chatbot, *late)) == {"chatter_erased"}

    def extracting(self) -> None:
        with self.watch.paused():
            day = timezone.now().date() - timedelta(days=30)
            extract = DailyExtract.objects.get(chatbot=self.chatbot, day=day)
            DailyExtract.objects.filter(pk=extract.pk).update(state="stale", made_version=None, key=None)
            sent = Message.objects.filter(chatbot=self.chatbot, sent_at__gte=extract.starts_at)
            expected = sent.filter(sent_at__lt=extract.ends_at, conversation__deletion_request_id=None).count()
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

    def reading(self) -> None:
        """The log, lookups, transcripts and counts of the API."""
        with self.watch.paused():
            assert results(self.chatbot, parsed(f"{self.name} read", custom_variables={})) == ["created"]
            conversation = Conversation.objects.get(chatbot=self.chatbot, external_id=f"{self.name} read")
        one = f"conversations/{conversation.pk}"
        channels, states = ("channel=whatsapp", "channel=other"), ("deleted=true", "deleted=false")
        window = "started_after=2020-01-01T00:00:00Z&started_before=2090-01-01T00:00:00Z"
        month = f"{timezone.now() - timedelta(days=400):%Y-%m}"
        for path in (
            *(f"conversations?{query}" for query in ("", window, *channels, *states)),
            *(one, f"{one}/messages", f"{one}/files", f"usage?from={month}&to={month}"),
        ):
            answer = self.token.get(path)
            assert answer.status_code == 200
            if answer.json().get("next"):
                assert self.token.get(answer.json()["next"].removeprefix("http://testserver")).status_code == 200
        ids = [conversation.external_id, *(f"unknown {number}" for number in range(999))]
        found = self.token.post("conversations/lookup", {"ids": ids}).json()["results"]
        assert [one["conversation"] is None for one in found] == [False] + [True] * 999

    def browsing(self) -> None:
        """The console's log, filtered in a wide window, a transcript, and lookups."""
        log, wide = reverse("console:conversations"), f"chatbot={self.chatbot.slug}&since=2020-01-01"
        filters = (
            "handover=yes",
            "csat=comment",
            "started=bot&language=fr",
            *(f"state={state}" for state in StateFilter),
        )
        for query in ("", wide, f"{wide}&channel=whatsapp", *(f"{wide}&{one}" for one in filters)):
            page = self.admin.get(f"{log}?{query}")
            assert page.status_code == 200
            if page.context["older_url"]:
                assert self.admin.get(page.context["older_url"]).status_code == 200
        with self.watch.paused():
            conversation = Conversation.objects.filter(chatbot=self.chatbot, deleted_at=None).latest("id")
            closed = Conversation.objects.filter(chatbot=self.chatbot, deleted_at__isnull=False).latest("id")
        assert self.admin.get(reverse("console:conversation", args=[conversation.pk])).status_code == 200
        for what, text in (
            ("value", "member-20000"),
            ("name", "some"),
            ("conversation", f"{self.name} read"),
            ("conversation", closed.pk),
            ("request", closed.deletion_request_id),
        ):
            asked = {"chatbot": self.chatbot.slug, "what": what, "text": text, "key": "member_id"}
            page = self.admin.post(reverse("console:lookup"), asked)
            assert page.context["answer"].found.rows, what

    def looking(self) -> None:
        with self.watch.paused():
            request = ComplianceRequest.objects.filter(chatbot=self.chatbot).latest("id")
            large = ComplianceRequest.objects.filter(chatbot=self.chatbot, conversations__gt=0).earliest("id")
        assert self.token.get(f"requests/{request.pk}").status_code == 200
        # The dashboard has a test of its own: `tests/console/monitoring/test_dashboard_queries.py`. These are lists.
        given_up = {"state": "given_up", "error": "no_answer", "event": "failed"}
        lists = [("exports", {}), ("callbacks", {}), ("callbacks", given_up), ("extracts", {}), *LISTS]
        for name, filters in lists:
            for chosen in ({}, {"chatbot": self.chatbot.slug}):
                assert self.admin.get(reverse(f"console:{name}"), filters | chosen).status_code == 200
        for records in RECORDS:
            filters = admin.site._registry[records].filters  # type: ignore[attr-defined]
            for name in ("", *filters):
                choice = records._meta.get_field(name).flatchoices[-1][0] if name else ""
                given = {f"{name}__exact": choice} if name else {"p": "2"}
                assert self.admin.get(admin_page(records), given).status_code == 200
            row = records._default_manager.order_by("-pk").first()
            if row:
                assert self.admin.get(admin_page(records, "change", row.pk)).status_code == 200
        pages = [reverse("console:workers"), *self._pages_of_the_change_log(request)]
        for page in (*pages, *(reverse("console:request", args=[one.pk]) for one in (request, large))):
            assert self.admin.get(page).status_code == 200

    def being_watched(self) -> None:
        prometheus = Client(headers={"authorization": f"Bearer {settings.METRICS_TOKEN}"})
        for query in ("", f"?chatbot={self.chatbot.slug}"):
            assert prometheus.get(f"/metrics{query}").status_code == 200

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
            Chatbot.objects.filter(pk=self.chatbot.pk).update(retention_days=1095)
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

    def _pages_of_the_change_log(self, request: ComplianceRequest) -> list[str]:
        asked: tuple[dict[str, Any], ...] = (
            {},
            {"event": "request.completed"},
            {"event": "request.held"},
            {"request": request.pk},
        )
        log = reverse("console:changelog")
        return [f"{log}?{urlencode({'chatbot': self.chatbot.slug, **one})}" for one in asked]

    def _lose_a_claim(self) -> None:
        """Two requests were claimed by a worker that died; the rest is unclaimed."""
        lost = Claim.objects.create(owner="nobody", token=UUID(int=0), expires_at=timezone.now() - timedelta(hours=1))
        waiting = ComplianceRequest.objects.filter(status=Status.ACCEPTED).order_by("seq").values("pk")[:2]
        ComplianceRequest.objects.filter(pk__in=waiting).update(claim=lost)

    def _member_with_files(self) -> str:
        with self.watch.paused():
            files = UploadedFile.objects.filter(chatbot=self.chatbot, object_key__startswith="uploads/filling/")
            return str(Identity.objects.get(conversation=files.latest("id").conversation_id).value)
