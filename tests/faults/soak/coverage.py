"""What a run must have done and met: a check that has met nothing has shown nothing."""

from collections import Counter
from collections.abc import Mapping

# Shorter runs, and those with few faults, need not meet everything.
LONG = 600.0
_CALLS = (
    *("documents", "lines of documents", "resent document", "late document", "document of an erased chatter"),
    *("upload", "identify", "deletion", "deletion again", "export", "export again", "batch", "cancel", "redaction"),
    *("status", "one request", "requests", "lookup of requests", "download", "preview", "usage"),
    *("one conversation", "messages", "log", "lookup of conversations"),
)
_MET = (
    *("conversations whole", "conversations gone", "conversations of two chatters", "messages redacted"),
    *("exports (hosted)", "exports (client)", "copies of files", "exports that outlive what they hold"),
    *("uploaded files", "messages in daily extracts", "callbacks", "chatters looked up"),
    *("erased chatters who live in another chatbot", "deletions completed", "deletions cancelled"),
    *("exports completed", "redactions completed", "retentions completed"),
)
_DONE = ("retain", "make_days")


def unmet(calls: Mapping[str, int], met: Counter[str], done: Counter[str], faults: int) -> list[str]:
    """Return what a run has not done, or not met."""
    found = [f"call: {name}" for name in _CALLS if not calls.get(name)]
    found += [f"check: {name}" for name in _MET if not met[name]]
    found += [f"operator: {name}" for name in _DONE if not done[name]]
    return found + ([] if faults else ["any fault"])
