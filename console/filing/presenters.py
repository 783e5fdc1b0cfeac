"""Previews in the words of the pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from compliance.requests.operations import CONSOLE_GRACE
from compliance.requests.preview import Outlook, PreviewOfMany
from compliance.requests.preview.deletion import Deletion
from compliance.requests.preview.similar import Similar
from console.filing.drafts import Draft, dump_subject
from console.filing.pasting import Pasted, peculiarities

HoldReason = ComplianceRequest.HoldReason

_HELD = {
    HoldReason.EXPORT_PENDING: "An earlier export of the same data is not delivered yet. The deletion waits for it, "
    "or for an officer who lets it go on.",
    HoldReason.TOO_MANY_CONVERSATIONS: "These are more conversations than this chatbot lets go at once. An officer "
    "has to approve.",
    HoldReason.AWAITING_APPROVAL: "In this chatbot another person has to approve each deletion: an officer, not you.",
}
_DIFFERS = {
    "key": "under another key",
    "case": "in capitals and small letters",
    "padding": "in spaces or zeros around",
}


@dataclass(frozen=True)
class Store:
    """One kind of data: how much goes, and what stays, in words."""

    name: str
    goes: int
    stays: str = ""


@dataclass(frozen=True)
class Alike:
    """Another chatter's value that looks like the one that was named; `subject` is sealed, to be previewed."""

    key: str
    value: str
    conversations: int
    differs_in: str
    subject: str


@dataclass(frozen=True)
class Line:
    """A line of many."""

    row: int
    value: str
    reference: str
    outlook: Outlook
    notes: list[str]
    alike: list[Similar]
    holds: list[str]

    @property
    def is_not_found(self) -> bool:
        return not self.outlook.refused and not self.outlook.conversations

    @property
    def needs_a_look(self) -> bool:
        outlook = self.outlook
        found = (outlook.refused, self.notes, self.alike, outlook.open_requests, outlook.held_by, self.is_not_found)
        return any(found)


def stores(deletion: Deletion) -> list[Store]:
    """Return what a deletion does, store by store."""
    erased = deletion.erased
    days = settings.EXPORT_GRACE_DAYS.days
    kept = f"{deletion.kept_exports} that are younger than {days} days" if deletion.kept_exports else ""
    return [
        Store(
            "Conversations",
            erased["conversations"],
            "that they took place: number, day, channel, flags, scores" if erased["conversations"] else "",
        ),
        Store("Messages", erased["messages"]),
        Store("UCI values", erased["identities"]),
        Store("Values of other variables", erased["variable_values"]),
        Store("Uploaded files", erased["files"]),
        Store("Earlier exports", erased["exports"], kept),
        Store("Daily extracts, made again without them", erased["extracts"]),
    ]


def holds(reasons: Sequence[HoldReason]) -> list[str]:
    """Say what will hold a deletion, and who can let it go on."""
    return [_HELD[reason] for reason in reasons]


def alike(chatbot: Chatbot, actor: str, found: Sequence[Similar]) -> list[Alike]:
    return [
        Alike(
            key=one.key,
            value=one.value,
            conversations=one.conversations,
            differs_in=differences(one),
            subject=dump_subject(chatbot, actor, Draft("", key=one.key, values=(one.value,))),
        )
        for one in found
    ]


def differences(similar: Similar) -> str:
    return ", ".join(_DIFFERS[one] for one in similar.differs_in)


def lines(draft: Draft, found: PreviewOfMany) -> list[Line]:
    """Return the lines of many, those that need a look first."""
    shown = [
        Line(row, value, reference, outlook, _notes(draft, row, value), outlook.similar, holds(outlook.held_by))
        for row, value, reference, outlook in zip(
            draft.rows, draft.values, draft.references, found.outlooks, strict=True
        )
    ]
    return sorted(shown, key=lambda line: (not line.outlook.refused, not line.needs_a_look, line.row))


def _notes(draft: Draft, row: int, value: str) -> list[str]:
    is_heading = row == 1 and value.strip().casefold() == draft.key.casefold()
    return [*(["is the name of the key: a heading?"] if is_heading else []), *peculiarities(value)]


@dataclass(frozen=True)
class Tally:
    """How many of many lines there are of each sort."""

    filed: int
    refused: int
    not_found: int
    with_open: int
    with_alike: int
    held: int
    odd: int
    repeated: int
    empty: int


def tally(lines: Sequence[Line], pasted: Pasted | None) -> Tally:
    return Tally(
        filed=sum(not line.outlook.refused for line in lines),
        refused=sum(bool(line.outlook.refused) for line in lines),
        not_found=sum(line.is_not_found for line in lines),
        with_open=sum(bool(line.outlook.open_requests) for line in lines),
        with_alike=sum(bool(line.alike) for line in lines),
        held=sum(bool(line.outlook.held_by) for line in lines),
        odd=sum(bool(line.notes) for line in lines),
        repeated=len(pasted.repeated) if pasted else 0,
        empty=len(pasted.empty) if pasted else 0,
    )


def grace(chatbot: Chatbot) -> int:
    """Return for how many minutes what is filed here can be cancelled in any case."""
    return int(max(CONSOLE_GRACE, timedelta(minutes=chatbot.grace_minutes)).total_seconds() // 60)
