"""What deletions and exports would do now, without doing any of it.

The questions are those of the mark (`erasure/marking.py`, `work/scope.py`), of the claims (`work/sizes.py`) and of
the file (`conversations/transcripts.py`), asked without a request, and for all chatters at once. Tests file what they
preview, and compare.

Messages are not counted one by one: each conversation stores how many it has. What is read is bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from chatbots.models import Chatbot
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests.inputs import ChatbotConfig, check, read_requested_at
from compliance.requests.preview import effects, similar
from compliance.requests.preview.effects import Deletion, Export, HoldReason
from compliance.requests.preview.similar import Similar
from compliance.requests.preview.subjects import MOST_NAMED, Finds, Options, Subjects, find, united
from compliance.requests.selectors import ByUci, Selector
from conversations.snapshots import one_instant

Kind = ComplianceRequest.Kind

# Of each of many chatters: similar values, and how far their conversations are counted.
MOST_ALIKE = 3
MOST_ALIKE_COUNTED = 100


@dataclass(frozen=True)
class Preview:
    """What requests about one subject would do, by kind; None for a kind that is not meant.

    `held_by`: what would hold the deletion. `at_least`: there are more conversations than were read.
    """

    deletion: Deletion | None
    export: Export | None
    held_by: list[HoldReason]
    open_requests: list[UUID]
    similar: Sequence[Similar]
    at_least: bool


@dataclass(frozen=True)
class ChatterPreview:
    """What the request about one of many chatters would do. `refused`: why it could not be filed; the rest is empty
    then. `claimed`: of the conversations, those found by a value which came through the user channel."""

    conversations: int = 0
    messages: int = 0
    at_least: bool = False
    open_requests: list[UUID] = field(default_factory=list)
    similar: list[Similar] = field(default_factory=list)
    held_by: list[HoldReason] = field(default_factory=list)
    claimed: int = 0
    unverified_left_out: int = 0
    refused: Refused | None = None


@dataclass(frozen=True)
class PreviewOfMany:
    """What each request would do, in their order, and what all of them would do together.

    Together, a conversation of several chatters is counted once, by its strongest identity.
    """

    chatters: list[ChatterPreview]
    deletion: Deletion | None
    export: Export | None


def preview(
    *,
    chatbot: Chatbot,
    about: Selector,
    kinds: Sequence[Kind],
    options: Options,
    reference: str = "",
    callback_url: str = "",
    requested_at: str = "",
) -> Preview:
    """Return what requests about a chatter, or certain conversations, would do if they were carried out now.

    All of it is of one instant. Raises Refused as `submit` does, except for an export without a bucket.
    """
    with one_instant():
        subject, _ = check(ChatbotConfig(chatbot), about, reference, callback_url)
        read_requested_at(requested_at, chatbot)
        variable_id = subject.variable.pk if subject.variable else None
        subjects = Subjects(chatbot, variable_id, [subject.uci_digest], subject.conversation_digests)
        alike: Sequence[Similar] = []
        if isinstance(about, ByUci) and variable_id:
            [alike] = similar.find(chatbot_id=chatbot.pk, variable_id=variable_id, values=[about.value])
        return _preview_one(subjects, kinds, options, alike)


def preview_filed(request: ComplianceRequest, *, with_similar: bool = False) -> Preview:
    """Return what a waiting deletion would do if it were carried out now; it still has its subject.

    Its value is read only `with_similar`. Where just its digest is kept, nothing similar is found.
    """
    with one_instant():
        alike: Sequence[Similar] = []
        if with_similar and request.variable_id and request.uci_value is not None:
            values = [request.uci_value]
            [alike] = similar.find(chatbot_id=request.chatbot_id, variable_id=request.variable_id, values=values)
        options = Options(erase_exports=request.erase_exports)
        return _preview_one(subjects_of(request), [Kind.DELETION], options, alike)


def subjects_of(request: ComplianceRequest) -> Subjects:
    """Return whom a request is about that still has its subject."""
    return Subjects(request.chatbot, request.variable_id, [request.uci_digest], request.conversation_digests)


def preview_many(
    *, chatbot: Chatbot, key: str, chatters: Sequence[tuple[str, str]], kind: Kind, options: Options
) -> PreviewOfMany:
    """Return what requests would do now. `chatters`: the UCI value of each, and the reference of its request.

    All of it is of one instant. Raises Refused for the whole: `compliance_disabled`, `uci_not_designated`,
    `unknown_uci_key`, and `invalid` if they have more conversations together than a preview reads.
    """
    with one_instant():
        config = ChatbotConfig(chatbot)
        config.require_compliance()
        variable = config.find_uci(key)
        digests: dict[str, bytes | None] = {}
        previews: dict[str, ChatterPreview] = {}
        for value, reference in chatters:
            try:
                digests[value] = check(config, ByUci(key, value), reference)[0].uci_digest
            except Refused as refusal:
                previews[value] = ChatterPreview(refused=refusal.with_traceback(None))
        subjects = Subjects(chatbot, variable.pk, list(digests.values()))
        alike = similar.find(
            chatbot_id=chatbot.pk,
            variable_id=variable.pk,
            values=list(digests),
            most=MOST_ALIKE,
            most_counted=MOST_ALIKE_COUNTED,
        )
        each, held_by, by_kind = _examine(subjects, [kind], options)
        is_deletion = kind == Kind.DELETION
        for value, finds, its_alike, its_holds in zip(digests, each, alike, held_by, strict=True):
            chosen = finds.live if is_deletion else effects.chosen_of(subjects, finds, options)
            previews[value] = ChatterPreview(
                conversations=len(chosen),
                messages=sum(one.message_count for one in chosen),
                at_least=finds.at_least,
                open_requests=finds.open_requests,
                similar=its_alike,
                held_by=its_holds,
                claimed=effects.claimed_of(chosen),
                unverified_left_out=0 if is_deletion else effects.left_out(finds),
            )
        return PreviewOfMany([previews[value] for value, _ in chatters], *by_kind)


def _preview_one(
    subjects: Subjects, kinds: Sequence[Kind], options: Options, alike: Sequence[Similar] = ()
) -> Preview:
    [finds], [held_by], by_kind = _examine(subjects, kinds, options)
    return Preview(*by_kind, held_by, finds.open_requests[:MOST_NAMED], alike, finds.at_least)


def _examine(
    subjects: Subjects, kinds: Sequence[Kind], options: Options
) -> tuple[list[Finds], list[list[HoldReason]], tuple[Deletion | None, Export | None]]:
    """Return what is found of each subject and would hold its deletion, and what all would do together, by kind."""
    each = find(subjects)
    together = united(each)
    is_deletion = Kind.DELETION in kinds
    return (
        each,
        effects.holds(subjects, each) if is_deletion else [[] for _ in each],
        (
            effects.count_deletion(subjects, together, options) if is_deletion else None,
            effects.count_export(subjects, together, options) if Kind.EXPORT in kinds else None,
        ),
    )
