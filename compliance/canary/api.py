"""Look through the API: what it shows of the chatter, before the deletion and after it."""

import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import chain
from typing import Any, NamedTuple

from common.times import rfc3339
from compliance.canary.client import Answer, Client
from compliance.canary.trouble import CannotTell, Doubts, Trouble
from compliance.canary.words import COUNTS, Planted, Search
from compliance.models import CanaryFinding, CanaryTurn

Code = CanaryFinding.Code

# Of a list, in pages of the API's largest. The canary's own are short: some conversations a turn.
_MOST_PAGES = 20

# What a deleted conversation keeps, by the product's own rules (README, "What a deletion erases"). Everything else of
# an answer has to be null or empty, also a field that is added one day.
_KEPT = {
    *("number", "deleted", "label", "deletion_request_id", "channel", "started_at"),
    *("file_upload", "agent_handover", "push", "score", "csat"),
}
_KEPT_OF_CSAT = {"score", "vote"}
# Before the deletion at least these show the chatter.
_CONTROLS = {
    *("getConversation", "listConversations", "lookUpConversations", "listMessages", "listFiles"),
    "getRequest (export)",
}


class Sighting(NamedTuple):
    """That something is there, and where: a name of ours."""

    code: Code
    where: str


class _Probe(NamedTuple):
    """What one call shows. `text` lacks what only repeats the call; `entries` can be conversations of the log."""

    where: str
    text: str
    entries: list[dict[str, Any]]
    is_of_conversation: bool = False  # of one that has to be closed after a deletion


def control(client: Client, planted: Planted, turn: CanaryTurn) -> list[str]:
    """Return the calls that should show more than ids of the chatter before the deletion, and do not."""
    search = Search(planted.only("value", "name", "said", "file name"))
    probes = chain.from_iterable(_calls(client, planted, turn))
    seen = {probe.where for probe in probes if search.is_in_text(probe.text)}
    wanted = _CONTROLS if turn.export_id else _CONTROLS - {"getRequest (export)"}
    if _erased_by_preview(client, planted)["conversations"]:
        seen.add("previewRequest")
    return sorted(wanted.union({"previewRequest"}) - seen)


def look(client: Client, planted: Planted, search: Search, turn: CanaryTurn) -> Iterator[Sighting]:
    """Yield what the API still shows after the deletion, then raise CannotTell if not all could be asked for."""
    doubts = Doubts()
    for call in _calls(client, planted, turn):
        with doubts.passing():
            for probe in call:
                yield from _in_probe(probe, search, turn)
    with doubts.passing():
        if any(_erased_by_preview(client, planted).values()):
            yield Sighting(Code.NOT_ERASED, "previewRequest")
    with doubts.passing():
        yield from _counted(client, turn)
    doubts.tell()


def _in_probe(probe: _Probe, search: Search, turn: CanaryTurn) -> Iterator[Sighting]:
    if probe.is_of_conversation:
        yield Sighting(Code.STILL_SERVED, probe.where)
    if search.is_in_text(probe.text):
        yield Sighting(Code.TEXT_LEFT, probe.where)
    ours = [one for one in probe.entries if one.get("number") in turn.numbers]
    if not all(map(_is_deleted, ours)):
        yield Sighting(Code.NOT_ERASED, probe.where)
    if probe.where == "lookUpConversations" and len(ours) < len(turn.numbers):
        # That it took place counts for billing, and its digest is kept.
        yield Sighting(Code.MISCOUNTED, probe.where)


def _calls(client: Client, planted: Planted, turn: CanaryTurn) -> Iterator[Iterator[_Probe]]:
    """Yield each call that could show the chatter, as an iterator of its probes. The call is made when that is read.

    Raises CannotTell then for a call that is not answered as it has to be, since nothing would be seen.
    """
    yield _looked_up(client, planted)
    since = rfc3339(turn.began_at - timedelta(days=3))
    yield _listed(client, "listConversations", f"conversations?limit=200&started_after={since}")
    since = rfc3339(turn.began_at - timedelta(minutes=1))
    yield _listed(client, "listRequests", f"requests?limit=200&received_after={since}")
    yield _read(client, "listExtracts", "extracts")
    yield _read(client, "getUsage", "usage")
    yield _requests_about(client, planted)
    for number in turn.numbers:
        yield _read(client, "getConversation", f"conversations/{number}")
        yield _closed(client, "listMessages", f"conversations/{number}/messages")
        yield _closed(client, "listFiles", f"conversations/{number}/files")
        if turn.file_id is not None:
            path = f"conversations/{number}/files/{turn.file_id}/download"
            yield _handed_out(client, "downloadFile", path, turn=turn)
    for kind, request_id in (("export", turn.export_id), ("deletion", turn.deletion_id)):
        if request_id is not None:
            yield _read(client, f"getRequest ({kind})", f"requests/{request_id}")
            yield _read(client, "listCallbacks", f"requests/{request_id}/callbacks")
    if turn.export_id is not None:
        yield _handed_out(client, "downloadExport", f"requests/{turn.export_id}/download", turn=turn)


def _looked_up(client: Client, planted: Planted) -> Iterator[_Probe]:
    found = client.send("lookUpConversations", "conversations/lookup", {"ids": planted.conversation_ids})["results"]
    # Each result repeats the id that was sent.
    entries = [one["conversation"] for one in found if one["conversation"]]
    yield _Probe("lookUpConversations", json.dumps(entries), entries)


def _requests_about(client: Client, planted: Planted) -> Iterator[_Probe]:
    found = client.send("lookUpRequests", "requests/lookup", planted.about)
    yield _Probe("lookUpRequests", json.dumps(found), [])


def _read(client: Client, where: str, path: str) -> Iterator[_Probe]:
    document = client.read(where, path)
    yield _Probe(where, json.dumps(document), [document])


def _listed(client: Client, where: str, path: str) -> Iterator[_Probe]:
    """Yield each page of a list."""
    for _ in range(_MOST_PAGES):
        page = client.read(where, path)
        yield _Probe(where, json.dumps(page["results"]), page["results"])
        if not page["next"]:
            return
        # An address of the service as it sees itself; ours is the one to call.
        path = f"{path.partition('?')[0]}?{page['next'].partition('?')[2]}"
    raise CannotTell(Trouble.TOO_MUCH, where)


def _closed(client: Client, where: str, path: str) -> Iterator[_Probe]:
    """Yield what a call shows that a closed conversation refuses."""
    answer = client.get(where, path)
    if answer.is_served:
        yield _Probe(where, _text(answer), [], is_of_conversation=True)
    elif answer.status != 410:
        # Not allowed, or moved: then it says nothing of the conversation.
        raise CannotTell(Trouble.API_REFUSED, where)


def _handed_out(client: Client, where: str, path: str, *, turn: CanaryTurn) -> Iterator[_Probe]:
    """Yield that a link to a file is handed out, which holds for some minutes. It is not followed: see `bucket`."""
    answer = client.get(where, path)
    if answer.is_served:
        yield _Probe(where, "", [], is_of_conversation=turn.erased_at is not None)
    elif answer.status not in {404, 409, 410}:
        raise CannotTell(Trouble.API_REFUSED, where)


def _text(answer: Answer) -> str:
    return answer.body.decode("utf-8", "replace")


def _erased_by_preview(client: Client, planted: Planted) -> dict[str, int]:
    """Return what another deletion of the chatter would erase: a search by the value itself."""
    preview = client.send("previewRequest", "preview", {**planted.about, "action": "delete", "erase_exports": True})
    erased: dict[str, int] = preview["deletion"]["erased"]
    return erased


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


def _counted(client: Client, turn: CanaryTurn) -> Iterator[Sighting]:
    """Yield where the deletion's own account lacks something that was planted.

    Exports are not compared: a sweep may take one, once the deletion has it expire.
    """
    if turn.deletion_id is None or not turn.numbers:
        return
    where = "getRequest (deletion)"
    counts = client.read(where, f"requests/{turn.deletion_id}")["counts"]
    least = COUNTS | {"files": int(turn.file_id is not None)}
    if any((counts.get(name) or 0) < number for name, number in least.items()):
        yield Sighting(Code.MISCOUNTED, where)
