"""What follows from the model and the evidence together; the checks share it."""

from collections import Counter
from collections.abc import Collection, Iterator
from functools import cached_property

from tests.oracle.evidence import Evidence
from tests.oracle.model import COMMENT, Conversation, Expected, Model, Request
from tests.oracle.words import Word, found_in

# Kind and text of each violation.
Findings = Iterator[tuple[str, str]]


class Comparison:
    """The model and the evidence. `met` counts the checked items: a check without items has shown nothing."""

    def __init__(self, model: Model, evidence: Evidence) -> None:
        self.model = model
        self.evidence = evidence
        self.met: Counter[str] = Counter()
        self.erasures = [one for one in model.filed if one.erases]
        self.filed = {one.id: one for one in model.filed if one.id and not one.is_lost}
        self.conversations = {each.index: each for each in model.conversations}
        self.bots = {each.bot for each in model.conversations}

    @cached_property
    def expected(self) -> dict[Conversation, Expected]:
        """For each stored conversation whether it must be whole or gone. If it may be either, its present state."""
        found = {}
        for each in self.model.conversations:
            expected = self.model.expected(each, self.erasures)
            row = self.evidence.conversations.get(each.number or 0)
            if expected is Expected.EITHER and row is not None:
                expected = Expected.GONE if row.is_deleted else Expected.WHOLE
            found[each] = expected
        return found

    @cached_property
    def contents(self) -> dict[str, bytes]:
        """The content of each object, also in clients' buckets, by its key."""
        versions = [*self.evidence.client_objects.versions, *self.evidence.objects.versions]
        return {one.key: one.body for one in versions if one.is_latest and one.body is not None}

    def strangers(self, words: Collection[Word], bots: Collection[str]) -> set[Word]:
        """Return the words that were never sent to any of these chatbots."""
        ours = [each for each in self.model.conversations if each.bot in bots]
        names, values = {each.index for each in ours}, {value for each in ours for value in each.tried}
        people = {one.number for one in self.model.people if one.value in values}
        return {word for word in words if word.number not in (people if word.is_person else names)}

    def gone(self, words: Collection[Word], *, bot: str = "", is_key: bool = False) -> set[Word]:
        """Return the words that must be nowhere, or not in data of this chatbot.

        The key of a kept export has its chatter's value.
        """
        left = {word for word in words if not self._may_stand(word, bot)}
        return {word for word in left if not (is_key and word.is_person and word.number in self._kept)}

    def _may_stand(self, word: Word, bot: str) -> bool:
        if word.is_person:
            bots = self._living.get(word.number, set())
            return bot in bots if bot else bool(bots)
        conversation = self.conversations.get(word.number)
        if conversation is None or self.expected[conversation] is Expected.GONE or word.text in self.redacted:
            return False
        return bot in {"", conversation.bot}

    @cached_property
    def _living(self) -> dict[int, set[str]]:
        """The people with a conversation that is not gone, each with its chatbots."""
        values: dict[str, set[str]] = {}
        for each, expected in self.expected.items():
            is_there = each.number is None or each.number in self.evidence.conversations
            for value in each.tried if expected is Expected.WHOLE and is_there else ():
                values.setdefault(value, set()).add(each.bot)
        return {one.number: values[one.value] for one in self.model.people if one.value in values}

    @cached_property
    def _kept(self) -> set[int]:
        """The people whose value is in the key of a remaining file: in its grace, or in the client's own bucket.

        The latter key is deleted once the chatter's deletion is completed.
        """
        found: set[int] = set()
        for row in self.evidence.requests.values():
            export = self.filed.get(row.id)
            is_forgotten = row.hosting == "client" and export and self._is_deleted_after(export)
            found |= {word.number for word in found_in(row.key) if not is_forgotten}
        return found

    def _is_deleted_after(self, export: Request) -> bool:
        own, ended_at = [one for one in self.erasures if one.is_of_chatter(export)], export.ended_at
        return ended_at is not None and any(one.status == "completed" and one.asked_at > ended_at for one in own)

    @cached_property
    def redacted(self) -> set[str]:
        """The words of the texts and comments that are redacted. The ids of their messages stay."""
        return {
            word.text
            for each in self.model.conversations
            for what, one in each.redacted.items()
            if one.status == "completed"
            for word in found_in(each.facts[COMMENT] if what == COMMENT else each.tried_texts[what])
        }

    @property
    def namesakes(self) -> int:
        """The number of people who were erased in one chatbot, and have a conversation in another."""
        erased = {(one.value, one.bot) for one in self.erasures if one.value and one.status == "completed"}
        living = {one.value: self._living.get(one.number, set()) for one in self.model.people}
        return sum(any((value, bot) in erased for bot in self.bots - bots) for value, bots in living.items() if bots)
