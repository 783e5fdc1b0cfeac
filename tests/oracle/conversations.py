"""Checks of conversations and counts: each conversation is whole, or gone and accounted for."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.oracle.comparison import Comparison, Findings
from tests.oracle.evidence import ConversationRow, Count
from tests.oracle.model import COMMENT, ERASING, KEPT, Conversation, Expected

# --- What a conversation must be like, in rows and over the API ------------------------------------------------


def faults_of_texts(conversation: Conversation, found: Mapping[str, tuple[str, str]]) -> Findings:
    """Yield faults of the messages; `found` are kind and text of each by its id."""
    for message, text in conversation.texts.items():
        kind, shown = found.get(message, ("", None))
        redaction = conversation.redacted.get(message)
        if shown is None:
            yield "neighbour", f"{conversation.id}, which must stay, has lost message {message}"
        elif kind == "redacted" or (redaction and redaction.status == "completed"):
            if redaction is None or redaction.is_withdrawn:
                yield "neighbour", f"message {message} of {conversation.id} was redacted without a request"
            elif kind != "redacted" or shown:
                yield "redaction", f"message {message} of {conversation.id} still has its text: {redaction}"
        elif shown != text:
            yield "neighbour", f"message {message} of {conversation.id} is not as it was sent"
    foreign = sorted(set(found) - set(conversation.tried_texts))
    if len(foreign) != conversation.stuffed:
        yield "neighbour", f"{conversation.id} has {len(foreign)} messages that were not sent: {foreign[:1]}"


def faults_of_comment(conversation: Conversation, shown: str | None) -> Findings:
    redaction = conversation.redacted.get(COMMENT)
    if redaction and redaction.status == "completed":
        if shown is not None:
            yield "redaction", f"{conversation.id} still has its CSAT comment: {redaction}"
    elif shown != conversation.facts.get(COMMENT) and (redaction is None or redaction.is_withdrawn or shown):
        yield "neighbour", f"the CSAT comment of {conversation.id} is not as it was sent"


def differing(conversation: Conversation, facts: Mapping[str, Any], names: Collection[str] = ()) -> list[str]:
    """Return the names of facts that differ from the sent ones, by default of all facts but the COMMENT."""
    names = names or (facts.keys() & conversation.facts.keys()) - {COMMENT}
    return sorted(name for name in names if facts[name] != conversation.facts[name])


def differing_of_kept(conversation: Conversation, facts: Mapping[str, Any]) -> list[str]:
    """Return the faults of a deleted conversation: the names of fields that it should keep, or empty."""
    return differing(conversation, facts, KEPT) + sorted(name for name in facts.keys() - KEPT if facts[name])


def facts_shown(shown: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: shown[name] for name in ("user_name", "language", "channel", "push", "agent_handover", "score")}
    return facts | {f"csat_{name}": shown["csat"][name] for name in ("score", "vote", "comment")}


def midnight_of(conversation: Conversation) -> datetime:
    """Return the beginning of a conversation as a deletion leaves it."""
    return conversation.began.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


# --- Rows --------------------------------------------------------------------------------------------------------


def stored(comparison: Comparison) -> Findings:
    for each, expected in comparison.expected.items():
        if each.number is None:
            continue
        row = comparison.evidence.conversations.get(each.number)
        if row is None:
            yield "lost conversation", f"{each.bot}: {each.id} has no row any more"
            continue
        comparison.met[f"conversations {'gone' if expected is Expected.GONE else 'whole'}"] += 1
        closer = comparison.filed.get(row.closed_by or "")
        if closer and not each.is_barred and each not in closer.surely | closer.possibly:
            yield "closed by another", f"{each.bot}: {each.id} is closed by {closer}, which is not about it"
        find = _faults_of_gone if expected is Expected.GONE else _faults_of_whole
        for kind, what in find(comparison, each, row):
            yield kind, f"{each.bot}: {what}"
    # Rows of conversations that no client has sent, or of which each document must have been refused.
    sent = {(each.bot, each.id): each for each in comparison.model.conversations}
    for row in comparison.evidence.conversations.values():
        known = sent.get((row.bot, row.id or ""))
        if row.id is not None and (known is None or known.is_barred):
            whose = "that was never sent" if known is None else "of a chatter who was erased before it came"
            yield "row left", f"{row.bot}: there is a conversation {whose}: {row.id}"


def _faults_of_gone(comparison: Comparison, conversation: Conversation, row: ConversationRow) -> Findings:
    by = comparison.model.erasures_of(conversation, comparison.erasures)
    which = f"{conversation.id} was erased by {next(by, '?')}"
    left = row.left + ["hidden files"] * bool(row.hidden_files)
    if not row.is_deleted or row.id is not None or left:
        yield "row left", f"{which}, and has {left or 'not been deleted'}"
    if wrong := differing_of_kept(conversation, row.facts):
        yield "kept", f"{which}, and what is kept differs: {', '.join(wrong)}"
    if row.began != midnight_of(conversation):
        yield "kept", f"{which}, and its beginning is not its day"
    yield from _flag(conversation, row)


def _flag(conversation: Conversation, row: ConversationRow) -> Findings:
    # If the answer to a file was lost, it is unknown whether the file was stored.
    if row.has_file_upload not in {bool(conversation.files), bool(conversation.tried_files)}:
        stored = f"and {len(conversation.files)} were stored"
        yield "kept", f"{conversation.id} says {row.has_file_upload} of its files, {stored}"


def _faults_of_whole(comparison: Comparison, conversation: Conversation, row: ConversationRow) -> Findings:
    if row.is_deleted or row.id != conversation.id:
        yield "neighbour", f"{conversation.id}, which must stay, is deleted"
        return
    yield from faults_of_texts(conversation, row.texts)
    yield from faults_of_comment(conversation, row.facts.get(COMMENT))
    if wrong := differing(conversation, row.facts) + ["beginning"] * (row.began != conversation.began):
        yield "neighbour", f"{conversation.id} has another {', '.join(wrong)}"
    yield from _flag(conversation, row)
    names, values = {name.removesuffix(".txt") for name in row.files}, set(row.values)
    if not conversation.files <= names <= conversation.tried_files.keys():
        yield "neighbour", f"{conversation.id} has {len(names)} files, and not the {len(conversation.files)} sent"
    if not conversation.people <= values <= conversation.tried:
        sent = f"the {len(conversation.people)} sent"
        yield "identity", f"{conversation.id} has {len(values)} identities, and not {sent}"
    if conversation.is_refused not in {None, row.refused > 0}:
        yield "identity", f"{conversation.id} has {row.refused} refused identities"
    comparison.met["conversations of two chatters"] += len(values) > 1
    for what, one in conversation.redacted.items():
        which = "comments" if what == COMMENT else "messages"
        comparison.met[f"{which} redacted"] += one.status == "completed"


# --- Counts ------------------------------------------------------------------------------------------------------


def counts(comparison: Comparison) -> Findings:
    """Check the usage, and that deletions and retention runs have counted the gone conversations."""
    for bot, usage in comparison.evidence.usage.items():
        ours = [each for each in comparison.expected if each.bot == bot]
        rows = [row for row in comparison.evidence.conversations.values() if row.bot == bot]
        for (month, channel), count in usage.items():
            of = [
                e for e in ours if e.facts.get("channel") == channel and f"{e.began.astimezone(UTC):%Y-%m}" == month
            ]
            there = [r for r in rows if r.facts["channel"] == channel and f"{r.began.astimezone(UTC):%Y-%m}" == month]
            for what in _faults_of_usage(comparison, of, count, len(there)):
                yield "counts", f"{bot} in {month} through {channel}: {what}"
        erasing = [one for one in comparison.evidence.requests.values() if one.bot == bot and one.kind in ERASING]
        counted, deleted = sum(one.conversations for one in erasing), sum(count.deleted for count in usage.values())
        if counted != deleted:
            yield "counts", f"{bot}'s deletions count {counted} conversations, and {deleted} are deleted"
        yield from _of_rows(comparison, bot, sum(one.messages for one in erasing), "texts")
        yield from _of_rows(comparison, bot, sum(one.files for one in erasing), "files")


def _faults_of_usage(comparison: Comparison, of: list[Conversation], count: Count, rows: int) -> Iterator[str]:
    stored = sum(1 + each.copies for each in of if each.number is not None)
    gone = sum(1 + each.copies for each in _gone(comparison, of))
    # A refused document may have been stored by the call before, which got no answer.
    unknown = sum(each.number is None and bool(each.tried_texts) and not each.is_barred for each in of)
    if not stored <= count.stored <= stored + unknown or count.stored != rows:
        yield f"{count.stored} conversations are in the usage, and {stored} were stored"
    if not gone <= count.deleted <= gone + unknown:
        yield f"{count.deleted} deleted ones are in the usage, and {gone} are gone"


def _gone(comparison: Comparison, of: Collection[Conversation]) -> list[Conversation]:
    return [each for each in of if each.number is not None and comparison.expected[each] is Expected.GONE]


def _of_rows(comparison: Comparison, bot: str, counted: int, what: str) -> Findings:
    ours = [each for each in comparison.expected if each.bot == bot]
    gone = _gone(comparison, ours)
    unknown = [each for each in ours if each.number is None and not each.is_barred]
    beside = sum(each.stuffed + each.copies for each in gone) if what == "texts" else 0
    least = beside + sum(len(getattr(each, what)) for each in gone)
    most = beside + sum(len(getattr(each, f"tried_{what}")) for each in (*gone, *unknown))
    if not least <= counted <= most:
        yield "counts", f"{bot}'s deletions count {counted} {what}, and {least} were stored in what is gone"
