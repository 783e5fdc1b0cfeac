"""What deletions or exports of many chatters would do, found out set-wise: one question each, not one a chatter.

The questions are those of the preview of one. Tests compare the two.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from chatbots.models import Chatbot
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests.inputs import ChatbotConfig, check
from compliance.requests.preview import deletion, export, similar
from compliance.requests.preview.deletion import Deletion, HoldReason
from compliance.requests.preview.export import Export
from compliance.requests.preview.similar import Similar
from compliance.requests.preview.subjects import Finds, Options, Subjects, find, united
from compliance.requests.selectors import ByUci
from conversations.snapshots import one_instant

Kind = ComplianceRequest.Kind

# Of the values that look like one of many, and of their conversations.
MOST_ALIKE = 3
MOST_ALIKE_COUNTED = 100


@dataclass(frozen=True)
class Line:
    """One of many: whom it names, and its reference."""

    value: str
    reference: str = ""


@dataclass(frozen=True)
class Outlook:
    """What a request of one line would do. `refused`: why it could not be filed; then nothing else is told."""

    conversations: int = 0
    messages: int = 0
    at_least: bool = False
    open_requests: list[UUID] = field(default_factory=list)
    similar: list[Similar] = field(default_factory=list)
    held_by: list[HoldReason] = field(default_factory=list)
    refused: Refused | None = None


@dataclass(frozen=True)
class PreviewOfMany:
    """By line, in the order of the lines; and what all of it would do, by the kind that is meant.

    Of all of it, a conversation that two of them have counts once.
    """

    outlooks: list[Outlook]
    deletion: Deletion | None
    export: Export | None


def preview_many(*, chatbot: Chatbot, key: str, lines: Sequence[Line], kind: Kind, options: Options) -> PreviewOfMany:
    """Return what requests about these chatters, each named once, would do if they were carried out now.

    All of it is of one instant. Raises Refused for the whole: `compliance_disabled`, `uci_not_designated`,
    `unknown_uci_key`, and `invalid` if they have more conversations together than a preview looks at.
    """
    with one_instant():
        config = ChatbotConfig(chatbot)
        config.require_compliance()
        variable = config.find_uci(key)
        digests: dict[str, bytes] = {}
        outlooks: dict[str, Outlook] = {}
        for line in lines:
            try:
                subject, _ = check(config, ByUci(key, line.value), line.reference)
                digests[line.value] = subject.uci_digest or b""
            except Refused as refusal:
                outlooks[line.value] = Outlook(refused=refusal.with_traceback(None))
        chatters = Subjects(chatbot, variable.pk, list(digests.values()))
        each = find(chatters)
        outlooks |= zip(digests, _outlooks(chatters, list(digests), each, kind, options), strict=True)
        all_of_it = united(each)
        return PreviewOfMany(
            outlooks=[outlooks[line.value] for line in lines],
            deletion=deletion.count(chatters, all_of_it, options) if kind == Kind.DELETION else None,
            export=export.count(chatters, all_of_it, options) if kind == Kind.EXPORT else None,
        )


def _outlooks(
    chatters: Subjects, values: Sequence[str], each: Sequence[Finds], kind: Kind, options: Options
) -> Iterator[Outlook]:
    is_deletion = kind == Kind.DELETION
    alike = similar.find_each(
        chatbot_id=chatters.chatbot.pk,
        variable_id=chatters.variable_id or 0,
        values=values,
        most=MOST_ALIKE,
        most_counted=MOST_ALIKE_COUNTED,
    )
    held_by = deletion.holds(chatters, each) if is_deletion else [[] for _ in each]
    for finds, its_alike, its_holds in zip(each, alike, held_by, strict=True):
        chosen = finds.live if is_deletion else export.chosen_of(chatters, finds, options)
        yield Outlook(
            conversations=len(chosen),
            messages=sum(one.message_count for one in chosen),
            at_least=finds.at_least,
            open_requests=finds.open_requests,
            similar=its_alike,
            held_by=its_holds,
        )
