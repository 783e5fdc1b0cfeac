"""Checks of conversations and of what is counted: each is whole, or gone and accounted for."""

from collections.abc import Collection

from tests.oracle.comparison import Comparison, Findings
from tests.oracle.evidence import ConversationRow, Count
from tests.oracle.model import ERASING, Conversation, Expected
from tests.oracle.whole import differing, differing_of_kept, faults_of_texts, midnight_of, month_of


def stored(comparison: Comparison) -> Findings:
    for conversation, expected in comparison.expected.items():
        if conversation.number is None:
            continue
        row = comparison.evidence.conversations.get(conversation.number)
        if row is None:
            yield "lost conversation", f"{conversation.bot}: {conversation.id} has no row any more"
            continue
        comparison.met[f"conversations {'gone' if expected is Expected.GONE else 'whole'}"] += 1
        closer = comparison.filed.get(row.closed_by or "")
        if closer and not conversation.is_barred and conversation not in closer.surely | closer.possibly:
            yield (
                "closed by another",
                f"{conversation.bot}: {conversation.id} is closed by {closer}, which is not about it",
            )
        faults = (
            _faults_of_gone(comparison, conversation, row)
            if expected is Expected.GONE
            else _faults_of_whole(comparison, conversation, row)
        )
        for kind, what in faults:
            yield kind, f"{conversation.bot}: {what}"
    yield from _of_nobody(comparison)


def _of_nobody(comparison: Comparison) -> Findings:
    """Find rows of conversations that nobody has sent, or of which each document must have been refused."""
    sent = {(conversation.bot, conversation.id): conversation for conversation in comparison.model.conversations}
    for row in comparison.evidence.conversations.values():
        conversation = sent.get((row.bot, row.id or ""))
        if row.id is not None and (conversation is None or conversation.is_barred):
            whose = "that nobody has sent" if conversation is None else "of somebody who was erased before it came"
            yield "row left", f"{row.bot}: there is a conversation {whose}: {row.id}"


def _faults_of_gone(comparison: Comparison, conversation: Conversation, row: ConversationRow) -> Findings:
    by = next(comparison.model.erasures_of(conversation, comparison.erasures), "?")
    left = row.left + ["hidden files"] * bool(row.hidden_files)
    if not row.is_deleted or row.id is not None or left:
        yield "row left", f"{conversation.id} was erased by {by}, and has {left or 'not been deleted'}"
    if wrong := differing_of_kept(conversation, row.facts):
        yield "kept", f"{conversation.id} was erased by {by}, and what is kept differs: {', '.join(wrong)}"
    if row.began != midnight_of(conversation):
        yield "kept", f"{conversation.id} was erased by {by}, and its beginning is not its day"
    yield from _flag(conversation, row)


def _flag(conversation: Conversation, row: ConversationRow) -> Findings:
    # Of a file whose answer was lost nobody knows whether it was stored.
    if row.has_file_upload not in {bool(conversation.files), bool(conversation.tried_files)}:
        yield (
            "kept",
            f"{conversation.id} says {row.has_file_upload} of its files, and {len(conversation.files)} were stored",
        )


def _faults_of_whole(comparison: Comparison, conversation: Conversation, row: ConversationRow) -> Findings:
    if row.is_deleted or row.id != conversation.id:
        yield "neighbour", f"{conversation.id}, which nobody erases, is deleted"
        return
    yield from faults_of_texts(conversation, row.texts)
    if wrong := differing(conversation, row.facts):
        yield "neighbour", f"{conversation.id} has another {', '.join(wrong)}"
    if row.began != conversation.began:
        yield "neighbour", f"{conversation.id} has another beginning"
    yield from _flag(conversation, row)
    names = {name.removesuffix(".txt") for name in row.files}
    if not conversation.files <= names or not names <= conversation.tried_files.keys():
        yield "neighbour", f"{conversation.id} has {len(names)} files, and not the {len(conversation.files)} sent"
    if not conversation.people <= set(row.values) or not set(row.values) <= conversation.tried:
        yield (
            "identity",
            f"{conversation.id} has {len(row.values)} identities, and not the {len(conversation.people)} sent",
        )
    if conversation.is_refused not in {None, row.refused > 0}:
        yield "identity", f"{conversation.id} has {row.refused} refused identities"
    comparison.met["conversations of two chatters"] += len(row.values) > 1
    comparison.met["messages redacted"] += sum(one.status == "completed" for one in conversation.redacted.values())


def counts(comparison: Comparison) -> Findings:
    """Usage is billed; the counts of deletions and retention runs are those of what is gone."""
    for bot, usage in comparison.evidence.usage.items():
        for (month, channel), count in usage.items():
            for what in _faults_of_usage(comparison, bot, month, channel, count):
                yield "counts", f"{bot} in {month} through {channel}: {what}"
        erasing = [one for one in comparison.evidence.requests.values() if one.bot == bot and one.kind in ERASING]
        counted = sum(one.conversations for one in erasing)
        deleted = sum(count.deleted for count in usage.values())
        if counted != deleted:
            yield "counts", f"{bot}'s deletions count {counted} conversations, and {deleted} are deleted"
        yield from _of_rows(comparison, bot, sum(one.messages for one in erasing), "texts")
        yield from _of_rows(comparison, bot, sum(one.files for one in erasing), "files")


def _faults_of_usage(comparison: Comparison, bot: str, month: str, channel: str, count: Count) -> Collection[str]:
    conversations = [
        conversation
        for conversation in comparison.expected
        if conversation.bot == bot
        and conversation.facts.get("channel") == channel
        and month_of(conversation.began) == month
    ]
    sent = [conversation for conversation in conversations if conversation.number is not None]
    rows = [
        row
        for row in comparison.evidence.conversations.values()
        if row.bot == bot and row.facts["channel"] == channel and month_of(row.began) == month
    ]
    # Those whose only answer was a refusal may have been stored by the call before, of which no answer came.
    unknown = [
        conversation
        for conversation in conversations
        if conversation.number is None and conversation.tried_texts and not conversation.is_barred
    ]
    gone = _number([each for each in sent if comparison.expected[each] is Expected.GONE])
    most = _number(sent) + len(unknown)
    faults = []
    if not _number(sent) <= count.stored <= most or count.stored != len(rows):
        faults.append(f"{count.stored} conversations are in the usage, and {_number(sent)} were stored")
    if not gone <= count.deleted <= gone + len(unknown):
        faults.append(f"{count.deleted} deleted ones are in the usage, and {gone} are gone")
    return faults


def _number(conversations: Collection[Conversation]) -> int:
    """Return how many they are, with their copies."""
    return sum(1 + conversation.copies for conversation in conversations)


def _of_rows(comparison: Comparison, bot: str, counted: int, what: str) -> Findings:
    conversations = [conversation for conversation in comparison.expected if conversation.bot == bot]
    gone = [
        conversation
        for conversation in conversations
        if conversation.number is not None and comparison.expected[conversation] is Expected.GONE
    ]
    # What was refused in the end may have been stored by a call before, of which no answer came.
    unknown = [
        conversation for conversation in conversations if conversation.number is None and not conversation.is_barred
    ]
    beside = sum(conversation.stuffed + conversation.copies for conversation in gone) if what == "texts" else 0
    least = beside + sum(len(getattr(conversation, what)) for conversation in gone)
    most = beside + sum(len(getattr(conversation, f"tried_{what}")) for conversation in (*gone, *unknown))
    if not least <= counted <= most:
        yield "counts", f"{bot}'s deletions count {counted} {what}, and {least} were stored in what is gone"
