"""The drill must be able to fail: what a restore may do wrong is planted in evidence in which all is as promised."""

from collections.abc import Callable

import pytest

from tests.drill.checks import faults_of
from tests.oracle.evidence import Count
from tests.oracle.model import Conversation, Request
from tests.oracle.scene import BOT, MONTH, Scene, a_scene, request_of


def word_of(conversation: Conversation) -> str:
    [text] = conversation.texts.values()
    return text


PLANTED: dict[str, tuple[str, Callable[[Scene], object]]] = {
    "a lost message": ("neighbour", lambda s: s.conversation(s.whole, texts={})),
    "a lost conversation": ("lost conversation", lambda s: s.evidence.conversations.pop(2)),
    "an erased one who is back": (
        "row left",
        lambda s: s.conversation(s.gone, is_deleted=False, id=s.gone.id, texts={"m": ("text", word_of(s.gone))}),
    ),
    "a surviving word": ("word left in rows", lambda s: s.in_table("conversations_message", word_of(s.gone))),
    "a word in the ledger": ("word left in an object", lambda s: s.add("erasure_ledger/1/2", word_of(s.whole))),
    "a word in a log": ("personal in a log", lambda s: s.evidence.logs.update({"workers.log": word_of(s.whole)})),
    "a completion that happens twice": (
        "ended twice",
        lambda s: s.evidence.events.append(("d", "request.completed")),
    ),
    "a neighbour's loss": ("neighbour", lambda s: s.conversation(s.whole, is_deleted=True)),
    "a wrong count": ("counts", lambda s: s.evidence.usage.update({BOT: {MONTH: Count(3, 1)}})),
    "a wrong count of a deletion": ("counts", lambda s: s.row(s.deletion, messages=2)),
}


@pytest.fixture
def scene() -> Scene:
    return a_scene()


def kinds(scene: Scene, *waiting: str) -> set[str]:
    found, _ = faults_of(scene.model, scene.evidence, waiting)
    return {told.partition(":")[0] for told in found}


@pytest.mark.parametrize("name", PLANTED)
def test_it_finds_what_is_planted(scene: Scene, name: str) -> None:
    assert kinds(scene) == set()
    kind, plant = PLANTED[name]
    plant(scene)
    assert kind in kinds(scene)


def test_a_request_that_waits_says_whom_it_is_about_and_has_erased_nothing(scene: Scene) -> None:
    [value] = scene.whole.people
    scene.model.file(Request(BOT, "deletion", "k3", value=value, surely={scene.whole}, id="held-1", status="on_hold"))
    scene.evidence.requests["held-1"] = request_of("held-1", "deletion", status="on_hold")
    scene.in_table("compliance_compliancerequest", f"held-1\t{value}")
    assert kinds(scene, "held-1") == set()
    assert kinds(scene) == {"not ended", "word left in rows"}
    scene.conversation(scene.whole, is_deleted=True)
    assert "neighbour" in kinds(scene, "held-1")


def test_what_a_restore_has_taken_is_missed_once_it_was_sent_again(scene: Scene) -> None:
    backup = scene.model.stored()
    scene.whole.texts = scene.whole.texts | {"later": "more"}
    scene.whole.tried_texts = scene.whole.tried_texts | {"later": "more"}
    scene.whole.sent_at["later"] = scene.whole.began
    assert "neighbour" in kinds(scene)
    scene.model.put_back(backup)
    assert kinds(scene) == set()
    scene.whole.texts["later"] = "more"
    assert "neighbour" in kinds(scene)
    assert "later" not in backup[scene.whole]["texts"]
