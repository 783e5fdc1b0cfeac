"""The stress test finds what it is there to find: a fault that is planted in the product breaks a short story."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.models import Q

from chatbots.buckets import location_of
from chatbots.models import Bucket
from compliance.erasure import exports, late_data
from compliance.models import Export, LedgerLine
from compliance.redaction import engine as redaction
from compliance.replay import filing
from compliance.retention import objects, policy
from compliance.work import free_text
from compliance.work.scope import DELETIONS
from conversations import intake, lookups
from conversations.tombstones import Tombstones
from tests.extracting import versioned_bucket
from tests.stress.running import Stage, stage
from tests.stress.stories import Story, story
from tests.under_roles import role

pytestmark = pytest.mark.long(reason="each plays a story")

Plant = Callable[[pytest.MonkeyPatch], None]

ERASED = story("backup; say acme c1 ann lately 1; delete r1 acme ann; work w1; restore")
RETAINED = story(
    "say acme c1 ann ages 200; say acme c2 bob lately 1; backup; period r1 acme 90; hour; work w1; restore"
)
REDACTED = story("backup; say acme c1 ann lately 1; redact r1 acme c1 0; work w1; restore")

SHARED = story(
    "demand acme verified; arrive acme v1 ann now 1; look w1; arrive acme v1 bob now 1; export r1 acme ann;work w1"
)
WRITTEN = story(
    "write r1 reference ann; write r2 callback_url c1; write r3 reference bob; say acme c1 ann lately 1;"
    "export_ids r1 acme c1; redact r2 acme c1 0; export_ids r3 acme c1; export r4 acme ann; note r4 cancel ann;"
    "export r5 acme bob; note r5 cancel ann; work w1; delete r6 acme ann; work w1"
)
LATE_FILE = story(
    "delete r1 acme ann; work w1; say acme c1 bob lately 1; upload acme c1; refuse file c1 remove denied;"
    "say acme c1 ann - 0; sweep w1"
)
# The first slice fails, then the period is set anew.
OFF_AND_ON = story(
    "say acme c1 ann ages 200; upload acme c1; say acme c2 bob ages 200; period r1 acme 90;"
    "refuse file c1 remove denied;"
    + "hour; work w1;" * 5
    + "period r2 acme -; period r3 acme 90; mend; retry r1; work w1"
)
DELIVERED = story(
    "bucket acme client; say acme c1 ann lately 1; export r1 acme ann; work w1; redact r2 acme c1 0; work w1;"
    "delete_ids r3 acme c1; work w1; delete r4 acme ann erase_exports; work w1"
)
# Of somebody else, in several files.
FOLDER = story(
    "bucket acme client; say acme c1 ann lately 1; say acme c1 bob - 0; export r1 acme bob include_shared pages;"
    "work w1; delete r2 acme ann; work w1"
)
# The deletion waits, the export is made again in vain.
WAITING = story(
    "say acme c1 ann lately 1; export r1 acme ann; work w1; eyes acme on; delete r2 acme ann; work w1;"
    "eyes acme off; refuse export r1 write denied; redact r3 acme c1 0; work w1; officer r2; work w1"
)
LAST_COPY = story(
    "say acme c1 ann lately 1; say acme c2 ann lately 1; export r1 acme ann; work w1; delete_ids r2 acme c1;"
    "work w1; redact r3 acme c2 0; work w1"
)

# At the end of each story the exports are out of their grace.
OUTLIVED = story("say acme c1 ann lately 1; export r1 acme ann; work w1; delete r2 acme ann; work w1")


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
            if one.decision.plan == LedgerLine.Plan.RUN:
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
    """No chatter is looked up again when the session changes."""
    queue = lookups.queue

    def queue_first(*, conversations: Any, **options: Any) -> None:
        for one in conversations:
            one.changed_variables.clear()
        queue(conversations=conversations, **options)

    patch.setattr(lookups, "queue", queue_first)


def replacing(owner: object, name: str, new: object) -> Plant:
    return lambda patch: patch.setattr(owner, name, new)


def rewording(owner: object, name: str, before: str, after: str) -> Plant:
    statement = getattr(owner, name)
    assert before in statement
    return replacing(owner, name, statement.replace(before, after))


def clearing_references_alone(patch: pytest.MonkeyPatch) -> None:
    add = free_text.FreeText.add
    patch.setattr(
        free_text.FreeText, "add", lambda self, one, reference, _, *values: add(self, one, reference, "", *values)
    )


def removing_what_is_delivered(patch: pytest.MonkeyPatch) -> None:
    leave = exports.record_remaining

    def leave_nothing(request_ids: Any, **of: Any) -> None:
        for export in Export.objects.filter(hosting="client", key__isnull=False):
            location_of(Bucket.objects.get(chatbot=export.chatbot)).storage.purge(export.key)
        leave(request_ids, **of)

    patch.setattr(exports, "record_remaining", leave_nothing)


def naming_no_copy_of_a_redaction(patch: pytest.MonkeyPatch) -> None:
    leave = exports.record_remaining
    patch.setattr(exports, "record_remaining", lambda ids, of: of is DELETIONS and leave(ids))


def making_again_behind(patch: pytest.MonkeyPatch) -> None:
    """An export that is made again comes after all that waits."""
    repeat_of = redaction._repeat_of

    def repeat_behind(removed: Any, value: Any) -> Any:
        again = repeat_of(removed, value)
        assert again
        again.seq = 1_000_000
        return again

    patch.setattr(redaction, "_repeat_of", repeat_behind)


_CLOSE_ONE = """
UPDATE conversations_conversation SET deletion_request_id = %s
 WHERE id = (SELECT max(id) FROM conversations_conversation WHERE deletion_request_id IS NULL)
"""
_TEXT_AGAIN = "UPDATE conversations_message SET text = %s, kind = 'text' WHERE external_id = %s AND kind = 'redacted'"


def _execute(statement: str, *values: object) -> None:
    with role("owner"), connection.cursor() as cursor:
        cursor.execute(statement, values)


@pytest.mark.parametrize(
    ("plant", "rules", "kind"),
    [
        (forgetting, ERASED, "came back"),
        (erasing_more, RETAINED, "too much"),
        (bringing_back, REDACTED, "redacted rows"),
        (asking_once, SHARED, "another chatter"),
        (replacing(free_text.FreeText, "clear", lambda *_: None), WRITTEN, "reference left"),
        (clearing_references_alone, WRITTEN, "callback_url left"),
        (replacing(free_text, "holds", lambda *_: True), WRITTEN, "reference gone"),
        (replacing(free_text, "empty_notes", lambda _: None), WRITTEN, "note left"),
        (replacing(free_text, "_FIND_NOTES", "SELECT id FROM compliance_requestnote"), WRITTEN, "note gone"),
        (replacing(late_data, "_erase_rows", set), LATE_FILE, "late words"),
        (replacing(late_data, "_erase_files", set), LATE_FILE, "row left"),
        (replacing(policy, "holds", lambda _: True), OFF_AND_ON, "closed by another"),
        (rewording(exports, "_LEAVE", "e.hosting = 'client' OR", ""), DELIVERED, "not named"),
        (rewording(exports, "_LEAVE", "e.hosting = 'client' OR", ""), FOLDER, "not named"),
        (rewording(exports, "_FORGET_KEYS", "SET key = NULL", "SET key = e.key"), DELIVERED, "own key"),
        (removing_what_is_delivered, DELIVERED, "removed"),
        (making_again_behind, WAITING, "overtaken"),
        (rewording(exports, "_EXPIRE_REDACTED", "e.last_copy_since IS NULL", "TRUE"), LAST_COPY, "lost export"),
        (replacing(objects, "EXPIRED", Q(pk=None)), OUTLIVED, "export left"),
        (naming_no_copy_of_a_redaction, LAST_COPY, "redacted text in chatter_data_exports"),
    ],
)
def test_a_planted_fault_is_found(on_stage, monkeypatch, plant, rules, kind) -> None:
    plant(monkeypatch)
    broken = on_stage.play(rules, seed=1)
    assert broken is not None
    assert broken.kind == kind


@pytest.mark.parametrize(
    "rules",
    [
        ERASED,
        RETAINED,
        REDACTED,
        SHARED,
        WRITTEN,
        LATE_FILE,
        OFF_AND_ON,
        DELIVERED,
        FOLDER,
        WAITING,
        LAST_COPY,
        OUTLIVED,
    ],
)
def test_without_it_the_same_story_holds(on_stage: Stage, rules: Story) -> None:
    assert on_stage.play(rules, seed=1) is None
