"""Two acts that meet in one conversation, at each moment: what must remain remains, and nothing else.

Each act against each other one, in both orders and at each moment: short stories, made from two lists.
"""

from collections.abc import Iterator
from itertools import product

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from compliance import worker
from tests.extracting import versioned_bucket
from tests.stress.running import Stage, stage
from tests.stress.stories import Story, story
from tests.under_roles import role

# `{}` is the name of the request. All meet in the conversation c1, which is old and of two people.
ACTS = {
    "deletion by value": "delete {} acme ann",
    "deletion by ids": "delete_ids {} acme c1 erase_exports",
    # From the console, as from the API: once it is started, they are the same.
    "redaction": "select {} acme c1 both; start {}",
    "redaction that waits": "select {} acme c1 both",
    "retention run": "period {} acme 90; hour",
    "export": "export {} acme ann include_files include_shared",
    "delivery": "bucket acme client; export {} acme ann include_files include_shared pages",
    "identify": "identify acme c3 ann; identify acme c1 cid",
    "bucket": "bucket acme other",
    "settings": "period {} acme -; redesignate acme; demand acme verified; eyes acme on",
    "restore": "restore",
    # It is released at the end.
    "legal hold": "keep {} acme ann",
}
# What a worker carries out; the other acts have ended when they are answered.
_EXPORTS = ("export", "delivery")
_WORKED_ON = ("deletion by value", "deletion by ids", "redaction", "retention run", *_EXPORTS)

# What is done between the first act and the second one, and after the second.
_MOMENTS = {
    "before the claim": ("", ""),
    "after the mark": ("work w1 begun", "work w2; work w1"),
    # Of an export, some of the files are there by then.
    "after a kill": ("work w1 begun; {files}; kill w1; leases", ""),
    "after completion": ("work w1", ""),
}

# A second person approves these once the second act is carried out.
_HELD = ("deletion by value", "deletion by ids", "redaction")

_BEFORE = """
    say acme c1 ann ages 200; say acme c1 bob - 200; upload acme c1
    say acme c2 ann lately 1; say acme c3 bob lately 1; say neighbour c1 ann lately 1; upload neighbour c1; days acme
    export own acme ann include_files include_shared pages; export old acme bob include_shared zip; work w1; week old
    backup
"""


def _pairs() -> dict[str, Story]:
    found = {}
    for (first, one), (second, other) in product(ACTS.items(), repeat=2):
        for moment, (between, after) in _MOMENTS.items():
            if first in _WORKED_ON or moment == "before the claim":
                meanwhile = between.replace("{files}", "work w1 30" if first in _EXPORTS else "")
                acts = (one.replace("{}", "r1"), meanwhile, other.replace("{}", "r2"), after)
                found[f"{first}, {second} {moment}"] = story(";".join((_BEFORE, *acts, "work w1")))
        if first in _HELD:
            held = ("eyes acme on", one.replace("{}", "r1"), "work w1", "eyes acme off")
            then = (other.replace("{}", "r2"), "work w1", "officer r1", "work w1")
            found[f"{first}, {second} while it is held"] = story(";".join((_BEFORE, *held, *then)))
    return found


PAIRS = _pairs()

# What a worker does to the rows when it has worked, and what this breaks. The words of c1 and of the neighbour's c1
# have the numbers 0 and 3.
PLANTED = [
    ("DELETE FROM conversations_message WHERE text LIKE 'zqb00003%'", "neighbour"),
    (
        """
        INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, at, data)
        SELECT chatbot_id, request_id, event, actor, at, data FROM chatbots_changelogentry
         WHERE event = 'request.completed' LIMIT 1
        """,
        "ended twice",
    ),
    ("UPDATE compliance_compliancerequest SET messages = messages + 1 WHERE kind = 'deletion'", "counts"),
    ("UPDATE compliance_compliancerequest SET reference = 'zqb00000ffffff'", "word left in rows"),
]


@pytest.fixture(scope="module")
def on_stage(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Stage]:
    # The guard of legal holds is installed before the first story.
    with django_db_blocker.unblock(), versioned_bucket() as storage, stage(storage) as found:
        yield found


@pytest.mark.long(reason="each plays a story", beyond=1, spread=True)
@pytest.mark.parametrize("pair", PAIRS)
def test_two_acts_leave_what_must_remain(on_stage: Stage, pair: str) -> None:
    assert on_stage.play(PAIRS[pair], seed=1) is None


@pytest.mark.long(reason="each plays a story")
@pytest.mark.parametrize(("statement", "kind"), PLANTED)
def test_what_a_worker_does_wrong_is_found(on_stage, monkeypatch, statement, kind) -> None:
    drain = worker.drain

    def drain_and_do_wrong(*, seconds: float) -> None:
        drain(seconds=seconds)
        with role("owner"), connection.cursor() as cursor:
            cursor.execute(statement)

    monkeypatch.setattr(worker, "drain", drain_and_do_wrong)
    broken = on_stage.play(PAIRS["deletion by ids, export after the mark"], seed=1)
    assert broken is not None
    assert broken.kind == kind
