"""The bucket: each object is looked at, also after one that cannot be searched."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.utils import timezone

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.canary import bucket
from compliance.canary.trouble import Budget, CannotTell
from compliance.canary.words import Search, planted
from compliance.models import CanaryTurn, LedgerObject
from tests.compliance.canary.support import collect


@pytest.fixture
def turn(chatbot: Chatbot) -> CanaryTurn:
    return CanaryTurn.objects.create(chatbot=chatbot, day=datetime(2026, 11, 26, tzinfo=UTC).date())


def test_an_object_that_cannot_be_searched_does_not_hide_the_next(turn: CanaryTurn, storage: ObjectStorage) -> None:
    words = planted(turn.pk)
    folder = f"{turn.chatbot.slug}/chatter_data_exports"
    storage.put(f"{folder}/1.csv.gz", b"\x1f\x8b" + b"no gzip at all", "application/gzip")
    storage.put(f"{folder}/2.csv", words.file, "text/csv")
    places: list[str] = []

    with pytest.raises(CannotTell, match="too_much chatter_data_exports/"):
        collect(bucket.look(Search(words), turn, budget=Budget(60)), places)

    [place] = places
    assert place.endswith(" (content)")


def test_more_of_the_ledger_than_is_read_is_not_taken_for_clean(
    turn: CanaryTurn, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_MOST_LEDGER_OBJECTS", 1)
    now = timezone.now()
    for key in ("erasure_ledger/1", "erasure_ledger/2"):
        LedgerObject.objects.create(key=key, at=now, written_at=now, request_ids=[turn.pk])
    LedgerObject.objects.create(key="erasure_ledger/3", at=now, written_at=now, request_ids=[uuid4()])
    keys = bucket.ledger_keys([turn.pk], since=now)

    assert keys == ["erasure_ledger/1", "erasure_ledger/2"]
    with pytest.raises(CannotTell, match="too_much erasure_ledger"):
        list(bucket.look(Search(planted(turn.pk)), turn, ledger_keys=keys, budget=Budget(60)))


def test_a_key_does_not_show_that_contents_are_read(turn: CanaryTurn, storage: ObjectStorage) -> None:
    words = planted(turn.pk)
    turn.file_id, turn.export_id = 1, turn.pk
    folder = f"{turn.chatbot.slug}/chatter_data_exports/{words.value}"
    storage.put(f"{folder}/1_files/1", words.file, "text/plain")
    storage.put(f"{folder}/1.csv", f"{words.value}\n".encode(), "text/csv")
    storage.put(f"uploads/{turn.chatbot_id}/{words.value}", b"", "text/plain")

    def unseen() -> list[str]:
        return bucket.control(words, turn, has_extract=False, budget=Budget(60))

    assert unseen() == ["chatter_data_exports", "uploads"]
    storage.put(f"{folder}/1.csv", words.words["said"].encode(), "text/csv")
    storage.put(f"uploads/{turn.chatbot_id}/1", words.file, "text/plain")
    assert unseen() == []
