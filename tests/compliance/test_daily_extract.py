"""The command that builds extracts at once."""

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from chatbots.models import Bucket, Chatbot
from common.storage import ObjectStorage
from conversations.models import DailyExtract
from tests.extracting import FIRST, conversation_on, day_after, extract_of, noon
from tests.patches import failing

pytestmark = pytest.mark.django_db(transaction=True)


def run(*words: str) -> list[dict[str, Any]]:
    out = io.StringIO()
    try:
        call_command("daily_extract", *words, "--json", stdout=out)
    finally:
        found = json.loads(out.getvalue() or '{"extracts": []}')
    extracts: list[dict[str, Any]] = found["extracts"]
    return extracts


def test_the_named_days_are_built(chatbot: Chatbot, storage: ObjectStorage) -> None:
    conversation_on(chatbot, "42", noon())
    found = run("acme", "--from", str(FIRST), "--to", str(day_after(FIRST, 2)))
    assert [(one["day"], one["state"], one["rows"]) for one in found] == [
        ("2026-11-01", "done", 1),
        ("2026-11-02", "done", 0),
        ("2026-11-03", "done", 0),
    ]
    assert len(list(storage.keys())) == 3


def test_all_means_the_chatbots_with_extracts_switched_on(chatbot, neighbour, storage) -> None:
    Chatbot.objects.filter(pk=neighbour.pk).update(extracts_enabled=True)
    (found,) = run("--all")
    yesterday = (timezone.now() - timedelta(minutes=10)).date() - timedelta(days=1)
    assert (found["chatbot"], found["day"], found["state"]) == ("neighbour", str(yesterday), "done")


def test_built_days_are_skipped_unless_again_is_given(chatbot: Chatbot, storage: ObjectStorage) -> None:
    def finished() -> Any:
        return extract_of(chatbot).finished_at

    run("acme", "--date", str(FIRST))
    first = finished()
    run("acme", "--date", str(FIRST))
    assert finished() == first
    run("acme", "--date", str(FIRST), "--again")
    assert finished() > first


def test_expired_days_are_rebuilt(chatbot: Chatbot, storage: ObjectStorage) -> None:
    run("acme", "--date", str(FIRST))
    DailyExtract.objects.update(state="expired", key=None, expires_at=timezone.now() - timedelta(days=1))
    (found,) = run("acme", "--date", str(FIRST))
    assert found["state"] == "done"
    extract = extract_of(chatbot)
    assert extract.expires_at
    assert extract.expires_at > timezone.now()


def test_failed_days_are_reported_and_change_the_exit_code(chatbot, storage, monkeypatch) -> None:
    monkeypatch.setattr(ObjectStorage, "open_upload", failing())
    with pytest.raises(SystemExit) as left:
        run("acme", "--date", str(FIRST))
    assert left.value.code == 3
    monkeypatch.undo()
    (found,) = run("acme", "--date", str(FIRST))
    assert (found["state"], found["error"]) == ("done", None)


def test_bad_arguments_are_refused(chatbot: Chatbot) -> None:
    for words, said in (
        ("", "."),
        ("acme --all", "."),
        ("acme --to 2026-11-01", "."),
        ("acme --date 2026-11-01 --from 2026-11-01", "."),
        ("acme --from 2026-11-02 --to 2026-11-01", "."),
        ("acme --date 2999-01-01", "."),
        ("acme --from 0202-11-01", "."),
        ("acme --date yesterday", "'yesterday' is no day such as 2026-11-23"),
    ):
        with pytest.raises(CommandError, match=said):
            call_command("daily_extract", *words.split())
    Bucket.objects.all().delete()
    with pytest.raises(CommandError, match="bucket"):
        call_command("daily_extract", "acme")
    assert not DailyExtract.objects.exists()
