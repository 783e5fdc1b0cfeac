"""Carries out the rules of a story, and records the results in the model."""

import hashlib
import io
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

from django.core.management import CommandError, call_command
from django.test import Client

from chatbots.models import Chatbot
from chatbots.operations.keys import create_callback_secret
from compliance import worker
from compliance.lookups.queue import look_up
from conversations.extracts.days import order_extracts
from conversations.models import DailyExtract, UploadedFile
from tests import factories
from tests.calls import TokenCaller
from tests.conversations.forms import FORM, file, form
from tests.holding import PLACER
from tests.oracle.evidence import EVER, Usage, usage_of
from tests.oracle.filing import selected
from tests.oracle.model import ERASING, now, options_of
from tests.stress import circumstances
from tests.stress.circumstances import Faults, Refusal
from tests.stress.holders import Holders
from tests.stress.officers import Officers
from tests.stress.sessions import Sessions
from tests.stress.texts import Writer
from tests.stress.truth import FiledRequest, ModelConversation, Span, Truth
from tests.tokens import Backend

BOTS = ("acme", "neighbour")

_BEGINNINGS: dict[str, Callable[[], datetime]] = {
    "ages": lambda: now() - timedelta(days=300),
    "long": lambda: now() - timedelta(days=30),
    "lately": lambda: _noon(2) - timedelta(hours=1),
    "now": now,
    "soon": lambda: now() + timedelta(hours=1),
}
_PREFIXES = {"uploads": "uploads/", "ledger": "erasure_ledger/"}
# The codes of decisions that come too late or too early.
COMMANDS = {
    "retry": ("retry_request", ("not_retryable",)),
    "officer": ("approve_request", ("not_held", "legal_hold")),
}


def _noon(days: int) -> datetime:
    """Return noon of a day that is over, whatever the hour."""
    return (now() - timedelta(hours=3, days=days)).replace(hour=12, minute=0, second=0, microsecond=0)


def _naming(chatter: str) -> dict[str, str]:
    return {"unique_chatter_identifier_key": "member_id", "unique_chatter_identifier_value": chatter}


class World:
    """Two chatbots, and the calls of their owners' programs. All methods may be called in any thread."""

    def __init__(self, truth: Truth, faults: Faults, sessions: Sessions, report: Callable[[str], None]) -> None:
        self.truth = truth
        self.faults = faults
        self.turns = {"work": partial(worker.drain, seconds=20), "sweep": worker.sweep}
        self.turns["look"] = partial(look_up, seconds=20)
        self._sessions = sessions
        self._report = report
        self.officers = Officers(truth)
        self.writer = Writer(truth)
        self.holders = Holders(truth)
        # All that was sent and is sent again after a restore, in order.
        self.sent: list[Callable[[], object]] = []
        self._callers = {}
        self._backends = {}
        self._numbers = count()
        for slug in BOTS:
            guard = {"max_conversations_per_deletion": 3} if slug == "acme" else {}
            chatbot = factories.ready_chatbot(slug=slug, **guard)
            self._callers[slug] = TokenCaller(chatbot)
            self._backends[slug] = Backend(chatbot)
            create_callback_secret(chatbot=chatbot, actor="command")

    # --- What clients do -------------------------------------------------------------------------------

    def say(self, bot: str, name: str, chatter: str | None, began: str | None, day: int) -> None:
        """Send a document with one new message and its chatter."""
        self._say(bot, name, began, day, {"custom_variables": {"member_id": chatter}} if chatter else {})

    def arrive(self, bot: str, name: str, chatter: str, began: str, day: int) -> None:
        """Send such a document with a session that the owner's server identifies as this chatter's."""
        entry = self.truth.at(bot, name)
        variables = {"user_channel_variables": self._sessions.new(entry, chatter)}
        self._say(bot, name, began, day, variables)

    def _say(self, bot: str, name: str, began: str | None, day: int, variables: dict[str, Any]) -> None:
        entry = self.truth.at(bot, name)
        message, text = f"m{len(entry.texts)}x{next(self._numbers)}", self.truth.word(entry)
        sent_at = _noon(day) if day else now()
        sent = {"id": message, "sender": "user", "kind": "text", "text": text, "sent_at": sent_at.isoformat()}
        document: dict[str, Any] = {name: entry.facts[name] for name in ("channel", "user_name")}
        document |= {"id": entry.id, "csat": {"comment": entry.facts["csat_comment"]}, "messages": [sent]} | variables
        if began or entry.number is None:
            document["started_at"] = _BEGINNINGS[began or "lately"]().isoformat()
        send = partial(self._send, entry, is_now=began in {"now", "soon"}, first_at=now())
        # Once more it is sent as all of a conversation is: with its start.
        self.sent.append(lambda: send({"started_at": entry.began.isoformat()} | document))
        send(document)

    def _send(self, entry: ModelConversation, document: dict[str, Any], *, is_now: bool, first_at: datetime) -> None:
        """Send a document. `is_now`: the conversation begins with it; `first_at`: when it was sent first."""
        [said] = document["messages"]
        message, text, sent_at = said["id"], said["text"], datetime.fromisoformat(said["sent_at"])
        began_at = datetime.fromisoformat(document["started_at"]) if "started_at" in document else None
        entry.is_sent = True
        chatter = document.get("custom_variables", {}).get("member_id")
        if chatter:
            entry.tried.add(chatter)
        visitor = self._sessions.whose(document.get("user_channel_variables", {}))
        entry.arrivals += visitor is not None
        entry.tried_texts[message], entry.sent_at[message] = text, sent_at
        asked_at = now()
        [result] = self._post(entry.bot, "conversations", document)["results"]
        if result["outcome"] == "refused":
            if result["error"]["code"] not in {"conversation_deleted", "chatter_erased"}:
                self._report(f"a document was refused: {result['error']['code']}")
            if chatter and result["number"] is not None:
                self._note_refused(entry, chatter, since=asked_at)
            if message not in entry.texts:
                del entry.tried_texts[message]
            return
        entry.texts[message] = text
        entry.last_at = max(filter(None, [entry.last_at, began_at, sent_at]))
        if chatter:
            entry.names(chatter)
        if result["outcome"] == "created":
            assert began_at
            entry.asked_at, entry.began = first_at, began_at
            entry.number = result["number"]
            if is_now and visitor is not None:
                entry.session = entry.session or visitor
        if visitor:
            entry.sessions.setdefault(visitor, now())

    def _note_refused(self, entry: ModelConversation, chatter: str, *, since: datetime) -> None:
        """Note that a document named an erased chatter: its conversation is closed, unless a hold may prevent it."""
        if self.truth.may_be_held(entry, since=since):
            entry.may_be_refused = True
        else:
            entry.named.add(chatter)

    def identify(self, bot: str, name: str, chatter: str) -> None:
        """Identify the chatter of a conversation, and compare the outcome with the model."""
        body = {"identities": [{"id": name} | _naming(chatter)]}
        self._name(bot, name, chatter, "conversations/identify", body)

    def sign(self, bot: str, name: str, chatter: str) -> None:
        """Send a document with only a token for a chatter, as `identify` otherwise."""
        body = {"id": name, "identity_token": self._backends[bot].token(chatter)}
        self._name(bot, name, chatter, "conversations", body)

    def forge(self, bot: str, name: str, chatter: str) -> None:
        """Send such a document with a forged token: nothing may be stored from it."""
        [other] = set(BOTS) - {bot}
        token = self._backends[other].token(chatter, header={"kid": self._backends[bot].key.prefix})
        [result] = self._post(bot, "conversations", {"id": name, "identity_token": token})["results"]
        codes = [error["code"] for error in result["error"]["errors"]] if result["error"] else []
        if codes != ["invalid_identity_token"]:
            self._report(f"a forged token became {result['outcome']}: {codes}")

    def _name(self, bot: str, name: str, chatter: str, path: str, body: Any) -> None:
        self.sent.append(partial(self._name_again, bot, name, chatter, path, body))
        self._name_again(bot, name, chatter, path, body)

    def _name_again(self, bot: str, name: str, chatter: str, path: str, body: Any) -> None:
        self._sessions.see()
        entry = self.truth.at(bot, name)
        before, was_stored = frozenset(entry.people), entry.number is not None
        entry.claimed[chatter] += 1
        vouched = entry.vouched.setdefault(chatter, Span(now()))
        [result] = self._post(bot, path, body)["results"]
        outcome = result["error"]["code"] if result["error"] else result["outcome"]
        was_named = chatter in entry.tried or entry.claimed[chatter] > 1
        expected = {
            "created": entry.is_sent and chatter not in before,
            "confirmed": was_named,
            # By a document: the source of a value that was only asserted before has changed.
            "updated": entry.is_sent,
            "unchanged": was_named,
            # A document of a new conversation would need more.
            "invalid": not was_stored,
            "unknown_conversation": not was_stored,
            "conversation_deleted": any(one.bot == bot for one in self.truth.of(*ERASING)),
            "chatter_erased": any((one.bot, one.value) == (bot, chatter) for one in self.truth.of("deletion")),
        }
        if not expected.get(outcome):
            self._report(f"an identity became {outcome}")
        if outcome in {"created", "confirmed", "updated", "unchanged"}:
            entry.names(chatter)
            vouched.answered_at = vouched.answered_at or now()
        elif outcome == "chatter_erased":
            # No other chatter can have been identified meanwhile.
            is_only = not entry.tried and set(entry.claimed) == {chatter}
            if is_only and not self.truth.may_be_kept(entry):
                entry.tried.add(chatter)
                entry.named.add(chatter)
            elif before:
                entry.refused.add(chatter)
            else:
                entry.tried.add(chatter)
                entry.may_be_refused = True

    def upload(self, bot: str, name: str) -> None:
        entry = self.truth.at(bot, name)
        if entry.number is None:
            return
        word = self.truth.word(entry)
        entry.tried_files[word] = hashlib.sha256(word.encode()).hexdigest()
        body = form(file(word.encode(), name=f"{word}.txt", content_type="text/plain"))
        response = self._call(bot, f"conversations/{entry.number}/files", body, FORM)
        if response.status_code == 201:
            entry.files.add(word)
        elif response.status_code not in {404, 410, 503}:
            self._report(f"an upload was answered with {response.status_code}")

    def file(self, kind: str, name: str, bot: str, subject: str, *flags: str) -> None:
        """File a request: `delete`, `export`, or `delete_ids`, `export_ids` of certain conversations."""
        if name in self.truth.named:
            return
        self._sessions.see()
        body = options_of(flags)
        value, ids = ("", tuple(subject.split(","))) if kind.endswith("_ids") else (subject, ())
        if value:
            body |= _naming(value)
        else:
            body["conversation_ids"] = list(ids)
        one = "deletion" if kind.startswith("delete") else "export"
        filed = self.truth.ask(name, one, bot, value=value, ids=ids, flags=flags)
        written = self.writer.written(name, ids or (value,))
        self._is_filed(filed, self._post(bot, f"data-{one}", body | written), written)

    def redact(self, name: str, bot: str, conversation: str, place: int | str) -> None:
        filed = self.truth.ask_redaction(name, bot, conversation, place)
        if filed is None:
            return
        written = self.writer.written(name, ())
        body = json.dumps(selected(filed.redacts) | {"reason": "payment_data"} | written).encode()
        path = f"conversations/{self.truth.at(bot, conversation).number}/messages/redact"
        response = self._call(bot, path, body, "application/json")
        if response.status_code == 200:
            self._is_filed(filed, response.json(), written)
            return
        self.truth.drop(filed)
        if response.status_code != 410:
            self._report(f"a redaction was answered with {response.status_code}")

    def _is_filed(self, filed: FiledRequest, answer: Any, written: dict[str, str]) -> None:
        filed.received_at, filed.id = datetime.fromisoformat(answer["received_at"]), answer["request_id"]
        self.writer.filed(filed, written)

    def decide(self, decision: str, name: str) -> bool:
        """Cancel, approve or reject by a key, approve as an officer, or retry; return whether it was taken."""
        filed = self.truth.named.get(name)
        if filed is None or not filed.id or filed.is_lost:
            return False
        self.truth.decided(filed, decision)
        if decision == "officer" and self.officers.end_restored_period(filed):
            return True
        if decision in COMMANDS:
            return self._command(*COMMANDS[decision], filed)
        has_four_eyes = Chatbot.objects.get(slug=filed.bot).four_eyes
        is_own = decision == "approve" and has_four_eyes and not filed.is_by_staff
        response = self._call(
            filed.bot, f"requests/{filed.id}/{decision}", b'{"reason": "other"}', "application/json"
        )
        # 403: for officers alone.
        if response.status_code not in {200, 403, 409} or (is_own and response.status_code == 200):
            self._report(f"{decision} was answered with {response.status_code}" + " to who filed it" * is_own)
        return bool(response.status_code == 200)

    def _command(self, command: str, refusals: tuple[str, ...], filed: FiledRequest) -> bool:
        try:
            call_command(command, filed.id, stdout=io.StringIO())
        except CommandError as refused:
            if not str(refused).startswith(refusals):
                self._report(f"{command}: {str(refused).split(':')[0]}")
            return False
        return True

    def _post(self, bot: str, path: str, body: Any) -> Any:
        response = self._call(bot, path, json.dumps(body).encode(), "application/json")
        if response.status_code != 200:
            self._report(f"{path} was answered with {response.status_code}")
        return response.json()

    def _call(self, bot: str, path: str, body: bytes, content_type: str) -> Any:
        caller = self._callers[bot]
        client, headers = Client(raise_request_exception=False), caller.credentials(body)
        return client.generic("POST", caller.url(path), body, content_type, headers=headers)

    def usage(self) -> dict[str, Usage]:
        return {bot: usage_of(caller.get(f"usage?{EVER}").json()) for bot, caller in self._callers.items()}

    # --- What workers and operators do -----------------------------------------------------------------

    def days(self, bot: str) -> None:
        """Plan and make the extracts of the two days on which most messages are."""
        first, last = (_noon(days).date().isoformat() for days in (2, 1))
        with suppress(SystemExit):  # some could not be made
            out = {"stdout": io.StringIO(), "stderr": io.StringIO()}
            call_command("daily_extract", bot, "--from", first, "--to", last, **out)

    def order_failed_days(self) -> None:
        """As an officer does with the extracts that no attempt could make."""
        order_extracts(DailyExtract.objects.filter(state=DailyExtract.State.FAILED), actor=PLACER)

    # --- What happens by itself ------------------------------------------------------------------------

    def refuse(self, what: str, which: str, does: str, how: str) -> None:
        """Let the storage refuse to remove or write: a conversation's files, a request's export, a kind of object."""
        prefixes = [_PREFIXES.get(what, "")]
        if what == "days":
            prefixes = [f"{which}/daily_conversations_extracts/"]
        elif what == "file":
            number = self.truth.at(BOTS[0], which).number or 0
            files = UploadedFile.objects.filter(chatbot__slug=BOTS[0], conversation_id=number)
            prefixes = list(files.values_list("object_key", flat=True))
        elif what == "export":
            filed = self.truth.named.get(which)
            prefixes = [f"{filed.bot}/chatter_data_exports/{filed.value or '!conversations'}/"] if filed else []
        self.faults.refusals += [Refusal(prefix, does, how) for prefix in prefixes]

    @property
    def is_ledger_refused(self) -> bool:
        return any(refusal.prefix == _PREFIXES["ledger"] for refusal in self.faults.refusals)

    def mend(self) -> None:
        self.faults.refusals.clear()
        self.officers.mend_buckets()

    def week(self, name: str) -> None:
        """Let an export be eight days old: its grace is over."""
        filed = self.truth.named.get(name)
        if filed and filed.id and filed.is_hosted_export and filed.aged_at is None and circumstances.week(filed.id):
            filed.aged_at = now()
