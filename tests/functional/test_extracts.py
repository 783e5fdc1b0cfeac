"""The extracts of all days hold each message once; after a deletion no version of any holds a line of the chatter."""

import subprocess
from collections import Counter
from datetime import timedelta

import pytest

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from conversations.models import DailyExtract, Message
from tests.extracting import FIRST, conversation_on, day_after, lines, make_all, noon, planned, versioned_bucket
from tests.factories import deletion_of
from tests.functional.support import everything_in, manage, worker_environment

DAYS = 5
MEMBERS = 12


def _fill(chatbot: Chatbot) -> None:
    """Each member talks for an hour, over some midnight, and once a day in a conversation that lasts all days."""
    for number in range(MEMBERS):
        member = f"member-{number}"
        began = noon(FIRST) + timedelta(hours=9 * number, minutes=number)
        steps = [began + timedelta(minutes=7 * step) for step in range(9)]
        conversation_on(chatbot, member, *steps, text=f"short words of {member};")
        daily = [noon(day_after(FIRST, day)) + timedelta(seconds=number) for day in range(DAYS)]
        conversation_on(chatbot, member, *daily, text=f"daily words of {member};")


def _files(storage: ObjectStorage, chatbot: Chatbot) -> dict[str, bytes]:
    keys = DailyExtract.objects.filter(chatbot=chatbot).values_list("key", flat=True)
    return {str(key): storage.read(str(key)) for key in keys}


@pytest.mark.long(reason="a storage of its own, and weeks of extracts made twice")
def test_an_erased_member_is_removed_from_every_version_of_every_day(chatbot: Chatbot, neighbour: Chatbot) -> None:
    with versioned_bucket() as storage:
        for owner in (chatbot, neighbour):
            _fill(owner)
            planned(owner, FIRST, day_after(FIRST, DAYS))
        make_all()
        before, theirs = _files(storage, chatbot), _files(storage, neighbour)
        rows = [line for extract in DailyExtract.objects.filter(chatbot=chatbot) for line in lines(storage, extract)]
        ids = Counter((line["conversation_id"], line["message_id"]) for line in rows)
        assert set(ids.values()) == {1}
        assert len(ids) == Message.objects.filter(chatbot=chatbot).count() == MEMBERS * (9 + DAYS)

        request = deletion_of(chatbot, "member-3")
        assert not worker.drain(seconds=60)

        request.refresh_from_db()
        assert (request.status, request.messages, request.error_code) == ("completed", 9 + DAYS, "")
        after = _files(storage, chatbot)
        touched = [key for key in before if b"words of member-3;" in before[key]]
        assert request.extracts == len(touched) >= DAYS
        for key, file in before.items():
            kept = [line for line in file.splitlines(keepends=True) if b"words of member-3;" not in line]
            assert after[key] == b"".join(kept)
        assert _files(storage, neighbour) == theirs
        assert "words of member-4;" in everything_in(storage)
        mine = list(storage.versions(f"{chatbot.slug}/"))
        assert len(mine) == len(before)
        for version in mine:
            assert b"member-3;" not in storage.read(version.key)


@pytest.mark.long(reason="a worker process is started")
def test_a_worker_process_plans_and_builds_due_days(chatbot: Chatbot, storage: ObjectStorage) -> None:
    Chatbot.objects.filter(pk=chatbot.pk).update(extracts_enabled=True)
    subprocess.run(manage("process_requests"), env=worker_environment(), check=True, capture_output=True)

    extract = DailyExtract.objects.get(chatbot=chatbot)
    assert (extract.state, extract.rows) == ("done", 0)
    assert lines(storage, extract) == []
