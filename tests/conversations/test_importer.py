"""The command that imports a file: stored rows, output, exit codes."""

import gc
import gzip
import io
import json
import sys
from contextlib import closing
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from chatbots.models import Chatbot
from common import proc
from conversations import importer, intake
from conversations.intake import DocumentOutcome, IntakeFailed
from conversations.models import Conversation, Identity, Message
from tests.conversations.documents import document
from tests.factories import ready_chatbot
from tests.operated import wait_until
from tests.tokens import Backend


def lines(*documents: dict[str, Any] | str) -> bytes:
    texts = [one if isinstance(one, str) else json.dumps(one) for one in documents]
    return ("\n".join(texts) + "\n").encode()


@pytest.fixture
def imported(chatbot: Chatbot, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Import these bytes; return the summary and the exit code."""

    def run(content: bytes, *options: str) -> tuple[dict[str, Any], int]:
        path = tmp_path / "conversations.jsonl"
        path.write_bytes(content)
        try:
            call_command("import_conversations", chatbot.slug, str(path), "--json", *options)
        except SystemExit as end:
            return json.loads(capsys.readouterr().out), int(end.code or 0)
        return json.loads(capsys.readouterr().out), 0

    return run


def test_it_stores_a_file_and_finds_everything_unchanged_the_second_time(imported: Any) -> None:
    content = lines(*(document(f"c-{number}") for number in range(5)))

    first, first_code = imported(content)
    second, second_code = imported(content)

    assert (first["documents"], first["created"], first["messages"], first_code) == (5, 5, 10, 0)
    assert (second["unchanged"], second["messages"], second_code) == (5, 0, 0)
    assert first["seconds"] >= 0
    assert (first["error"], first["refused_by_code"]) == (None, {})
    assert Message.objects.count() == 10


def test_it_reports_refused_lines_by_number_pointer_and_code(imported: Any, tmp_path: Path) -> None:
    path = tmp_path / "refused.jsonl"
    secret = "Lovelace"
    content = lines(
        document("c-1"), "", secret, document("c-2", channel=secret), {"id": secret, "user_name": 1}, document("c-3")
    )

    summary, code = imported(content, "--refused", str(path))

    assert code == 3
    assert (summary["created"], summary["refused"]) == (2, 3)
    assert summary["refused_by_code"] == {"not_json": 1, "unknown_value": 1, "wrong_type": 1}
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"line": 3, "errors": [{"pointer": "", "code": "not_json"}]},
        {"line": 4, "errors": [{"pointer": "/channel", "code": "unknown_value"}]},
        {"line": 5, "errors": [{"pointer": "/user_name", "code": "wrong_type"}]},
    ]


def test_it_verifies_identity_tokens_and_prints_none(imported, chatbot, tmp_path, caplog) -> None:
    backend = Backend(chatbot)
    refused = tmp_path / "refused.jsonl"
    good, bad = backend.token("42"), backend.token("42", aud="planted")
    summary, code = imported(
        lines(*(document(f"c-{place}", identity_token=token) for place, token in enumerate((good, bad)))),
        "--refused",
        str(refused),
    )

    assert (summary["created"], summary["refused_by_code"], code) == (1, {"invalid_identity_token": 1}, 3)
    assert Identity.objects.get().established_by == "signed"
    [line] = map(json.loads, refused.read_text().splitlines())
    assert line == {"line": 2, "errors": [{"pointer": "/identity_token", "code": "invalid_identity_token"}]}
    for part in (*bad.split(".")[1:], "planted"):
        assert part not in f"{summary}{caplog.text}"


def test_it_prints_the_first_refused_lines_without_a_file_for_them(chatbot, tmp_path, capsys) -> None:
    path = tmp_path / "conversations.jsonl"
    path.write_bytes(lines(*["Lovelace"] * 50))

    with pytest.raises(SystemExit) as end:
        call_command("import_conversations", chatbot.slug, str(path))

    found = capsys.readouterr()
    assert end.value.code == 3
    assert "line 20 refused: document not_json" in found.err
    assert "line 21" not in found.err
    assert "50 refused" in found.out
    assert "Lovelace" not in found.out + found.err


def test_it_refuses_a_line_that_is_too_long_and_continues_after_it(imported: Any, settings: Settings) -> None:
    settings.MAX_BODY_BYTES = 1_000
    long = document("c-1", user_name="x" * 5_000)

    summary, code = imported(lines(long, document("c-2"), long))

    assert (summary["created"], summary["refused_by_code"], code) == (1, {"too_long": 2}, 3)


@pytest.mark.long(reason="thousands of documents for each kind of damage", beyond=1)
@pytest.mark.parametrize("damage", ["cut short", "overwritten"])
def test_it_keeps_what_it_read_of_a_damaged_file_and_says_so(chatbot, tmp_path, capsys, damage) -> None:
    whole = bytearray(gzip.compress(lines(*(document(f"c-{number}") for number in range(3_000)))))
    if damage == "overwritten":
        whole[-200:-100] = b"\0" * 100
    path = tmp_path / "conversations.jsonl.gz"
    path.write_bytes(whole[:-100])

    with pytest.raises(CommandError, match="breaks off after line"):
        call_command("import_conversations", chatbot.slug, str(path), "--json")

    summary = json.loads(capsys.readouterr().out)
    assert summary["created"] == Conversation.objects.count() > 1_000
    assert "breaks off" in summary["error"]


def test_it_reads_standard_input(chatbot, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(lines(document("c-1"))))))

    call_command("import_conversations", chatbot.slug, "-", "--json")

    assert json.loads(capsys.readouterr().out)["created"] == 1


def test_an_unknown_chatbot_is_reported(db: None, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="There is no chatbot 'nobody'"):
        call_command("import_conversations", "nobody", str(tmp_path / "x"))


def test_an_unreadable_file_is_explained(chatbot: Chatbot, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        call_command("import_conversations", chatbot.slug, str(tmp_path / "missing"))
    with pytest.raises(CommandError, match="Is a directory"):
        call_command("import_conversations", chatbot.slug, str(tmp_path))


@pytest.mark.one_postgresql(reason="a rule of the test that a rollback takes back")
def test_a_database_refusal_contains_no_row_data(chatbot, tmp_path, capsys) -> None:
    path = tmp_path / "conversations.jsonl"
    path.write_bytes(lines(document("c-1", user_name="Lovelace")))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE conversations_message ADD CONSTRAINT none_at_all CHECK (text = '')")

    with pytest.raises(CommandError, match=r"SQLSTATE 23514 \(none_at_all\).*Nothing was stored") as caught:
        call_command("import_conversations", chatbot.slug, str(path), "--json")

    found = capsys.readouterr()
    assert "Lovelace" not in found.out + found.err + str(caught.value)
    assert "Lovelace" not in str(caught.value.__context__)
    assert not Conversation.objects.exists()


def test_garbage_is_collected_less_often_meanwhile() -> None:
    """The command is tested without this: the whole test process would be collected each time."""
    before = gc.get_threshold()
    with proc.rare_garbage_collection():
        assert gc.get_threshold()[0] == 50_000
        assert gc.get_freeze_count() > 0
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_it_stores_in_batches_bounded_by_number_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [len(batch) for batch in importer._batches(importer.ImportLine(n, b"{}") for n in range(1_201))]
    assert sizes == [500, 500, 201]

    monkeypatch.setattr(importer, "BATCH_BYTES", 10)
    sizes = [len(batch) for batch in importer._batches(importer.ImportLine(n, b"{}") for n in range(12))]
    assert sizes == [5, 5, 2]


# --- Two batches at a time: only outside a transaction, so these tests commit -------------------------------


@pytest.fixture
def bot(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Chatbot:
    monkeypatch.setattr(importer, "BATCH_DOCUMENTS", 3)
    return ready_chatbot(slug="acme")


def run(bot: Chatbot, *documents: dict[str, Any], stop_after: int = 1_000_000) -> importer.ImportSummary:
    """Import up to a number of batches, then close, as Ctrl-C does."""
    summary = importer.ImportSummary()
    source = io.BytesIO(lines(*documents))
    batches = importer.import_lines(
        chatbot=bot,
        lines=importer.read_lines(source, limit=100_000),
        summary=summary,
        on_refused=lambda _refusal: None,
    )
    with closing(batches):
        for number, _ in enumerate(batches, start=1):
            if number == stop_after:
                break
    return summary


def stored() -> tuple[int, int]:
    return Conversation.objects.count(), Message.objects.count()


def test_batches_are_stored_at_the_same_time(bot: Chatbot, monkeypatch: pytest.MonkeyPatch) -> None:
    both, original = Barrier(2), intake.store

    def store_with_another(**call: Any) -> Any:
        both.wait(timeout=30)  # breaks unless a second batch starts before the first has ended
        return original(**call)

    monkeypatch.setattr(importer, "store", store_with_another)
    summary = run(bot, *(document(f"c-{number}") for number in range(12)))

    assert (summary.outcomes[DocumentOutcome.CREATED], summary.messages) == stored() == (12, 24)


def test_the_documents_of_one_conversation_are_stored_in_order_across_batches(bot: Chatbot) -> None:
    same = [document("same", user_name=f"name {number}") for number in range(40)]
    others = [document(f"c-{number}") for number in range(80)]

    summary = run(bot, *(one for three in zip(others[:40], others[40:], same, strict=True) for one in three))

    assert (summary.outcomes[DocumentOutcome.CREATED], summary.outcomes[DocumentOutcome.UPDATED]) == (81, 39)
    assert Conversation.objects.get(external_id="same").user_name == "name 39"


def test_it_counts_what_was_stored_beside_a_batch_that_failed(bot: Chatbot) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE conversations_conversation ADD CONSTRAINT no_ada CHECK (user_name <> 'Lovelace')")
    documents = [document(f"c-{number}", user_name="Lovelace" if number == 4 else "Bob") for number in range(30)]
    summary = importer.ImportSummary()
    numbered = importer.read_lines(io.BytesIO(lines(*documents)), limit=100_000)
    try:
        with pytest.raises(IntakeFailed, match="SQLSTATE 23514"):
            list(importer.import_lines(chatbot=bot, lines=numbered, summary=summary, on_refused=print))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE conversations_conversation DROP CONSTRAINT no_ada")

    assert (summary.outcomes[DocumentOutcome.CREATED], summary.messages) == stored()
    assert 3 <= summary.outcomes[DocumentOutcome.CREATED] < 27


def test_it_counts_running_batches_when_it_is_interrupted(bot: Chatbot) -> None:
    summary = run(bot, *(document(f"c-{number}") for number in range(60)), stop_after=2)

    assert (summary.outcomes[DocumentOutcome.CREATED], summary.messages) == stored()
    assert 6 <= summary.outcomes[DocumentOutcome.CREATED] < 60


def test_it_leaves_no_connection_behind(bot: Chatbot) -> None:
    def others() -> set[int]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND application_name NOT LIKE 'citus_internal%'"
            )
            return {pid for (pid,) in cursor.fetchall()}

    before = others()  # a test before this one may have left some
    run(bot, *(document(f"c-{number}") for number in range(12)))
    wait_until(lambda: others() <= before, "the backends end")  # a moment after their clients have gone
