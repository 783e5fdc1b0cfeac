"""What the command `replay_erasures` tells the operator at the terminal."""

from typing import Any

import pytest
from django.core.management import CommandError

from chatbots.models import Chatbot
from common.storage import ObjectStorage, StorageError
from compliance.models import ComplianceRequest, Service
from compliance.replay import carrying, reading
from tests.commands import run
from tests.compliance.replay.conftest import gone, work, write_journal
from tests.compliance.replay.test_whole_replays import erased_since, unknown
from tests.functional.company import Company
from tests.functional.redacting import redact, talk
from tests.restoring import restored


def told(*options: str, code: int = 0) -> str:
    ran = run("replay_erasures", *options)
    assert ran.code == code
    return ran.out


def test_ctrl_c_says_how_to_go_on_and_shows_no_traceback(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    number, _ = erased_since(company)

    def interrupt(*_args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(reading, "read", interrupt)
        with pytest.raises(CommandError, match="Interrupted") as ended:
            told()
    assert ended.value.returncode == 130
    assert "run it again" in str(ended.value)
    assert (Service.objects.get().state, gone(number)) == ("restored", [False])

    assert "The service is open." in told()
    assert gone(number) == [True]


def test_a_refused_object_is_told_with_where_to_read_on(company: Company, storage: ObjectStorage) -> None:
    erased_since(company)
    keys = unknown(storage)
    for key in keys:
        storage.put(key, b"nothing of ours", "text/plain")

    for text in (told("--dry-run", code=3), told(code=3), told(code=3)):
        assert f"{len(keys)} objects of the ledger not believed" in text.splitlines()[-1]
        assert "DcaLedgerForeign" in text.splitlines()[-1]


@pytest.mark.django_db(transaction=True)
def test_a_request_that_failed_is_told_with_what_to_do(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = Company(chatbot)
    company.talk("c-1", "alice", has_file=True)
    with restored():
        company.delete("alice")
        work()
    monkeypatch.setattr(carrying, "PATIENCE_SECONDS", 0.0)

    def refuse(*_args: object) -> None:
        raise StorageError("storage_error", "It has an error.", retryable=True)

    monkeypatch.setattr(type(storage), "purge_many", refuse)

    last = told(code=3).splitlines()[-1]

    assert "1 request has met an error" in last
    assert "retry_request" in last


def test_a_redaction_is_not_told_as_an_erasure(company: Company) -> None:
    number = talk(company, "c-1", "alice")
    with restored():
        redaction = redact(company, number)
        work()

    text = told()

    assert f"redaction {redaction} of acme: Redact again, 1 conversation ({number}) -> Redacted again" in text
    assert "1 x redact again: redacted again" in text


def test_a_lost_export_is_told_without_conversations(company: Company) -> None:
    company.talk("c-1", "alice")
    with restored():
        export = company.export("alice")
        write_journal()

    assert f"export {export} of acme: Name as lost -> A lost export" in told().splitlines()
    assert not ComplianceRequest.objects.exists()
