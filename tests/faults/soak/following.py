"""Follows requests until they are over, and then looks whether what they promise is true."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.faults.client import NoAnswer, ask
from tests.faults.soak.circle import Circle
from tests.faults.soak.filing import see
from tests.faults.soak.model import Fate, Filed, Talk
from tests.faults.soak.transcripts import faults_of
from tests.faults.soak.whole import differing, differing_of_kept, facts_shown, faults_of_texts

# Of a request's conversations so many are looked at when it is over. All are, at the end.
_MOST_LOOKS = 4
# So long after a fault a storage that was left alone may still be down.
_REST = 90.0
# Reads a file of a client's bucket by its key; None where it is not there.
Read = Callable[[str], bytes | None]


def follow(circle: Circle, read: Read, most: int = 6) -> None:
    """Ask for the status of open requests, the longest unasked first."""
    for one in list(circle.open)[:most]:
        shown = circle.caller.get("status", f"requests/{one.id}").body
        see(circle, one, shown)
        if one in circle.open:
            # To the end of the line.
            circle.open[one] = circle.open.pop(one)
    for one in list(circle.unsettled)[:most]:
        del circle.unsettled[one]
        settle(circle, one, circle.caller.get("one request", f"requests/{one.id}").body, read)


def settle(circle: Circle, one: Filed, shown: Mapping[str, Any], read: Read) -> None:
    """Look whether a request that has just been seen completed has done what it promises."""
    if one.kind == "deletion":
        for talk in sorted(one.surely, key=lambda each: each.index)[:_MOST_LOOKS]:
            _is_deleted(circle, one, talk)
        neighbour = circle.pick(circle.alive)
        if neighbour:
            is_whole(circle, neighbour)
    elif one.kind == "export":
        _download(circle, one, shown, read)
    elif one.kind == "redaction":
        for talk in one.possibly & set(circle.alive):
            is_whole(circle, talk)


def is_whole(circle: Circle, talk: Talk) -> None:
    """Look over the API whether a conversation that nobody erases is there, message by message."""
    shown = circle.caller.get("one conversation", f"conversations/{talk.number}").body
    if shown["id"] != talk.id:
        circle.told("neighbour", f"{talk.id}, which nobody erases, is shown as {shown['id']}")
        return
    if wrong := differing(talk, facts_shown(shown)):
        circle.told("neighbour", f"{talk.id} is shown with another {', '.join(wrong)}")
    answer = circle.caller.get("messages", f"conversations/{talk.number}/messages?limit=1000", ok=(200, 410, 404))
    if answer.status != 200:
        circle.told("neighbour", f"{talk.id}, which nobody erases, is answered with {answer.status}")
        return
    for kind, what in faults_of_texts(
        talk, {line["id"]: (line["kind"], line["text"]) for line in answer.body["results"]}
    ):
        circle.told(kind, what)


def _is_deleted(circle: Circle, one: Filed, talk: Talk) -> None:
    shown = circle.caller.get("one conversation", f"conversations/{talk.number}").body
    wrong = differing_of_kept(talk, facts_shown(shown))
    if not shown["deleted"] or shown["id"] or shown["unique_chatter_identifiers"] or wrong:
        circle.told("not deleted", f"{talk.id} is shown after its deletion was completed {wrong or ''}".strip(), one)
    answer = circle.caller.get("messages", f"conversations/{talk.number}/messages", ok=(200, 410))
    if answer.status != 410:
        circle.told("not deleted", f"the messages of {talk.id} are shown after its deletion was completed", one)


def _download(circle: Circle, one: Filed, shown: Mapping[str, Any], read: Read) -> None:
    """Fetch the file of a completed export, and compare it with what was sent."""
    if shown["repeated_by"] or shown["export"] is None:
        _explain_loss(circle, one, "has no file")
        return
    if shown["export"]["hosting"] == "client":
        key = shown["export"]["key"]
        raw = read(key) if key else None
        if key and raw is None:
            circle.told("lost export", "its file is not in the client's bucket", one)
    else:
        raw = _fetch(circle, one)
    if raw is None:
        return
    for fault in faults_of(one, raw, shown["export"], circle.talks):
        circle.told("export", fault, one)


def _fetch(circle: Circle, one: Filed) -> bytes | None:
    for _ in range(60):
        answer = circle.caller.get("download", f"requests/{one.id}/download", ok=(302, 409))
        if answer.status == 409:
            _explain_loss(circle, one, f"cannot be fetched: {answer.body['code']}")
        if answer.status != 302:
            return None
        try:
            found = ask(answer.headers["location"], timeout=10)
        except NoAnswer:
            circle.wait(0.5)
            continue
        if found.status == 200:
            return found.raw
        if found.status == 404 and _is_removed(circle, one):
            return None
        if found.status < 500:
            circle.told("lost export", f"its link is answered with {found.status}", one)
            return None
        circle.wait(0.5)
    if circle.violations.outages.lately(_REST):
        circle.unsettled[one] = None  # once more, later
    else:
        circle.told("lost export", "its link has had no answer, and no fault explains that", one)
    return None


def _explain_loss(circle: Circle, one: Filed, how: str) -> None:
    if not _is_removed(circle, one):
        circle.told("lost export", f"a completed export {how}, and nothing has removed it", one)


def _is_removed(circle: Circle, one: Filed) -> bool:
    """Return whether something may have removed the file of a completed export."""
    return circle.model.may_be_removed(one, list(circle.filed.values()))


def look_at_whole_ones(circle: Circle, most: int) -> None:
    """Look at some of the conversations that nobody erases."""
    talks = [talk for talk in circle.talks.values() if talk.number is not None]
    for talk in circle.chance.sample(talks, min(len(talks), most)):
        fate = circle.model.fate(talk, circle.filed.values())
        if fate is Fate.WHOLE and talk not in circle.waiting:
            is_whole(circle, talk)
