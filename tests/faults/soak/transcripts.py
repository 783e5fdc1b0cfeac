"""Reads the file of an export as its recipient does, and compares it with what was sent."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tests.faults.soak.model import Filed, Talk
from tests.faults.soak.words import unguarded

_GUARDED = ("conversation_id", "user_name", "csat_comment", "uci_value", "message_id", "text", "file_name")


def lines_of(raw: bytes) -> list[dict[str, str]]:
    """Return the lines of a CSV by column. Raises ValueError where it is none, or where it ends within a line."""
    text = raw.decode()
    if not text.endswith("\n"):
        raise ValueError("it does not end with a line")
    found = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    if any(None in line or None in line.values() for line in found):
        raise ValueError("its lines differ in length")
    return [{name: unguarded(cell) if name in _GUARDED else cell for name, cell in line.items()} for line in found]


def faults_of(export: Filed, raw: bytes, shown: Mapping[str, Any], talks: Mapping[str, Talk]) -> Iterator[str]:
    """Yield what is wrong with the file of a completed export; `talks` are all conversations of its chatbot by id,
    `shown` is the part `export` of the request object."""
    if hashlib.sha256(raw).hexdigest() != shown["sha256"] or len(raw) != shown["bytes"]:
        yield "its sha256 or size differs from what the request says"
    try:
        lines = lines_of(raw)
    except (ValueError, csv.Error) as error:
        yield f"it is no whole CSV: {error}"
        return
    if len(lines) != shown["rows"]:
        yield f"it has {len(lines)} rows, and the request says {shown['rows']}"
    yield from _foreign(export, lines, talks)
    yield from _wrong(lines, talks)
    yield from _missing(export, lines, talks)


def _foreign(export: Filed, lines: list[dict[str, str]], talks: Mapping[str, Talk]) -> Iterator[str]:
    allowed = {talk.id for talk in export.surely | export.possibly}
    for name in {line["conversation_id"] for line in lines} - allowed:
        whose = "nobody's" if name not in talks else f"{'+'.join(sorted(talks[name].tried)) or 'nobody'}'s"
        yield f"a foreign line: it holds {whose} conversation {name or '(without an id)'}"


def _wrong(lines: list[dict[str, str]], talks: Mapping[str, Talk]) -> Iterator[str]:
    seen = Counter((line["conversation_id"], line["message_id"], line["file_id"]) for line in lines)
    for line in lines:
        talk = talks.get(line["conversation_id"])
        if talk is None or not line["message_id"]:
            continue
        sent = talk.tried_texts.get(line["message_id"])
        is_redacted = line["message_kind"] == "redacted" and line["message_id"] in talk.redacted
        if sent is None or (line["text"] != sent and not (is_redacted and not line["text"])):
            yield f"a wrong text: message {line['message_id']} of {talk.id} is not as it was sent"
    for (name, message, file), times in seen.items():
        if times > 1 and (message or file):
            yield f"a doubled line: message {message} of {name} stands there {times} times"


def _missing(export: Filed, lines: list[dict[str, str]], talks: Mapping[str, Talk]) -> Iterator[str]:
    there = {(line["conversation_id"], line["message_id"]) for line in lines}
    for talk in export.surely:
        for message in export.texts.get(talk.id, {}):
            if (talk.id, message) not in there:
                yield f"a missing line: message {message} of {talk.id}, sent before the export was filed"
