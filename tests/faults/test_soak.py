"""The short soak: with faults no promise is violated, and violations planted afterwards are found."""

import os
import signal
from pathlib import Path

import pytest

from tests.faults import plants
from tests.faults.soak.soak import CLIENT_BUCKET, Soak
from tests.operated import wait_until
from tests.oracle import sending
from tests.oracle.model import Conversation, Expected

_FAULTS = ("worker killed", "web process killed", "backends ended", "receiver errors")
_EXPORTS = """
SELECT request_id::text FROM compliance_export
 WHERE hosting = 'hosted' AND key IS NOT NULL AND finished_at IS NOT NULL AND request_id = ANY(%s::uuid[])
"""
_DAY = "SELECT key FROM conversations_dailyextract WHERE state = 'done'"
# Beside those of `plants`.
_TOLD = ("late data: ", "lost callback: ", "extract: ", "ended process: ", ", of another chatbot")


@pytest.mark.long(reason="a whole service, traffic with faults, and what is waited for afterwards")
@pytest.mark.timeout(900)
def test_it_finds_nothing_until_something_is_wrong(tmp_path: Path) -> None:
    with Soak(tmp_path / "soak", seed=3, seconds=20, pause=(1.0, 3.0), only=_FAULTS) as soak:
        soak.run()
        soak.look()
        found = soak.report()
        assert found["violations"] == []
        assert found["requests"]["deletion completed"] > 0
        assert soak.driver.caused.total() > 0
        # The programs that no fault affects were seen every five seconds.
        for name in soak.site.steady:
            assert max(len(sizes) for who, sizes in soak.watcher.memory.items() if name in who) > soak.seconds / 10

        told = plant(soak)
        soak.look()
        lines = [f"{one.kind}: {one.told}" for one in soak.violations.kept]
        # As many as lost answers leave open may be missing in the usage.
        assert set(plants.untold(told, lines)) <= {"are in the usage"}, lines


def plant(soak: Soak) -> list[str]:
    """Plant violations that no fault may cause, and return the expected texts."""
    os.kill(soak.site.pid("steady-cluster"), signal.SIGKILL)
    completed = [request for request in soak.model.filed if request.status == "completed"]
    deletion = next(request for request in completed if request.kind == "deletion" and request.surely)
    gone = min(deletion.surely, key=lambda conversation: conversation.index)
    soak.site.sql("DELETE FROM conversations_tombstone")
    states = [*soak.states.values(), *(actor.state for actor in soak.actors)]
    sending.send_for_erased_chatter(next(state for state in states if state.erased_at))
    del soak.receivers.taken[deletion.id]
    # The export of a namesake is among them, which was not removed. A line can be doubled in the CSV of the standard
    # dialect, and only if it has a message.
    plain = (one for one in completed if one.kind == "export" and not any("excel" in flag for flag in one.flags))
    exports = {one.id: one for one in plain if any(each.texts for each in one.surely)}
    export = exports[soak.site.sql(_EXPORTS, [list(exports)])[0][0]]
    for _ in range(6):  # a slow machine has stored few
        sending.begin(soak.states["hosted"])
    held = export.surely | export.possibly
    whole = [each for each in _whole(soak) if each not in held and each.bot == "hosted"]
    upload = max((each for each in whole if each.number is not None), key=lambda each: len(each.files))
    whole.remove(upload)
    if not upload.files:  # a busy machine has not come to it
        sending.upload(soak.states[upload.bot], upload)
    told = plants.rows(soak.site, deletion, gone, whole) + plants.objects(soak.site, gone, export, upload)
    with soak.site.keys.client() as s3:
        s3.put_object(Bucket=CLIENT_BUCKET, Key="left", Body=whole[0].name.encode())
        # What has come back may be of that day, which is then made again.
        wait_until(lambda: soak.site.sql(_DAY), "the extract is made")
        [(day,)] = soak.site.sql(_DAY)
        s3.put_object(Bucket=soak.site.s3.s3.bucket, Key=day, Body=b"")
    return [*told, *_TOLD]


def _whole(soak: Soak) -> list[Conversation]:
    return [each for each in soak.model.conversations if each.texts and soak.model.expected(each) is Expected.WHOLE]
