"""A redaction that waited in the console when the database was lost, was cancelled since, or started."""

from uuid import UUID

from compliance.models import ComplianceRequest
from compliance.redaction import filing
from compliance.requests.decisions import cancel
from compliance.requests.early_start import start_now
from tests.compliance.replay.conftest import replay, work, write_journal
from tests.functional.company import Company
from tests.functional.redacting import message_of, talk
from tests.restoring import restored

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


def test_a_restore_keeps_what_became_of_it(company: Company) -> None:
    numbers = {case: talk(company, "-".join(map(str, case)), "alice") for case in AFTERWARDS}
    redactions = {case: select(company, numbers[case]) for case in AFTERWARDS if case[1]}
    with restored():
        redactions |= {case: select(company, numbers[case]) for case in AFTERWARDS if not case[1]}
        for (meanwhile, _), redaction in redactions.items():
            if meanwhile == "cancelled":
                cancel(request_id=redaction, actor="user:1")
            elif meanwhile == "started":
                start_now(request_id=redaction, actor="user:1")
        work()
        write_journal()

    replay()
    work()

    statuses = dict(ComplianceRequest.objects.values_list("pk", "status"))
    became = {
        case: (statuses.get(redactions[case]), message_of(number).kind == "redacted")
        for case, number in numbers.items()
    }
    assert became == AFTERWARDS
    start_now(request_id=redactions["waits", True], actor="user:1")
    work()
    assert ComplianceRequest.objects.get(pk=redactions["waits", True]).status == "completed"
    assert message_of(numbers["waits", True]).kind == "redacted"
