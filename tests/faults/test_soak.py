"""The soak in its short form: with faults nothing is violated, and what is planted afterwards is found."""

import os
import signal
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.faults.soak import report
from tests.faults.soak.soak import Plan, Soak
from tests.functional.test_killed_worker import wait_until
from tests.oracle import sending
from tests.oracle.model import Conversation, Expected, Request

_FAULTS = ("worker killed", "web process killed", "backends ended", "receiver errors")
_MESSAGE = """
INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
SELECT chatbot_id, id, 'back', 'user', 'text', 'back again', now() FROM conversations_conversation WHERE id = %s
"""
_COMPLETION = """
INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, at, data)
SELECT chatbot_id, request_id, event, actor, at, data || jsonb_build_object('of', %s::text)
  FROM chatbots_changelogentry
 WHERE request_id = %s AND event = 'request.completed'
"""
_KEY = """
SELECT request_id::text, key FROM compliance_export
 WHERE hosting = 'hosted' AND key IS NOT NULL AND finished_at IS NOT NULL AND request_id = ANY(%s::uuid[])
"""


_FORGET = "DELETE FROM conversations_tombstone"
_SCORE = "UPDATE conversations_conversation SET csat_score = abs(csat_score - 1) WHERE id = %s"
_COMMENT = "UPDATE conversations_conversation SET csat_comment = 'another' WHERE id = %s"
_DAY = "SELECT key FROM conversations_dailyextract WHERE state = 'done'"
PLANTED = {
    *("row left", "ended twice", "foreign line", "lost callback", "orphan", "ended process"),
    *("kept", "neighbour", "word left in rows", "extract", "export", "late data"),
}


@pytest.mark.long(reason="a whole service, traffic with faults, and what is waited for afterwards")
@pytest.mark.timeout(900)
def test_it_finds_nothing_until_something_is_wrong(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "soak", seed=3, seconds=20, pause=(1.0, 3.0), only=_FAULTS)
    with Soak(plan) as soak:
        soak.run()
        soak.look()
        found = report.document(soak)
        assert found["violations"] == []
        assert found["requests"]["deletion completed"] > 0
        assert sum(fault["times"] for fault in found["faults"].values()) > 0
        lived = {one["kind"]: one["seconds"] for one in found["memory"]}
        assert min(lived["steady web: first process"], lived["steady cluster: first process"]) > plan.seconds / 2

        plant(soak)
        soak.look()
        assert soak.violations.kinds >= PLANTED


def plant(soak: Soak) -> None:
    """Do at the service what none of its faults may do: past it, as somebody would who writes around it."""
    os.kill(soak.site.pid("steady-cluster"), signal.SIGKILL)
    completed = [one for one in soak.model.filed if one.status == "completed"]
    deletion = next(one for one in completed if one.kind == "deletion" and one.surely)
    conversation: Conversation = min(deletion.surely, key=lambda one: one.index)
    soak.site.sql(_MESSAGE, [conversation.number])
    soak.site.sql(_FORGET)
    states = [*soak.states.values(), *(actor.state for actor in soak.actors)]
    sending.come_back(next(state for state in states if state.erased_at))
    soak.site.sql(_SCORE, [conversation.number])
    neighbour = _whole(soak)
    soak.site.sql(_COMMENT, [neighbour.number])
    soak.site.sql(_COMPLETION, [neighbour.name, deletion.id])
    del soak.receivers.taken[deletion.id]
    # Among them is the control's, which nothing has removed.
    exports = {one.id: one for one in completed if one.kind == "export"}
    request, key = soak.site.sql(_KEY, [list(exports)])[0]
    with soak.site.s3_client() as s3:
        bucket = soak.site.s3.s3.bucket
        s3.put_object(Bucket=bucket, Key=key, Body=_foreign_to(soak, exports[request]).encode())
        # What has come back may be of that day, which is then made again.
        wait_until(lambda: bool(soak.site.sql(_DAY)))
        [(day,)] = soak.site.sql(_DAY)
        s3.put_object(Bucket=bucket, Key=day, Body=b"")
        s3.put_object(
            Bucket=bucket, Key=f"{key.rpartition('/')[0]}/20260101_000000_conversation_export.csv", Body=b""
        )


def _foreign_to(soak: Soak, export: Request) -> str:
    """Return a text of a living conversation that this export must not hold."""
    return next(iter(_whole(soak, but=export.surely | export.possibly).texts.values()))


def _whole(soak: Soak, but: Collection[Conversation] = ()) -> Conversation:
    """Return a conversation that nobody erases, and that is none of these."""
    for conversation in soak.model.conversations:
        if conversation.texts and conversation not in but and soak.model.expected(conversation) is Expected.WHOLE:
            return conversation
    raise AssertionError("There is no other conversation.")
