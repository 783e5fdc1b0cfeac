"""What a deletion and an export would do now, without doing any of it.

The questions are those of the mark (`erasure/marking.py`, `erasure/scope.py`), of the claims (`sizes.py`) and of
the file (`conversations/transcripts.py`), asked without a request. Tests file what they preview, and compare.

No message is counted one by one: each conversation keeps how many it has. What is looked at is bounded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chatbots.models import Bucket, Chatbot
from compliance import similar
from compliance.models import ComplianceRequest
from compliance.operations.filing import Setup, check
from compliance.previewing.deleting import MOST_NAMED, Deletion, Named, count, count_files, holds, named
from compliance.previewing.finding import Finds, Subjects, find
from compliance.selectors import Selector
from compliance.similar import Similar
from conversations.snapshots import one_instant


@dataclass(frozen=True)
class Options:
    """Which kinds of request are meant, and what they would ask for beside whom they are about."""

    deletion: bool = True
    export: bool = True
    erase_exports: bool = False
    include_shared: bool = False
    include_files: bool = False


@dataclass(frozen=True)
class Export:
    """What an export would hold. `refused` is the code by which its filing would be refused now."""

    conversations: int
    messages: int
    files: int
    shared_left_out: int
    refused: str | None
    found: Named


@dataclass(frozen=True)
class Preview:
    """`at_least`: there are more conversations than were looked at."""

    deletion: Deletion | None
    export: Export | None
    open_requests: list[UUID]
    similar: list[Similar]
    at_least: bool


def preview(
    *, chatbot: Chatbot, about: Selector, options: Options, reference: str = "", callback_url: str = ""
) -> Preview:
    """Return what requests about a chatter, or certain conversations, would do if they were carried out now.

    All of it is of one instant. Raises Refused as `submit` does, save for an export without a bucket, which is told.
    """
    with one_instant():
        names = check(Setup(chatbot), about, reference, callback_url).names
        subjects = Subjects(
            chatbot,
            names.get("variable_id"),
            digests=[names.get("uci_digest")],
            conversation_digests=names.get("conversation_digests"),
        )
        [finds] = find(subjects)
        return Preview(
            deletion=_deletion(subjects, finds, erase_exports=options.erase_exports) if options.deletion else None,
            export=_export(subjects, finds, options) if options.export else None,
            open_requests=finds.open_requests[:MOST_NAMED],
            similar=_similar(chatbot, names),
            at_least=finds.at_least,
        )


def preview_filed(request: ComplianceRequest) -> Preview:
    """Return what a deletion that waits would do if it were carried out now. It names somebody still."""
    with one_instant():
        subjects = Subjects(
            request.chatbot,
            request.variable_id,
            digests=[None if request.uci_digest is None else bytes(request.uci_digest)],
            conversation_digests=_as_bytes(request.conversation_digests),
        )
        [finds] = find(subjects)
        return Preview(
            deletion=_deletion(subjects, finds, erase_exports=request.erase_exports),
            export=None,
            open_requests=finds.open_requests[:MOST_NAMED],
            similar=[],
            at_least=finds.at_least,
        )


def _as_bytes(digests: list[bytes | memoryview] | None) -> list[bytes] | None:
    return None if digests is None else [bytes(one) for one in digests]


def _deletion(subjects: Subjects, finds: Finds, *, erase_exports: bool) -> Deletion:
    [held_by] = holds(subjects, [finds])
    return count(subjects, finds, erase_exports=erase_exports, held_by=held_by)


def _export(subjects: Subjects, finds: Finds, options: Options) -> Export:
    is_all = options.include_shared or subjects.is_by_id
    unmarked = [one for one in finds.live if not one.is_marked]
    chosen = [one for one in unmarked if is_all or not one.is_shared]
    has_bucket = Bucket.objects.filter(chatbot=subjects.chatbot).exists()
    return Export(
        conversations=len(chosen),
        messages=sum(one.message_count for one in chosen),
        files=count_files([one.number for one in chosen]) if options.include_files else 0,
        shared_left_out=len(unmarked) - len(chosen),
        refused=None if has_bucket else "export_destination_missing",
        found=named(chosen),
    )


def _similar(chatbot: Chatbot, names: Mapping[str, Any]) -> list[Similar]:
    if "uci_value" not in names:
        return []
    return similar.find(chatbot_id=chatbot.pk, variable_id=names["variable_id"], value=names["uci_value"])
