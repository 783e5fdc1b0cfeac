"""A backup of the database, its loss, and the resulting model: the data of the backup, and the promises.

The bucket is not restored, so the ledger is what it was. Only stories that are played rule by rule have restores.
"""

import io
import json
from dataclasses import dataclass, replace
from typing import Any

from django.core.management import call_command
from django.db import connection

from chatbots.models import Chatbot
from compliance.ledger import journal, service
from tests.oracle.evidence import ConversationRow
from tests.oracle.model import ERASING, Conversation, now
from tests.restoring import Backup
from tests.stress.looking import Onlooker
from tests.stress.truth import Demand, FiledRequest, ModelConversation
from tests.stress.world import World

# Their values are of the backup too: numbers are given again.
_SEQUENCES = """
SELECT format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value), last_value IS NOT NULL
  FROM pg_sequences WHERE schemaname = 'public'
"""


@dataclass
class _Taken:
    """The data of a backup, and the model of that time; `sent` is the number of documents sent until then."""

    rows: Backup
    sequences: list[tuple[str, int, bool]]
    stored: dict[Conversation, dict[str, Any]]
    named: dict[str, FiledRequest]
    versions: set[tuple[str, str]]
    sent: int


def _report(*options: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command("replay_erasures", "--json", *options, stdout=out, stderr=io.StringIO())
    report: dict[str, Any] = json.loads(out.getvalue())
    return report


class Restores:
    """`lost` are the conversations that were open in the life that was lost last, with their messages of then."""

    def __init__(self, world: World, look: Onlooker) -> None:
        self.lost: dict[ModelConversation, set[str]] = {}
        self._world, self._truth, self._look = world, world.truth, look
        self._taken: _Taken | None = None

    @property
    def has_backup(self) -> bool:
        return self._taken is not None

    def backup(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_SEQUENCES)
            sequences = cursor.fetchall()
        named = {name: replace(one, written=list(one.written)) for name, one in self._truth.named.items()}
        stored = self._truth.stored()
        self._taken = _Taken(Backup(), sequences, stored, named, self._versions(), len(self._world.sent))

    def lose(self, how: str) -> None:
        """Put the rows of the backup back, and have the service notice. A `sudden` loss comes before the ledger has
        what was accepted last."""
        assert self._taken
        self._world.mend()
        while how != "sudden" and journal._write_some():
            pass
        forgotten = self._look.pending()
        rows = self._look.rows(self._truth.entries)
        versions = self._versions()
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
        new = versions - self._taken.versions
        self._look.orphans |= {each for each in new if each[0] not in known or "daily_conversations" in each[0]}
        self._promise(rows)
        # What was said of a conversation counts, since it may be what has erased it.
        self._truth.put_back(self._taken.stored)
        for one in self._truth.named.values():
            was_aged = one.aged_at is not None
            self._file_again(one, forgotten=forgotten.get(one.id))
            was = self._taken.named.get(one.name)
            if was_aged and was is not None and was.status == "completed":
                self._world.week(one.name)  # the time has passed for what is restored, too
        for chatbot in Chatbot.objects.all():
            self._truth.demands.append(Demand(now(), now(), chatbot.slug, chatbot.export_assurance))

    def replay(self) -> None:
        """Replay the ledger by its dry run. Raises SystemExit if some line could not be resolved."""
        planned, done = _report("--dry-run"), _report()
        assert done["opened"]
        assert service.is_open()
        for name in ("plans", "conversations", "up_to_number"):
            assert planned[name] == done[name], f"a replay does otherwise than its dry run: {name}"
        requests = self._look.requests()
        for one in self._truth.named.values():
            one.is_lost = bool(one.id) and one.id not in requests
            if one.is_lost and one.redacts and not one.is_withdrawn:
                # There was nothing to redact, or it was: intake has to remember it. One without an approval is
                # lost with its message, and the report says so.
                is_lost = not one.is_marked and Chatbot.objects.get(slug=one.bot).four_eyes
                one.status = "rejected" if is_lost else "completed"

    def send_again(self) -> None:
        """Send everything again that was sent since the backup, except files."""
        assert self._taken
        for send in self._world.sent[self._taken.sent :]:
            send()

    def _versions(self) -> set[tuple[str, str]]:
        return {(found.key, found.version) for found in (*self._look.objects(), *self._look.delivered())}

    def _promise(self, rows: dict[int, ConversationRow]) -> None:
        """Record which conversations are gone for good, left by retention runs, or open."""
        truth = self._truth
        stored = {entry: rows[entry.number] for entry in truth.entries if entry.number is not None}
        for run in truth.of("retention"):
            if run.status == "completed":
                run.spared |= {entry for entry, row in stored.items() if not row.is_deleted}
        for entry in (entry for entry, row in stored.items() if row.is_deleted):
            accounting = [one for one in truth.of(*ERASING) if truth.accounts(one, entry)]
            done = [one for one in accounting if one.status == "completed"]
            # What a request that has not ended has erased, only that can have written to the ledger, and has not yet.
            # Also of what was said to be of a chatter after another deletion of the same had ended.
            is_sure = any(one.kind == "deletion" and entry in one.certain for one in done)
            # What a hold covers is not erased again before its release.
            is_held = truth.may_be_held(entry, since=now())
            entry.is_barred = entry.is_barred or (not is_held and (is_sure or (bool(done) and done == accounting)))
        self.lost = {entry: set(entry.texts) for entry, row in stored.items() if not row.closed_by}

    def _file_again(self, one: FiledRequest, *, forgotten: str | None) -> None:
        """Let a request be what it was, but keep its status until the replay has brought another one.

        Of one that is `forgotten` the ledger lacks the acceptance, or what was decided last (`withdrawn`).
        """
        assert self._taken
        was = self._taken.named.get(one.name)
        one.is_replayed = was is None
        # A replay cancels an open export of which it leaves nothing.
        one.may_be_cancelled |= one.kind == "export" and was is not None and not was.is_final
        if forgotten and was is not None:
            one.status = was.status
        elif forgotten == "withdrawn":
            one.status = "accepted"
        if was is None:
            was = replace(one, ended_at=None, held=None, object_key=None, has_begun=False, written=[])
            if one.kind == "export" or forgotten == "accepted":
                one.id = ""
        for name in ("ended_at", "held", "object_key", "aged_at", "has_begun", "left_out", "is_delivered"):
            setattr(one, name, getattr(was, name))
        # What is withdrawn by a replay has no address any more.
        one.written = [text for text in was.written if text.what != "callback_url"]
        one.gone_with = None
        one.certain = frozenset(entry for entry in one.certain if self._names(one, entry))

    def _names(self, one: FiledRequest, entry: ModelConversation) -> bool:
        """Return whether a request surely still names a conversation: it can find it here, or in the ledger."""
        if entry.is_barred or (not one.value and one.kind == "deletion"):
            return True
        return entry.number is not None and (not one.value or one.value in entry.people)
