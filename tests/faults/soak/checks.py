"""What must be true in the end: the model against the evidence. Each check yields kind and text of what is not.

Nothing is expected that the documentation does not promise. What remains by promise is named where it is allowed.
"""

from collections.abc import Collection, Iterator
from functools import cached_property

from tests.faults.soak.evidence import Evidence, Stored
from tests.faults.soak.model import Fate, Filed, Model, Talk
from tests.faults.soak.words import Word, found_in, told

Found = Iterator[tuple[str, str]]


class Ending:
    """All checks of one run, when all its requests are over. `sessions` has the value of each session that a resolver
    has told the service, and never lied about."""

    def __init__(
        self, model: Model, evidence: Evidence, *, sessions: Collection[str] = (), callbacks: Collection[str]
    ):
        self.model = model
        self.evidence = evidence
        self.sessions = set(sessions)
        # The chatbots that have a receiver.
        self.callbacks = set(callbacks)
        self.erasures = [one for one in model.filed if one.erases]

    @cached_property
    def fates(self) -> dict[Talk, Fate]:
        """Of each stored conversation: whole or gone. Where it could be either, what it is."""
        found = {}
        for talk in self.model.talks:
            fate = self.model.fate(talk, self.erasures)
            row = self.evidence.talks.get(talk.number or 0)
            if fate is Fate.EITHER and row is not None:
                fate = Fate.GONE if row.is_deleted else Fate.WHOLE
            found[talk] = fate
        return found

    def all(self) -> Found:
        yield from self.requests_ended()
        yield from self.conversations()
        yield from self.counts()
        yield from self.nothing_personal()
        yield from self.exports()
        yield from self.callbacks_came()
        yield from self.identities()

    # --- Requests ----------------------------------------------------------------------------------------

    def requests_ended(self) -> Found:
        """Each accepted request is there and over, with one final event; none is there that nobody filed."""
        known = {one.id: one for one in self.model.filed if one.id}
        events: dict[str, list[str]] = {}
        for request, event in self.evidence.events:
            events.setdefault(request, []).append(event)
        for name, one in known.items():
            row = self.evidence.requests.get(name)
            if row is None:
                yield "forgotten request", f"{one} was accepted, and is not there"
            elif one.is_final and row.status != one.status:
                yield "ended twice", f"{one} was {one.status}, and is {row.status}"
        for name, row in self.evidence.requests.items():
            which = known.get(name, f"{row.kind} {name} of {row.bot}")
            if row.status not in {"completed", "cancelled", "rejected"}:
                yield "not ended", f"{which} is {row.status} {row.hold_reason} {row.error_code}".strip()
            elif events.get(name, []) != [f"request.{row.status}"]:
                yield "ended twice", f"{which} is {row.status}, and the change log has {events.get(name, [])}"
            # A redaction whose answer was lost is filed again, and is two. An export is repeated by a redaction.
            if name not in known and row.kind not in {"redaction", "retention"} and not row.is_repeat:
                yield "doubled filing", f"{which} is there, and nobody filed it"

    # --- Conversations -----------------------------------------------------------------------------------

    def conversations(self) -> Found:
        for talk, fate in self.fates.items():
            if talk.number is None:
                continue
            row = self.evidence.talks.get(talk.number)
            if row is None:
                yield "lost conversation", f"{talk.bot}: {talk.id} has no row any more"
            elif fate is Fate.GONE:
                yield from self._is_gone(talk, row)
            else:
                yield from self._is_whole(talk, row)

    def _is_gone(self, talk: Talk, row: Stored) -> Found:
        left = [
            name for name, rows in (("messages", row.texts), ("files", row.files), ("values", row.values)) if rows
        ]
        if not row.is_deleted or row.id is not None or left:
            by = next(iter(self.model.erasures_of(talk, self.erasures)), "?")
            yield "row left", f"{talk.bot}: {talk.id} was erased by {by}, and has {left or 'not been deleted'}"

    def _is_whole(self, talk: Talk, row: Stored) -> Found:
        who = f"{talk.bot}: {talk.id}"
        if row.is_deleted or row.id != talk.id:
            yield "neighbour", f"{who}, which nobody erases, is deleted"
            return
        for message, text in talk.texts.items():
            kind, found = row.texts.get(message, ("", None))
            redaction = talk.redacted.get(message)
            if found is None:
                yield "neighbour", f"{who}, which nobody erases, has lost message {message}"
            elif redaction and redaction.status == "completed":
                if found or kind != "redacted":
                    yield "redaction", f"{who} still has the text of message {message}: {redaction}"
            elif found != text:
                yield "neighbour", f"{who} has another text in message {message}"
        for message in set(row.texts) - set(talk.tried_texts):
            yield "neighbour", f"{who} has a message that nobody sent: {message}"
        names = {name.removesuffix(".txt") for name in row.files}
        if not talk.files <= names or not names <= talk.tried_files:
            yield "neighbour", f"{who} has {len(names)} files, and not the {len(talk.files)} sent"
        if not talk.people <= set(row.values) or not set(row.values) <= talk.tried:
            yield "identity", f"{who} has {len(row.values)} identities, and not the {len(talk.people)} sent"

    # --- Counts ------------------------------------------------------------------------------------------

    def counts(self) -> Found:
        """Usage is billed; the counts of deletions and retention runs are those of what is gone."""
        for bot, (stored, deleted) in self.evidence.usage.items():
            rows = [row for row in self.evidence.talks.values() if row.bot == bot]
            sent = [talk for talk in self.fates if talk.bot == bot and talk.number is not None]
            # Those whose only answer was a refusal may have been stored by the call before, of which no answer came.
            most = len([talk for talk in self.fates if talk.bot == bot and talk.tried_texts])
            gone = sum(self.fates[talk] is Fate.GONE for talk in sent)
            if not len(sent) <= stored <= most or stored != len(rows):
                yield "counts", f"{bot} has {stored} conversations in its usage, and {len(sent)} were stored"
            if not gone <= deleted <= gone + most - len(sent):
                yield "counts", f"{bot} has {deleted} deleted ones in its usage, and {gone} are gone"
            erasing = [one for one in self.evidence.requests.values() if one.bot == bot and one.kind in _ERASING]
            counted = sum(one.conversations for one in erasing)
            if counted != deleted:
                yield "counts", f"{bot}'s deletions count {counted} conversations, and {deleted} are deleted"
            gone_talks = [talk for talk in sent if self.fates[talk] is Fate.GONE]
            yield from self._of_rows(bot, sum(one.messages for one in erasing), gone_talks, "texts")
            yield from self._of_rows(bot, sum(one.files for one in erasing), gone_talks, "files")

    def _of_rows(self, bot: str, counted: int, gone: Collection[Talk], what: str) -> Found:
        unknown = [talk for talk in self.fates if talk.bot == bot and talk.number is None]
        least = sum(len(getattr(talk, what)) for talk in gone)
        # What was refused in the end may have been stored by a call before, of which no answer came.
        most = sum(len(getattr(talk, f"tried_{what}")) for talk in (*gone, *unknown))
        if not least <= counted <= most:
            yield "counts", f"{bot}'s deletions count {counted} {what}, and {least} were stored in what is gone"

    # --- Words -------------------------------------------------------------------------------------------

    def nothing_personal(self) -> Found:
        """Nothing of what is gone is in any row, in any version of an object, or in anybody's log."""
        for name, text in self.evidence.logs.items():
            if found := found_in(text):
                yield "personal in a log", f"the log {name} has {told(found)}"
        left: dict[str, set[Word]] = {}
        for table, line in self.evidence.tables:
            if found := self._gone(found_in(line), is_key=table in _KEYS):
                left.setdefault(table, set()).update(found)
        for table, found in left.items():
            yield "word left in rows", f"the table {table} has {told(found)}"
        for stored in self.evidence.objects.versions:
            folder = _folder_of(stored.key)
            if folder == "chatter_data_exports":
                continue  # see `exports`
            text = (stored.body or b"").decode(errors="replace")
            if found := self._gone(found_in(stored.key, text)):
                yield "word left in an object", f"an object in {folder} has {told(found)}"

    def _gone(self, words: Collection[Word], *, is_key: bool = False) -> set[Word]:
        """Return those of the words that must be nowhere. The key of a kept export has its chatter's value."""
        found = set()
        for word in words:
            if word.is_person:
                if word.number not in self._living and not (is_key and word.number in self._kept):
                    found.add(word)
                continue
            talk = self._talks.get(word.number)
            if talk is None or self.fates[talk] is Fate.GONE or word.text in self._redacted:
                found.add(word)
        return found

    @cached_property
    def _kept(self) -> set[int]:
        """The people whose value is in the key of a file that lives on: in its grace, or in the client's own bucket.

        There it is forgotten once the chatter's deletion is completed.
        """
        known = {one.id: one for one in self.model.filed if one.id}
        found: set[int] = set()
        for row in self.evidence.requests.values():
            export = known.get(row.id)
            is_forgotten = row.hosting == "client" and export and export.ended and self._is_deleted_after(export)
            if row.key and not is_forgotten:
                found |= {word.number for word in found_in(row.key)}
        return found

    def _is_deleted_after(self, export: Filed) -> bool:
        return any(
            one.status == "completed" and one.bot == export.bot and one.value == export.value
            for one in self.erasures
            if one.value and one.asked > export.ended
        )

    @cached_property
    def _talks(self) -> dict[int, Talk]:
        return {talk.index: talk for talk in self.model.talks}

    @cached_property
    def _living(self) -> set[int]:
        """The people who have a conversation that is not gone."""
        values = {
            value
            for talk, fate in self.fates.items()
            if fate is Fate.WHOLE and (talk.number is None or talk.number in self.evidence.talks)
            for value in talk.tried
        }
        return {one.number for one in self.model.people if one.value in values}

    @cached_property
    def _redacted(self) -> set[str]:
        """The words of the texts that are redacted. The ids of their messages stay."""
        return {
            word.text
            for talk in self.model.talks
            for message, one in talk.redacted.items()
            if one.status == "completed"
            for word in found_in(talk.tried_texts[message])
        }

    # --- Exports -----------------------------------------------------------------------------------------

    def exports(self) -> Found:
        """The file of each hosted export holds its chatter's own, and it is there only as long as it may be."""
        known = {one.id: one for one in self.model.filed if one.id}
        keys = {row.key: row for row in self.evidence.requests.values() if row.key and row.hosting == "hosted"}
        objects = [one for one in self.evidence.objects.versions if _folder_of(one.key) == "chatter_data_exports"]
        for stored in objects:
            row = keys.get(_export_of(stored.key, keys))
            if row is None:
                yield "orphan", "an object in chatter_data_exports belongs to no export"
                continue
            export = known.get(row.id)
            text = (stored.body or b"").decode(errors="replace")
            if export is not None:
                yield from self._holds_its_own(export, found_in(stored.key, text))
                yield from self._may_be_there(export)
        there = {stored.key for stored in objects}
        for key, row in keys.items():
            if row.status == "completed" and key not in there:
                yield "lost export", f"{known.get(row.id, row.id)} is completed and not removed, and has no object"
        for row in self.evidence.requests.values():
            export = known.get(row.id)
            is_whole = row.kind == "export" and row.status == "completed" and row.hosting == "hosted"
            if is_whole and row.key is None and export and not self.model.may_be_removed(export, self.erasures):
                yield "lost export", f"the file of {export} was removed, and nothing asked for that"

    def _holds_its_own(self, export: Filed, words: Collection[Word]) -> Found:
        allowed = {talk.index for talk in export.surely | export.possibly}
        people = {value for talk in export.surely | export.possibly for value in talk.tried} | {export.value}
        numbers = {one.number for one in self.model.people if one.value in people}
        if left := [word for word in words if word.text in self._redacted]:
            yield "redaction", f"the file of {export} has a redacted text: {told(left)}"
        foreign = {word for word in words if word.number not in (numbers if word.is_person else allowed)}
        if foreign:
            yield "foreign line", f"the file of {export} has {told(foreign)}"

    def _may_be_there(self, export: Filed) -> Found:
        """A deletion that says so removes the chatter's exports of before; one by ids, whatever holds one of them."""
        for one in self.erasures:
            if one.kind != "deletion" or one.status != "completed" or "erase_exports" not in one.flags:
                continue
            if not export.ended or one.asked < export.ended or one.bot != export.bot:
                continue
            is_own = bool(one.value) and one.value == export.value
            is_of_ids = bool(one.ids) and not one.surely.isdisjoint(export.surely)
            if is_own or is_of_ids:
                yield "export left", f"the file of {export} is there, and should have gone with {one}"

    # --- Callbacks ---------------------------------------------------------------------------------------

    def callbacks_came(self) -> Found:
        """Each end of a request was told, under one id, to the chatbot's receiver; none of what never was."""
        for row in self.evidence.requests.values():
            if row.bot not in self.callbacks or row.status not in {"completed", "cancelled", "rejected"}:
                continue
            ids = self.evidence.taken.get(row.id, {}).get(f"request.{row.status}", set())
            if not ids:
                yield "lost callback", f"nobody was told that {row.kind} {row.id} of {row.bot} is {row.status}"
            elif len(ids) > 1:
                yield (
                    "doubled callback",
                    f"{row.kind} {row.id} of {row.bot} was told as {row.status} under {len(ids)} ids",
                )
            others = {f"request.{end}" for end in ("completed", "cancelled", "rejected")} - {f"request.{row.status}"}
            if wrong := others & set(self.evidence.taken.get(row.id, {})):
                yield "wrong callback", f"{row.kind} {row.id} of {row.bot} is {row.status}, and was told as {wrong}"
        for request in set(self.evidence.taken) - set(self.evidence.requests):
            yield "wrong callback", f"a callback told of {request}, which is not there"

    # --- Identities --------------------------------------------------------------------------------------

    def identities(self) -> Found:
        """Who the client's resolver has named is known, unless the look-up still waits."""
        for talk, fate in self.fates.items():
            row = self.evidence.talks.get(talk.number or 0)
            if not talk.session or row is None or fate is not Fate.WHOLE or talk.session not in self.sessions:
                continue
            if not row.values and self.evidence.lookups.get(row.number) != "pending":
                state = self.evidence.lookups.get(row.number, "none")
                yield (
                    "identity",
                    f"{talk.bot}: {talk.id} has no identity, though its resolver named it (look-up: {state})",
                )


_ERASING = {"deletion", "retention"}
# The tables of exports and of the copies of files beside them.
_KEYS = {"compliance_export", "compliance_exportfile"}


def _folder_of(key: str) -> str:
    names = ("chatter_data_exports", "daily_conversations_extracts", "uploads", "erasure_ledger")
    return next((name for name in names if name in key.split("/")), "another folder")


def _export_of(key: str, keys: Collection[str | None]) -> str | None:
    """Return the key of the export to which an object belongs: itself, or a copy of a file beside it."""
    if key in keys:
        return key
    folder = key.rpartition("/")[0]
    return f"{folder.removesuffix('_files')}.csv" if folder.endswith("_files") else None
