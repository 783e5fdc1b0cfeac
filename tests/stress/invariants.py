"""What must hold.

1. Every request is final once the storage is well and failed ones are retried; or its subject is forgotten.
2. When a deletion is completed, nothing of a conversation in its scope is anywhere.
3. Everything removed is accounted for by a deletion.
4. Each request has one final event, each erased row is in one request's counts.
5. No statement fails, and no error is logged.
6. An export by UCI has what the chatbot's setting lets in, and nothing else.
7. Who chatted in a conversation that is not erased is known in the end, if the client's server knows it.
8. After a restore what was erased is erased again and stays so, nothing else is, and nothing that clients send again
   is lost.
9. A note, reference or address on a request goes with whom it is about, and no other goes.
10. What is delivered to a client's bucket stays, and what erases it names it; what a redaction removes is made again,
   and waited for.
"""

from collections import Counter
from collections.abc import Collection

from tests.stress.looking import Found, Onlooker, Request, Row
from tests.stress.truth import (
    AGAIN,
    ENDED_WITHOUT,
    FINAL,
    Filed,
    ModelConversation,
    Place,
    Truth,
    is_of_chatter,
    places_of,
)

_FINAL_EVENT = {"completed": "request.completed", "cancelled": "request.cancelled", "rejected": "request.rejected"}


class Broken(Exception):
    """An invariant does not hold. `what` is the same for failures of one kind; `told` says more."""

    def __init__(self, number: int, what: str, result: str) -> None:
        super().__init__(f"invariant {number}, {what}: {result}")
        self.kind = (number, what)


def at_completion(truth: Truth, one: Filed, look: Onlooker) -> None:
    """Check what a request has to have erased at the moment it is seen completed."""
    if one.is_deletion:
        _is_erased(truth, one, look)
    elif one.text:
        is_redacted(truth, one, look)
    elif one.kind == "export":
        _is_reliable(truth, one)


def _is_reliable(truth: Truth, export: Filed) -> None:
    assert export.chatter
    assert export.completed_at
    demanded = truth.demanded(export)
    doubtful = {place for place, one in list(truth.conversations.items()) if one.may_be_in_doubt}
    if "verified" not in demanded and export.left_out and export.bot not in {bot for bot, _ in doubtful}:
        raise Broken(6, "left out", f"{export} left out {export.left_out}, and nothing demanded it")
    if export.held is None:
        return
    if demanded == {"verified"}:
        for place in export.held:
            vouched = truth.conversations[place].vouched.get(export.chatter)
            if vouched is None or vouched.asked_at > export.completed_at:
                raise Broken(6, "weak", f"{export} holds {_name(place)}, in which nobody vouched for the chatter")
            _is_of_one(truth.conversations[place], export)
    for place in export.certain - export.held - doubtful:
        entry = truth.conversations[place]
        vouched = entry.vouched.get(export.chatter)
        is_sure = vouched is not None and vouched.answered_at is not None and vouched.answered_at <= export.asked_at
        is_alone = entry.tried | set(entry.claimed) == {export.chatter} or "include_shared" in export.flags
        is_repeat = export.name.endswith(AGAIN)
        if is_repeat or not is_alone or not (is_sure or "verified" not in demanded):
            continue
        if not any(truth.accounts(one, entry) for one in truth.erasures):
            raise Broken(6, "missing", f"{export} does not hold {_name(place)}; it may have demanded {demanded}")


def _is_of_one(entry: ModelConversation, export: Filed) -> None:
    """Check that nobody else's session is in what an export took for its chatter's own conversation."""
    if not entry.is_looked_up or entry.claimed or "include_shared" in export.flags:
        return
    others = [who for who, at in entry.sessions.items() if who != export.chatter and at < export.asked_at]
    if others:
        raise Broken(6, "somebody else", f"{export} holds {_name(entry.place)}, in which {others} had a session")


def _is_erased(truth: Truth, deletion: Filed, look: Onlooker) -> None:
    numbers = {place: truth.conversations[place].number for place in deletion.certain}
    rows = look.rows([number for number in numbers.values() if number is not None])
    for place, number in numbers.items():
        row = rows.get(number or 0)
        if number is None:
            continue  # lost with the database, and not sent again yet
        if row is None or not row.is_empty:
            raise Broken(2, "rows", f"{deletion} is completed, and {_name(place)} still has rows: {row}")
    objects = look.objects()
    allowed = [export for export in truth.exports if _may_be_in_grace(deletion, export)]
    _expect_nowhere(deletion.certain, objects, allowed, f"{deletion} is completed")
    for export in truth.exports:
        is_earlier = export.completed_at is not None and export.completed_at < deletion.asked_at
        has_to_go = is_earlier and is_of_chatter(deletion, export) and export not in allowed
        if has_to_go and export.key and _is_in_bucket(export, objects):
            raise Broken(2, "own export", f"{deletion} is completed, and the chatter's {export} is still there")


def is_redacted(truth: Truth, redaction: Filed, look: Onlooker) -> None:
    """Check that the text of a completed redaction is nowhere but in copies that it names.

    It keeps those that hold a conversation which a deletion has closed: nobody could make them again.
    """
    numbers = {place: entry.number for place, entry in list(truth.conversations.items()) if entry.number is not None}
    rows = look.rows(numbers.values())
    closed = {place for place, number in numbers.items() if number in rows and rows[number].is_closed}
    row = rows.get(numbers.get((redaction.bot, *redaction.ids), 0))
    if row and redaction.text in row.texts:
        raise Broken(2, "redacted rows", f"{redaction} is completed, and its message still has the text")
    kept = look.kept(redaction.id) if redaction.id else []
    for found in look.objects():
        is_kept = closed & found.places and any(_belongs(found.key, key) for key in kept)
        if redaction.text in found.texts and not is_kept:
            raise Broken(2, f"redacted text in {_folder(found.key)}", f"{redaction} is completed; {found.key} has it")


def _may_be_in_grace(deletion: Filed, export: Filed) -> bool:
    """Return whether the export may be in its grace: finished less than a week before the deletion was filed."""
    if export.status != "completed" or (export.aged_at is not None and export.aged_at < deletion.asked_at):
        return False
    return not ("erase_exports" in deletion.flags and is_of_chatter(deletion, export))


def _expect_nowhere(places: Collection[Place], objects: list[Found], allowed: list[Filed], when: str) -> None:
    keys = {str(export.key) for export in allowed}
    for found in objects:
        held = found.places & set(places)
        if held and not any(_belongs(found.key, key) for key in keys):
            names = ", ".join(map(_name, sorted(held)))
            raise Broken(2, f"object in {_folder(found.key)}", f"{when}, and {found.key} holds {names}")


def erased_and_alive(truth: Truth, look: Onlooker, objects: list[Found]) -> list[ModelConversation]:
    """Check each conversation at the end, when all is swept: it is whole, or gone and accounted for.

    Return those that are gone.
    """
    stored = [entry for entry in truth.conversations.values() if entry.number is not None]
    rows = look.rows([entry.number for entry in stored if entry.number is not None])
    keys = Counter(place for found in objects if found.key.startswith("uploads/") for place in found.places)
    gone = []
    for entry in stored:
        row = rows.get(entry.number or 0)
        if row is None:
            raise Broken(3, "conversation", f"{_name(entry.place)} has no row any more")
        if entry.is_promised and not row.is_empty:
            raise Broken(8, "came back", f"{_name(entry.place)} was erased before a restore, and is here: {row}")
        accounting = [one for one in truth.erasures if truth.accounts(one, entry)]
        demanding = [one for one in truth.deletions if one.status == "completed" and truth.must_be_gone(one, entry)]
        by = next((one for one in truth.retentions if one.id == row.closed_by), None)
        if by and not truth.accounts(by, entry) and not entry.is_promised:
            raise Broken(3, "by an ended run", f"{_name(entry.place)} is erased by {by}, of a period that had ended")
        if row.is_empty and (accounting or entry.is_promised):
            gone.append(entry)
        elif row.is_erased or row.is_empty:
            kind = (2, "rows") if accounting else (3, "conversation")
            raise Broken(
                *kind, f"{_name(entry.place)} is erased: {row}; deletions that account for it: {len(accounting)}"
            )
        elif demanding:
            raise Broken(2, "late", f"{demanding[0]} is completed, and {_name(entry.place)} is not erased: {row}")
        else:
            redacted = {one.text for one in truth.redactions if one.status == "completed"}
            _expect_whole(entry, row, keys[entry.place], redacted)
            if entry.is_looked_up and not entry.people:
                raise Broken(7, "not looked up", f"{_name(entry.place)} has no identity: {row}")
    return gone


def _expect_whole(entry: ModelConversation, row: Row, objects: int, redacted: set[str]) -> None:
    texts = entry.messages - redacted
    # Of who was looked up nobody is told that it was refused, nor whether an export kept the conversation.
    is_refused = bool(entry.refused or ((entry.asked or entry.may_be_refused) and row.refused))
    expected = (len(texts), len(entry.files), len(entry.files), len(entry.people), is_refused)
    found = (len(set(row.texts) & texts), row.stored_files, objects, row.people, row.refused > 0)
    if found != expected or not row.is_named:
        result = f"{_name(entry.place)} has {found} of {expected} messages, files, objects, people, refusals: {row}"
        raise Broken(3, "part of a conversation", result)


def late(truth: Truth, look: Onlooker) -> set[int]:
    """Return the conversations that wait for a sweep: closed for a deletion that is completed."""
    done = {one.id for one in truth.deletions if one.status == "completed"}
    numbers = [entry.number for entry in truth.conversations.values() if entry.number is not None]
    return {row.number for row in look.rows(numbers).values() if row.closed_by in done and not row.is_erased}


def late_words_are_gone(late: set[int], look: Onlooker) -> None:
    """Check that a sweep has erased these, whatever the storage says of their files."""
    for row in look.rows(late).values():
        if not row.is_erased:
            raise Broken(2, "late words", f"a whole sweep has left {row}")


def nothing_is_left(truth: Truth, gone: list[ModelConversation], objects: list[Found], *, in_grace: bool) -> None:
    """Check that of erased conversations nothing is in the bucket; with `in_grace` but in the persons' own copies.

    What only a retention run has erased stays in finished exports, for their time.
    """
    exports = [export for export in truth.exports if export.key]
    allowed = [export for export in exports if in_grace and export.aged_at is None]
    gone = [*gone, *(entry for entry in truth.promised if entry not in gone)]
    asked_for = [entry for entry in gone if any(truth.accounts(one, entry) for one in truth.deletions)]
    _expect_nowhere([entry.place for entry in asked_for], objects, allowed, "all is swept")
    _expect_nowhere([entry.place for entry in gone], objects, exports, "all is swept")


def exports_are_accounted_for(truth: Truth, objects: list[Found]) -> None:
    """Check that no export is gone that no deletion had to remove."""
    for export in truth.exports:
        if not export.is_hosted_export or export.held is None or export.key is None:
            continue
        if _is_in_bucket(export, objects):
            continue
        fresh = export.aged_at is None
        reasons = [
            deletion
            for deletion in truth.deletions
            if (export.gone_with is None or deletion.name in export.gone_with)
            and _may_remove(truth, deletion, export)
            and not (fresh and "erase_exports" not in deletion.flags)
        ]
        redacting = [one for one in truth.redactions if not (fresh and one.name in export.kept_from)]
        redacted = {(one.bot, *one.ids) for one in redacting if one.status not in ENDED_WITHOUT}
        if not reasons and not redacted & set(export.held):
            age = "fresh" if fresh else "of 8 days ago"
            names = ", ".join(map(_name, sorted(export.held))) or "nothing"
            raise Broken(3, "export", f"{export}, {age}, is gone; it held {names}")


def _may_remove(truth: Truth, deletion: Filed, export: Filed) -> bool:
    if deletion.status in ENDED_WITHOUT:
        return False
    is_later = deletion.completed_at is not None and export.asked_at > deletion.completed_at
    if truth.is_own(deletion, export) and not is_later:
        return True
    return any(truth.accounts(deletion, truth.conversations[place]) for place in export.held or ())


def all_are_final(truth: Truth, requests: list[Request], forgotten: Collection[str]) -> None:
    """Check that no request waits any more. `forgotten` are the failed ones that cannot be retried any more."""
    found = {request.id: request for request in requests}
    waiting = []
    for one in truth.filed.values():
        request = found.get(one.id) if one.id else None
        if request and request.status not in FINAL and one.name not in forgotten:
            why = " ".join(filter(None, [request.status, request.hold_reason, request.error_code]))
            waiting.append((one, request.status, why))
    if waiting:
        statuses = ", ".join(sorted({status for _, status, _ in waiting}))
        raise Broken(1, f"still {statuses}", "; ".join(f"{one} is still {why}" for one, _, why in waiting))


def events_and_counts(truth: Truth, gone: list[ModelConversation], look: Onlooker) -> None:
    events = look.final_events()
    for request in look.requests():
        expected = [_FINAL_EVENT[request.status]] if request.status in FINAL else []
        one = next((one for one in truth.filed.values() if one.id == request.id), None)
        # What a replay only records has had its event in the life that was lost.
        is_of_before = one is not None and (one.is_replayed or one.done_at != one.completed_at)
        is_recorded = is_of_before and request.id not in events
        if events.get(request.id, []) != expected and not is_recorded:
            raise Broken(4, "final events", f"{one or '?'} is {request.status}: {events.get(request.id)}")
    conversations, messages, files = look.counts()
    expected_messages = sum(len(entry.messages) for entry in gone)
    if (conversations, messages) != (len(gone), expected_messages):
        result = f"erased {len(gone)} and {expected_messages}, counted {conversations} and {messages}"
        raise Broken(4, "counts", f"conversations and messages: {result}")
    least = sum(len(entry.files) for entry in gone)
    most = least + sum(entry.failed_uploads for entry in truth.conversations.values())
    if not least <= files <= most:
        raise Broken(4, "counts", f"files: erased {least} to {most}, counted {files}")


def after_replay(truth: Truth, look: Onlooker) -> None:
    """Check that a replay has erased what it had to, and nothing else."""
    for one in truth.deletions:
        if one.is_absent and one.status not in ENDED_WITHOUT:
            raise Broken(8, "lost request", f"{one} was accepted before a restore, and is not here")
    stored = [entry for entry in truth.conversations.values() if entry.number is not None]
    rows = look.rows([entry.number for entry in stored if entry.number is not None])
    for entry in stored:
        row = rows[entry.number or 0]
        if entry.is_promised and not row.is_wordless:
            raise Broken(8, "not erased again", f"{_name(entry.place)} was erased, and has after a replay: {row}")
        if row.is_erased and not entry.is_promised and not any(truth.accounts(one, entry) for one in truth.erasures):
            raise Broken(8, "too much", f"{_name(entry.place)} is erased by a replay, and was not before: {row}")


def after_sending_again(truth: Truth, look: Onlooker, lost: list[ModelConversation]) -> None:
    """Check what has become of all that clients have sent since the backup and send again."""
    here = look.texts()
    if back := places_of(here) & {entry.place for entry in truth.promised}:
        names = ", ".join(map(_name, sorted(back)))
        raise Broken(8, "came back", f"{names} was erased before a restore, and was stored when it was sent again")
    for former in lost:
        entry = truth.conversations[former.place]
        missing = former.messages - entry.messages
        if missing and not entry.is_promised and not any(truth.accounts(one, entry) for one in truth.erasures):
            raise Broken(8, "refused", f"{_name(entry.place)} was open before a restore, and is without {missing}")
    for redaction in truth.redactions:
        if redaction.status == "completed":
            is_redacted(truth, redaction, look)


def _is_in_bucket(export: Filed, objects: list[Found]) -> bool:
    return any(found.key == export.key for found in objects)


def _belongs(key: str, export_key: str) -> bool:
    return key == export_key or key.startswith(f"{export_key.removesuffix('.csv')}_files/")


def _folder(key: str) -> str:
    names = ("uploads", "chatter_data_exports", "daily_conversations_extracts")
    return next((name for name in names if name in key), "another folder")


def _name(place: Place) -> str:
    return "/".join(place)
