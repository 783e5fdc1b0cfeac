"""Commands in a restored database: those on data refuse, and `adopt --new-service` makes a service of its own."""

import io
import logging
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command, load_command_class
from django.test import Client
from django.utils import timezone

from chatbots.models import Chatbot
from common.commands import TeachingCommand
from common.storage import ObjectStorage
from compliance.ledger import closed, journal, objects, service
from compliance.models import ComplianceRequest, JournalEntry, LedgerLine, LedgerObject
from compliance.replay import operation
from tests.closed import Reason, State, close
from tests.commands import ours, report, run
from tests.compliance.conftest import Drain
from tests.factories import conversation_of, deletion_of, export_of
from tests.ledger import keys_of


def adopt(*options: str) -> dict[str, Any]:
    return report("adopt", "--new-service", "--yes", *options)


def test_a_copy_gets_an_identity_of_its_own_and_is_open(chatbot, storage, caplog) -> None:
    caplog.set_level(logging.WARNING)
    before = close(State.RESTORED, Reason.OTHER_SERVER)

    said = adopt()

    now = service.current()
    assert said == {
        "service_id": str(now.service_id),
        "original_id": str(before.service_id),
        "was": "restored",
        "state": "open",
        "shares_bucket": False,
    }
    assert now.service_id != before.service_id
    assert now.incarnation != before.incarnation
    assert (now.reason, now.tripped_at, now.highest_number) == ("", None, None)
    assert Client().get("/admin/login/").status_code == 200
    assert "service.adopted" in caplog.text
    assert "still here" in run("adopt", "--new-service", "--yes").out


def test_its_ledger_names_what_is_still_to_be_done(chatbot: Chatbot, storage: ObjectStorage, drain: Drain) -> None:
    conversation_of(chatbot, "41")
    done = deletion_of(chatbot, "41")
    drain()
    open_request, failed = (
        deletion_of(chatbot, "42"),
        export_of(chatbot, "43", status="failed", error_code="x", failed_at=timezone.now()),
    )
    objects.write([], request_ids=[])  # unconfirmed, as after a kill
    LedgerLine.objects.create(
        request_id=uuid4(), kind="accepted", line={}, key="k", at=timezone.now(), incarnation=uuid4()
    )
    theirs = list(keys_of(storage))
    close()

    said = adopt()

    assert said["shares_bucket"]
    assert not LedgerObject.objects.exists()
    assert not LedgerLine.objects.exists()
    assert list(JournalEntry.objects.order_by("id").values_list("kind", "request_id")) == [
        ("accepted", open_request.pk),
        ("accepted", failed.pk),
    ]

    JournalEntry.objects.update(at=timezone.now() - timedelta(minutes=1))
    journal.write_due()
    ours = [key for key in keys_of(storage) if key.startswith(objects.folder())]
    assert len(ours) == 1
    # What the original wrote stays.
    assert set(theirs) <= set(keys_of(storage))
    assert str(done.pk) not in storage.read(ours[0]).decode()


def test_a_confirmation_is_asked_for(chatbot: Chatbot, storage: ObjectStorage, monkeypatch: Any) -> None:
    before = close()

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def answer(text: str) -> str:
        monkeypatch.setattr("sys.stdin", Terminal(text))
        return run("adopt", "--new-service").err

    with pytest.raises(CommandError, match="Nothing was changed"):
        answer("yes\n")
    assert service.current().service_id == before.service_id

    asked = answer("new service\n")
    assert "are still in it" in " ".join(asked.split())
    # What the original's operator would lose by it.
    assert "Older backups lack the erasures of this service from now on." in " ".join(asked.split())
    assert str(before.service_id) in asked
    assert service.current().service_id != before.service_id


def test_where_nobody_can_be_asked_nothing_changes(chatbot: Chatbot, monkeypatch: Any) -> None:
    before = close()
    monkeypatch.setattr("sys.stdin", io.StringIO("new service\n"))

    with pytest.raises(CommandError, match="--yes"):
        run("adopt", "--new-service")

    assert service.current().service_id == before.service_id
    assert service.state() == State.RESTORED


def test_a_replay_is_not_disturbed(chatbot: Chatbot, storage: ObjectStorage) -> None:
    before = close()
    with operation._alone(patience=0.0), pytest.raises(CommandError, match="replay is under way"):
        adopt()

    assert service.current().service_id == before.service_id


def test_a_storage_that_does_not_answer_stops_nothing(chatbot: Chatbot, settings: Any) -> None:
    close()
    settings.S3_BUCKET = "nobody-made-this"

    assert adopt()["shares_bucket"] is None
    assert service.is_open()


def test_each_command_refuses_or_is_listed_with_a_reason() -> None:
    close()
    commands = ours()
    assert closed.MAY_RUN.keys() < commands.keys()

    for name, app in commands.items():
        command = load_command_class(app, name)
        assert isinstance(command, TeachingCommand), name
        if name in closed.MAY_RUN:
            assert len(closed.MAY_RUN[name].split()) > 2, name
            continue
        # Before it looks at any of its arguments.
        with pytest.raises(CommandError, match="restored from a backup") as caught:
            command.execute(force_color=False, no_color=False, skip_checks=True)
        assert caught.value.returncode == closed.CLOSED == 7, name


@pytest.mark.parametrize(
    ("state", "reason", "advice"),
    [
        (State.RESTORED, Reason.OBJECTS_UNKNOWN, "manage.py replay_erasures"),
        (State.RESTORED, Reason.OTHER_SERVER, "manage.py adopt --new-service"),
        (State.CATCHING_UP, Reason.OBJECTS_UNKNOWN, "ends by itself"),
    ],
)
def test_a_command_that_refuses_says_what_to_do(chatbot, state, reason, advice, capsys) -> None:
    close(state, reason)

    with pytest.raises(CommandError, match=advice) as caught:
        call_command("request_deletion", "acme", "member_id", "alice-77", "--json")

    assert (caught.value.returncode, capsys.readouterr().out) == (7, "")
    assert not ComplianceRequest.objects.exists()


def test_what_is_listed_runs(db: None) -> None:
    close()
    assert report("verify_erasure", "--all")["verified"] == 0


def test_the_guide_names_what_runs() -> None:
    """And the exit code of what does not."""
    guide = (settings.BASE_DIR / "docs/reference/commands.md").read_text()
    paragraph = guide.split("\n## In a restored database\n")[1]
    assert f"exit code {closed.CLOSED}." in " ".join(paragraph.split())
    assert {name for name in closed.MAY_RUN if f"`{name}`" in paragraph} == closed.MAY_RUN.keys()
