"""The CSAT comment of a conversation is redacted: it is nowhere afterwards, and stays so whatever comes."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction

from chatbots.models import ChangeLogEntry
from compliance.erasure import verify
from conversations.models import Conversation, DailyExtract
from tests.compliance.conftest import versioned
from tests.compliance.retention.runs import ago, file_run
from tests.functional.company import DAY, NOON, Company, became, document, settle, work
from tests.functional.redacting import KEPT, SECRET, message_of, redact, said
from tests.functional.support import dump, everything_in
from tests.ledger import lines_of

__all__ = ["versioned"]

COMMENT = f"Quick, but why is my card {SECRET} in it?"
ALONE: dict[str, Any] = {"ids": [], "csat_comment": True}


def rated(conversation_id: str = "c-1", *people: str, **fields: Any) -> dict[str, Any]:
    """Return a document with a comment, of two days."""
    times = {"m1": NOON, "m2": NOON + timedelta(days=1)}
    messages = [said(name, f"{KEPT} {name}", sent_at=at.isoformat()) for name, at in times.items()]
    csat = {"score": 3, "vote": "neutral", "comment": COMMENT}
    return document(conversation_id, *(people or ["alice"]), messages=messages, csat=csat, **fields)


def talk(company: Company, *given: str, **fields: Any) -> int:
    [result] = company.send(rated(*given, **fields))
    number: int = result["number"]
    return number


def csat_of(company: Company, number: int) -> dict[str, Any]:
    shown: dict[str, Any] = company.caller.get(f"conversations/{number}").json()["csat"]
    return shown


def is_redacted(company: Company, number: int) -> bool:
    csat = csat_of(company, number)
    return (csat["comment"], csat["comment_redacted"]) == (None, True)


def test_nothing_of_the_comment_is_left_and_all_else_is_as_it_was(company, neighbour, versioned) -> None:
    number, elsewhere = talk(company), talk(Company(neighbour))
    exports = [company.exported("alice"), company.exported(["c-1"])]
    company.make_day()
    company.make_day(DAY + timedelta(days=1))
    before = Conversation.objects.filter(pk=number).values().get()

    redaction = redact(company, number, **ALONE)
    settle()

    shown = company.request_object(redaction)
    assert (shown["status"], shown["result"]) == ("completed", "done")
    assert {name: count for name, count in shown["counts"].items() if count} == {
        "csat_comments": 1,
        "exports": 2,
        "extracts": 2,
    }
    assert (shown["redaction"]["messages"], shown["redaction"]["csat_comment"]) == (0, True)
    assert csat_of(company, number) == {"score": 3, "vote": "neutral", "comment": None, "comment_redacted": True}
    after = Conversation.objects.filter(pk=number).values().get()
    assert after == before | {"csat_comment": None, "csat_comment_redacted": True}
    assert csat_of(Company(neighbour), elsewhere)["comment"] == COMMENT
    Conversation.objects.filter(pk=elsewhere).update(csat_comment=None)
    assert SECRET not in dump() + everything_in(versioned)
    # Exports and days are there again, with all else.
    removed = {one["request_id"]: one["repeated_by"] for one in shown["redaction"]["removed_exports"]}
    assert removed.keys() == {str(export.request_id) for export in exports}
    keys = [company.request_object(repeat)["export"]["key"] for repeat in removed.values()]
    keys += DailyExtract.objects.filter(chatbot=company.chatbot).values_list("key", flat=True)
    assert len(keys) == 4
    for key in keys:
        csv = versioned.read(key).decode()
        assert '"3","neutral",""' in csv
        assert KEPT in csv
    # The ledger says that there was a comment, and the change log too.
    of_redaction = [line for line in lines_of(versioned) if line.get("request") == redaction]
    assert {(one["messages"] == [], one["csat_comment"]) for one in of_redaction} == {(True, True)}
    assert [one["kind"] for one in of_redaction][-1] == "redacted"
    entries = ChangeLogEntry.objects.filter(request_id=redaction).order_by("pk")
    assert entries[0].data == {"kind": "redaction", "origin": "api", "reason": "payment_data", "csat_comment": True}
    assert entries.get(event="request.completed").data["csat_comments"] == 1
    assert not verify.audit([UUID(redaction)]).left
    # A restored one is found.
    Conversation.objects.filter(pk=number).update(csat_comment=COMMENT, csat_comment_redacted=False)
    left = verify.audit([UUID(redaction)]).left[UUID(redaction)]
    assert left.rows == {"conversations_conversation": 1}


def test_with_a_message_and_redacted_or_sent_again_it_stays_redacted(company, storage) -> None:
    number = talk(company)
    company.exported("alice")
    both = redact(company, number, "m1", csat_comment=True), redact(company, number, **ALONE)
    settle()
    together, alone = map(company.request_object, both)
    assert (together["result"], alone["result"]) == ("done", "nothing_found")
    assert (together["counts"]["messages"], together["counts"]["csat_comments"]) == (1, 1)
    assert [message_of(number, one).kind for one in ("m1", "m2")] == ["redacted", "text"]
    assert is_redacted(company, number)
    assert [len(one["redaction"]["removed_exports"]) for one in (together, alone)] == [1, 0]

    assert became(company.send(rated())) == ["unchanged"]
    again = company.send(document("c-1", "alice", messages=[], csat={"score": 9, "comment": f"Again: {SECRET}"}))
    assert became(again) == ["updated"]
    assert csat_of(company, number) == {"score": 9, "vote": "neutral", "comment": None, "comment_redacted": True}
    assert SECRET not in dump() + everything_in(storage)


def test_the_database_refuses_a_comment_from_a_process_of_an_older_version(company: Company) -> None:
    number = talk(company)
    redact(company, number, **ALONE)
    work()
    with pytest.raises(IntegrityError, match="conversation_redacted_has_no_comment"), transaction.atomic():
        Conversation.objects.filter(pk=number).update(csat_comment=COMMENT)


@pytest.mark.parametrize(("erasing", "is_first"), [("deletion", False), ("retention", True)])
def test_beside_what_erases_the_conversation_in_both_orders(company, storage, erasing, *, is_first) -> None:
    number = talk(company, started_at=ago(1100).isoformat())
    company.make_day()

    def erase() -> None:
        if erasing == "deletion":
            company.delete("alice")
        else:
            Conversation.objects.filter(pk=number).update(last_message_at=ago(1100))
            file_run(company.chatbot, 1095)

    if is_first:
        redaction = redact(company, number, **ALONE)
        work()
        erase()
    else:
        erase()
        redaction = redact(company, number, **ALONE)
    settle()

    assert company.status(redaction) == "completed"
    row = Conversation.objects.get(pk=number)
    assert (row.deleted_at is not None, row.csat_comment) == (True, None)
    assert not verify.audit([UUID(redaction)]).left
    assert SECRET not in dump() + everything_in(storage)
