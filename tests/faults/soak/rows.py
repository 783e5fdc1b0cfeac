"""Checks of conversations and of what is counted: each is whole, or gone and accounted for."""

from collections.abc import Collection

from tests.faults.soak.evidence import Count, Stored
from tests.faults.soak.model import ERASING, Fate, Talk
from tests.faults.soak.truth import Found, Truth
from tests.faults.soak.whole import differing, differing_of_kept, faults_of_texts, midnight_of, month_of


def conversations(truth: Truth) -> Found:
    for talk, fate in truth.fates.items():
        if talk.number is None:
            continue
        row = truth.evidence.talks.get(talk.number)
        if row is None:
            yield "lost conversation", f"{talk.bot}: {talk.id} has no row any more"
            continue
        truth.met[f"conversations {'gone' if fate is Fate.GONE else 'whole'}"] += 1
        faults = _faults_of_gone(truth, talk, row) if fate is Fate.GONE else _faults_of_whole(truth, talk, row)
        for kind, what in faults:
            yield kind, f"{talk.bot}: {what}"
    yield from _of_nobody(truth)


def _of_nobody(truth: Truth) -> Found:
    """Find rows of conversations that nobody has sent, or of which each document must have been refused."""
    sent = {(talk.bot, talk.id): talk for talk in truth.model.talks}
    for row in truth.evidence.talks.values():
        talk = sent.get((row.bot, row.id or ""))
        if row.id is not None and (talk is None or talk.is_barred):
            whose = "that nobody has sent" if talk is None else "of somebody who was erased before it came"
            yield "row left", f"{row.bot}: there is a conversation {whose}: {row.id}"


def _faults_of_gone(truth: Truth, talk: Talk, row: Stored) -> Found:
    by = next(truth.model.erasures_of(talk, truth.erasures), "?")
    parts = {"messages": row.texts, "files": row.files, "values": row.values}
    left = [name for name, rows in parts.items() if rows]
    left += ["its look-up"] if row.number in truth.evidence.lookups else []
    if not row.is_deleted or row.id is not None or left:
        yield "row left", f"{talk.id} was erased by {by}, and has {left or 'not been deleted'}"
    if wrong := differing_of_kept(talk, row.facts):
        yield "kept", f"{talk.id} was erased by {by}, and what is kept differs: {', '.join(wrong)}"
    if row.began != midnight_of(talk):
        yield "kept", f"{talk.id} was erased by {by}, and its beginning is not its day"
    yield from _flag(talk, row)


def _flag(talk: Talk, row: Stored) -> Found:
    # Of a file whose answer was lost nobody knows whether it was stored.
    if row.has_file_upload not in {bool(talk.files), bool(talk.tried_files)}:
        yield "kept", f"{talk.id} says {row.has_file_upload} of its files, and {len(talk.files)} were stored"


def _faults_of_whole(truth: Truth, talk: Talk, row: Stored) -> Found:
    if row.is_deleted or row.id != talk.id:
        yield "neighbour", f"{talk.id}, which nobody erases, is deleted"
        return
    yield from faults_of_texts(talk, row.texts)
    if wrong := differing(talk, row.facts):
        yield "neighbour", f"{talk.id} has another {', '.join(wrong)}"
    if row.began != talk.began:
        yield "neighbour", f"{talk.id} has another beginning"
    yield from _flag(talk, row)
    names = {name.removesuffix(".txt") for name in row.files}
    if not talk.files <= names or not names <= talk.tried_files.keys():
        yield "neighbour", f"{talk.id} has {len(names)} files, and not the {len(talk.files)} sent"
    if not talk.people <= set(row.values) or not set(row.values) <= talk.tried:
        yield "identity", f"{talk.id} has {len(row.values)} identities, and not the {len(talk.people)} sent"
    truth.met["conversations of two chatters"] += len(row.values) > 1
    truth.met["messages redacted"] += sum(one.status == "completed" for one in talk.redacted.values())


def counts(truth: Truth) -> Found:
    """Usage is billed; the counts of deletions and retention runs are those of what is gone."""
    for bot, usage in truth.evidence.usage.items():
        for (month, channel), count in usage.items():
            for what in _faults_of_usage(truth, bot, month, channel, count):
                yield "counts", f"{bot} in {month} through {channel}: {what}"
        erasing = [one for one in truth.evidence.requests.values() if one.bot == bot and one.kind in ERASING]
        counted = sum(one.conversations for one in erasing)
        deleted = sum(count.deleted for count in usage.values())
        if counted != deleted:
            yield "counts", f"{bot}'s deletions count {counted} conversations, and {deleted} are deleted"
        yield from _of_rows(truth, bot, sum(one.messages for one in erasing), "texts")
        yield from _of_rows(truth, bot, sum(one.files for one in erasing), "files")


def _faults_of_usage(truth: Truth, bot: str, month: str, channel: str, count: Count) -> Collection[str]:
    talks = [
        talk
        for talk in truth.fates
        if talk.bot == bot and talk.facts.get("channel") == channel and month_of(talk.began) == month
    ]
    sent = [talk for talk in talks if talk.number is not None]
    rows = [
        row
        for row in truth.evidence.talks.values()
        if row.bot == bot and row.facts["channel"] == channel and month_of(row.began) == month
    ]
    # Those whose only answer was a refusal may have been stored by the call before, of which no answer came.
    unknown = [talk for talk in talks if talk.number is None and talk.tried_texts and not talk.is_barred]
    gone = sum(truth.fates[talk] is Fate.GONE for talk in sent)
    faults = []
    if not len(sent) <= count.stored <= len(sent) + len(unknown) or count.stored != len(rows):
        faults.append(f"{count.stored} conversations are in the usage, and {len(sent)} were stored")
    if not gone <= count.deleted <= gone + len(unknown):
        faults.append(f"{count.deleted} deleted ones are in the usage, and {gone} are gone")
    return faults


def _of_rows(truth: Truth, bot: str, counted: int, what: str) -> Found:
    talks = [talk for talk in truth.fates if talk.bot == bot]
    gone = [talk for talk in talks if talk.number is not None and truth.fates[talk] is Fate.GONE]
    # What was refused in the end may have been stored by a call before, of which no answer came.
    unknown = [talk for talk in talks if talk.number is None and not talk.is_barred]
    least = sum(len(getattr(talk, what)) for talk in gone)
    most = sum(len(getattr(talk, f"tried_{what}")) for talk in (*gone, *unknown))
    if not least <= counted <= most:
        yield "counts", f"{bot}'s deletions count {counted} {what}, and {least} were stored in what is gone"
