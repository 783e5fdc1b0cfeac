"""The parts of a preview for the pages that show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.conf import settings

from chatbots.models import Chatbot
from common.texts import counted
from compliance.models import ComplianceRequest
from compliance.requests.finds import Finds
from compliance.requests.preview import Deletion, Preview
from compliance.requests.results import COUNTED, ERASED, KEPT_OF_CONVERSATION
from compliance.requests.selectors import ByUci
from compliance.requests.similar import Similar
from compliance.requests.submit import grace_of
from console.filing.drafts import Draft, dump_subject
from console.filing.pasted_values import PastedValues, peculiarities

HoldReason = ComplianceRequest.HoldReason

_HELD = {
    HoldReason.EXPORT_PENDING: "An earlier export of the same data has not been delivered. The deletion will be on "
    "hold until it is, or until an officer approves.",
    HoldReason.TOO_MANY_CONVERSATIONS: "There are more conversations than the chatbot's guard allows. The "
    "deletion will be on hold until an officer approves.",
    HoldReason.AWAITING_APPROVAL: "In this chatbot, each deletion needs the approval of another officer.",
    HoldReason.LEGAL_HOLD: "A legal hold covers some of the data. The deletion will be on hold until it is released.",
}


class StoreCount(NamedTuple):
    label: str
    number: int
    kept: str  # which rows are kept, or how many; empty if none are


@dataclass(frozen=True)
class Offer:
    """A chatter to act on. `subject` is a token for the form that files."""

    key: str
    value: str
    conversations: int
    subject: str
    differs: str = ""

    @property
    def can_be_typed(self) -> bool:
        """Return whether a form sends the value back unchanged: browsers change line ends."""
        return "\r" not in self.value and "\n" not in self.value


@dataclass(frozen=True)
class PreviewLine:
    row: int
    value: str
    reference: str
    finds: Finds
    notes: list[str]

    @property
    def holds(self) -> list[str]:
        return hold_texts(self.finds.held_by)

    @property
    def is_not_found(self) -> bool:
        finds = self.finds
        return not (finds.refused or finds.total.conversations or finds.unverified_left_out)

    @property
    def needs_review(self) -> bool:
        finds = self.finds
        found = (finds.refused, self.notes, finds.similar, finds.open_requests, finds.held_by, self.is_not_found)
        return any((*found, finds.total.claimed, finds.unverified_left_out))


def stores(deletion: Deletion) -> list[StoreCount]:
    days = settings.EXPORT_GRACE_DAYS.days
    kept = {
        "conversations": KEPT_OF_CONVERSATION if deletion.erased["conversations"] else "",
        "exports": f"{deletion.kept_exports} from the last {counted(days, 'day')}" if deletion.kept_exports else "",
    }
    labels = {**COUNTED, "extracts": "Daily extracts (rebuilt)"}
    return [StoreCount(labels[name], deletion.erased[name], kept.get(name, "")) for name in ERASED]


def hold_texts(reasons: Sequence[HoldReason]) -> list[str]:
    """Return a sentence for each reason to hold a deletion, and how it is released."""
    return [_HELD[reason] for reason in reasons]


def offer(chatbot: Chatbot, actor: str, chatter: ByUci, conversations: int, differs: str = "") -> Offer:
    return Offer(chatter.key, chatter.value, conversations, dump_subject(chatbot, actor, chatter), differs)


def similar_values(chatbot: Chatbot, actor: str, found: Sequence[Similar]) -> list[Offer]:
    return [offer(chatbot, actor, ByUci(one.key, one.value), one.conversations, one.differs) for one in found]


def lines(draft: Draft, found: Preview) -> list[PreviewLine]:
    """Return the rows of the preview of many requests, those that need review first."""
    shown = [
        PreviewLine(row, value, reference, finds, _notes(draft, row, value))
        for row, value, reference, finds in zip(draft.rows, draft.values, draft.references, found.each, strict=True)
    ]
    return sorted(shown, key=lambda line: (not line.finds.refused, not line.needs_review, line.row))


def _notes(draft: Draft, row: int, value: str) -> list[str]:
    is_heading = row == 1 and value.strip().casefold() == draft.key.casefold()
    return [*(["equals the UCI key: is it a heading?"] if is_heading else []), *peculiarities(value)]


def tally(lines: Sequence[PreviewLine], pasted: PastedValues | None) -> dict[str, int]:
    return {
        "filed": sum(not line.finds.refused for line in lines),
        "refused": sum(bool(line.finds.refused) for line in lines),
        "not_found": sum(line.is_not_found for line in lines),
        "with_open": sum(bool(line.finds.open_requests) for line in lines),
        "with_alike": sum(bool(line.finds.similar) for line in lines),
        "held": sum(bool(line.finds.held_by) for line in lines),
        "claimed": sum(line.finds.total.claimed > 0 for line in lines),
        "unverified": sum(line.finds.unverified_left_out > 0 for line in lines),
        "odd": sum(bool(line.notes) for line in lines),
        "repeated": len(pasted.repeated) if pasted else 0,
        "empty": len(pasted.empty) if pasted else 0,
    }


def grace(chatbot: Chatbot, kind: str) -> int:
    """Return the minutes from filing in the console to the start of a request. It can be cancelled until then."""
    return int(grace_of(chatbot, kind, ComplianceRequest.Origin.CONSOLE).total_seconds() // 60)
