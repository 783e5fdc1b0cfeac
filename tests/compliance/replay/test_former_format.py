"""Objects of the ledger that a former release has written: their lines say less, and are read all the same."""

from typing import Any
from uuid import uuid4

from chatbots.models import Variable
from common.storage import ObjectStorage
from compliance.ledger import content, objects, service
from compliance.models import ComplianceRequest
from compliance.requests import decisions
from console.requests import labels
from tests import databases
from tests.compliance.replay.conftest import became_of, gone, replay, work
from tests.compliance.retention.runs import conversation_aged, file_run
from tests.functional.company import Company
from tests.ledger import header, lines_of
from tests.restoring import restored

_NEW = ("variable_name", "variable_category", "filed_by", "approved_by", "announced", "previous_days")


def rewrite(storage: ObjectStorage, **changes: Any) -> None:
    """Put all lines of the ledger into one object, as a former release has written them."""
    lines = [{name: one[name] for name in one if name not in _NEW} | changes for one in lines_of(storage)]
    for key in list(storage.keys(objects.PREFIX)):
        storage.purge(key)
    made = header(service.current(), format="erasure-ledger/2")
    storage.put(made.key, content.seal(made, lines), content_type=objects.CONTENT_TYPE)


def test_a_deletion_is_carried_out_again(company: Company, storage: ObjectStorage) -> None:
    number = company.talk("c-1", "alice")
    with restored():
        deletion = company.delete("alice")
        work()
    rewrite(storage)

    assert became_of(replay()) == {deletion: "erased"}
    assert gone(number) == [True]
    assert ComplianceRequest.objects.get().filed_by == "replay"


def test_a_retention_run_is_filed_again_on_hold(company: Company, storage: ObjectStorage) -> None:
    """Its line says an age and a number, which may be more than it had erased."""
    old = conversation_aged(company.chatbot, 91)
    with restored():
        run = file_run(company.chatbot)
        work()
    rewrite(storage, up_to=old.pk)

    assert became_of(replay()) == {str(run.pk): "on_hold"}
    work()
    assert gone(old.pk) == [False]
    run.refresh_from_db()
    assert "not what it had erased" in labels.what_next(run)
    decisions.approve(request_id=run.pk, actor="user:7")
    work()
    assert gone(old.pk) == [True]


def test_a_variable_that_is_not_here_keeps_its_chatbot_closed(company: Company, storage: ObjectStorage) -> None:
    with restored():
        Variable.objects.filter(chatbot=company.chatbot, is_uci=True).update(
            name="former", is_uci=False, was_uci=True
        )
        Variable.objects.create(chatbot=company.chatbot, name="member_id", category="custom", is_uci=True)
        company.talk("c-1", "alice")
        deletion = company.delete("alice")
        work()
    rewrite(storage)

    assert became_of(replay(code=3)) == {deletion: "undecided"}
    assert company.caller.get("requests").status_code == 503


def test_nor_is_it_open_where_its_conversations_are_here(company: Company, storage: ObjectStorage) -> None:
    """They are erased, but their chatter cannot be remembered."""
    number = company.talk("c-1", "alice")
    with restored():
        deletion = company.delete("alice")
        work()
    with databases.triggers_off():  # as if this were another variable
        Variable.objects.filter(chatbot=company.chatbot, is_uci=True).update(public_id=uuid4())
    rewrite(storage)

    for _ in range(2):
        assert became_of(replay(code=3)) == {deletion: "undecided"}
        assert gone(number) == [True]
        assert company.caller.get("requests").status_code == 503
