"""The soak in its short form: with faults nothing is violated, and what is planted afterwards is found."""

import os
import signal
from pathlib import Path

import pytest

from tests.faults.soak import report
from tests.faults.soak.model import Fate, Filed, Talk
from tests.faults.soak.soak import HOSTED, Plan, Soak

_FAULTS = ("worker killed", "web process killed", "backends ended", "receiver errors")
_MESSAGE = """
INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
SELECT chatbot_id, id, 'back', 'user', 'text', 'back again', now() FROM conversations_conversation WHERE id = %s
"""
_COMPLETION = """
INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, at, data)
SELECT chatbot_id, request_id, event, actor, at, data FROM chatbots_changelogentry
 WHERE request_id = %s AND event = 'request.completed'
"""
_KEY = """
SELECT request_id::text, key FROM compliance_export
 WHERE hosting = 'hosted' AND key IS NOT NULL AND finished_at IS NOT NULL AND request_id = ANY(%s::uuid[])
"""


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
        planted = {"row left", "ended twice", "foreign line", "lost callback", "orphan", "ended process"}
        assert planted <= soak.violations.kinds


def plant(soak: Soak) -> None:
    """Do at the service what none of its faults may do: past it, as somebody would who writes around it."""
    os.kill(soak.site.pid("steady-cluster"), signal.SIGKILL)
    completed = [one for one in soak.model.filed if one.status == "completed" and one.bot == HOSTED]
    deletion = next(one for one in completed if one.kind == "deletion" and one.surely)
    talk: Talk = min(deletion.surely, key=lambda one: one.index)
    soak.site.sql(_MESSAGE, [talk.number])
    soak.site.sql(_COMPLETION, [deletion.id])
    del soak.receivers.taken[deletion.id]
    exports = {one.id: one for one in completed if one.kind == "export"}
    request, key = soak.site.sql(_KEY, [list(exports)])[0]
    with soak.site.s3_client() as s3:
        bucket = soak.site.s3.s3.bucket
        s3.put_object(Bucket=bucket, Key=key, Body=_foreign_to(soak, exports[request]).encode())
        s3.put_object(
            Bucket=bucket, Key=f"{key.rpartition('/')[0]}/20260101_000000_conversation_export.csv", Body=b""
        )


def _foreign_to(soak: Soak, export: Filed) -> str:
    """Return a text of a living conversation that this export must not hold."""
    for talk in soak.model.talks:
        if talk.texts and talk not in export.surely | export.possibly and soak.model.fate(talk) is Fate.WHOLE:
            return next(iter(talk.texts.values()))
    raise AssertionError("There is no other conversation.")
