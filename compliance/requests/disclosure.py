"""The subject of a deletion, for staff who decide on it. The change log records each view, without the value."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from chatbots import changelog
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests.decisions import awaits_approval
from compliance.requests.finds import Extent, extent_of
from compliance.requests.preview import Preview, preview_filed
from conversations.snapshots import one_instant


@dataclass(frozen=True)
class DisclosedSubject:
    """`key`: the UCI, None for a deletion by ids. `value` is also None if only its digest is kept.

    `extent`: its live conversations.
    """

    key: str | None
    value: str | None
    extent: Extent


def is_disclosable(request: ComplianceRequest) -> bool:
    """Return whether it is a deletion that waits for a decision. The subjects of other requests are never shown."""
    is_held = request.status == ComplianceRequest.Status.ON_HOLD
    return request.kind == ComplianceRequest.Kind.DELETION and (is_held or awaits_approval(request))


def disclose(*, request_id: UUID, actor: str) -> tuple[DisclosedSubject, Preview]:
    """Return the subject of a deletion, and a preview of its effects now, with similar values.

    Raises Refused (`not_held`: the request does not wait for a decision).
    """
    disclosed = _record_disclosure([request_id], actor)
    if not disclosed:
        raise Refused(
            "not_held", "The request does not wait for a decision any more, so the person it concerns is not shown."
        )
    with one_instant():
        return _read_subject(disclosed[request_id]), preview_filed(disclosed[request_id], with_similar=True)


def disclose_all(*, request_ids: Collection[UUID], actor: str) -> Mapping[UUID, DisclosedSubject]:
    """Return the subjects of these deletions. Requests that wait for no decision are left out, and not recorded."""
    disclosed = _record_disclosure(request_ids, actor)
    with one_instant():
        return {request_id: _read_subject(request) for request_id, request in disclosed.items()}


def _record_disclosure(request_ids: Collection[UUID], actor: str) -> dict[UUID, ComplianceRequest]:
    """Return the deletions with their subjects. The log entries are committed before the subjects are returned."""
    with transaction.atomic():
        asked = ComplianceRequest.objects.filter(pk__in=request_ids).select_related("chatbot", "variable")
        found = {one.pk: one for one in asked.order_by("seq") if is_disclosable(one)}
        changelog.record_all(
            changelog.entry("request.shown", chatbot_id=one.chatbot_id, request_id=one.pk, actor=actor)
            for one in found.values()
        )
    return found


def _read_subject(request: ComplianceRequest) -> DisclosedSubject:
    key = request.variable.name if request.variable else None
    return DisclosedSubject(key, request.uci_value, extent_of(request))
