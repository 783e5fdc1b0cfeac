"""Copies: delivered ones, which nothing removes and whoever erases what is in them names; and those made again."""

from collections.abc import Collection
from uuid import UUID

from tests.stress.invariants import Broken
from tests.stress.looking import Onlooker
from tests.stress.truth import ENDED_WITHOUT, FINAL, Filed, Truth, is_of_chatter


def note_key(truth: Truth, export: Filed, key: str) -> None:
    for other in truth.exports:
        # Within a second the key of one that is gone is given to the next export of the chatter.
        if other is not export and other.key == key:
            other.key = None
    export.key = key


def note_removed(truth: Truth, with_keys: Collection[UUID]) -> None:
    """Note which exports are gone now, of those that had a key."""
    for export in truth.exports:
        if export.key and export.gone_with is None and export.id not in with_keys:
            export.gone_with = frozenset(one.name for one in truth.deletions if one.has_begun)


def at_completion(truth: Truth, one: Filed, look: Onlooker) -> None:
    """Check what a request that was completed just now had to do about copies."""
    _are_named(truth, one, look)
    _are_waited_for(truth, one, look)


def _are_named(truth: Truth, one: Filed, look: Onlooker) -> None:
    """Check that a request that has just erased something names each copy that was delivered before it was filed."""
    delivered = [
        export
        for export in truth.exports
        if export.is_delivered and export.completed_at and export.completed_at < one.asked_at
    ]
    if not delivered or one.id is None or not (one.is_deletion or one.text):
        return
    named = look.named(one.id)
    keys = {request.id: request.key for request in look.requests()}
    texts = {found.key: found.texts for found in look.delivered()}
    for export in delivered:
        is_own = one.is_deletion and is_of_chatter(export, one)
        has_some = (
            one.certain & (export.held or set()) if one.is_deletion else one.text in texts.get(str(export.key), ())
        )
        if (is_own or has_some) and export.id not in named:
            raise Broken(10, "not named", f"{one} is completed, and does not name {export}, which was delivered")
        if is_own and keys.get(export.id):
            raise Broken(10, "own key", f"{one} is completed, and the key of {export} is still known")


def note_deletions(truth: Truth, removed: Filed, repeat: Filed) -> None:
    """Note which later deletions of the chatter have to wait for an export that is made again.

    Raises Broken if one has marked: then nothing is to be made again.
    """
    later = [one for one in truth.deletions if is_of_chatter(one, removed) and one.number > removed.number]
    for one in later:
        if one.is_marked and one.status not in ENDED_WITHOUT:
            raise Broken(10, "for an erased chatter", f"{removed} is made again, and {one} has marked")
    repeat.awaited_by = {one.name for one in later}


def _are_waited_for(truth: Truth, one: Filed, look: Onlooker) -> None:
    """Check that a deletion that was completed just now did not overtake an export that was made again."""
    requests = {request.id: request for request in look.requests()}
    for export in [each for each in truth.exports if one.name in each.awaited_by]:
        request = requests.get(export.id)
        mine = requests.get(one.id)
        if request and mine and request.status not in FINAL and not mine.ignores_exports:
            raise Broken(
                10, "overtaken", f"{one} is completed, and {export}, which was made again, is {request.status}"
            )


def note_kept(truth: Truth, redaction: Filed, look: Onlooker) -> None:
    """Note which finished exports a redaction that has just begun must keep: something of them is erased."""
    places = {entry.number: entry.place for entry in truth.conversations.values() if entry.number is not None}
    erased = {places[row.number] for row in look.rows(places).values() if row.is_erased}
    for export in truth.exports:
        if export.is_hosted_export and export.key and erased & (export.held or set()):
            export.kept_from.add(redaction.name)


def are_kept(truth: Truth, look: Onlooker) -> None:
    """Check at the end that what was delivered is there, not made again, and known unless its chatter is erased."""
    found = {each.key for each in look.delivered()}
    repeated = {removed for removed, _, _ in look.repeats()}
    keys = {request.id: request.key for request in look.requests()}
    for export in truth.exports:
        if not export.is_delivered or export.status != "completed":
            continue
        if export.key and export.key not in found:
            raise Broken(10, "removed", f"{export} was delivered, and is not in the client's bucket any more")
        if export.id in repeated:
            raise Broken(10, "made again", f"{export} was delivered, and was filed again")
        is_own = any(is_of_chatter(export, one) and one.done_at for one in truth.deletions)
        if export.key and export.id in keys and not keys[export.id] and not is_own:
            raise Broken(
                10, "forgotten", f"{export} was delivered, and its key is gone though nobody erased its chatter"
            )
