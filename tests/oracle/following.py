"""Follows requests until they are over, and then checks their promises."""

import time
from datetime import datetime

from tests.oracle.caller import NoAnswer, ask
from tests.oracle.client_state import ClientState
from tests.oracle.conversations import (
    differing,
    differing_of_kept,
    facts_shown,
    faults_of_comment,
    faults_of_texts,
    midnight_of,
)
from tests.oracle.exports import faults_of
from tests.oracle.filing import see
from tests.oracle.model import Conversation, Expected, Request

# The number of a request's conversations that are checked when it is over. All are checked at the end.
_MOST_LOOKS = 4
# The time after a fault in which a resting storage may still be down.
_REST = 90.0


def follow(state: ClientState, most: int) -> None:
    """Ask for the status of open requests, the longest unasked first."""
    for request in list(state.open)[:most]:
        shown = state.caller.get("status", f"requests/{request.id}").body
        see(state, request, shown)
        if request in state.open:
            # To the end of the line.
            state.open[request] = state.open.pop(request)
    for request in list(state.unsettled)[:most]:
        del state.unsettled[request]
        settle(state, request)


def follow_to_end(state: ClientState, *, seconds: float = 180.0) -> None:
    """Poll all open requests until they or the time are over, and check all that are over.

    Files that could not be fetched after a fault are fetched again.
    """
    end = time.monotonic() + seconds
    while (state.open or state.unsettled) and time.monotonic() < end:
        follow(state, most=1000)
        time.sleep(0.2)


def settle(state: ClientState, request: Request) -> None:
    """Check the promises of a request that has just been seen completed."""
    if request.kind == "deletion":
        for conversation in request.in_order[:_MOST_LOOKS]:
            _is_deleted(state, request, conversation)
        if neighbour := state.pick(state.alive):
            is_whole(state, neighbour)
    elif request.kind == "export":
        _download(state, request)
    elif request.kind == "redaction":
        for conversation in request.possibly & set(state.alive):
            is_whole(state, conversation)


def is_whole(state: ClientState, conversation: Conversation) -> None:
    """Check over the API that a conversation without an erasure is complete, message by message."""
    shown = state.shown(conversation)
    if shown.get("id") != conversation.id:
        state.report("neighbour", f"{conversation.id}, which must stay, is shown as {shown.get('id')}")
        return
    is_another = datetime.fromisoformat(shown["started_at"]) != conversation.began
    if wrong := differing(conversation, facts_shown(shown)) + ["beginning"] * is_another:
        state.report("neighbour", f"{conversation.id} is shown with another {', '.join(wrong)}")
    path = f"conversations/{conversation.number}/messages?limit=1000"
    answer = state.caller.get("messages", path, ok=(200, 410, 404))
    if answer.status != 200:
        state.report("neighbour", f"{conversation.id}, which must stay, is answered with {answer.status}")
        return
    found = {line["id"]: (line["kind"], line["text"]) for line in answer.body["results"]}
    faults = [*faults_of_texts(conversation, found), *faults_of_comment(conversation, shown["csat"]["comment"])]
    for kind, what in faults:
        state.report(kind, what)
    times = [conversation.sent_at[message] for message in found if message in conversation.sent_at]
    if times != sorted(times):
        state.report("neighbour", f"the messages of {conversation.id} are shown in another order")


def _is_deleted(state: ClientState, request: Request, conversation: Conversation) -> None:
    shown = state.shown(conversation)
    wrong = differing_of_kept(conversation, facts_shown(shown))
    if datetime.fromisoformat(shown["started_at"]) != midnight_of(conversation):
        wrong.append("beginning")
    if not shown["deleted"] or shown["id"] or shown["unique_chatter_identifiers"] or wrong:
        told = f"{conversation.id} is shown after its deletion was completed {wrong or ''}".strip()
        state.report("not deleted", told, request)
    answer = state.caller.get("messages", f"conversations/{conversation.number}/messages", ok=(200, 410))
    if answer.status != 410:
        state.report("not deleted", f"the messages of {conversation.id} are shown after its deletion", request)


def _download(state: ClientState, request: Request) -> None:
    """Fetch the file of a completed export, and compare it with what was sent."""
    shown = state.shown(request)
    if shown["repeated_by"] or shown["export"] is None:
        _explain_loss(state, request, "has no file")
        return
    if shown["export"]["hosting"] == "client":
        key = shown["export"]["key"]
        raw = state.read(key) if key else None
        if key and raw is None:
            state.report("lost export", "its file is not in the client's bucket", request)
    else:
        raw = _fetch(state, request)
    for fault in faults_of(request, raw, shown["export"], state.conversations) if raw is not None else ():
        state.report("export", fault, request)


def _fetch(state: ClientState, request: Request) -> bytes | None:
    for _ in range(60):
        answer = state.caller.get("download", f"requests/{request.id}/download", ok=(302, 409))
        if answer.status == 409:
            _explain_loss(state, request, f"cannot be fetched: {answer.body['code']}")
        if answer.status != 302:
            return None
        try:
            found = ask(answer.headers["location"], timeout=10)
            if found.status == 302:
                found = ask(found.headers["location"], timeout=10)
        except NoAnswer:
            time.sleep(0.5)
            continue
        if found.status == 200:
            return found.raw
        if found.status in {404, 410} and _is_removed(state, request):
            return None
        if found.status < 500:
            state.report("lost export", f"its link is answered with {found.status}", request)
            return None
        time.sleep(0.5)
    if state.violations.outages.lately(_REST):
        state.unsettled[request] = None  # once more, later
    else:
        state.report("lost export", "its link has had no answer, and no fault explains that", request)
    return None


def _explain_loss(state: ClientState, request: Request, how: str) -> None:
    if not _is_removed(state, request):
        state.report("lost export", f"a completed export {how}, and nothing has removed it", request)


def _is_removed(state: ClientState, request: Request) -> bool:
    """Return whether the file of a completed export may have been removed."""
    return state.model.may_be_removed(request, list(state.filed.values()))


def look_at_whole_ones(state: ClientState, most: int) -> None:
    """Check some of the conversations without an erasure."""
    stored = [each for each in state.conversations.values() if each.number is not None]
    for conversation in state.chance.sample(stored, min(len(stored), most)):
        expected = state.model.expected(conversation, state.filed.values())
        if expected is Expected.WHOLE and conversation not in state.waiting:
            is_whole(state, conversation)
