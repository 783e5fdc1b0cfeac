"""Checks of words: nothing of what is gone is in any row, in any version of an object, or in anybody's log."""

import re
from collections.abc import Iterator

from tests.faults.soak.truth import Found, Truth
from tests.faults.soak.words import Word, found_anyhow, found_in, told

# The tables in which words of the living may stand, once all requests are over. In every other there is none at all.
_PERSONAL = {
    *("conversations_conversation", "conversations_message", "conversations_identity"),
    *("conversations_variablevalue", "conversations_uploadedfile"),
}
# The tables of exports and of the copies of files beside them.
_KEYS = {"compliance_export", "compliance_exportfile"}
_FOLDERS = ("chatter_data_exports", "daily_conversations_extracts", "uploads", "erasure_ledger")
# Where words of the living may stand in an object.
_WITH_WORDS = {"daily_conversations_extracts", "uploads"}

_RECORD = re.compile(r"^(?=\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", re.MULTILINE)
_LEVEL = re.compile(r"^\S+ \S+ (?:ERROR|CRITICAL) ")
_SQLSTATE = re.compile(r"SQLSTATE (\w+)")
# A connection that broke or was ended, a server that starts or ends, a statement that was given up, a full disk.
_LOST = {"none", "08000", "08003", "08006", "25P03", "53100", "57014", "57P01", "57P02", "57P03", "57P05"}
_EXPLAINED = (
    *("answered with 503", "could not be stored: storage_", "was sent SIGKILL", "cluster.ends", "cluster.ended"),
    *("cluster.is_gone", "WORKER TIMEOUT"),
)


def words(truth: Truth) -> Found:
    for name, text in truth.evidence.logs.items():
        if found := found_anyhow(text):
            yield "personal in a log", f"the log {name} has {told(found)}"
    yield from _in_rows(truth)
    yield from _in_objects(truth)


def _in_rows(truth: Truth) -> Found:
    left: dict[str, set[Word]] = {}
    for table, line in truth.evidence.tables:
        found = found_anyhow(line)
        if found and table in _PERSONAL | _KEYS:
            found = truth.gone(found, is_key=table in _KEYS)
        if found:
            left.setdefault(table, set()).update(found)
    for table, found in left.items():
        yield "word left in rows", f"the table {table} has {told(found)}"


def _in_objects(truth: Truth) -> Found:
    for stored in truth.evidence.objects.versions:
        folder = folder_of(stored.key)
        if folder == "chatter_data_exports":
            continue  # see `files`
        found = found_in(stored.key, (stored.body or b"").decode(errors="replace"))
        if folder in _WITH_WORDS:
            found = truth.gone(found, bot=bot_of(truth, stored.key))
        if found:
            yield "word left in an object", f"an object in {folder} has {told(found)}"


def errors_logged(truth: Truth) -> Found:
    """No program says of anything but lost servers and processes that it is an error."""
    for name, text in truth.evidence.logs.items():
        for record in _errors(text):
            states = set(_SQLSTATE.findall(record))
            truth.met["errors logged"] += 1
            if not (states and states <= _LOST) and not (not states and any(one in record for one in _EXPLAINED)):
                first, *_, last = [*record.strip().splitlines(), ""]
                yield "error logged", f"the log {name} has: {first} {last}".strip()[:300]


def _errors(log: str) -> Iterator[str]:
    """Yield the records of errors, each with the lines that follow it."""
    for record in _RECORD.split(log):
        if _LEVEL.match(record):
            yield record


def folder_of(key: str) -> str:
    return next((name for name in _FOLDERS if name in key.split("/")), "another folder")


def bot_of(truth: Truth, key: str) -> str:
    """Return the chatbot in whose folder an object is, or ""."""
    first = key.partition("/")[0]
    return first if first in truth.bots else ""
