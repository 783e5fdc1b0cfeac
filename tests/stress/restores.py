"""A backup of the database, its loss, and what the model makes of that: what the backup had, and what is promised.

The bucket is not restored, so the ledger is what it was. Only stories that are played rule by rule have restores.
"""

import io
import json
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from django.core.management import call_command
from django.db import connection

from chatbots.models import Chatbot
from compliance.ledger import journal, service
from tests.restoring import Backup
from tests.stress.looking import Onlooker, Row
from tests.stress.truth import ENDED_WITHOUT, Demand, Filed, ModelConversation, Truth, now
from tests.stress.world import World

# Their values are of the backup too: numbers are given again.
_SEQUENCES = """
SELECT format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value), last_value IS NOT NULL
  FROM pg_sequences WHERE schemaname = 'public'
"""


@dataclass
class _Taken:
    """What a backup has, and what the model knew then; `sent` is how much was sent until then."""

    rows: Backup
    sequences: list[tuple[str, int, bool]]
    truth: Truth
    versions: set[str]
    sent: int


def _report(*options: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command("replay_erasures", "--json", *options, stdout=out, stderr=io.StringIO())
    report: dict[str, Any] = json.loads(out.getvalue())
    return report


class Restores:
    """`lost` are the conversations that were open in the life that was lost last, as they were then."""

    def __init__(self, world: World, look: Onlooker) -> None:
        self.lost: list[ModelConversation] = []
        self._world, self._truth, self._look = world, world.truth, look
        self._taken: _Taken | None = None

    @property
    def has_backup(self) -> bool:
        return self._taken is not None

    def back_up(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_SEQUENCES)
            sequences = cursor.fetchall()
        versions = {found.version for found in self._look.objects()}
        truth = Truth(deepcopy(self._truth.conversations), deepcopy(self._truth.filed))
        self._taken = _Taken(Backup(), sequences, truth, versions, len(self._world.sent))

    def lose(self, how: str) -> None:
        """Put the rows of the backup back, and have the service notice. A `sudden` loss comes before the ledger has
        what was accepted last."""
        assert self._taken
        self._world.mend()
        if how != "sudden":
            while journal._write_some():
                pass
        forgotten = self._look.pending()
        numbers = [entry.number for entry in self._truth.conversations.values() if entry.number is not None]
        rows = self._look.rows(numbers)
        versions = {(found.key, found.version) for found in self._look.objects()}
        # One that an earlier restore has brought back says nothing of what was decided before that.
        restored = Chatbot.objects.filter(retention_days__isnull=False, retention_set_at=None)
        chatbots = Chatbot.objects.exclude(pk__in=restored)
        self._world.officers.lost_periods |= dict(chatbots.values_list("slug", "retention_days"))
        self._taken.rows.restore(state="open")
        with connection.cursor() as cursor:
            for name, value, is_called in self._taken.sequences:
                cursor.execute("SELECT setval(%s::regclass, %s, %s)", [name, value, is_called])
        service.trip(service.State.RESTORED, service.Reason.OBJECTS_UNKNOWN)
        known = self._look.keys()
        # Extracts that were rebuilt since are of another size than their rows say, which an operator has mended.
        self._look.orphans |= {
            version
            for key, version in versions
            if version not in self._taken.versions and (key not in known or "daily_conversations_extracts" in key)
        }
        self._promise(rows)
        for entry in self._truth.conversations.values():
            self._forget(entry)
        for one in self._truth.filed.values():
            was_aged = one.aged_at is not None
            self._file_again(one, forgotten=forgotten.get(one.id) if one.id else None)
            was = self._taken.truth.filed.get(one.name)
            if was_aged and was is not None and was.status == "completed":
                self._world.week_passes(one.name)  # the time has passed for what is restored, too
        for chatbot in Chatbot.objects.all():
            self._truth.demands.append(Demand(now(), now(), chatbot.slug, chatbot.export_assurance))

    def replay(self) -> None:
        """Replay the ledger, as its dry run says. Raises SystemExit where something could not be resolved."""
        planned, done = _report("--dry-run"), _report()
        assert done["opened"]
        assert service.is_open()
        for name in ("plans", "conversations", "up_to_number"):
            assert planned[name] == done[name], f"a replay does otherwise than its dry run: {name}"
        requests = {request.id for request in self._look.requests()}
        for one in self._truth.filed.values():
            one.is_absent = one.id is not None and one.id not in requests
            if one.is_absent and one.text and one.status not in ENDED_WITHOUT:
                # There was nothing to redact, or it was: intake has to remember it. One that nobody has approved is
                # lost with its message, and the report says so.
                is_lost = not one.is_marked and Chatbot.objects.get(slug=one.bot).four_eyes
                one.status = "rejected" if is_lost else "completed"

    def send_again(self) -> None:
        """Send all that was sent since the backup, but for files."""
        assert self._taken
        for send in self._world.sent[self._taken.sent :]:
            send()

    def _promise(self, rows: dict[int, Row]) -> None:
        """Note what is gone for good, what retention runs have left, and what else was open."""
        truth = self._truth
        stored = [entry for entry in truth.conversations.values() if entry.number is not None]
        gone = [entry for entry in stored if rows[entry.number or 0].is_erased]
        for run in truth.retentions:
            if run.status == "completed":
                run.spared |= {entry.place for entry in stored if entry not in gone}
        for entry in gone:
            accounting = [one for one in truth.erasures if truth.accounts(one, entry)]
            done = [one for one in accounting if one.status == "completed"]
            # What a request that has not ended has erased, only that can have written to the ledger, and has not yet.
            # Also of what was said to be of a chatter after another deletion of the same had ended.
            is_sure = any(one.is_deletion and entry.place in one.certain for one in done)
            entry.is_promised = entry.is_promised or is_sure or (bool(done) and done == accounting)
        self.lost = [deepcopy(entry) for entry in stored if not rows[entry.number or 0].is_closed]

    def _forget(self, entry: ModelConversation) -> None:
        """Let a conversation be what it was. What was said of it counts, since it may be what has erased it."""
        assert self._taken
        was = deepcopy(self._taken.truth.conversations.get(entry.place) or ModelConversation(entry.place))
        was.is_promised = entry.is_promised
        was.tried |= entry.tried
        was.claimed |= entry.claimed
        was.failed_uploads = max(was.failed_uploads, entry.failed_uploads)
        was.last_at = max(filter(None, [was.last_at, entry.last_at]), default=None)
        was.began, was.asked_at = was.began or entry.began, was.asked_at or entry.asked_at
        # In place: sessions know it.
        vars(entry).update(vars(was))

    def _file_again(self, one: Filed, *, forgotten: str | None) -> None:
        """Let a request be what it was, but keep its status until the replay has brought another one.

        Of one that is `forgotten` the ledger lacks the acceptance, or what was decided last (`withdrawn`).
        """
        assert self._taken
        was = self._taken.truth.filed.get(one.name)
        one.is_replayed = was is None
        if forgotten and was is not None:
            one.status = was.status
        elif forgotten == "withdrawn":
            one.status = "accepted"
        if was is None:
            was = Filed(
                **vars(one) | {"completed_at": None, "held": None, "key": None, "has_begun": False, "texts": []}
            )
            if one.is_export or forgotten == "accepted":
                one.id = None
        for name in ("completed_at", "held", "key", "aged_at", "has_begun", "left_out", "is_delivered"):
            setattr(one, name, getattr(was, name))
        # What is withdrawn by a replay has no address any more.
        one.texts = [text for text in was.texts if text.what != "callback_url"]
        one.gone_with = None
        here = {place for place in one.certain if self._names(one, self._truth.conversations[place])}
        one.certain = frozenset(here)

    def _names(self, one: Filed, entry: ModelConversation) -> bool:
        """Return whether a request surely still names a conversation: it can find it here, or in the ledger."""
        if entry.is_promised or (one.chatter is None and one.is_deletion):
            return True
        return entry.number is not None and (one.chatter is None or one.chatter in entry.people)
