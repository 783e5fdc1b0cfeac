"""What a deletion and an export would do now, without doing any of it.

The questions are those of the mark (`erasure/marking.py`, `erasure/scope.py`), of the claims (`work/sizes.py`) and of
the file (`conversations/transcripts.py`), asked without a request. Tests file what they preview, and compare.

No message is counted one by one: each conversation keeps how many it has. What is looked at is bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from compliance.requests.inputs import ChatbotConfig, check
from compliance.requests.preview import deletion, export, similar
from compliance.requests.preview.deletion import Deletion, HoldReason
from compliance.requests.preview.export import Export
from compliance.requests.preview.similar import Similar
from compliance.requests.preview.subjects import MOST_NAMED, Options, Subjects, find
from compliance.requests.selectors import ByUci, Selector
from conversations.snapshots import one_instant

Kind = ComplianceRequest.Kind


@dataclass(frozen=True)
class Preview:
    """By kind, None for one that is not meant. `held_by`: what would hold the deletion.

    `at_least`: there are more conversations than were looked at.
    """

    deletion: Deletion | None
    export: Export | None
    held_by: list[HoldReason]
    open_requests: list[UUID]
    similar: Sequence[Similar]
    at_least: bool


def preview(
    *,
    chatbot: Chatbot,
    about: Selector,
    kinds: Sequence[Kind],
    options: Options,
    reference: str = "",
    callback_url: str = "",
) -> Preview:
    """Return what requests about a chatter, or certain conversations, would do if they were carried out now.

    All of it is of one instant. Raises Refused as `submit` does, save for an export without a bucket, which is told.
    """
    with one_instant():
        subject, _ = check(ChatbotConfig(chatbot), about, reference, callback_url)
        variable_id = subject.variable.pk if subject.variable else None
        subjects = Subjects(chatbot, variable_id, [subject.uci_digest], subject.conversation_digests)
        alike = []
        if isinstance(about, ByUci) and variable_id:
            alike = similar.find(chatbot_id=chatbot.pk, variable_id=variable_id, value=about.value)
        return _preview(subjects, kinds, options, alike)


def preview_filed(request: ComplianceRequest) -> Preview:
    """Return what a deletion that waits would do if it were carried out now. It names somebody still."""
    with one_instant():
        subjects = Subjects(request.chatbot, request.variable_id, [request.uci_digest], request.conversation_digests)
        return _preview(subjects, [Kind.DELETION], Options(erase_exports=request.erase_exports))


def _preview(subjects: Subjects, kinds: Sequence[Kind], options: Options, alike: Sequence[Similar] = ()) -> Preview:
    [finds] = find(subjects)
    is_deletion = Kind.DELETION in kinds
    return Preview(
        deletion=deletion.count(subjects, finds, options) if is_deletion else None,
        export=export.count(subjects, finds, options) if Kind.EXPORT in kinds else None,
        held_by=deletion.holds(subjects, [finds])[0] if is_deletion else [],
        open_requests=finds.open_requests[:MOST_NAMED],
        similar=alike,
        at_least=finds.at_least,
    )
