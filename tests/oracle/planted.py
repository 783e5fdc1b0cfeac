"""PLANTED: each kind of violation, and the changes of a clean ending that cause it. Every driver must find it."""

import base64
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.oracle.conversations import midnight_of
from tests.oracle.evidence import Count
from tests.oracle.model import Request
from tests.oracle.scene import BOT, DAY_KEY, KEY, MONTH, NOON, Scene, csv_of, line_of

LOGGED = """\
2026-11-27 15:54:24,825 INFO compliance.worker claim.taken claim=439
2026-11-27 15:54:25,825 ERROR compliance.worker claim.failed claim=439
  File "compliance/work/claims.py", line 142, in transaction
{}
2026-11-27 15:54:26,825 INFO compliance.worker claim.taken claim=440
"""


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _session(text: str) -> str:
    return "." + base64.urlsafe_b64encode(zlib.compress(text.encode())).decode()


def other_request(kind: str, **changes: Any) -> Request:
    return Request(BOT, kind, "k9", id="d9", status="completed", **changes)


Plant = Callable[[Scene], object]
PLANTED: dict[str, list[Plant]] = {
    "row left": [
        lambda s: s.conversation(s.gone, texts={"m": ("text", "hello")}),
        lambda s: s.conversation(s.gone, values={"x": "platform"}),
        lambda s: s.conversation(s.gone, lookup="pending"),
        lambda s: s.conversation(s.gone, hidden_files=1),
        lambda s: s.revive(),
        lambda s: s.evidence.conversations.update({5: s.evidence.conversations[2]._replace(number=5, id="x")}),
    ],
    "kept": [
        lambda s: s.facts(s.gone, channel="other"),
        lambda s: s.facts(s.gone, score=None),
        lambda s: s.facts(s.gone, language="en"),
        lambda s: s.facts(s.gone, variables={"pass": "x"}),
        lambda s: s.conversation(s.gone, has_file_upload=False),
        lambda s: s.conversation(s.gone, began=s.gone.began),
    ],
    "word left in rows": [
        lambda s: s.in_table("django_session", s.gone.name),
        lambda s: s.in_table("django_session", _session(s.whole.name)),
        lambda s: s.in_table("django_q_ormq", s.whole.name),
        lambda s: s.in_table("django_q_ormq", s.deletion.value),
        lambda s: s.in_table("chatbots_changelogentry", s.whole.name),
        lambda s: s.in_table("compliance_compliancerequest", s.export.value),
        lambda s: s.in_table("compliance_exportfile", f"acme/{s.deletion.value}/2"),
        lambda s: s.in_table("conversations_message", _base64(f"of {s.gone.name}")),
        lambda s: s.in_table("conversations_message", "\\\\x" + s.gone.name.encode().hex()),
    ],
    "word left in an object": [
        lambda s: s.add("uploads/1", s.gone.name),
        lambda s: s.add("erasure_ledger/2026/1.jsonl", s.whole.name),
        lambda s: s.add(KEY.replace("120000", "120001"), s.gone.name),
        lambda s: s.add(DAY_KEY, s.gone.name),
        lambda s: s.add(DAY_KEY, s.of_another_bot().name),
    ],
    "personal in a log": [lambda s: s.log(s.whole.name)],
    "error logged": [
        lambda s: s.log(LOGGED.format("KeyError: 'a'")),
        lambda s: s.log(LOGGED.format("OperationalError: SQLSTATE 40P01")),
    ],
    "neighbour": [
        lambda s: s.conversation(s.whole, is_deleted=True),
        lambda s: s.conversation(s.whole, texts={}),
        lambda s: s.conversation(s.whole, texts={s.message: ("text", "other")}),
        lambda s: s.conversation(s.whole, texts={s.message: ("redacted", "")}),
        lambda s: s.evidence.conversations[2].texts.update({"m": ("text", "who said that?")}),
        lambda s: setattr(s.whole, "stuffed", 1),
        lambda s: s.facts(s.whole, user_name="somebody"),
        lambda s: s.facts(s.whole, csat_comment=None),
        lambda s: s.facts(s.whole, language="fr"),
        lambda s: s.facts(s.whole, variables={}),
        lambda s: s.facts(s.whole, score=1),
        lambda s: s.conversation(s.whole, began=midnight_of(s.whole)),
        lambda s: s.conversation(s.whole, files={}),
        lambda s: s.put("uploads/2", b"another"),
        lambda s: s.put("uploads/2", b""),
    ],
    "lost conversation": [lambda s: s.evidence.conversations.pop(2)],
    "identity": [lambda s: s.conversation(s.whole, values={}), lambda s: s.refuse_without_reason()],
    "closed by another": [lambda s: s.conversation(s.whole, closed_by="d")],
    "forgotten request": [lambda s: s.evidence.requests.pop("d")],
    "doubled filing": [
        lambda s: s.evidence.requests.update({"f": s.evidence.requests["d"]._replace(id="f", conversations=0)})
    ],
    "ended twice": [
        lambda s: s.evidence.events.append(("d", "request.completed")),
        lambda s: s.evidence.events.pop(),
        lambda s: s.row(s.deletion, status="accepted"),
    ],
    "wrong end": [lambda s: s.end_as("rejected"), lambda s: s.end_as("cancelled")],
    "not ended": [
        lambda s: s.row(s.deletion, status="processing"),
        lambda s: s.evidence.extracts.append(s.evidence.extracts.pop()._replace(state="stale")),
    ],
    "late": [lambda s: s.row(s.deletion, ended_at=NOON + timedelta(seconds=130))],
    "counts": [
        lambda s: s.row(s.deletion, conversations=0),
        lambda s: s.row(s.deletion, messages=2),
        lambda s: s.row(s.deletion, files=2),
        lambda s: setattr(s.gone, "stuffed", 1),
        lambda s: setattr(s.gone, "copies", 1),
        lambda s: s.evidence.usage.update({BOT: {MONTH: Count(3, 1)}}),
        lambda s: s.evidence.usage.update({BOT: {MONTH: Count(1, 1), ("2026-10", "widget"): Count(1, 0)}}),
        lambda s: s.evidence.usage.update({BOT: {MONTH: Count(1, 1), ("2026-11", "other"): Count(1, 0)}}),
    ],
    "foreign line": [
        lambda s: s.add(KEY, s.gone.name),
        lambda s: s.repeat_for(s.of_another_bot()),
        lambda s: s.at_client(csv_of(line_of(s.of_another_bot()))),
        lambda s: s.in_forgotten_file(s.of_another_bot()),
    ],
    "export": [
        lambda s: s.put(KEY, b""),
        lambda s: s.exported(csv_of(line_of(s.whole))[:-9]),
        lambda s: s.exported(csv_of(), rows=0),
        lambda s: s.exported(b"\xef\xbb\xbf" + csv_of(line_of(s.whole))),
        lambda s: s.exported(csv_of(line_of(s.whole), line_of(s.gone)), rows=2),
        lambda s: s.exported(csv_of(line_of(s.whole), line_of(s.whole)), rows=2),
        lambda s: s.exported(csv_of(line_of(s.whole, text="other"))),
        lambda s: s.exported(csv_of(line_of(s.whole, text="", message_kind="redacted"))),
        lambda s: s.row(s.export, sha256="0"),
        lambda s: s.row(s.export, rows=2),
        lambda s: s.add(KEY.replace(".csv", "_files/7"), b"another"),
        lambda s: s.at_client(b""),
    ],
    "orphan": [lambda s: s.add(KEY.replace("120000", "120001"), "left by a worker that was killed")],
    "lost export": [
        lambda s: s.evidence.objects.versions.clear(),
        lambda s: s.row(s.export, key=None),
        lambda s: s.at_client(None),
        # What was over before it was filed cannot have removed it.
        lambda s: s.remove_after(other_request("redaction")),
        lambda s: s.remove_after(other_request("deletion", value=s.export.value, flags=frozenset({"erase_exports"}))),
    ],
    "export left": [
        lambda s: s.model.file(other_request("deletion", value=s.export.value, flags=frozenset({"erase_exports"}))),
        lambda s: s.outlive_grace(),
    ],
    "extract": [
        lambda s: s.put(DAY_KEY, csv_of()),
        lambda s: s.put(DAY_KEY, csv_of(line_of(s.whole, text="other"))),
        lambda s: s.put(DAY_KEY, csv_of(line_of(s.whole))[:-9]),
        lambda s: s.whole.sent_at.update({s.message: NOON + timedelta(days=1)}),
    ],
    "lost callback": [lambda s: s.evidence.taken.pop("d")],
    "doubled callback": [lambda s: s.evidence.taken["d"]["request.completed"].add("c2")],
    "wrong callback": [
        lambda s: s.evidence.taken["d"].update({"request.cancelled": {"c3"}}),
        lambda s: s.evidence.taken.update({"x": {}}),
    ],
}
CASES = [(kind, number) for kind, plants in PLANTED.items() for number in range(len(plants))]
