"""The client's methods against the real service, blocking and in asyncio."""

import inspect
import logging
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import data_compliance_client as package
from compliance import worker
from compliance.models import ComplianceRequest
from conversations.models import Conversation, Message
from data_compliance_client import codes
from data_compliance_client import operations as limits
from tests.client.conftest import IN_BOTH
from tests.conversations.documents import document, message
from tests.factories import conversation_of, deletion_of

ALICE = {"key": "member_id", "value": "alice-77"}


def filed() -> int:
    return ComplianceRequest.objects.count()


def test_the_clients_have_the_same_operations() -> None:
    blocking, awaiting = (
        {name: method for name, method in vars(one).items() if hasattr(method, "__wrapped__")}
        for one in (package.Client, package.AsyncClient)
    )
    assert "delete" in blocking
    assert {name: one.__wrapped__ for name, one in blocking.items()} == {
        name: one.__wrapped__ for name, one in awaiting.items()
    }
    for name, method in blocking.items():
        is_list = inspect.isgeneratorfunction(method)
        assert inspect.isasyncgenfunction(awaiting[name]) == is_list
        assert inspect.iscoroutinefunction(awaiting[name]) != is_list


@IN_BOTH
def test_a_deletion_is_filed_followed_and_done(client, chatbot, working) -> None:
    conversation_of(chatbot, "alice-77")
    seen: list[str] = []

    request = client.delete(**ALICE, reference="T-7", requested_at=date.today() - timedelta(days=1))  # noqa: DTZ011
    ended = client.wait(request.id, timeout=60, on_change=lambda one: seen.append(one.status))

    assert (request.kind, request.status, request.reference) == ("deletion", "accepted", "T-7")
    assert (ended.id, ended.status, ended.result) == (request.id, "completed", "done")
    assert ended.progress == (1, 1)
    assert ended.data["counts"]["conversations"] == 1
    assert ended.finished_at
    # A month, the rest of a day, and a weekend.
    assert ended.due_at - ended.received_at < timedelta(days=35)
    assert seen[-1] == "completed"
    assert client.request(request.id) == ended


def test_a_call_with_the_same_key_files_once(client) -> None:
    first = client.delete(**ALICE, idempotency_key="ticket-7")
    assert client.delete(**ALICE, idempotency_key="ticket-7").id == first.id
    assert client.delete(**ALICE).id != first.id
    with pytest.raises(codes.IdempotencyConflict):
        client.delete(key="member_id", value="bob", idempotency_key="ticket-7")
    assert filed() == 2


def test_filing_is_signed_where_a_secret_is_given(make_client, chatbot, signing_secret) -> None:
    client = make_client(token="", signing_secret=signing_secret)
    client.delete(**ALICE)
    [one] = client.file([package.export(**ALICE)])
    assert one.kind == "export"
    with pytest.raises(ValueError, match="needs a token"):
        client.request(one.id)
    with pytest.raises(codes.InvalidSignature):
        make_client(token="", signing_secret="another").delete(**ALICE)


def test_the_wait_ends_with_the_time_and_where_a_person_decides(client, chatbot) -> None:
    waiting = client.delete(**ALICE)
    with pytest.raises(package.WaitTimeout, match=waiting.id):
        client.wait(waiting.id, timeout=0.1)
    held = deletion_of(chatbot, "bob", status="on_hold", hold_reason="awaiting_approval", held_at=datetime.now(UTC))
    assert client.wait(str(held.pk)).hold_reason == "awaiting_approval"
    assert client.decide(str(held.pk), "cancel", reason="duplicate").status == "cancelled"


@IN_BOTH
def test_what_is_wrong_is_told_by_the_class_and_the_fields(client) -> None:
    with pytest.raises(codes.UnknownUciKey) as caught:
        client.delete(key="member", value="alice-77")
    error = caught.value
    assert (error.code, error.status) == ("unknown_uci_key", 400)
    assert error.errors[0]["pointer"] == "/unique_chatter_identifier_key"
    assert error.trace_id
    assert str(error).startswith("unknown_uci_key: /unique_chatter_identifier_key: The key is neither")
    assert "alice" not in str(error)
    with pytest.raises(codes.NotFound):
        client.request("00000000-0000-0000-0000-000000000000")
    with pytest.raises(ValueError, match="time zone"):
        client.delete(**ALICE, requested_at=datetime(2026, 1, 1))  # noqa: DTZ001


def test_many_are_filed_in_lots_and_one_that_is_refused_holds_up_no_other(client, monkeypatch) -> None:
    monkeypatch.setattr(limits, "_MOST_ITEMS", 2)
    bodies = [package.deletion(key="member_id", value=value) for value in ("a", "", "c", "d", "e")]

    found = list(client.file(bodies, idempotency_key="night"))
    again = list(client.file(bodies, idempotency_key="night"))

    assert found[0].status == "accepted"
    assert isinstance(found[1], codes.Invalid)
    assert [one.id for one in again if isinstance(one, package.Request)] == [
        one.id for one in found if isinstance(one, package.Request)
    ]
    assert filed() == 4


def test_a_preview_and_a_look_up_file_nothing(client, chatbot) -> None:
    conversation_of(chatbot, "alice-77")
    request = client.delete(**ALICE)
    preview = client.preview("delete", **ALICE)
    assert preview["deletion"]["erased"]["conversations"] == 1
    assert [one.id for one in client.lookup(**ALICE)] == [request.id]
    assert filed() == 1


@IN_BOTH
def test_lists_are_read_to_their_end(client, chatbot) -> None:
    numbers = [conversation_of(chatbot, f"v-{number}", messages=0).pk for number in range(51)]  # two pages
    ids = [client.delete(key="member_id", value=f"v-{number}").id for number in range(3)]
    assert [one["number"] for one in client.conversations(deleted=False)] == numbers[::-1]
    assert [
        one.id for one in client.requests(status="accepted", received_after=datetime(2026, 1, 1, tzinfo=UTC))
    ] == (ids[::-1])
    assert list(client.requests(kind="export")) == []


def test_the_change_log_goes_on_where_it_ended(client) -> None:
    first = client.delete(**ALICE)
    pages = list(client.changelog(event="request.accepted"))
    assert [entry["request_id"] for page in pages for entry in page.entries] == [first.id]
    second = client.delete(**ALICE)
    [page, _] = client.changelog(after=pages[-1].next)
    assert [entry["request_id"] for entry in page.entries] == [second.id]


def test_conversations_are_sent_in_lots_and_refused_ones_are_told(client, chatbot, monkeypatch) -> None:
    monkeypatch.setattr(limits, "_MOST_ITEMS", 3)
    documents = [
        document("c-1"),
        "",
        b"no json\n",
        document("c-2", channel="pigeon"),
        document("c-3"),
        document("c-1"),
    ]

    found = list(client.send(documents))

    assert [(one.position, one.outcome) for one in found] == [
        (1, "created"),
        (3, "refused"),
        (4, "refused"),
        (5, "created"),
        (6, "unchanged"),
    ]
    assert found[0].number == found[4].number
    assert found[2].error.errors[0]["pointer"] == "/channel"
    assert Conversation.objects.count() == 2


def test_a_list_that_is_too_large_is_halved(client, settings) -> None:
    settings.MAX_BODY_BYTES = 4_000
    documents = [document(f"c-{number}", messages=[message(text="x" * 800)]) for number in range(8)]
    documents[5]["messages"][0]["text"] = "x" * 5_000

    found = list(client.send(documents))

    assert [one.outcome for one in found] == ["created"] * 5 + ["refused"] + ["created"] * 2
    assert isinstance(found[5].error, codes.TooLarge)


def test_who_chatted_is_said(client) -> None:
    list(client.send([document("c-1", custom_variables={})]))
    found = client.identify([("c-1", "member_id", "alice-77"), ("c-9", "member_id", "alice-77")])
    first, second = list(found)
    assert (first.outcome, second.outcome) == ("created", "refused")
    assert isinstance(second.error, codes.UnknownConversation)


def test_messages_are_redacted(client) -> None:
    [stored] = client.send([document("c-1")])
    request = client.redact(stored.number, ["m0"], reason="payment_data")
    worker.drain(seconds=30)
    assert client.request(request.id).result == "done"
    assert Message.objects.get(external_id="m0").kind == "redacted"


class TestDownload:
    def export_of(self, client: Any, **options: Any) -> Any:
        list(client.send([document("c-1", custom_variables={"member_id": "alice-77"})]))
        request = client.export(**ALICE, **options)
        worker.drain(seconds=30)
        return client.request(request.id)

    def test_one_file_is_checked_and_private(self, client, tmp_path: Path) -> None:
        request = self.export_of(client)
        [path] = client.download(request, tmp_path / "alice.csv")
        assert path.read_bytes().startswith(b'"conversation_id"')
        assert path.stat().st_mode & 0o777 == 0o600
        [named] = client.download(request.id, tmp_path)
        assert named.name.endswith("_conversation_export.csv")
        assert sorted(tmp_path.iterdir()) == sorted([path, named])

    @IN_BOTH
    def test_a_folder_has_all_files_of_the_manifest(self, client, tmp_path: Path) -> None:
        request = self.export_of(client, formats=["csv", "json", "html"])
        paths = client.download(request, tmp_path / "new" / "alice")
        names = {"manifest.json", "conversations.csv", "conversations.jsonl", "index.html", "page-1.html"}
        assert {one.name for one in paths} == names
        [one] = client.download(request, tmp_path / "one.html", file="index.html")
        assert one.read_bytes() == (tmp_path / "new" / "alice" / "index.html").read_bytes()
        with pytest.raises(package.DownloadIncomplete):
            client.download(request, tmp_path, file="another")

    def test_a_zip_is_one_file(self, client, tmp_path: Path) -> None:
        [path] = client.download(self.export_of(client, formats=["html"], archive="zip"), tmp_path)
        assert path.read_bytes().startswith(b"PK")

    @IN_BOTH
    def test_nothing_is_left_of_a_file_that_is_not_the_one_that_was_written(self, client, tmp_path: Path) -> None:
        request = self.export_of(client)
        request.data["export"]["sha256"] = "0" * 64
        with pytest.raises(package.DownloadIncomplete):
            client.download(request, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_name_does_not_lead_out_of_the_folder(self, client, tmp_path: Path) -> None:
        request = self.export_of(client, formats=["csv", "json"])
        request.data["export"]["key"] = "x/.."
        with pytest.raises(package.DownloadIncomplete):
            client.download(request, tmp_path)

    def test_before_it_is_ready_the_service_says_so(self, client, tmp_path: Path) -> None:
        with pytest.raises(codes.NotReady):
            client.download(client.export(**ALICE), tmp_path)

    @IN_BOTH
    def test_the_address_of_the_file_is_not_logged(self, client, tmp_path: Path, caplog) -> None:
        caplog.set_level(logging.DEBUG)
        client.download(self.export_of(client), tmp_path)
        theirs = [record.getMessage() for record in caplog.records if record.name.startswith("http")]
        assert theirs
        assert not [text for text in theirs if "alice" in text]


@pytest.mark.parametrize(
    ("url", "keys", "reason"),
    [
        ("compliance.example.com", {"token": "t"}, "https://"),
        ("http://compliance.example.com", {"token": "t"}, "HTTPS"),
        ("https://compliance.example.com", {}, "token"),
    ],
)
def test_an_address_or_a_key_that_cannot_be_right_is_refused_at_once(url: str, keys: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        package.Client(url, "acme", **keys)
