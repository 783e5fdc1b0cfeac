"""Checks of objects: each file holds what it must and nothing else, and is there only as long as it may be."""

import csv
import hashlib
from collections.abc import Collection

from tests.faults.objects import Stored
from tests.faults.soak.evidence import Extract, Request
from tests.faults.soak.leftovers import folder_of
from tests.faults.soak.model import Fate, Filed, Talk
from tests.faults.soak.transcripts import faults_of, lines_of
from tests.faults.soak.truth import Found, Truth
from tests.faults.soak.words import Word, found_in, told


def exports(truth: Truth) -> Found:
    """The file of each export holds its chatter's own, and it is there only as long as it may be."""
    rows = _rows_by_key(truth, "hosted")
    for stored in truth.evidence.objects.versions:
        if folder_of(stored.key) != "chatter_data_exports":
            continue
        row = rows.get(_export_of(stored.key, rows))
        if row is None:
            yield "orphan", "an object in chatter_data_exports belongs to no export"
        else:
            yield from _faults_of_file(truth, row, stored)
            if export := truth.filed.get(row.id):
                yield from _may_be_there(truth, export)
    for key, row in rows.items():
        if row.status == "completed" and key not in truth.contents:
            yield "lost export", f"{truth.filed.get(row.id, row.id)} is completed and not removed, and has no object"
    for row in truth.evidence.requests.values():
        export = truth.filed.get(row.id)
        is_whole = row.kind == "export" and row.status == "completed" and row.hosting == "hosted"
        if is_whole and row.key is None and export and not truth.model.may_be_removed(export, truth.erasures):
            yield "lost export", f"the file of {export} was removed, and nothing asked for that"


def exports_at_clients(truth: Truth) -> Found:
    """What was delivered into a client's bucket is the client's, and of nobody else."""
    rows = _rows_by_key(truth, "client")
    there = {stored.key for stored in truth.evidence.client_objects.versions if stored.body is not None}
    for key, delivered in rows.items():
        if delivered.status == "completed" and key not in there:
            yield (
                "lost export",
                f"{truth.filed.get(delivered.id, delivered.id)} is completed, and not in the client's bucket",
            )
    theirs = {row.bot for row in truth.evidence.requests.values() if row.hosting == "client"}
    for stored in truth.evidence.client_objects.versions:
        if row := rows.get(_export_of(stored.key, rows)):
            yield from _faults_of_file(truth, row, stored)
        # Its key was forgotten with its chatter, and nobody knows any more whose it was.
        elif found := truth.strangers(found_in(stored.key, (stored.body or b"").decode(errors="replace")), theirs):
            yield "foreign line", f"a file in the client's bucket has {told(found)}, of another chatbot"


def _rows_by_key(truth: Truth, hosting: str) -> dict[str | None, Request]:
    return {row.key: row for row in truth.evidence.requests.values() if row.key and row.hosting == hosting}


def _faults_of_file(truth: Truth, row: Request, stored: Stored) -> Found:
    which = truth.filed.get(row.id) or _repeated(truth, row)
    if stored.body is None or which is None:
        return
    yield from _holds_its_own(truth, which, found_in(stored.key, stored.body.decode(errors="replace")), row)
    if stored.key != row.key:
        contents = {one for talk in _held(truth, which) for one in talk.tried_files.values()}
        truth.met["copies of files"] += 1
        if hashlib.sha256(stored.body).hexdigest() not in contents:
            yield "export", f"a copy beside the file of {which} is not as it was sent"
    elif row.id in truth.filed:
        truth.met[f"exports ({row.hosting})"] += 1
        talks = {talk.id: talk for talk in truth.model.talks if talk.bot == row.bot}
        said = {"sha256": row.sha256, "bytes": row.bytes, "rows": row.rows}
        for fault in faults_of(which, stored.body, said, talks):
            yield "export", f"{fault} ({which})"
    elif hashlib.sha256(stored.body).hexdigest() != row.sha256:
        yield "export", f"the file of the repeated {which} is not what its request says"


def _repeated(truth: Truth, row: Request) -> Filed | None:
    """Return the export in whose place redactions have filed this one, however often."""
    while row.id not in truth.filed and row.repeats and row.repeats in truth.evidence.requests:
        row = truth.evidence.requests[row.repeats]
    return truth.filed.get(row.id)


def _held(truth: Truth, export: Filed) -> set[Talk]:
    """Return what its file may hold, also where it was filed again."""
    later = {talk for talk in truth.model.talks if talk.bot == export.bot and export.value in talk.tried}
    return export.surely | export.possibly | (later if export.value else set())


def _holds_its_own(truth: Truth, export: Filed, words: Collection[Word], row: Request) -> Found:
    held = export.surely | export.possibly if row.id in truth.filed else _held(truth, export)
    allowed = {talk.index for talk in held}
    people = {value for talk in held for value in talk.tried} | {export.value}
    numbers = {one.number for one in truth.model.people if one.value in people}
    # What is in the client's bucket is the client's.
    if left := [word for word in words if word.text in truth.redacted and row.hosting == "hosted"]:
        yield "redaction", f"the file of {export} has a redacted text: {told(left)}"
    foreign = {word for word in words if word.number not in (numbers if word.is_person else allowed)}
    if foreign:
        yield "foreign line", f"the file of {export} has {told(foreign)}"


def _may_be_there(truth: Truth, export: Filed) -> Found:
    """A deletion that says so removes the chatter's exports of before; one by ids, whatever holds one of them."""
    for one in truth.erasures:
        if one.kind != "deletion" or one.status != "completed" or one.bot != export.bot:
            continue
        is_own = bool(one.value) and one.value == export.value
        is_of_ids = bool(one.ids) and not one.surely.isdisjoint(export.surely)
        if not export.ended or one.asked < export.ended or not (is_own or is_of_ids):
            continue
        if "erase_exports" in one.flags:
            yield "export left", f"the file of {export} is there, and should have gone with {one}"
        truth.met["exports that outlive what they hold"] += 1


def _export_of(key: str, keys: Collection[str | None]) -> str | None:
    """Return the key of the export to which an object belongs: itself, or a copy of a file beside it."""
    if key in keys:
        return key
    folder = key.rpartition("/")[0]
    return f"{folder.removesuffix('_files')}.csv" if folder.endswith("_files") else None


def uploads(truth: Truth) -> Found:
    """The files of whoever is whole have the contents that were sent."""
    for talk, fate in truth.fates.items():
        row = truth.evidence.talks.get(talk.number or 0)
        for name, key in row.files.items() if row and fate is Fate.WHOLE else ():
            body = truth.contents.get(key, b"")
            truth.met["uploaded files"] += 1
            if hashlib.sha256(body).hexdigest() != talk.tried_files.get(name.removesuffix(".txt")):
                yield "neighbour", f"{talk.bot}: a file of {talk.id}, which nobody erases, is not as it was sent"


# --- Daily extracts --------------------------------------------------------------------------------------


def extracts(truth: Truth) -> Found:
    """Each daily extract that is done has the messages of its day, of all conversations of its chatbot."""
    for extract in truth.evidence.extracts:
        which = f"{extract.bot}: the extract of {extract.day}"
        if extract.state != "done":
            yield "not ended", f"{which} is {extract.state}"
            continue
        try:
            lines = lines_of(truth.contents.get(extract.key or "", b""))
        except (ValueError, csv.Error) as error:
            yield "extract", f"{which} is no whole CSV: {error}"
            continue
        for what in _faults_of_day(truth, extract, lines):
            yield "extract", f"{which} {what}"


def _faults_of_day(truth: Truth, extract: Extract, lines: list[dict[str, str]]) -> Collection[str]:
    talks = {
        talk.id: talk
        for talk, fate in truth.fates.items()
        if talk.bot == extract.bot and fate is Fate.WHOLE and talk.number is not None
    }
    found = {(line["conversation_id"], line["message_id"]): line["text"] for line in lines if line["message_id"]}
    faults = []
    for talk in talks.values():
        for message in talk.tried_texts:
            is_of_day = extract.starts_at <= talk.sent_at[message] < extract.ends_at
            text = found.pop((talk.id, message), None)
            redaction = talk.redacted.get(message)
            expected = "" if redaction and redaction.status == "completed" else talk.tried_texts[message]
            truth.met["messages in daily extracts"] += text is not None
            if text is None and is_of_day and message in talk.texts:
                faults.append(f"lacks message {message} of {talk.id}")
            elif text is not None and (not is_of_day or text != expected):
                faults.append(
                    f"has message {message} of {talk.id} with {'another text' if is_of_day else 'no right'}"
                )
    return [*faults, *(f"has message {message} of {name}, which is not there" for name, message in found)]
