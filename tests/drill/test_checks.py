"""The drill must be able to fail: faults of a restore are planted in evidence without violations."""

import pytest

from tests.drill.checks import faults_of
from tests.oracle.model import Request
from tests.oracle.planted import CASES, PLANTED
from tests.oracle.scene import BOT, Scene, a_scene, request_of

# Kinds that the drill does not check, and kinds that a restore explains.
_BESIDE = {"late", "error logged", "lost callback", "doubled callback", "wrong callback", "orphan"}
_EXPLAINED = {("ended twice", 1), ("not ended", 1)}
_CASES = [case for case in CASES if case[0] not in _BESIDE and case not in _EXPLAINED]


@pytest.fixture
def scene() -> Scene:
    return a_scene()


def kinds(scene: Scene, *waiting: str) -> set[str]:
    found, _ = faults_of(scene.model, scene.evidence, waiting)
    return {told.partition(":")[0] for told in found}


@pytest.mark.parametrize(("kind", "number"), _CASES)
def test_it_finds_what_is_planted(scene: Scene, kind: str, number: int) -> None:
    assert kinds(scene) == set()
    PLANTED[kind][number](scene)
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
