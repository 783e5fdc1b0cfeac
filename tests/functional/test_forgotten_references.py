"""After ERASURE_LEDGER_DAYS a full dump of the database holds a client's reference nowhere."""

from uuid import UUID

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db.models import F

from chatbots.models import Chatbot
from compliance import worker
from compliance.callbacks.queue import RECEIVERS, deliver
from compliance.models import Callback, ComplianceRequest, Replay
from compliance.requests import decisions
from tests.calls import Caller, SigningCaller, TokenCaller
from tests.console.filing_pages import Filer
from tests.factories import conversation_of
from tests.functional.company import travel, work
from tests.functional.support import dump, everything_in
from tests.people import Role, member
from tests.receivers import receiving

WORD = "PLANTED-5813"
THEIRS = "NEIGHBOUR-5813"


def body(number: int, reference: str = WORD, **fields: str) -> dict[str, str]:
    chatter = {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": f"member-{number}"}
    return chatter | {"reference": reference} | fields


def file(caller: Caller, path: str, number: int, *, reference: str = WORD, **headers: str) -> UUID:
    answer = caller.post(path, body(number, reference), **headers)
    assert answer.status_code == 200
    return UUID(answer.json()["request_id"])


def requests_of(chatbot: Chatbot, status: str) -> int:
    return ComplianceRequest.objects.filter(chatbot=chatbot, status=status, reference=WORD).count()


def file_in_each_way(chatbot: Chatbot) -> None:
    """File a deletion or an export of six people, each with the reference: by API, console and command."""
    for number in range(6):
        conversation_of(chatbot, f"member-{number}")
    signing, token = SigningCaller(chatbot), TokenCaller(chatbot)
    for _ in range(2):
        file(signing, "data-export", 0, Idempotency_Key="one")
    file(signing, "data-deletion", 0)
    batch = [body(1, action="delete"), body(2, action="export")]
    assert token.post("requests/batch", {"requests": batch}).status_code == 200
    filer = Filer(member(chatbot, Role.SUPPORT), chatbot)
    preview = filer.preview("member-3", reference=WORD)
    assert filer.confirm(preview, "DELETE 1").status == 302
    call_command("request_deletion", chatbot.slug, "member_id", "member-4", "--reference", WORD)


def end_in_each_way(chatbot: Chatbot) -> None:
    """Complete them; withdraw and reject others; let one fail whose chatter is erased then, and callbacks too."""
    token = TokenCaller(chatbot)
    decisions.cancel(request_id=file(token, "data-deletion", 5), actor="command", note="words of staff")
    held = file(token, "data-deletion", 5)
    failed = file(token, "data-export", 2)  # the one that waits already
    requests = ComplianceRequest.objects
    requests.filter(pk=held).update(status="on_hold", hold_reason="too_many_conversations", held_at=F("received_at"))
    decisions.reject(request_id=held, actor="command", reason="duplicate")
    requests.filter(pk=failed).update(status="failed", failed_at=F("received_at"), error_code="storage_unavailable")
    over_the_failed = file(token, "data-deletion", 2)
    work()
    decisions.approve(request_id=over_the_failed, actor="command", reason="export_not_needed")
    work()


@pytest.mark.long(reason="requests end in each way, and the database is dumped")
def test_a_dump_after_the_days_holds_no_reference(chatbot, neighbour, storage) -> None:
    conversation_of(neighbour, "member-0")
    RECEIVERS.forget()
    with receiving() as receiver:
        Chatbot.objects.filter(pk=chatbot.pk).update(callback_url=receiver.url())
        theirs = file(SigningCaller(neighbour, secret="another_secret"), "data-deletion", 0, reference=THEIRS)
        file_in_each_way(chatbot)
        end_in_each_way(chatbot)
        receiver.answers = [200, 200, 200, 410]
        deliver()
        assert {one.payload["reference"] for one in receiver.received} == {WORD}
    assert {"delivered", "given_up"} <= set(Callback.objects.values_list("state", flat=True))
    assert Replay.objects.exists()
    ended = {state: requests_of(chatbot, state) for state in ("completed", "cancelled", "rejected", "failed")}
    assert ended == {"completed": 6, "cancelled": 1, "rejected": 1, "failed": 1}
    assert dump().count(WORD) == sum(ended.values())

    travel(2 * settings.ERASURE_LEDGER_DAYS)
    days_are_not_over = F("completed_at") + 2 * settings.ERASURE_LEDGER_DAYS
    ComplianceRequest.objects.filter(pk=theirs).update(completed_at=days_are_not_over)
    worker.sweep()

    text = dump()
    assert WORD not in text
    assert text.count(THEIRS) == 1
    assert WORD not in everything_in(storage)
