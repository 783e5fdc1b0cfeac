"""What is read in a day of the service, while the database is watched (`one_day`)."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from chatbots.models import Chatbot
from compliance.api.hold_schemas import IN_STATE
from compliance.models import ComplianceRequest
from compliance.requests.inputs import RequestInput
from compliance.requests.preview import preview_many
from compliance.requests.selectors import ByUci
from conversations.filtered_log import StateFilter
from conversations.models import Conversation, Identity, UploadedFile
from tests.calls import TokenCaller
from tests.console.made import LISTS
from tests.conversations.documents import parsed
from tests.conversations.intakes import results
from tests.every_page import RECORDS, admin_page
from tests.functional.scans import Watch
from tests.tokens import Backend

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

CHATTERS = 60


class DayOfReaders:
    """The day of the readers of one chatbot, by API, console and Prometheus: each kind of page and call once."""

    def __init__(self, watch: Watch, chatbot: Chatbot, superuser: Client, name: str) -> None:
        self.watch, self.chatbot, self.admin, self.name = watch, chatbot, superuser, name
        self.token = TokenCaller(chatbot)
        self.backend = Backend(chatbot)
        self.members = [f"{name} {number}" for number in range(CHATTERS)]
        self._path = name.replace(" ", "-")
        # No server listens there.
        Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=f"http://127.0.0.1:9/{self._path}")

    def previewing(self) -> None:
        similar = f"00{self.members[1].upper()} ".replace(" ", "\u00a0")
        for value in (self.members[0], self._member_with_files(), "nobody", similar):
            body = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": value}
            answer = self.token.post("preview", body | {"include_files": True, "include_shared": True})
            assert answer.status_code == 200
        assert answer.json()["similar"][0]["unique_chatter_identifier_value"] == self.members[1]
        by_id = self.token.post("preview", {"conversation_ids": [f"{self.name} {number}" for number in range(100)]})
        assert by_id.json()["deletion"]["erased"]["conversations"] == 100
        values = [*self.members[:50], "nobody", similar]
        for kind in (Kind.DELETION, Kind.EXPORT):
            found = preview_many(
                chatbot=self.chatbot,
                key="member_id",
                asked=[RequestInput(kind, ByUci("member_id", value), include_files=True) for value in values],
            )
            assert found.each[-1].similar

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

    def holding(self) -> None:
        """Legal holds by API. The chatter that one covers is in no conversation."""
        why = {
            "matter": "CASE-0815",
            "basis": "legal_claims",
            "review_at": (timezone.now() + timedelta(days=90)).isoformat(),
        }
        body = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": f"held {self._path}"}
        assert self.token.post("legal-holds", body | why).json()["held"] == 0
        by_ids = {"conversation_ids": [f"{self.name} {number}" for number in range(100)]}
        assert self.token.post("legal-holds/preview", by_ids | why).status_code == 200
        for query in ("", "?limit=1", *(f"?state={state}" for state in IN_STATE)):
            answer = self.token.get(f"legal-holds{query}")
            assert answer.status_code == 200
        hold = self.token.get("legal-holds").json()["results"][0]["hold_id"]
        assert self.token.get(f"legal-holds/{hold}").json()["waiting_requests"] == []

    def reading(self) -> None:
        """The log, lookups, transcripts and counts of the API."""
        with self.watch.paused():
            assert results(self.chatbot, parsed(f"{self.name} read", custom_variables={}, user_name="Some Dœ")) == [
                "created"
            ]
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
        recently = urlencode({"since": (timezone.now() - timedelta(days=1)).isoformat()})
        for query in ("", recently, f"{recently}&event=request.held", f"event=request.completed&{recently}"):
            answer = self.token.get(f"changelog?{query}")
            assert answer.status_code == 200
            following = answer.headers["Link"].removeprefix("<http://testserver").partition(">")[0]
            assert self.token.get(following).status_code == 200
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
            # Values have the numbers of conversations, which depend on the tests before.
            known = Identity.objects.filter(chatbot=self.chatbot, value__startswith="member-").latest("id")
        assert self.admin.get(reverse("console:conversation", args=[conversation.pk])).status_code == 200
        for what, text in (
            ("value", known.value),
            ("name", "some"),
            ("name", "DOE sóme"),
            ("conversation", f"{self.name} read"),
            ("conversation", closed.pk),
            ("request", closed.deletion_request_id),
        ):
            for slug in (self.chatbot.slug, ""):
                asked = {"chatbot": slug, "what": what, "text": text}
                page = self.admin.post(reverse("console:lookup"), asked)
                assert page.context["lookup"].results[0].found.rows, what

    def looking(self) -> None:
        with self.watch.paused():
            request = ComplianceRequest.objects.filter(chatbot=self.chatbot).latest("id")
            large = ComplianceRequest.objects.filter(chatbot=self.chatbot, conversations__gt=0).earliest("id")
        assert self.token.get(f"requests/{request.pk}").status_code == 200
        # The dashboard has a test of its own: `tests/console/monitoring/test_dashboard_queries.py`. These are lists.
        given_up = {"state": "given_up", "error": "no_answer", "event": "failed"}
        lists = [("exports", {}), ("due", {}), ("callbacks", {}), ("callbacks", given_up), ("extracts", {}), *LISTS]
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
        pages = [*map(reverse, ("console:workers", "console:refused_identities"))]
        pages += self._pages_of_the_change_log(request)
        for page in (*pages, *(reverse("console:request", args=[one.pk]) for one in (request, large))):
            assert self.admin.get(page).status_code == 200

    def being_watched(self) -> None:
        prometheus = Client(headers={"authorization": f"Bearer {settings.METRICS_TOKEN}"})
        for query in ("", f"?chatbot={self.chatbot.slug}"):
            assert prometheus.get(f"/metrics{query}").status_code == 200

    def _member_with_files(self) -> str:
        with self.watch.paused():
            files = UploadedFile.objects.filter(chatbot=self.chatbot, object_key__startswith="uploads/filling/")
            return str(Identity.objects.get(conversation=files.latest("id").conversation_id).value)

    def _pages_of_the_change_log(self, request: ComplianceRequest) -> list[str]:
        asked: tuple[dict[str, Any], ...] = (
            {},
            {"event": "request.completed"},
            {"event": "request.held"},
            {"request": request.pk},
        )
        log = reverse("console:changelog")
        return [f"{log}?{urlencode({'chatbot': self.chatbot.slug, **one})}" for one in asked]
