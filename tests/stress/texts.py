"""Free text on requests: the texts of clients and staff, and their expected state at the end.

A reference or an address of a request by conversation ids, or of a redaction, is cleared with the erasure of a
conversation of the request, if it contains that conversation's id or a chatter in it. A note is also cleared with the
deletion of its request's chatter, whatever it contains. Everything else stays.
"""

from contextlib import suppress
from itertools import count

from chatbots.models import ChangeLogEntry
from compliance.errors import Refused
from compliance.requests import decisions
from tests.oracle.evidence import ConversationRow, RequestRow
from tests.oracle.model import now
from tests.stress.invariants import Broken
from tests.stress.looking import Onlooker
from tests.stress.truth import FiledRequest, ModelConversation, Text, Truth


class Writer:
    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._numbers = count(2)  # 1 is the officer who files
        self._of: dict[tuple[str, str], str] = {}

    def write(self, name: str, what: str, of: str) -> None:
        """Let the request of this name, once it is filed, have a `reference` or `callback_url` that contains `of`."""
        self._of[name, what] = of

    def written(self, name: str, subjects: tuple[str, ...]) -> dict[str, str]:
        """Return the texts for the body of a request, without its selector, which filing refuses."""
        texts = {"reference": f"T-{name}.{{}}", "callback_url": f"https://hooks.example.com/{name}/{{}}"}
        return {
            what: text.format(of)
            for what, text in texts.items()
            if (of := self._of.get((name, what))) is not None and of not in subjects
        }

    def filed(self, one: FiledRequest, body: dict[str, str]) -> None:
        one.written = [Text(what, text, self._of[one.name, what], now()) for what, text in body.items()]

    def note(self, name: str, decision: str, of: str) -> None:
        """Decide on a request as staff, with a note that contains `of`."""
        one = self._truth.named.get(name)
        if one is None or not one.id or one.is_lost or one.kind == "retention":
            return
        self._truth.decided(one, decision)
        actor, text = f"user:{next(self._numbers)}", f"noted.{name}.{of}"
        with suppress(Refused):
            getattr(decisions, decision)(request_id=one.id, actor=actor, reason="other", note=text)
            if ChangeLogEntry.objects.filter(request_id=one.id, actor=actor).exists():
                one.written.append(Text("note", text, of, now()))


def are_right(truth: Truth, look: Onlooker) -> None:
    """Check at the end that exactly the expected texts are gone."""
    stored = look.written()
    requests = look.requests()
    rows = look.rows(truth.entries)
    erased = {entry: row for entry in truth.entries if (row := rows.get(entry.number or 0)) and row.is_deleted}
    for one in list(truth.named.values()):
        if one.id not in requests:
            continue
        of_chatter = [each for each in truth.of("deletion") if one.is_of_chatter(each)]
        completed = [each.ended_at for each in of_chatter if each.status == "completed" and each.ended_at]
        named = [entry for entry in truth.entries if entry.bot == one.bot and entry.id in one.ids]
        for text in one.written:
            is_here = text.text in stored.get((one.id, text.what), ())
            if is_here and any(_takes(text, entry, erased.get(entry), requests) for entry in named):
                raise Broken(f"{text.what} left", f"{one} has {text}, and a conversation that it names is erased")
            if is_here and text.what == "note" and any(text.at < each for each in completed):
                raise Broken("note left", f"{one} has {text}, and its chatter was erased")
            gone = [entry for entry in named if entry in erased or entry.is_barred]
            if not is_here and not _may_be_gone(truth, one, text, gone, of_chatter):
                raise Broken(f"{text.what} gone", f"{one} does not have {text} any more")


def _takes(
    text: Text, entry: ModelConversation, row: ConversationRow | None, requests: dict[str, RequestRow]
) -> bool:
    """Return whether the erasure of this conversation surely had to take the text."""
    by = requests.get(row.closed_by) if row and row.closed_by else None
    if by is None:
        return False
    if text.what == "note":
        return by.completed_at is not None and text.at < by.completed_at
    # A text that is written while a conversation is being erased may come too late.
    return text.of in {entry.id, *entry.people} and by.cutoff_at is not None and text.at < by.cutoff_at


def _may_be_gone(
    truth: Truth, one: FiledRequest, text: Text, gone: list[ModelConversation], of_chatter: list[FiledRequest]
) -> bool:
    if text.what == "note":
        # Includes the notes of ended requests, and of requests with the same selector that found nothing.
        same = [each for each in truth.of("deletion") if each.bot == one.bot and set(each.ids) & set(one.ids)]
        itself = [] if one.kind == "export" else [one]
        return bool(gone) or any(each.done_at for each in [*itself, *same, *of_chatter])
    has_failed = text.what == "callback_url" and one.has_failed
    return has_failed or any(text.of in {entry.id, *entry.tried, *entry.claimed, *entry.asked} for entry in gone)
