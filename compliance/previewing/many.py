"""What deletions or exports of many chatters would do, found out set-wise: one question each, not one a chatter.

The questions are those of the preview of one. Tests compare the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from chatbots.models import Bucket, Chatbot
from compliance import similar
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.operations.filing import Setup, check, one_of, require_compliance
from compliance.previewing.deleting import Deletion, count, count_files, holds
from compliance.previewing.finding import Finds, Found, Subjects, find, united
from compliance.selectors import ByUci
from compliance.similar import Similar
from conversations.snapshots import one_instant

HoldReason = ComplianceRequest.HoldReason

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
    shared: int = 0
    at_least: bool = False
    open_requests: list[UUID] = field(default_factory=list)
    similar: list[Similar] = field(default_factory=list)
    held_by: list[HoldReason] = field(default_factory=list)
    refused: Refused | None = None


@dataclass(frozen=True)
class Together:
    """What all of it would do: a conversation that two of them have counts once. `deletion` of deletions."""

    conversations: int
    messages: int
    files: int
    shared: int
    highest: int
    deletion: Deletion | None


@dataclass(frozen=True)
class PreviewOfMany:
    """By line, in the order of the lines. `has_bucket`: an export has somewhere to go."""

    outlooks: list[Outlook]
    together: Together
    has_bucket: bool


@dataclass(frozen=True)
class OptionsOfMany:
    """What each of the requests would ask for."""

    kind: ComplianceRequest.Kind
    erase_exports: bool = False
    include_shared: bool = False
    include_files: bool = False

    @property
    def is_deletion(self) -> bool:
        return self.kind == ComplianceRequest.Kind.DELETION


def preview_many(*, chatbot: Chatbot, key: str, lines: Sequence[Line], options: OptionsOfMany) -> PreviewOfMany:
    """Return what requests about these chatters, each named once, would do if they were carried out now.

    All of it is of one instant. Raises Refused for the whole: `compliance_disabled`, `uci_not_designated`,
    `unknown_uci_key`, and `invalid` if they have more conversations together than a preview looks at.
    """
    with one_instant():
        require_compliance(chatbot)
        setup = Setup(chatbot)
        one_of(setup.ucis, key)
        judged = [_judge(setup, key, line) for line in lines]
        values = [line.value for line, one in zip(lines, judged, strict=True) if not isinstance(one, Refused)]
        digests = [one for one in judged if not isinstance(one, Refused)]
        chatters = Subjects(setup.chatbot, setup.ucis[key].pk, digests=digests)
        finds = find(chatters)
        outlooks = iter(_outlooks(chatters, values, finds, options))
        return PreviewOfMany(
            outlooks=[Outlook(refused=one) if isinstance(one, Refused) else next(outlooks) for one in judged],
            together=_together(chatters, finds, options),
            has_bucket=Bucket.objects.filter(chatbot=chatbot).exists(),
        )


def _judge(setup: Setup, key: str, line: Line) -> bytes | Refused:
    """Return the digest of whom a line names, or why it cannot be filed."""
    try:
        names = check(setup, ByUci(key, line.value), line.reference).names
    except Refused as refusal:
        return refusal.with_traceback(None)
    digest: bytes = names["uci_digest"]
    return digest


def _outlooks(
    chatters: Subjects, values: Sequence[str], finds: Sequence[Finds], options: OptionsOfMany
) -> list[Outlook]:
    held_by = holds(chatters, finds) if options.is_deletion else [[] for _ in finds]
    alike = similar.find_each(
        chatbot_id=chatters.chatbot.pk,
        variable_id=chatters.variable_id or 0,
        values=values,
        most=MOST_ALIKE,
        most_counted=MOST_ALIKE_COUNTED,
    )
    return [
        Outlook(
            conversations=len(chosen := _chosen(its_finds, options)),
            messages=sum(one.message_count for one in chosen),
            shared=len(_shared(its_finds, options)),
            at_least=its_finds.at_least,
            open_requests=its_finds.open_requests,
            similar=its_alike,
            held_by=its_holds,
        )
        for its_finds, its_alike, its_holds in zip(finds, alike, held_by, strict=True)
    ]


def _chosen(finds: Finds, options: OptionsOfMany) -> list[Found]:
    if options.is_deletion:
        return finds.live
    return [one for one in finds.live if not one.is_marked and (options.include_shared or not one.is_shared)]


def _shared(finds: Finds, options: OptionsOfMany) -> set[int]:
    return {one.number for one in finds.live if one.is_shared and (options.is_deletion or not one.is_marked)}


def _together(chatters: Subjects, finds: Sequence[Finds], options: OptionsOfMany) -> Together:
    all_of_it = united(finds)
    chosen = _chosen(all_of_it, options)
    deletion = None
    if options.is_deletion:
        deletion = count(chatters, all_of_it, erase_exports=options.erase_exports)
        files = deletion.erased["files"]
    else:
        files = count_files([one.number for one in chosen]) if options.include_files else 0
    return Together(
        conversations=len(chosen),
        messages=sum(one.message_count for one in chosen),
        files=files,
        shared=len(_shared(all_of_it, options)),
        highest=max((one.number for one in chosen), default=0),
        deletion=deletion,
    )
