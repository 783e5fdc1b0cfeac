"""The parts of a request's results for the page of the request."""

from typing import NamedTuple, cast
from uuid import UUID

from common.db import fetch_one
from common.problems import Help, with_code
from compliance.errors import FAILURES
from compliance.models import ComplianceRequest
from compliance.requests.disclosure import DisclosedSubject
from compliance.requests.preview import Preview
from compliance.requests.results import (
    COUNTED,
    ERASED,
    EXPORTED,
    KEPT_OF_CONVERSATION,
    REDACTED,
    Outcomes,
    counts_of,
)
from compliance.work.sql import SHARING
from console.filing.pasted_values import peculiarities
from console.filing.presenters import StoreCount
from console.requests.history import REQUEUE_REASONS
from conversations.models import Conversation

Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

MOST_CONVERSATIONS = 100
_MOST_PENDING = 10


class ShownSubject(NamedTuple):
    """The subject of a deletion, for a user who decides on it. A list has no `preview`."""

    subject: DisclosedSubject
    preview: Preview | None = None

    @property
    def notes(self) -> list[str]:
        return peculiarities(self.subject.value or "")


def counts(request: ComplianceRequest, results: Outcomes) -> list[StoreCount]:
    """Return the rows that a deletion erased and kept, or those in an export, by store."""
    numbers = counts_of(request)
    if request.kind == Kind.EXPORT:
        return [StoreCount(COUNTED[name], numbers[name], "") for name in EXPORTED]
    exports = sum(one.removed_at is None for one in results.kept.get(request.pk, ()))
    extracts = len(results.delivered.get(request.pk, ()))
    kept = {
        "conversations": KEPT_OF_CONVERSATION if request.conversations else "",
        "messages": "time and sender" if request.kind == Kind.REDACTION else "",
        "csat_comments": "score and vote",
        "exports": f"{exports:,}, listed below" if exports else "",
        "extracts": f"{extracts:,} in the client's bucket" if extracts else "",
    }
    names = REDACTED if request.kind == Kind.REDACTION else ERASED
    return [StoreCount(COUNTED[name], numbers[name], kept.get(name, "")) for name in names]


def failure_of(request: ComplianceRequest) -> Help | None:
    """Return the meaning of the error of a failed request or attempt, and how to fix it."""
    is_requeued = request.status != Status.FAILED and request.error_code in REQUEUE_REASONS
    if not request.error_code or is_requeued or request.status == Status.CANCELLED:
        return None
    help_ = FAILURES.get(request.error_code, Help("See the error code.", "See the detail."))
    return Help(with_code(help_.meaning), with_code(help_.remedy))


def pending_exports(request: ComplianceRequest) -> list[ComplianceRequest]:
    """Return the exports for which a deletion is on hold: those of the same chatter, and the one it refers to."""
    others = ComplianceRequest.objects.filter(kind=Kind.EXPORT).only("kind", "status", "received_at", "error_code")
    noted = others.filter(pk__in=[one for one in [request.pending_export_id] if one])
    chatter = ComplianceRequest.objects.filter(pk=request.pk)
    same = others.filter(
        variable__in=chatter.values("variable"),
        uci_digest__in=chatter.values("uci_digest"),
        seq__lt=request.seq,
        status__in=(Status.FAILED, Status.ON_HOLD),
    ).order_by("seq")
    return [*noted, *(one for one in same[:_MOST_PENDING] if one.pk != request.pending_export_id)]


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
    """Return the first unfinished request about the same subject: this one waits for it."""
    if request.status != Status.ACCEPTED:
        return None
    found = fetch_one(_AHEAD, [request.pk])
    return cast("UUID", found[0]) if found else None


class MarkedConversations(NamedTuple):
    numbers: list[int]
    more: bool


def conversations_of(request: ComplianceRequest) -> MarkedConversations:
    """Return the numbers of conversations that a deletion has marked or erased, up to a limit."""
    if request.kind in {Kind.EXPORT, Kind.REDACTION} or request.cutoff_at is None:
        return MarkedConversations([], more=False)
    marked = Conversation.objects.filter(chatbot=request.chatbot_id, deletion_request_id=request.pk)
    numbers = sorted(marked.values_list("pk", flat=True)[: MOST_CONVERSATIONS + 1])
    return MarkedConversations(numbers[:MOST_CONVERSATIONS], more=len(numbers) > MOST_CONVERSATIONS)
