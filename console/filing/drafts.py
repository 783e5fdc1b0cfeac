"""Drafts of requests, the encrypted token that carries a preview through the browser, and its confirmation.

A token is valid for one chatbot, one user and 15 minutes. Confirming files exactly the draft in the token. Of the
rest of the form, only the typed text is used.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from secrets import token_hex
from typing import Any, Self

from django.utils import timezone

from chatbots.models import Chatbot
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import idempotency
from compliance.requests.idempotency import ReplayKey, replay_key
from compliance.requests.inputs import RequestInput
from compliance.requests.preview import Deletion, Export, Preview, preview, preview_many
from compliance.requests.selectors import ByConversations, ByUci, Selector
from compliance.requests.submit import submit_many
from console.common.sealed import InvalidToken, Opened, Seal
from console.requests.labels import formats_of

Kind = ComplianceRequest.Kind
Outcomes = dict[int, ComplianceRequest | Refused]

TOKEN_LIFETIME = timedelta(minutes=15)
# Used in place of the path of an API call in the idempotency key of a preview.
_REPLAY_PATH = "console:filing"


@dataclass(frozen=True)
class Draft:
    """Requests to be filed: one, or one for each of many chatters in the order of `rows`.

    `values` belong to one UCI key. `ids` are the conversations of a single request instead.
    """

    kind: str
    key: str = ""
    values: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    is_many: bool = False
    requested_at: str = ""
    erase_exports: bool = False
    include_shared: bool = False
    include_files: bool = False
    csv_dialect: str = Chatbot.CsvDialect.STANDARD
    formats: tuple[str, ...] = (Chatbot.ExportFormat.CSV,)
    archive: str = ""

    @classmethod
    def of(cls, subject: Selector, **others: Any) -> Self:
        if isinstance(subject, ByConversations):
            return cls(ids=subject.ids, **others)
        return cls(key=subject.key, values=(subject.value,), **others)

    @property
    def is_deletion(self) -> bool:
        return self.kind == Kind.DELETION

    @property
    def subject(self) -> Selector:
        return ByConversations(self.ids) if self.ids else ByUci(self.key, self.values[0])

    @property
    def reference(self) -> str:
        return self.references[0]

    @property
    def options(self) -> dict[str, Any]:
        if self.is_deletion:
            return {"erase_exports": self.erase_exports}
        names = ("include_shared", "include_files", "csv_dialect", "formats", "archive")
        return {name: getattr(self, name) for name in names}

    @property
    def formats_label(self) -> str:
        """The formats as a preview shows them, with the dialect of the CSV."""
        dialect = str(Chatbot.CsvDialect(self.csv_dialect).label)
        shown = formats_of(" ".join(self.formats)).replace("CSV", f"CSV ({dialect})")
        return shown + (", as one ZIP" if self.archive else "")

    def inputs(self) -> dict[int, RequestInput]:
        selectors: Sequence[Selector] = [ByUci(self.key, value) for value in self.values] or [self.subject]
        return {
            place: RequestInput(Kind(self.kind), selector, reference, requested_at=self.requested_at, **self.options)
            for place, (selector, reference) in enumerate(zip(selectors, self.references, strict=True))
        }


@dataclass(frozen=True)
class PreviewCounts:
    """The conversations that a preview counted, by request and in total, and the highest of their numbers."""

    counts: tuple[int, ...]
    total: int
    highest: int = 0

    @property
    def phrase(self) -> str:
        return f"DELETE {self.total}"

    def is_less_than(self, now: "PreviewCounts") -> bool:
        """Return whether there are more or other conversations now."""
        return now.highest > self.highest or any(
            after > before for before, after in zip(self.counts, now.counts, strict=True)
        )


@dataclass(frozen=True)
class PreviewToken:
    """A preview as it was shown. `nonce` makes confirming idempotent."""

    draft: Draft
    seen: PreviewCounts
    nonce: str
    token: Opened

    @property
    def has_expired(self) -> bool:
        return self.token.is_older_than(TOKEN_LIFETIME)


def minutes_left(request: ComplianceRequest) -> int | None:
    """Return the minutes for which a request can certainly be cancelled, or 0 if it starts at once.

    None means that the preview was confirmed before: a request filed just now has all of its minutes.
    """
    if request.status != ComplianceRequest.Status.ACCEPTED:
        return None
    if request.not_before is None:
        return 0
    left = (request.not_before - timezone.now()).total_seconds()
    return max(1, round(left / 60)) if left > 0 else None


class NotConfirmed(Exception):
    """Nothing was filed; `reason` is `mistyped`, `changed` or `expired`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def preview_draft(chatbot: Chatbot, draft: Draft) -> tuple[Preview, PreviewCounts]:
    """Return the preview of a draft, and the counts to compare when it is confirmed. Raises Refused."""
    asked = list(draft.inputs().values())
    if draft.is_many:
        found = preview_many(chatbot=chatbot, key=draft.key, asked=asked)
    else:
        found = preview(chatbot=chatbot, asked=asked[0], kinds=[asked[0].kind])
    totals = requested_part(found).found
    counts = tuple(finds.total.conversations for finds in found.each)
    return found, PreviewCounts(counts, totals.conversations, totals.highest)


def requested_part(found: Preview) -> Deletion | Export:
    """Return the deletion or the export of a preview that has one of them."""
    [part] = [one for one in (found.deletion, found.export) if one]
    return part


def dump(chatbot: Chatbot, actor: str, draft: Draft, seen: PreviewCounts, *, nonce: str = "") -> str:
    """Return a token for the form that confirms a preview. `nonce` is that of the preview that this one replaces."""
    value = {"draft": asdict(draft), "seen": asdict(seen), "nonce": nonce or token_hex(16)}
    return Seal("filing", chatbot, actor).seal(value)


def load(chatbot: Chatbot, actor: str, text: str) -> PreviewToken:
    """Undo `dump`, also for a token that has expired. Raises InvalidToken."""
    token = Seal("filing", chatbot, actor).open(text)
    given = token.value
    draft, seen = _as_tuples(Draft, given["draft"]), _as_tuples(PreviewCounts, given["seen"])
    return PreviewToken(draft, seen, given["nonce"], token)


def dump_subject(chatbot: Chatbot, actor: str, subject: Selector) -> str:
    """Return a token for a subject, for a form in which subjects are chosen instead of typed."""
    return Seal("subject", chatbot, actor).seal(asdict(subject))


def load_subject(chatbot: Chatbot, actor: str, text: str) -> Selector:
    """Undo `dump_subject`. Raises InvalidToken."""
    given = Seal("subject", chatbot, actor).open(text).value
    return ByConversations(tuple(given["ids"])) if "ids" in given else ByUci(**given)


def confirm(*, chatbot: Chatbot, actor: str, token: PreviewToken, typed: str) -> Outcomes:
    """File the requests of a preview. Returns each request, or its error, by its place in the draft.

    Idempotent. Raises NotConfirmed, or Refused for the whole; then nothing is filed.
    """
    inputs = token.draft.inputs()
    replay = _replay(chatbot, token)
    filed = idempotency.recall(replay, inputs).answers
    if filed:
        # After its token has expired, a request that was refused is not filed.
        inputs = {place: one for place, one in inputs.items() if place in filed or not token.has_expired}
    else:
        _require_confirmation(chatbot, token, typed)
        # It can have been turned off while the preview was repeated.
        chatbot.refresh_from_db(fields=["compliance_enabled"])
    return submit_many(
        chatbot=chatbot, inputs=inputs, origin=ComplianceRequest.Origin.CONSOLE, actor=actor, replay=replay
    )


def _require_confirmation(chatbot: Chatbot, token: PreviewToken, typed: str) -> None:
    if token.has_expired:
        raise NotConfirmed("expired")
    if not token.draft.is_deletion:
        return
    if " ".join(typed.split()) != token.seen.phrase:
        raise NotConfirmed("mistyped")
    _, now = preview_draft(chatbot, token.draft)
    if token.seen.is_less_than(now):
        raise NotConfirmed("changed")


def _replay(chatbot: Chatbot, token: PreviewToken) -> ReplayKey:
    body = json.dumps(asdict(token.draft)).encode()
    key = replay_key(chatbot=chatbot, path=_REPLAY_PATH, body=body, idempotency_key=token.nonce, has_items=True)
    if key is None:
        raise InvalidToken
    return key


def _as_tuples(kind: Any, given: dict[str, Any]) -> Any:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
