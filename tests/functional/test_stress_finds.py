"""The stress test finds what it is there to find: a fault that is planted in the product breaks a short story."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from compliance.models import LedgerLine
from compliance.replay import filing
from conversations import intake, lookups
from conversations.tombstones import Tombstones
from tests.extracting import versioned_bucket
from tests.stress.searching import Stage, stage
from tests.stress.stories import AGES, Story
from tests.under_roles import role

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long(reason="each plays a story")]

ERASED: Story = [
    ("backup",),
    ("say", "acme", "c1", "ann", "lately", 1),
    ("delete", "r1", "acme", "ann", ()),
    ("work", "w1", None),
    ("restore", ""),
]
RETAINED: Story = [
    ("say", "acme", "c1", "ann", "ages ago", AGES),
    ("say", "acme", "c2", "bob", "lately", 1),
    ("backup",),
    ("period", "r1", "acme", 90),
    ("hour",),
    ("work", "w1", None),
    ("restore", ""),
]
REDACTED: Story = [
    ("backup",),
    ("say", "acme", "c1", "ann", "lately", 1),
    ("redact", "r1", "acme", "c1", 0),
    ("work", "w1", None),
    ("restore", ""),
]

SHARED: Story = [
    ("demand", "acme", "verified"),
    ("arrive", "acme", "v1", "ann", "now", 1),
    ("look", "w1", None),
    ("arrive", "acme", "v1", "bob", "now", 1),
    ("export", "r1", "acme", "ann", ()),
    ("work", "w1", None),
]


@pytest.fixture
def on_stage() -> Iterator[Stage]:
    with versioned_bucket() as storage, stage(storage) as found:
        yield found


def forgetting(patch: pytest.MonkeyPatch) -> None:
    """Intake does not ask what was erased."""
    patch.setattr(Tombstones, "read", lambda **_: Tombstones())


def erasing_more(patch: pytest.MonkeyPatch) -> None:
    """A retention run that is replayed takes one more conversation."""
    file = filing.file

    def file_more(planned: Any, **options: Any) -> None:
        file(planned, **options)
        for one in planned:
            if one.plan == LedgerLine.Plan.RUN:
                _execute(_CLOSE_ONE, one.request_id)

    patch.setattr(filing, "file", file_more)


def bringing_back(patch: pytest.MonkeyPatch) -> None:
    """The text of a message that is sent again is stored, though it was redacted."""
    store = intake._store

    def store_texts(chatbot: Any, documents: Any, *others: Any, **options: Any) -> Any:
        results = store(chatbot, documents, *others, **options)
        for message in [message for document in documents for message in document.get("messages") or ()]:
            _execute(_TEXT_AGAIN, message["text"], message["id"])
        return results

    patch.setattr(intake, "_store", store_texts)


def asking_once(patch: pytest.MonkeyPatch) -> None:
    """Nobody is looked up again when the session changes."""
    queue = lookups.queue

    def queue_first(*, conversations: Any, **options: Any) -> None:
        for one in conversations:
            one.changed_variables.clear()
        queue(conversations=conversations, **options)

    patch.setattr(lookups, "queue", queue_first)


_CLOSE_ONE = """
UPDATE conversations_conversation SET deletion_request_id = %s
 WHERE id = (SELECT max(id) FROM conversations_conversation WHERE deletion_request_id IS NULL)
"""
_TEXT_AGAIN = "UPDATE conversations_message SET text = %s, kind = 'text' WHERE external_id = %s AND kind = 'redacted'"


def _execute(statement: str, *values: object) -> None:
    with role("owner"), connection.cursor() as cursor:
        cursor.execute(statement, values)


@pytest.mark.parametrize(
    ("plant", "story", "kind"),
    [
        (forgetting, ERASED, (8, "came back")),
        (erasing_more, RETAINED, (8, "too much")),
        (bringing_back, REDACTED, (2, "redacted rows")),
        (asking_once, SHARED, (6, "somebody else")),
    ],
)
def test_a_planted_fault_is_found(
    on_stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    story: Story,
    kind: tuple[int, str],
) -> None:
    plant(monkeypatch)
    broken = on_stage.play(story, seed=1)
    assert broken is not None
    assert broken.kind == kind


@pytest.mark.parametrize("story", [ERASED, RETAINED, REDACTED, SHARED])
def test_without_it_the_same_story_holds(on_stage: Stage, story: Story) -> None:
    assert on_stage.play(story, seed=1) is None
