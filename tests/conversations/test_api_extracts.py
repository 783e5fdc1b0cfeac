"""`GET extracts`, the download, and the admin's list."""

from datetime import timedelta
from urllib.request import urlopen

import pytest

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from conversations.models import DailyExtract
from tests.calls import TokenCaller, pointers, problem
from tests.extracting import FIRST, conversation_on, day_after, extract_of, make_all, noon, planned

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def made(chatbot: Chatbot, neighbour: Chatbot, storage: ObjectStorage) -> Chatbot:
    conversation_on(chatbot, "42", noon())
    for owner in (chatbot, neighbour):
        planned(owner, FIRST, day_after(FIRST, 2))
    make_all()
    return chatbot


def test_the_days_are_listed_newest_first(made: Chatbot) -> None:
    answer = TokenCaller(made).get("extracts?from=2026-11-01&to=2026-11-02")
    assert answer.status_code == 200
    second, first = answer.json()["extracts"]
    assert (first["day"], second["day"]) == ("2026-11-01", "2026-11-02")
    extract = extract_of(made)
    assert first == {
        "day": "2026-11-01",
        "state": "done",
        "starts_at": "2026-11-01T00:00:00.000000Z",
        "ends_at": "2026-11-02T00:00:00.000000Z",
        "rows": 1,
        "bytes": extract.bytes,
        "sha256": extract.sha256,
        "hosting": "hosted",
        "bucket": first["bucket"],
        "key": "acme/daily_conversations_extracts/2026-11-01_conversations_extract.csv",
        "finished_at": first["finished_at"],
        "expires_at": first["expires_at"],
        "error": None,
    }

    DailyExtract.objects.update(state="failed", error_code="storage_unavailable", error_detail="It is down.")
    (found,) = TokenCaller(made).get("extracts?from=2026-11-01&to=2026-11-01").json()["extracts"]
    error = {"code": "storage_unavailable", "detail": "It is down."}
    assert (found["state"], found["error"]) == ("failed", error)


def test_bad_days_are_refused(chatbot: Chatbot) -> None:
    caller = TokenCaller(chatbot)
    for query, at_fault in (
        ("from=yesterday", {"/from": "invalid"}),
        ("to=20261101", {"/to": "invalid"}),
        ("form=2026-11-01", {"/form": "unknown_field"}),
        ("from=2020-01-01&to=2026-11-01", {"/from": "too_long"}),
    ):
        assert pointers(caller.get(f"extracts?{query}")) == at_fault
    assert caller.get("extracts?to=0001-01-02").json() == {"extracts": []}


def test_a_hosted_file_is_downloaded_through_a_link(made: Chatbot, storage: ObjectStorage) -> None:
    answer = TokenCaller(made).get(f"extracts/{FIRST}/download")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (302, "no-store")
    with urlopen(answer.headers["Location"]) as file:  # noqa: S310  of our own storage
        assert file.read() == storage.read(str(extract_of(made).key))
        assert file.headers["Content-Disposition"] == f'attachment; filename="{FIRST}_conversations_extract.csv"'
    for changes, code in (
        ({"state": "stale"}, "not_ready"),
        ({"state": "done", "hosting": "client"}, "in_client_bucket"),
        ({"state": "expired", "hosting": "hosted"}, "extract_expired"),
    ):
        DailyExtract.objects.update(**changes)
        problem(TokenCaller(made).get(f"extracts/{FIRST}/download"), 409, code)
    problem(TokenCaller(made).get(f"extracts/{FIRST - timedelta(days=1)}/download"), 404, "not_found")
    assert pointers(TokenCaller(made).get("extracts/today/download")) == {"/day": "invalid"}
