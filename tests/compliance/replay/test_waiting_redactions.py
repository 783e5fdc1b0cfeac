"""A redaction that waited in the console when the database was lost, was cancelled since, or started."""

from uuid import UUID

import pytest

from compliance.models import ComplianceRequest
from compliance.redaction import filing
from compliance.requests.decisions import cancel
from compliance.requests.early_start import start_now
from tests.compliance.replay.conftest import replay, work, write_journal
from tests.functional.company import Company
from tests.functional.redacting import message_of, talk
from tests.restoring import Backup

# What became of it, whether the backup has it -> its status after the replay, and whether the message is redacted.
AFTERWARDS = {
    ("waits", True): ("accepted", False),
    ("waits", False): ("completed", True),
    ("cancelled", True): ("cancelled", False),
    ("cancelled", False): (None, False),
    ("started", True): ("completed", True),
    ("started", False): ("completed", True),
}


def select(company: Company, number: int) -> UUID:
    filed = filing.redact(
        chatbot=company.chatbot,
        number=number,
        ids=["m1"],
        reason="payment_data",
        origin=ComplianceRequest.Origin.CONSOLE,
        actor="user:1",
    )
    return filed.pk


@pytest.mark.long(reason="a restore for each", beyond=2)
@pytest.mark.parametrize(("meanwhile", "is_known"), AFTERWARDS)
def test_a_restore_keeps_what_became_of_it(company: Company, meanwhile: str, is_known: bool) -> None:
    number = talk(company, "c-1", "alice")
    backup = None if is_known else Backup()
    redaction = select(company, number)
    backup = backup or Backup()
    if meanwhile == "cancelled":
        cancel(request_id=redaction, actor="user:1")
    elif meanwhile == "started":
        start_now(request_id=redaction, actor="user:1")
    work()
    write_journal()
    backup.restore()

    replay()
    work()

    found = ComplianceRequest.objects.filter(pk=redaction)
    status, is_redacted = AFTERWARDS[meanwhile, is_known]
    assert found.values_list("status", flat=True).first() == status
    assert (message_of(number).kind == "redacted") == is_redacted
    if status == "accepted":
        start_now(request_id=redaction, actor="user:1")
        work()
        assert found.get().status == "completed"
        assert message_of(number).kind == "redacted"
