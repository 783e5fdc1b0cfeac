"""Checks of objects: each file holds what it must and nothing else, and is there only as long as it may be."""

import csv
import hashlib
from collections.abc import Collection

from tests.oracle.comparison import Comparison, Findings
from tests.oracle.evidence import ExtractRow, RequestRow
from tests.oracle.leftovers import folder_of
from tests.oracle.model import Conversation, Expected, Request
from tests.oracle.objects import ObjectVersion
from tests.oracle.whole import faults_of, lines_of
from tests.oracle.words import Word, found_in, told


def hosted(comparison: Comparison) -> Findings:
    """The file of each export holds its chatter's own, and it is there only as long as it may be."""
    rows = _rows_by_key(comparison, "hosted")
    for stored in comparison.evidence.objects.versions:
        if folder_of(stored.key) != "chatter_data_exports":
            continue
        row = rows.get(_export_of(stored.key, rows))
        if row is None:
            yield "orphan", "an object in chatter_data_exports belongs to no export"
            # It may be there in a database that was put back, which has forgotten it.
            if left := comparison.gone(found_in(stored.key, stored.body)):
                yield "word left in an object", f"an object of a forgotten export has {told(left)}"
        else:
            yield from _faults_of_file(comparison, row, stored)
            if export := comparison.filed.get(row.id):
                yield from _may_be_there(comparison, export)
    for key, row in rows.items():
        if row.status == "completed" and key not in comparison.contents:
            yield (
                "lost export",
                f"{comparison.filed.get(row.id, row.id)} is completed and not removed, and has no object",
            )
    for row in comparison.evidence.requests.values():
        export = comparison.filed.get(row.id)
        is_whole = row.kind == "export" and row.status == "completed" and row.hosting == "hosted"
        if (
            is_whole
            and row.key is None
            and export
            and not comparison.model.may_be_removed(export, comparison.erasures)
        ):
            yield "lost export", f"the file of {export} was removed, and nothing asked for that"


def delivered(comparison: Comparison) -> Findings:
    """What was delivered into a client's bucket is the client's, and of nobody else."""
    rows = _rows_by_key(comparison, "client")
    there = {stored.key for stored in comparison.evidence.client_objects.versions if stored.body is not None}
    for key, delivered in rows.items():
        if delivered.status == "completed" and key not in there:
            yield (
                "lost export",
                f"{comparison.filed.get(delivered.id, delivered.id)} is completed, and not in the client's bucket",
            )
    theirs = {row.bot for row in comparison.evidence.requests.values() if row.hosting == "client"}
    for stored in comparison.evidence.client_objects.versions:
        if row := rows.get(_export_of(stored.key, rows)):
            yield from _faults_of_file(comparison, row, stored)
        # Its key was forgotten with its chatter, and nobody knows any more whose it was.
        elif found := comparison.strangers(found_in(stored.key, stored.body), theirs):
            yield "foreign line", f"a file in the client's bucket has {told(found)}, of another chatbot"


def _rows_by_key(comparison: Comparison, hosting: str) -> dict[str | None, RequestRow]:
    return {row.key: row for row in comparison.evidence.requests.values() if row.key and row.hosting == hosting}


def _faults_of_file(comparison: Comparison, row: RequestRow, stored: ObjectVersion) -> Findings:
    which = comparison.filed.get(row.id) or _repeated(comparison, row)
    if stored.body is None or which is None:
        return
    yield from _holds_its_own(comparison, which, found_in(stored.key, stored.body), row)
    if stored.key != row.key:
        contents = {one for conversation in _held(comparison, which) for one in conversation.tried_files.values()}
        comparison.met["copies of files"] += 1
        if hashlib.sha256(stored.body).hexdigest() not in contents:
            yield "export", f"a copy beside the file of {which} is not as it was sent"
    elif row.id in comparison.filed:
        comparison.met[f"exports ({row.hosting})"] += 1
        conversations = {
            conversation.id: conversation
            for conversation in comparison.model.conversations
            if conversation.bot == row.bot
        }
        said = {"sha256": row.sha256, "bytes": row.bytes, "rows": row.rows}
        for fault in faults_of(which, stored.body, said, conversations):
            yield "export", f"{fault} ({which})"
    elif hashlib.sha256(stored.body).hexdigest() != row.sha256:
        yield "export", f"the file of the repeated {which} is not what its request says"


def _repeated(comparison: Comparison, row: RequestRow) -> Request | None:
    """Return the export in whose place redactions have filed this one, however often."""
    while row.id not in comparison.filed and row.repeats and row.repeats in comparison.evidence.requests:
        row = comparison.evidence.requests[row.repeats]
    return comparison.filed.get(row.id)


def _held(comparison: Comparison, export: Request) -> set[Conversation]:
    """Return what its file may hold, also where it was filed again."""
    later = {
        conversation
        for conversation in comparison.model.conversations
        if conversation.bot == export.bot and export.value in conversation.tried
    }
    return export.surely | export.possibly | (later if export.value else set())


def _holds_its_own(comparison: Comparison, export: Request, words: Collection[Word], row: RequestRow) -> Findings:
    held = export.surely | export.possibly if row.id in comparison.filed else _held(comparison, export)
    allowed = {conversation.index for conversation in held}
    people = {value for conversation in held for value in conversation.tried} | {export.value}
    numbers = {one.number for one in comparison.model.people if one.value in people}
    # What is in the client's bucket is the client's; nobody could make the last copy of what is erased again.
    is_kept = row.hosting != "hosted" or row.is_last_copy
    if left := [word for word in words if word.text in comparison.redacted and not is_kept]:
        yield "redaction", f"the file of {export} has a redacted text: {told(left)}"
    foreign = {word for word in words if word.number not in (numbers if word.is_person else allowed)}
    if foreign:
        yield "foreign line", f"the file of {export} has {told(foreign)}"


def _may_be_there(comparison: Comparison, export: Request) -> Findings:
    """A deletion that says so removes the chatter's exports of before; one by ids, whatever holds one of them."""
    for one in comparison.erasures:
        if one.kind != "deletion" or one.status != "completed" or one.bot != export.bot:
            continue
        is_own = bool(one.value) and one.value == export.value
        is_of_ids = bool(one.ids) and not one.surely.isdisjoint(export.surely)
        if not export.ended or one.asked < export.ended or not (is_own or is_of_ids):
            continue
        if "erase_exports" in one.flags:
            yield "export left", f"the file of {export} is there, and should have gone with {one}"
        comparison.met["exports that outlive what they hold"] += 1


def _export_of(key: str, keys: Collection[str | None]) -> str | None:
    """Return the key of the export to which an object belongs: itself, or a copy of a file beside it."""
    if key in keys:
        return key
    folder = key.rpartition("/")[0]
    return f"{folder.removesuffix('_files')}.csv" if folder.endswith("_files") else None


def uploads(comparison: Comparison) -> Findings:
    """The files of whoever is whole have the contents that were sent."""
    for conversation, expected in comparison.expected.items():
        row = comparison.evidence.conversations.get(conversation.number or 0)
        for name, key in row.files.items() if row and expected is Expected.WHOLE else ():
            body = comparison.contents.get(key, b"")
            comparison.met["uploaded files"] += 1
            if hashlib.sha256(body).hexdigest() != conversation.tried_files.get(name.removesuffix(".txt")):
                yield (
                    "neighbour",
                    f"{conversation.bot}: a file of {conversation.id}, which nobody erases, is not as it was sent",
                )


# --- Daily extracts --------------------------------------------------------------------------------------


def extracts(comparison: Comparison) -> Findings:
    """Each daily extract that is done has the messages of its day, of all conversations of its chatbot."""
    for extract in comparison.evidence.extracts:
        which = f"{extract.bot}: the extract of {extract.day}"
        if extract.state != "done":
            yield "not ended", f"{which} is {extract.state}"
            continue
        try:
            lines = lines_of(comparison.contents.get(extract.key or "", b""))
        except (ValueError, csv.Error) as error:
            yield "extract", f"{which} is no whole CSV: {error}"
            continue
        for what in _faults_of_day(comparison, extract, lines):
            yield "extract", f"{which} {what}"


def _faults_of_day(comparison: Comparison, extract: ExtractRow, lines: list[dict[str, str]]) -> Collection[str]:
    conversations = {
        conversation.id: conversation
        for conversation, expected in comparison.expected.items()
        if conversation.bot == extract.bot and expected is Expected.WHOLE and conversation.number is not None
    }
    found = {(line["conversation_id"], line["message_id"]): line["text"] for line in lines if line["message_id"]}
    faults = []
    for conversation in conversations.values():
        for message in conversation.tried_texts:
            is_of_day = extract.starts_at <= conversation.sent_at[message] < extract.ends_at
            text = found.pop((conversation.id, message), None)
            redaction = conversation.redacted.get(message)
            expected = "" if redaction and redaction.status == "completed" else conversation.tried_texts[message]
            comparison.met["messages in daily extracts"] += text is not None
            if text is None and is_of_day and message in conversation.texts:
                faults.append(f"lacks message {message} of {conversation.id}")
            elif text is not None and (not is_of_day or text != expected):
                faults.append(
                    f"has message {message} of {conversation.id} with {'another text' if is_of_day else 'no right'}"
                )
    return [*faults, *(f"has message {message} of {name}, which is not there" for name, message in found)]
