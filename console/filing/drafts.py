"""What a person is about to file, how it is sealed for the way through the browser, and how it is confirmed.

A seal holds for one chatbot, one user and 15 minutes. What is filed is what was sealed: nothing else of the form that
confirms it counts but the words that were typed.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from secrets import token_hex
from typing import Any

from django.utils import timezone

from chatbots.models import Chatbot
from common.crypto import SecretUnreadable, decrypt, encrypt
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import idempotency, operations, preview
from compliance.requests.idempotency import ReplayKey, replay_key
from compliance.requests.operations import RequestInput
from compliance.requests.preview import Line, Preview, PreviewOfMany, preview_many
from compliance.requests.preview.deletion import Deletion
from compliance.requests.preview.export import Export
from compliance.requests.preview.subjects import Options
from compliance.requests.selectors import ByConversations, ByUci, Selector

Kind = ComplianceRequest.Kind
Outcomes = dict[int, ComplianceRequest | Refused]

SEAL_HOLDS = timedelta(minutes=15)
# Not an address: what is filed from one preview is known by it, whatever form it comes with.
_REPLAY_PATH = "console:filing"


@dataclass(frozen=True)
class Draft:
    """Requests that a person means to file: one, or of many chatters one each, in the order of `rows`.

    `values` are of one UCI; or `ids` name the conversations of one request.
    """

    kind: str
    key: str = ""
    values: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    is_many: bool = False
    erase_exports: bool = False
    include_shared: bool = False
    include_files: bool = False

    @property
    def is_deletion(self) -> bool:
        return self.kind == Kind.DELETION

    @property
    def about(self) -> Selector:
        """Whom the one request is about."""
        return ByConversations(self.ids) if self.ids else ByUci(self.key, self.values[0])

    @property
    def reference(self) -> str:
        return self.references[0] if self.references else ""

    @property
    def options(self) -> dict[str, Any]:
        """Those of its kind alone: the others are not for a request of it."""
        if self.is_deletion:
            return {"erase_exports": self.erase_exports}
        return {"include_shared": self.include_shared, "include_files": self.include_files}

    def asked(self) -> dict[int, RequestInput]:
        selectors: Sequence[Selector] = [ByUci(self.key, value) for value in self.values] or [self.about]
        references = self.references or ("",) * len(selectors)
        pairs = zip(selectors, references, strict=True)
        return {
            place: RequestInput(Kind(self.kind), about, reference, **self.options)
            for place, (about, reference) in enumerate(pairs)
        }


@dataclass(frozen=True)
class Seen:
    """The conversations that a preview counted, by request and in all, and the highest number of them."""

    counts: tuple[int, ...]
    total: int
    highest: int = 0

    @property
    def phrase(self) -> str:
        """What a person types to say that they have read how much would go."""
        return f"DELETE {self.total}"

    def is_less_than(self, now: "Seen") -> bool:
        """Say whether there is more now, or something else."""
        return now.highest > self.highest or any(
            after > before for before, after in zip(self.counts, now.counts, strict=True)
        )


@dataclass(frozen=True)
class Sealed:
    """What a preview has shown. `nonce` makes one filing of however many clicks; `at` in seconds."""

    draft: Draft
    seen: Seen
    nonce: str
    at: float

    @property
    def is_over(self) -> bool:
        return timezone.now().timestamp() - self.at >= SEAL_HOLDS.total_seconds()


def minutes_left(request: ComplianceRequest) -> int:
    """Return for how many minutes a request can be cancelled in any case; 0 where it does not wait any more.

    One that was filed just now has all of them. So 0 says that the preview was confirmed again, later.
    """
    if request.status != ComplianceRequest.Status.ACCEPTED or request.not_before is None:
        return 0
    left = (request.not_before - timezone.now()).total_seconds()
    return max(1, round(left / 60)) if left > 0 else 0


class NotConfirmed(Exception):
    """Nothing was filed; `why` is `mistyped`, `changed` or `expired`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class BrokenSeal(Exception):
    """What came back is not what was given out to this user for this chatbot."""


def look(chatbot: Chatbot, draft: Draft) -> tuple[Preview, Seen]:
    """Return the preview of one request, and what is compared when it is confirmed. Raises Refused."""
    found = preview.preview(
        chatbot=chatbot,
        about=draft.about,
        kinds=[Kind(draft.kind)],
        options=Options(**draft.options),
        reference=draft.reference,
    )
    totals = part_of(found).found
    return found, Seen((totals.conversations,), totals.conversations, totals.highest)


def look_at_many(chatbot: Chatbot, draft: Draft) -> tuple[PreviewOfMany, Seen]:
    """As `look`, of many."""
    references = draft.references or ("",) * len(draft.values)
    lines = [Line(*pair) for pair in zip(draft.values, references, strict=True)]
    found = preview_many(
        chatbot=chatbot, key=draft.key, lines=lines, kind=Kind(draft.kind), options=Options(**draft.options)
    )
    totals = part_of(found).found
    counts = tuple(one.conversations for one in found.outlooks)
    return found, Seen(counts, totals.conversations, totals.highest)


def part_of(found: Preview | PreviewOfMany) -> Deletion | Export:
    """Return what a preview tells of the one kind that its draft has."""
    [part] = [one for one in (found.deletion, found.export) if one]
    return part


def dump(chatbot: Chatbot, actor: str, draft: Draft, seen: Seen, *, nonce: str = "") -> str:
    """Return a preview for the form that confirms it. `nonce`: of the preview that this one is another look at."""
    sealed = Sealed(draft, seen, nonce or token_hex(16), timezone.now().timestamp())
    return encrypt(_as_text(asdict(sealed)), bound_to=_bound_to("filing", chatbot, actor))


def load(chatbot: Chatbot, actor: str, text: str) -> Sealed:
    """Undo `dump`. Raises BrokenSeal. Whether it still holds is for `confirm` to say."""
    given = _opened("filing", chatbot, actor, text)
    return Sealed(_draft(given["draft"]), _as_tuples(Seen, given["seen"]), given["nonce"], given["at"])


def dump_subject(chatbot: Chatbot, actor: str, draft: Draft) -> str:
    """Return whom a draft is about, for a choice that nobody can mistype."""
    subject = replace(Draft(draft.kind), key=draft.key, values=draft.values[:1], ids=draft.ids)
    return encrypt(_as_text(asdict(subject)), bound_to=_bound_to("subject", chatbot, actor))


def load_subject(chatbot: Chatbot, actor: str, text: str) -> Draft:
    """Undo `dump_subject`. Raises BrokenSeal."""
    return _draft(_opened("subject", chatbot, actor, text))


def confirm(*, chatbot: Chatbot, actor: str, sealed: Sealed, typed: str) -> Outcomes:
    """File what a preview has shown, and return each request, or why it is refused, by its place.

    Confirmed again, it returns the same requests. Raises NotConfirmed, and Refused for the whole; nothing is filed
    then.
    """
    asked = sealed.draft.asked()
    replay = _replay(chatbot, sealed)
    filed = idempotency.recall(replay, asked).answers
    if filed:
        # Of what was refused then, nothing is filed behind the person's back long after they looked.
        asked = {place: one for place, one in asked.items() if place in filed or not sealed.is_over}
    else:
        _require_confirmation(chatbot, sealed, typed)
        # To look again can take its time, in which it can be switched off.
        chatbot.refresh_from_db(fields=["compliance_enabled"])
    return operations.submit_many(
        chatbot=chatbot, inputs=asked, origin=ComplianceRequest.Origin.CONSOLE, actor=actor, replay=replay
    )


def _require_confirmation(chatbot: Chatbot, sealed: Sealed, typed: str) -> None:
    if sealed.is_over:
        raise NotConfirmed("expired")
    if not sealed.draft.is_deletion:
        return
    if " ".join(typed.split()) != sealed.seen.phrase:
        raise NotConfirmed("mistyped")
    _, now = (look_at_many if sealed.draft.is_many else look)(chatbot, sealed.draft)
    if sealed.seen.is_less_than(now):
        raise NotConfirmed("changed")


def _replay(chatbot: Chatbot, sealed: Sealed) -> ReplayKey:
    body = json.dumps(asdict(sealed.draft)).encode()
    key = replay_key(chatbot=chatbot, path=_REPLAY_PATH, body=body, idempotency_key=sealed.nonce, has_items=True)
    if key is None:
        raise BrokenSeal
    return key


def _as_text(given: dict[str, Any]) -> str:
    # Each character as itself: a form that comes back is then never larger than the one that it was made from.
    return json.dumps(given, ensure_ascii=False)


def _bound_to(what: str, chatbot: Chatbot, actor: str) -> str:
    return f"console:{what}:{chatbot.pk}:{actor}"


def _opened(what: str, chatbot: Chatbot, actor: str, text: str) -> Any:
    try:
        return json.loads(decrypt(text, bound_to=_bound_to(what, chatbot, actor)))
    except SecretUnreadable:
        pass
    raise BrokenSeal


def _draft(given: dict[str, Any]) -> Draft:
    draft: Draft = _as_tuples(Draft, given)
    return draft


def _as_tuples(kind: Any, given: dict[str, Any]) -> Any:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
