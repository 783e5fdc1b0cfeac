"""Checks of objects: each file has exactly its expected content, and exists only as long as it may."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from zipfile import ZipFile

from tests.oracle.comparison import Comparison, Findings
from tests.oracle.evidence import ExtractRow, ObjectVersion, RequestRow
from tests.oracle.leftovers import folder_of
from tests.oracle.model import Conversation, Expected, Request, options_of
from tests.oracle.words import Word, found_in, told, unguarded

_GUARDED = {"conversation_id", "user_name", "csat_comment", "uci_value", "message_id", "text", "file_name"}
Lines = list[dict[str, str]]
# How a file begins, its separator, the other one, and its line end.
_DIALECTS = {
    "standard": ("", ",", ";", "\n"),
    "excel_comma": ("\ufeff", ",", ";", "\r\n"),
    "excel_semicolon": ("\ufeff", ";", ",", "\r\n"),
}

# --- The file of an export, as its recipient reads it ----------------------------------------------------------


def lines_of(raw: bytes, dialect: str = "standard") -> Lines:
    """Return the lines of a CSV by column. Raises ValueError if it is not a CSV, or ends within a line."""
    begin, separator, other, line_end = _DIALECTS[dialect]
    text = raw.decode()
    if not text.startswith(f'{begin}"conversation_id"{separator}'):
        raise ValueError(f"it does not begin as {dialect}")
    if not text.endswith(f'"{line_end}'):
        raise ValueError("it does not end with a line")
    rows = io.StringIO(text.removeprefix(begin), newline="")
    found = list(csv.DictReader(rows, delimiter=separator, strict=True))
    if any(None in line or None in line.values() for line in found):
        raise ValueError("its lines differ in length")
    return [
        {name: unguarded(cell, other) if name in _GUARDED else cell for name, cell in line.items()} for line in found
    ]


def faults_of(
    export: Request,
    raw: bytes,
    shown: Mapping[str, Any],
    conversations: Mapping[str, Conversation],
    beside: Mapping[str, bytes] | None = None,
) -> Iterator[str]:
    """Yield the faults of the file of a completed export.

    `conversations` are all of its chatbot, by id; `shown` is the part `export` of the request object; `beside` are
    the files beside a manifest, by name, if they are known.
    """
    if hashlib.sha256(raw).hexdigest() != shown["sha256"] or len(raw) != shown["bytes"]:
        yield "its sha256 or size differs from what the request says"
    options = options_of(export.flags)
    if "archive" in options:
        with ZipFile(io.BytesIO(raw)) as archive:
            beside = {name: archive.read(name) for name in archive.namelist()}
            raw = beside.pop("manifest.json")
    if "formats" in options:
        if beside is None:
            return
        listed = {one["name"]: one["sha256"] for one in json.loads(raw)["files"]}
        if listed != {name: hashlib.sha256(data).hexdigest() for name, data in beside.items()}:
            yield "its files are not those of its manifest"
        raw = beside.get("conversations.csv", b"")
    yield from _faults_of_csv(export, raw, shown, conversations)


def _faults_of_csv(
    export: Request, raw: bytes, shown: Mapping[str, Any], conversations: Mapping[str, Conversation]
) -> Iterator[str]:
    try:
        lines = lines_of(raw, str(options_of(export.flags).get("csv_dialect", "standard")))
    except (ValueError, csv.Error) as error:
        yield f"it is no whole CSV: {error}"
        return
    # Of several formats, the messages: a file without one has a line of its own.
    texts = {(line["conversation_id"], line["message_id"]) for line in lines if line["message_id"]}
    number = len(texts) if "formats" in options_of(export.flags) else len(lines)
    if number != shown["rows"]:
        yield f"it has {number} rows, and the request says {shown['rows']}"
    for name in {line["conversation_id"] for line in lines} - {each.id for each in export.surely | export.possibly}:
        whose = "+".join(sorted(conversations[name].tried)) if name in conversations else ""
        yield f"a foreign line: it holds {whose or 'an unknown chatter'}'s conversation {name or '(without an id)'}"
    yield from _wrong(lines, conversations)
    there = {(line["conversation_id"], line["message_id"]) for line in lines}
    for conversation in export.surely:
        for message in export.texts.get(conversation.id, {}):
            if (conversation.id, message) not in there:
                yield f"a missing line: message {message} of {conversation.id}, sent before the export was filed"


def _wrong(lines: Lines, conversations: Mapping[str, Conversation]) -> Iterator[str]:
    for line in lines:
        conversation, message = conversations.get(line["conversation_id"]), line["message_id"]
        if conversation and message:
            is_redacted = line["message_kind"] == "redacted" and message in conversation.redacted
            sent = conversation.tried_texts.get(message)
            if sent is None or (line["text"] != sent and not (is_redacted and not line["text"])):
                yield f"a wrong text: message {message} of {conversation.id} is not as it was sent"
    seen = Counter((line["conversation_id"], line["message_id"], line["file_id"]) for line in lines)
    for (name, message, file), times in seen.items():
        if times > 1 and (message or file):
            yield f"a doubled line: message {message} of {name} stands there {times} times"


# --- All files -----------------------------------------------------------------------------------------------


def hosted(comparison: Comparison) -> Findings:
    """Check that the file of each export has its chatter's own data, and exists only as long as it may."""
    rows = _rows_by_key(comparison, "hosted")
    for stored in comparison.evidence.objects.versions:
        if folder_of(stored.key) != "chatter_data_exports":
            continue
        row = rows.get(export_of(stored.key, rows))
        if row is None:
            yield "orphan", "an object in chatter_data_exports belongs to no export"
            # It may be there in a database that was put back, which has forgotten it.
            if left := comparison.gone(found_in(stored.key, stored.body)):
                yield "word left in an object", f"an object of a forgotten export has {told(left)}"
        else:
            yield from _faults_of_file(comparison, row, stored)
            if export := comparison.filed.get(row.id):
                yield from _may_be_there(comparison, export, found_in(stored.key, stored.body))
    for row in comparison.evidence.requests.values():
        export = comparison.filed.get(row.id)
        if row.kind != "export" or row.status != "completed" or row.hosting != "hosted":
            continue
        if row.key and row.key not in comparison.contents:
            yield "lost export", f"{export or row.id} is completed and not removed, and has no object"
        if not row.key and export and not comparison.model.may_be_removed(export, comparison.erasures):
            yield "lost export", f"the file of {export} was removed, and nothing asked for that"


def delivered(comparison: Comparison) -> Findings:
    """Check that files in a client's bucket have only data of the client's chatbot."""
    rows = _rows_by_key(comparison, "client")
    there = {stored.key for stored in comparison.evidence.client_objects.versions if stored.body is not None}
    for key, row in rows.items():
        if row.status == "completed" and key not in there:
            yield (
                "lost export",
                f"{comparison.filed.get(row.id, row.id)} is completed, and not in the client's bucket",
            )
    theirs = {row.bot for row in comparison.evidence.requests.values() if row.hosting == "client"}
    theirs |= {row.bot for row in comparison.evidence.extracts if row.hosting == "client"}
    theirs |= comparison.model.had_clients_bucket
    # A restore has lost the rows of some, not what they have delivered.
    theirs |= {one.bot for one in comparison.model.filed if one.is_lost and not one.erases}
    for stored in comparison.evidence.client_objects.versions:
        if found := rows.get(export_of(stored.key, rows)):
            yield from _faults_of_file(comparison, found, stored)
        # Its key was deleted with its chatter, so its owner is unknown.
        elif foreign := comparison.strangers(found_in(stored.key, stored.body), theirs):
            yield "foreign line", f"a file in the client's bucket has {told(foreign)}, of another chatbot"


def _rows_by_key(comparison: Comparison, hosting: str) -> dict[str | None, RequestRow]:
    return {row.key: row for row in comparison.evidence.requests.values() if row.key and row.hosting == hosting}


def _faults_of_file(comparison: Comparison, row: RequestRow, stored: ObjectVersion) -> Findings:
    # A redaction files an export again, in the place of which others may.
    origin = row
    while origin.id not in comparison.filed and origin.repeats in comparison.evidence.requests:
        origin = comparison.evidence.requests[origin.repeats or ""]
    which = comparison.filed.get(origin.id)
    if stored.body is None or which is None:
        return
    digest, is_known = hashlib.sha256(stored.body).hexdigest(), row.id in comparison.filed
    ours = [each for each in comparison.model.conversations if each.bot == which.bot]
    again = {each for each in ours if which.value and which.value in each.tried}
    own = which.surely | which.possibly
    words = found_in(stored.key, stored.body)
    yield from _holds_its_own(comparison, which, own if is_known else own | again, words, row)
    if stored.key != row.key and not stored.key.rpartition("/")[2].isdecimal():
        manifest = comparison.contents.get(row.key or "", b"")
        if row.status == "completed" and digest not in manifest.decode(errors="replace"):
            yield "export", f"a file of {which} is not as its manifest says"
    elif stored.key != row.key:
        comparison.met["copies of files"] += 1
        if digest not in {one for each in own | again for one in each.tried_files.values()}:
            yield "export", f"a copy beside the file of {which} is not as it was sent"
    elif is_known:
        comparison.met[f"exports ({row.hosting})"] += 1
        said = {"sha256": row.sha256, "bytes": row.bytes, "rows": row.rows}
        folder = stored.key.removesuffix("manifest.json")
        beside = {
            key.removeprefix(folder): body for key, body in comparison.contents.items() if key.startswith(folder)
        }
        beside.pop("manifest.json", None)
        for fault in faults_of(which, stored.body, said, {each.id: each for each in ours}, beside):
            yield "export", f"{fault} ({which})"
    elif digest != row.sha256:
        yield "export", f"the file of the repeated {which} is not what its request says"


def _holds_its_own(
    comparison: Comparison, export: Request, held: Collection[Conversation], words: Collection[Word], row: RequestRow
) -> Findings:
    allowed = {conversation.index for conversation in held}
    people = {value for conversation in held for value in conversation.tried} | {export.value}
    numbers = {one.number for one in comparison.model.people if one.value in people}
    # Files in the client's bucket are the client's; the last copy of erased data cannot be made again.
    is_kept = row.hosting != "hosted" or row.is_last_copy
    if left := [word for word in words if word.text in comparison.redacted and not is_kept]:
        yield "redaction", f"the file of {export} has a redacted text: {told(left)}"
    if foreign := {word for word in words if word.number not in (numbers if word.is_person else allowed)}:
        yield "foreign line", f"the file of {export} has {told(foreign)}"


def _may_be_there(comparison: Comparison, export: Request, words: Collection[Word]) -> Findings:
    """Check whether a file may exist.

    A deletion with `erase_exports` removes the chatter's earlier exports; one by ids, any export with one of the
    conversations. After the grace no file is left of data that a deletion has erased; data that a retention run has
    erased stays in it.
    """
    for word in words if export.is_aged else ():
        held = None if word.is_person else comparison.conversations[word.number]
        by = comparison.model.erasures_of(held) if held and comparison.expected[held] is Expected.GONE else ()
        if any(one.kind == "deletion" for one in by):
            yield "export left", f"the file of {export} is there after its grace, and has {word.text}"
    for one in comparison.erasures:
        if one.kind != "deletion" or one.status != "completed" or one.bot != export.bot:
            continue
        is_of_ids = bool(one.ids) and not one.surely.isdisjoint(export.surely)
        if export.ended_at and one.asked_at >= export.ended_at and (one.is_of_chatter(export) or is_of_ids):
            if "erase_exports" in one.flags:
                yield "export left", f"the file of {export} is there, and should have gone with {one}"
            comparison.met["exports that outlive what they hold"] += 1


def export_of(key: str, keys: Collection[str | None]) -> str | None:
    """Return the key of the export to which an object belongs: itself, or one beside it."""
    folder = key.rpartition("/")[0]
    whole = f"{folder.removesuffix('_files')}.csv" if folder.endswith("_files") else f"{folder}/manifest.json"
    return next((one for one in (key, whole) if one in keys), None)


def uploads(comparison: Comparison) -> Findings:
    """Check that the files of whole conversations have the sent contents."""
    for each, expected in comparison.expected.items():
        row = comparison.evidence.conversations.get(each.number or 0)
        for name, key in row.files.items() if row and expected is Expected.WHOLE else ():
            digest = hashlib.sha256(comparison.contents.get(key, b"")).hexdigest()
            comparison.met["uploaded files"] += 1
            if digest != each.tried_files.get(name.removesuffix(".txt")):
                yield "neighbour", f"{each.bot}: a file of {each.id}, which must stay, is not as it was sent"


def extracts(comparison: Comparison) -> Findings:
    """Check that each finished daily extract has the messages of its day, of all conversations of its chatbot."""
    for extract in comparison.evidence.extracts:
        which = f"{extract.bot}: the extract of {extract.day}"
        if extract.state != "done":
            yield "not ended", f"{which} is {extract.state}"
            continue
        if extract.hosting != "hosted":
            continue  # what was delivered is the client's
        try:
            lines = lines_of(comparison.contents.get(extract.key or "", b""))
        except (ValueError, csv.Error) as error:
            yield "extract", f"{which} is no whole CSV: {error}"
            continue
        for what in _faults_of_day(comparison, extract, lines):
            yield "extract", f"{which} {what}"


def _faults_of_day(comparison: Comparison, extract: ExtractRow, lines: Lines) -> Iterator[str]:
    found = {(line["conversation_id"], line["message_id"]): line["text"] for line in lines if line["message_id"]}
    for each, expected in comparison.expected.items():
        if each.bot != extract.bot or expected is not Expected.WHOLE or each.number is None:
            continue
        for message, sent in each.tried_texts.items():
            is_of_day = extract.starts_at <= each.sent_at[message] < extract.ends_at
            text = found.pop((each.id, message), None)
            redaction = each.redacted.get(message)
            right = "" if redaction and redaction.status == "completed" else sent
            comparison.met["messages in daily extracts"] += text is not None
            if text is None and is_of_day and message in each.texts:
                yield f"lacks message {message} of {each.id}"
            elif text is not None and (not is_of_day or text != right):
                yield f"has message {message} of {each.id} with {'another text' if is_of_day else 'no right'}"
    for name, message in found:
        yield f"has message {message} of {name}, which is not there"
