"""What the page of a request shows of what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast
from uuid import UUID

from django.conf import settings

from chatbots.callback_urls import receiver_of
from common.db import fetch_one
from common.problem_help import Help, with_code
from compliance.failure_docs import FAILURES
from compliance.models import Callback, ComplianceRequest, Export
from compliance.requests.counts import COUNTED, EXPORTED, counts_of
from compliance.requests.reasons import Decision
from compliance.requests.results import MOST_FILES, Copy, Outcomes
from compliance.work.sql import SHARING
from console.requests.decisions import Way
from console.requests.forms import DecisionForm
from console.requests.history import GIVEN_BACK
from conversations.models import Conversation

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

# Of the conversations that a deletion has marked, by their numbers.
MOST_CONVERSATIONS = 100
_MOST_OWED = 10


class Choice(NamedTuple):
    """A decision that the user may make now."""

    decision: Decision
    way: Way
    form: DecisionForm


class Count(NamedTuple):
    label: str
    number: int
    kept: int | None  # None where nothing of the kind is ever kept


@dataclass(frozen=True)
class File:
    """The file of an export. Its key bears the value, and is not shown."""

    export: Export
    bucket: str
    is_ours: bool
    is_there: bool
    copies: Sequence[Copy]
    more_copies: bool


class Failure(NamedTuple):
    meaning: str
    remedy: str


def counts(request: ComplianceRequest, came_of: Outcomes) -> list[Count]:
    """Return what was erased and what is kept of it, or what the export holds, store by store."""
    numbers = counts_of(request)
    if request.kind == Kind.EXPORT:
        return [Count(COUNTED[name], numbers[name], None) for name in EXPORTED]
    kept = {
        "conversations": request.conversations,
        "exports": sum(one.removed_at is None for one in came_of.kept.get(request.pk, ())),
        "extracts": len(came_of.delivered.get(request.pk, ())),
    }
    return [Count(label, numbers[name], kept.get(name)) for name, label in COUNTED.items()]


def export_of(request: ComplianceRequest, came_of: Outcomes) -> File | None:
    """Return the file of an export once it is whole."""
    export = came_of.exports.get(request.pk)
    if export is None or export.finished_at is None:
        return None
    copies = came_of.copies.get(export.pk, ())
    return File(
        export=export,
        bucket=export.bucket or settings.S3_BUCKET,
        is_ours=export.hosting == "hosted",
        is_there=export.key is not None and not export.is_due,
        copies=copies,
        more_copies=len(copies) == MOST_FILES,
    )


def failure_of(request: ComplianceRequest) -> Failure | None:
    """Return what the error means and what to do, of a request that failed or whose attempt did."""
    is_unharmed = request.status != Status.FAILED and request.error_code in GIVEN_BACK
    if not request.error_code or is_unharmed:
        return None
    help_ = FAILURES.get(request.error_code, Help("The code says what went wrong.", "Look at the detail."))
    return Failure(with_code(help_.meaning), with_code(help_.remedy))


def owed_exports(request: ComplianceRequest) -> list[ComplianceRequest]:
    """Return the exports that a deletion is held for: of the same chatter, and the one that it notes."""
    others = ComplianceRequest.objects.filter(kind=Kind.EXPORT).only("kind", "status", "received_at", "error_code")
    noted = others.filter(pk__in=[one for one in [request.pending_export_id] if one])
    chatter = ComplianceRequest.objects.filter(pk=request.pk)
    same = others.filter(
        variable__in=chatter.values("variable"),
        uci_digest__in=chatter.values("uci_digest"),
        seq__lt=request.seq,
        status__in=(Status.FAILED, Status.ON_HOLD),
    ).order_by("seq")
    return [*noted, *(one for one in same[:_MOST_OWED] if one.pk != request.pending_export_id)]


_AHEAD = f"""
SELECT other.id
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL (
       SELECT id, seq, status FROM compliance_compliancerequest
        WHERE variable_id = r.variable_id AND uci_digest = r.uci_digest
        UNION ALL
       SELECT id, seq, status FROM {SHARING} AS sharing) AS other
 WHERE r.id = %s AND other.seq < r.seq AND other.status IN ('accepted', 'processing')
 ORDER BY other.seq LIMIT 1
"""  # noqa: S608  (a text of ours)


def ahead_of(request: ComplianceRequest) -> UUID | None:
    """Return the first request about the same that is not over: it goes first, so this one waits for it."""
    if request.status != Status.ACCEPTED:
        return None
    found = fetch_one(_AHEAD, [request.pk])
    return cast("UUID", found[0]) if found else None


class Marked(NamedTuple):
    numbers: list[int]
    more: bool


def conversations_of(request: ComplianceRequest) -> Marked:
    """Return the numbers of the conversations that a deletion has marked or erased, the first of them."""
    if request.kind != Kind.DELETION or request.cutoff_at is None:
        return Marked([], more=False)
    marked = Conversation.objects.filter(deletion_request_id=request.pk).values_list("pk", flat=True)
    numbers = sorted(marked[: MOST_CONVERSATIONS + 1])
    return Marked(numbers[:MOST_CONVERSATIONS], more=len(numbers) > MOST_CONVERSATIONS)


class Told(NamedTuple):
    callback: Callback
    receiver: str | None


def receivers(callbacks: Sequence[Callback]) -> list[Told]:
    """Return the callbacks with scheme and host of where they go: a path can be a secret."""
    return [Told(one, receiver_of(one.url)) for one in callbacks]
