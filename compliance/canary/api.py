"""Search the answers of the API."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from common.times import rfc3339
from compliance.canary.client import Client
from compliance.canary.errors import Inconclusive, Trouble
from compliance.canary.work import Work
from compliance.models.canary import Left, Place

# The fields that a deleted conversation keeps, by the product's own rules (README, "What a deletion erases"). Every
# other field of an answer has to be null or empty, also one that is added in the future.
_KEPT = {
    *("number", "deleted", "label", "deletion_request_id", "channel", "started_at"),
    *("file_upload", "agent_handover", "push", "score", "csat"),
}
_KEPT_OF_CSAT = {"score", "vote"}
_PREVIEW = "previewRequest"


class _Call(NamedTuple):
    """A call that could show the chatter. A call that `is_closed` is refused once the chatter is erased."""

    where: str
    path: str
    body: Any = None
    is_closed: bool = False
    # The part of the answer that does not just repeat the call. A list has links, which repeat it.
    shows: Callable[[Any], Any] = lambda document: document.get("results", document)


def scan(work: Work) -> None:
    """Report what the API shows of the chatter."""
    for call in _calls(work):
        with work.capture_failure(call.where):
            for code in _left(call, _shown(work.client, call), work):
                work.add_finding(Place.API, code, call.where)


def _left(call: _Call, shown: Any, work: Work) -> Iterator[Left]:
    if call.is_closed and shown is not None:
        yield Left.STILL_SERVED
    if work.search.is_in_text(json.dumps(shown)):
        yield Left.TEXT_LEFT
    if call.where == _PREVIEW and any(shown.values()):
        yield Left.NOT_ERASED
    entries = shown if isinstance(shown, list) else [shown]
    ours = [one for one in entries if isinstance(one, dict) and one.get("number") in work.turn.numbers]
    if not all(map(_is_deleted, ours)):
        yield Left.NOT_ERASED


def _is_deleted(entry: dict[str, Any]) -> bool:
    """Return whether an entry of the log is the "Deleted conversation" and nothing else."""
    csat = entry.get("csat") or {}
    return (
        entry.get("deleted") is True
        and entry.get("label") == "Deleted conversation"
        and str(entry.get("started_at", "")).endswith("T00:00:00.000000Z")
        and not any(value for name, value in entry.items() if name not in _KEPT)
        and not any(value for name, value in csat.items() if name not in _KEPT_OF_CSAT)
    )


def _calls(work: Work) -> Iterator[_Call]:
    """Yield the calls that could show the chatter. Of the lists, the newest page is enough: it has this turn's."""
    turn, planted = work.turn, work.planted
    # Each result of a look-up repeats the id that was sent.
    ids = {"ids": planted.conversation_ids}
    yield _Call(
        "lookUpConversations",
        "conversations/lookup",
        ids,
        shows=lambda found: [one["conversation"] for one in found["results"]],
    )
    since = rfc3339(turn.began_at - timedelta(days=3))
    yield _Call("listConversations", f"conversations?limit=200&started_after={since}")
    since = rfc3339(turn.began_at - timedelta(minutes=1))
    yield _Call("listRequests", f"requests?limit=200&received_after={since}")
    yield _Call("listExtracts", "extracts")
    yield _Call("getUsage", "usage")
    yield _Call("lookUpRequests", "requests/lookup", planted.about)
    another = {**planted.about, "action": "delete", "erase_exports": True}
    yield _Call(_PREVIEW, "preview", another, shows=lambda found: found["deletion"]["erased"])
    for number in turn.numbers:
        path = f"conversations/{number}"
        yield _Call("getConversation", path)
        yield _Call("listMessages", f"{path}/messages", is_closed=True)
        yield _Call("listFiles", f"{path}/files", is_closed=True)
        if turn.file_id is not None:
            yield _Call("downloadFile", f"{path}/files/{turn.file_id}/download", is_closed=True)
    for where, request_id in (("getRequest (export)", turn.export_id), ("getRequest (deletion)", turn.deletion_id)):
        if request_id is not None:
            yield _Call(where, f"requests/{request_id}")
            yield _Call("listCallbacks", f"requests/{request_id}/callbacks")
    if turn.export_id is not None:
        yield _Call("downloadExport", f"requests/{turn.export_id}/download", is_closed=True)


def _shown(client: Client, call: _Call) -> Any:
    """Return what a call shows, or None if it is refused as it should be. Raises Inconclusive."""
    if not call.is_closed:
        return call.shows(client.read(call.where, call.path, call.body))
    status, body = client.call(call.where, call.path)
    if status < 400:
        # The link of a download is valid for some minutes. It is not followed: see `bucket`.
        return body.decode("utf-8", "replace")
    if status in {404, 409, 410}:
        return None
    # Not allowed, or moved: then the answer contains nothing about the chatter.
    raise Inconclusive(Trouble.API_REFUSED, call.where)
