"""The invariants: at the moment when a request is seen completed, after a replay, and at the end.

At the end the oracle judges: each request is over, with one final event; each conversation is whole, or gone,
accounted for and counted; of what is gone nothing is in any row or object. It is not told of callbacks, logs and
lateness. What it does not know of is here: exports by what their chatbot demanded, copies that were delivered or made
again, and what a restore may change.
"""

from collections.abc import Collection

from tests.oracle.checks import Checks
from tests.oracle.evidence import Evidence, ObjectVersion
from tests.oracle.exports import export_of
from tests.oracle.leftovers import folder_of
from tests.oracle.model import COMMENT, ERASING, FINAL
from tests.oracle.words import found_in
from tests.stress.looking import Onlooker
from tests.stress.truth import AGAIN, FiledRequest, ModelConversation, Truth


class Broken(Exception):
    """An invariant is violated. `kind` is the same for failures of one kind; `told` has the details."""

    def __init__(self, kind: str, told: str) -> None:
        super().__init__(f"{kind}: {told}")
        self.kind = kind


# --- At a completion -----------------------------------------------------------------------------------------


def at_completion(truth: Truth, one: FiledRequest, look: Onlooker) -> None:
    """Check the erasures of a request, and its handling of copies, at the moment it is seen completed."""
    if one.kind == "deletion":
        _is_erased(truth, one, look)
    elif one.redacts:
        is_redacted(truth, one, look)
    elif one.kind == "export" and one.value:
        _is_reliable(truth, one)
    _are_named(truth, one, look)
    # It did not overtake an export that was made again.
    waited_for = [each for each in truth.of("export") if one.name in each.awaited_by]
    requests = look.requests() if waited_for else {}
    for export in waited_for:
        request, mine = requests.get(export.id), requests.get(one.id)
        if request and mine and request.status not in FINAL and not mine.ignores_exports:
            raise Broken("overtaken", f"{one} is completed, and {export}, made again, is {request.status}")


def _is_reliable(truth: Truth, export: FiledRequest) -> None:
    """Check that an export by UCI has exactly the conversations that the chatbot's setting allows."""
    assert export.ended_at
    demanded = truth.demanded(export)
    doubtful = {entry for entry in truth.entries if entry.may_be_in_doubt}
    if "verified" not in demanded and export.left_out and export.bot not in {entry.bot for entry in doubtful}:
        raise Broken("left out", f"{export} left out {export.left_out}, and nothing demanded it")
    if export.held is None:
        return
    for entry in export.held if demanded == {"verified"} else ():
        vouched = entry.vouched.get(export.value)
        if vouched is None or vouched.asked_at > export.ended_at:
            raise Broken("weak", f"{export} holds {entry}, without a verified chatter")
        # No other chatter has a session in a conversation that an export took for its chatter's own.
        others = [who for who, at in entry.sessions.items() if who != export.value and at < export.asked_at]
        if others and entry.session and not entry.claimed and "include_shared" not in export.flags:
            raise Broken("another chatter", f"{export} holds {entry}, in which {others} had a session")
    for entry in export.certain - export.held - doubtful:
        vouched = entry.vouched.get(export.value)
        is_sure = vouched is not None and vouched.answered_at is not None and vouched.answered_at <= export.asked_at
        is_alone = entry.tried | set(entry.claimed) == {export.value} or "include_shared" in export.flags
        if export.name.endswith(AGAIN) or not is_alone or not (is_sure or "verified" not in demanded):
            continue
        if not any(truth.accounts(one, entry) for one in truth.of(*ERASING)):
            raise Broken("missing", f"{export} does not hold {entry}; it may have demanded {demanded}")


def _is_erased(truth: Truth, deletion: FiledRequest, look: Onlooker) -> None:
    # One may be lost with the database, and not sent again yet.
    scope = [entry for entry in deletion.certain if entry.number is not None]
    rows = look.rows(scope)
    for entry in scope:
        row = rows.get(entry.number or 0)
        if row is None or not row.is_empty:
            raise Broken("rows", f"{deletion} is completed, and {entry} still has rows: {row}")
    objects = look.objects()
    allowed = [export for export in truth.of("export") if _may_be_in_grace(deletion, export)]
    keys = [export.object_key for export in allowed if export.object_key]
    for found in objects:
        held = truth.held_in(found) & deletion.certain
        if held and export_of(found.key, keys) is None:
            names = ", ".join(sorted(map(str, held)))
            where = folder_of(found.key)
            raise Broken(f"object in {where}", f"{deletion} is completed, and {found.key} holds {names}")
    for export in truth.of("export"):
        is_earlier = export.ended_at is not None and export.ended_at < deletion.asked_at
        has_to_go = is_earlier and deletion.is_of_chatter(export) and export not in allowed
        if has_to_go and any(export_of(found.key, [export.object_key]) for found in objects):
            raise Broken("own export", f"{deletion} is completed, and the chatter's {export} is still there")


def _may_be_in_grace(deletion: FiledRequest, export: FiledRequest) -> bool:
    """Return whether the export may be in its grace: finished less than a week before the deletion was filed."""
    if export.status != "completed" or (export.aged_at is not None and export.aged_at < deletion.asked_at):
        return False
    return not ("erase_exports" in deletion.flags and deletion.is_of_chatter(export))


def is_redacted(truth: Truth, redaction: FiledRequest, look: Onlooker) -> None:
    """Check that the texts of a completed redaction are only in copies that it lists.

    It keeps copies with a conversation that a deletion has closed: they could not be made again.
    """
    rows = look.rows(truth.entries)
    closed = {entry for entry in truth.entries if (row := rows.get(entry.number or 0)) and row.closed_by}
    row = rows.get(truth.at(redaction.bot, *redaction.ids).number or 0)
    texts = set(redaction.redacts.values())
    if row and texts & {row.facts[COMMENT], *(text for _, text in row.texts.values())}:
        raise Broken("redacted rows", f"{redaction} is completed, and a text of it is still there")
    kept = list(filter(None, look.left(redaction.id).values()))
    for found in look.objects():
        is_kept = closed & truth.held_in(found) and export_of(found.key, kept)
        if texts & _words_in(found) and not is_kept:
            raise Broken(f"redacted text in {folder_of(found.key)}", f"{redaction} is completed; {found.key} has it")


def _are_named(truth: Truth, one: FiledRequest, look: Onlooker) -> None:
    """Check that a request that has just erased data lists each copy that was delivered before it was filed."""
    delivered = [each for each in truth.of("export") if each.is_delivered and each.ended_at]
    delivered = [each for each in delivered if each.ended_at and each.ended_at < one.asked_at]
    if not delivered or not (one.kind == "deletion" or one.redacts):
        return
    named, requests = look.left(one.id), look.requests()
    there = look.delivered()
    for export in delivered:
        is_own = one.kind == "deletion" and export.is_of_chatter(one)
        files = [found for found in there if export_of(found.key, [export.object_key])]
        has_text = any(_words_in(found).intersection(one.redacts.values()) for found in files)
        has_some = one.certain & (export.held or frozenset()) if one.kind == "deletion" else has_text
        if (is_own or has_some) and export.id not in named:
            raise Broken("not named", f"{one} is completed, and does not name {export}, which was delivered")
        if is_own and export.id in requests and requests[export.id].key:
            raise Broken("own key", f"{one} is completed, and the key of {export} is still known")


def _words_in(found: ObjectVersion) -> set[str]:
    return {word.text for word in found_in(found.body)}


# --- What is noted of copies ---------------------------------------------------------------------------------


def note_key(truth: Truth, export: FiledRequest, key: str) -> None:
    for other in truth.of("export"):
        # Within a second the key of one that is gone is given to the next export of the chatter.
        if other is not export and other.object_key == key:
            other.object_key = None
    export.object_key = key


def note_removed(truth: Truth, with_keys: Collection[str]) -> None:
    """Record which exports with a key are gone now."""
    for export in truth.of("export"):
        if export.object_key and export.gone_with is None and export.id not in with_keys:
            export.gone_with = frozenset(one.name for one in truth.of("deletion") if one.has_begun)


def note_deletions(truth: Truth, removed: FiledRequest, repeat: FiledRequest) -> None:
    """Record which later deletions of the chatter have to wait for an export that is made again.

    Raises Broken if one has marked: then no export may be made again.
    """
    later = [one for one in truth.of("deletion") if one.is_of_chatter(removed) and one.asked_at > removed.asked_at]
    for one in later:
        if one.is_marked and not one.is_withdrawn:
            raise Broken("for an erased chatter", f"{removed} is made again, and {one} has marked")
    repeat.awaited_by = {one.name for one in later}


def note_kept(truth: Truth, redaction: FiledRequest, look: Onlooker) -> None:
    """Record which finished exports a redaction that has just begun must keep: some of their data is erased."""
    rows = look.rows(truth.entries)
    erased = {entry for entry in truth.entries if (row := rows.get(entry.number or 0)) and row.is_deleted}
    for export in truth.of("export"):
        if export.is_hosted_export and export.object_key and erased & (export.held or set()):
            export.kept_from.add(redaction.name)


# --- After a replay ------------------------------------------------------------------------------------------


def after_replay(truth: Truth, look: Onlooker) -> None:
    """Check that a replay has erased exactly the required data."""
    for one in truth.of("deletion"):
        if one.is_lost and not one.is_withdrawn:
            raise Broken("lost request", f"{one} was accepted before a restore, and is not here")
    rows = look.rows(truth.entries)
    for entry in truth.entries:
        if (row := rows.get(entry.number or 0)) is None:
            continue
        if entry.is_barred and not row.is_wordless:
            raise Broken("not erased again", f"{entry} was erased, and has after a replay: {row}")
        if row.is_deleted and not truth.is_accounted_for(entry):
            raise Broken("too much", f"{entry} is erased by a replay, and was not before: {row}")


def after_sending_again(truth: Truth, look: Onlooker, lost: dict[ModelConversation, set[str]]) -> None:
    """Check the results of the documents that clients have sent since the backup and send again."""
    here = truth.of_words(found_in(*(line for _, line in look.lines())))
    if back := [str(entry) for entry in here if entry.is_barred]:
        raise Broken("came back", f"{back} was erased before a restore, and was stored when it was sent again")
    for entry, texts in lost.items():
        if (missing := texts - entry.texts.keys()) and not truth.is_accounted_for(entry):
            raise Broken("refused", f"{entry} was open before a restore, and is without {missing}")
    for redaction in truth.of("redaction"):
        if redaction.status == "completed":
            is_redacted(truth, redaction, look)


# --- During a sweep, and at the end --------------------------------------------------------------------------


def late(truth: Truth, look: Onlooker) -> list[ModelConversation]:
    """Return the conversations that wait for a sweep: closed for a deletion that is completed."""
    done = {one.id for one in truth.of("deletion") if one.status == "completed"}
    rows = look.rows(truth.entries)
    found = {row.number for row in rows.values() if row.closed_by in done and not row.is_deleted}
    return [entry for entry in truth.entries if entry.number in found]


def late_words_are_gone(late: list[ModelConversation], look: Onlooker) -> None:
    """Check that a sweep has erased these, even if the storage refuses to remove their files."""
    for row in look.rows(late).values() if late else ():
        if not row.is_deleted:
            raise Broken("late words", f"a whole sweep has left {row}")


def at_the_end(truth: Truth, evidence: Evidence, look: Onlooker) -> None:
    """Check all invariants when each request is over and all is swept."""
    # The client's server always knows the chatter of a look-up.
    sessions = {entry.session for entry in truth.entries if entry.session}
    for kind, told in Checks(truth, evidence, sessions=sessions, callbacks=()).of_contents():
        raise Broken(kind, told)
    known = look.keys()
    for found in evidence.objects.versions:
        if folder_of(found.key) == "uploads" and found.key not in known:
            raise Broken("orphan", f"no row names {found.key}")
    # What was delivered is there, not made again, and known unless its chatter is erased.
    repeated = {row.repeats for row in evidence.requests.values()}
    there = {found.key for found in evidence.client_objects.versions}
    for export in truth.of("export"):
        if not export.is_delivered or export.status != "completed":
            continue
        if export.object_key and export.object_key not in there:
            raise Broken("removed", f"{export} was delivered, and is not in the client's bucket any more")
        if export.id in repeated:
            raise Broken("made again", f"{export} was delivered, and was filed again")
        is_own = any(export.is_of_chatter(one) and one.done_at for one in truth.of("deletion"))
        row = evidence.requests.get(export.id)
        if export.object_key and row and not row.key and not is_own:
            raise Broken("forgotten", f"the key of {export} is gone, though its chatter was not erased")
