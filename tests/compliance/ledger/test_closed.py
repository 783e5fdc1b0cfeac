"""While a database is closed, workers do none of their kinds of work; once it is open again, they do all of it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.utils import timezone
from pytest_django import Settings

from chatbots.models import BucketCheck, Chatbot, Membership
from common.storage import ObjectStorage
from compliance import tasks, worker
from compliance.callbacks import queue as callbacks
from compliance.ledger import service, tripwire
from compliance.ledger.service import Reason, State
from compliance.lookups import queue as lookups
from compliance.models import Callback, ComplianceRequest, Occurrence
from compliance.notifications import delivery
from compliance.work import scheduling
from conversations.models import DailyExtract, IdentityLookup
from tests.extracting import conversation_on, noon, planned
from tests.factories import CallbackFactory, ChatbotFactory, ExportFactory, RequestFactory, deletion_of, export_of
from tests.looking_up import begin, make_due, with_resolver
from tests.receivers import Receiver, receiving

PAST = timezone.now() - timedelta(days=100)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """The client's server: gets callbacks, and identifies every chatter as 42."""
    callbacks.RECEIVERS.forget()
    lookups.RESOLVERS.forget()
    with receiving(body=b'{"value": "42"}') as one:
        yield one


@pytest.fixture
def due(chatbot: Chatbot, receiver: Receiver, storage: ObjectStorage, settings: Settings) -> Chatbot:
    """A chatbot with something due of each kind."""
    settings.MAILS = True
    with_resolver(chatbot, receiver.url("/who"))
    begin(chatbot, "c-1")
    make_due(chatbot)
    officer = User.objects.create_user("ada", email="ada@example.com", is_staff=True)
    Membership.objects.create(chatbot=chatbot, user=officer, role=Membership.Role.OFFICER)
    export_of(chatbot, "7", status="failed", failed_at=timezone.now(), error_code="storage_unavailable")
    CallbackFactory.create(request=RequestFactory.create(chatbot=chatbot), url=receiver.url())
    conversation_on(chatbot, "43", noon())
    planned(chatbot)
    deletion_of(chatbot, "44")
    key = f"{chatbot.slug}/chatter_data_exports/old/a.csv"
    storage.put(key, b"lines", "text/csv")
    done = {"status": "completed", "result": "done", "completed_at": PAST, "uci_value": None}
    ExportFactory.create(
        request=RequestFactory.create(chatbot=chatbot, kind="export", **done),
        key=key, rows=1, bytes=5, sha256="0" * 64, finished_at=PAST, expires_at=PAST,
    )  # fmt: skip
    return chatbot


def done(chatbot: Chatbot, receiver: Receiver, storage: ObjectStorage) -> set[str]:
    """Run all that workers run, and return which kinds of work were done."""
    worker.sweep()
    worker.drain()
    for task in (tasks.deliver_callbacks, tasks.send_mails):
        task()
    # As if the turn had begun before.
    callbacks.deliver()
    lookups.look_up()
    delivery.deliver()
    found = {
        "deletion": ComplianceRequest.objects.filter(kind="deletion", status="completed").exists(),
        "extract": DailyExtract.objects.filter(state="done").exists(),
        "clean-up": not list(storage.keys(f"{chatbot.slug}/chatter_data_exports/old/")),
        "callback": Callback.objects.filter(state="delivered").exists(),
        "look-up": not IdentityLookup.objects.filter(state="pending").exists(),
        "mail": bool(mail.outbox),
        "call": bool(receiver.received),
        "ledger": bool(list(storage.keys("erasure_ledger/"))),
    }
    return {kind for kind, is_done in found.items() if is_done}


@pytest.mark.django_db(transaction=True)  # an extract is read in a snapshot of its own
def test_no_kind_of_work_is_done_while_it_is_closed(due: Chatbot, receiver: Receiver, storage: ObjectStorage) -> None:
    service.current()
    service.trip(State.RESTORED, Reason.OBJECTS_UNKNOWN)

    assert done(due, receiver, storage) == set()

    service.begin_incarnation()
    kinds = {"deletion", "extract", "clean-up", "callback", "look-up", "mail", "call", "ledger"}
    assert done(due, receiver, storage) == kinds


def test_a_round_that_began_before_takes_nothing_more(due, storage, monkeypatch) -> None:
    """Its last request took seconds, in which another process has noticed the restore."""
    service.current()
    checks = ChatbotFactory.create()
    BucketCheck.objects.create(chatbot=checks)

    def trip() -> list[Any]:
        service.trip(State.RESTORED, Reason.OBJECTS_UNKNOWN)
        return []

    monkeypatch.setattr(scheduling, "waiting_lanes", trip)
    worker.drain()
    assert not service.is_open()
    assert DailyExtract.objects.get(chatbot=due).state == "pending"
    assert BucketCheck.objects.get().token is None


def test_a_sweep_that_does_nothing_is_not_late(due: Chatbot, storage: ObjectStorage) -> None:
    service.current()
    service.trip(State.RESTORED, Reason.OBJECTS_UNKNOWN)
    tasks.sweep()
    assert Occurrence.objects.get(name="sweep").last_at is not None
    assert not tripwire.check_if_due()
