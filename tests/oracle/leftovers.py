"""Checks of words: no word of gone data is in any row, in any version of an object, or in any log."""

import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import NamedTuple

from tests.oracle.comparison import Comparison, Findings
from tests.oracle.violations import Outages
from tests.oracle.words import Word, found_anyhow, found_in, told

# The tables that may contain words of chatters who are not erased, once all requests are over. Every other has none.
_PERSONAL = {
    *("conversations_conversation", "conversations_message", "conversations_identity"),
    *("conversations_variablevalue", "conversations_nameword", "conversations_uploadedfile"),
}
# The tables of exports and of the copies of files beside them.
_KEYS = {"compliance_export", "compliance_exportfile"}
_FOLDERS = ("chatter_data_exports", "daily_conversations_extracts", "uploads", "erasure_ledger")
# The objects that may contain words of chatters who are not erased.
_WITH_WORDS = {"daily_conversations_extracts", "uploads"}

_RECORD = re.compile(r"^(?=\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", re.MULTILINE)
_LEVEL = re.compile(r"^\S+ \S+ (?:ERROR|CRITICAL) ")
_SQLSTATE = re.compile(r"SQLSTATE (\w+)")


class _Reason(NamedTuple):
    """Lines that a log may have after some faults, and for how many seconds: `faults` are parts of their names."""

    faults: tuple[str, ...]
    seconds: float
    says: tuple[str, ...] = ()


# A connection that broke or was ended, a server that starts or ends, a statement that was given up, a full disk.
_LOST = {"none", "08000", "08003", "08006", "25P03", "53100", "57014", "57P01", "57P02", "57P03", "57P05"}
_SERVERS = ("PostgreSQL", "backends", "its ", "frozen", "everything")
# A broken connection is noticed at its next use.
_DATABASE = _Reason(_SERVERS, 120.0)
_OTHERS = (
    _Reason((*_SERVERS, "S3", "client's bucket"), 60.0, ("answered with 503", "could not be stored: storage_")),
    _Reason(("put back",), 60.0, ("service.restored ", "service.closed ")),
    _Reason(("",), 60.0, ("was sent SIGKILL", "cluster.ends", "cluster.ended", "cluster.is_gone")),
    # gunicorn ends a worker that was frozen for longer than its time limit.
    _Reason(("",), 60.0, ("WORKER TIMEOUT", "exited with code 1")),
)
# By which clocks are wrong, and so are the times of those programs' logs.
_SKEWS = [timedelta(), *(timedelta(minutes=sign * minutes) for sign in (1, -1) for minutes in (4, 20))]


def words(comparison: Comparison) -> Findings:
    for name, text in comparison.evidence.logs.items():
        if found := found_anyhow(text):
            yield "personal in a log", f"the log {name} has {told(found)}"
    left: defaultdict[str, set[Word]] = defaultdict(set)
    for table, line in comparison.evidence.tables:
        found = found_anyhow(line)
        if found and table in _PERSONAL | _KEYS:
            found = comparison.gone(found, is_key=table in _KEYS)
        left[table] |= found
    for table, found in left.items():
        if found:
            yield "word left in rows", f"the table {table} has {told(found)}"
    for stored in comparison.evidence.objects.versions:
        folder, bot = folder_of(stored.key), stored.key.partition("/")[0]
        # Those of exports: see `exports.hosted`.
        found = found_in(stored.key, stored.body) if folder != "chatter_data_exports" else set()
        if folder in _WITH_WORDS:
            found = comparison.gone(found, bot=bot if bot in comparison.bots else "")
        if found:
            yield "word left in an object", f"an object in {folder} has {told(found)}"


def errors_logged(comparison: Comparison, outages: Outages) -> Findings:
    """Check that programs log errors only about lost servers and processes, and only after a fault."""
    for name, text in comparison.evidence.logs.items():
        # Each record, with the lines that follow it.
        for record in filter(_LEVEL.match, _RECORD.split(text)):
            comparison.met["errors logged"] += 1
            if not _is_explained(record, outages):
                yield "error logged", f"the log {name} has: {record.strip().splitlines()[0][:300]}"


def _is_explained(record: str, outages: Outages) -> bool:
    if states := set(_SQLSTATE.findall(record)):
        reasons = [_DATABASE] if states <= _LOST else []
    else:
        reasons = [one for one in _OTHERS if any(each in record for each in one.says)]
    at = datetime.strptime(record[:23], "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC)
    for reason, skew in product(reasons, _SKEWS):
        faults = outages.names(at - skew - timedelta(seconds=reason.seconds), at - skew)
        is_of_then = not skew or any("clock" in name for name in outages.names(at - skew, at - skew))
        if is_of_then and any(part in name for part in reason.faults for name in faults):
            return True
    return False


def folder_of(key: str) -> str:
    return next((name for name in _FOLDERS if name in key.split("/")), "another folder")
