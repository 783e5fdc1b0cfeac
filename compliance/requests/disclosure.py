"""Whom a deletion is about, for staff who decide on it. The change log records each look, without the value."""

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
class Whom:
    """`key`: the UCI, None for a deletion by ids. `value` is None also where only its digest is kept.

    `extent`: its live conversations.
    """

    key: str | None
    value: str | None
    extent: Extent


def is_shown(request: ComplianceRequest) -> bool:
    """Return whether it is a deletion that waits for a decision; of others, nobody is shown whom they concern."""
    is_held = request.status == ComplianceRequest.Status.ON_HOLD
    return request.kind == ComplianceRequest.Kind.DELETION and (is_held or awaits_approval(request))


def show(*, request_id: UUID, actor: str) -> tuple[Whom, Preview]:
    """Return whom a deletion is about, and what it would do now, with similar values.

    Raises Refused (`not_held`: it waits for no decision).
    """
    looked_at = _look([request_id], actor)
    if not looked_at:
        raise Refused("not_held", "It waits for no decision any more, so it is not shown whom it concerns.")
    with one_instant():
        return _whom(looked_at[request_id]), preview_filed(looked_at[request_id], with_similar=True)


def show_all(*, request_ids: Collection[UUID], actor: str) -> Mapping[UUID, Whom]:
    """Return whom each of these deletions is about. What waits for no decision is left out, and not recorded."""
    looked_at = _look(request_ids, actor)
    with one_instant():
        return {request_id: _whom(request) for request_id, request in looked_at.items()}


def _look(request_ids: Collection[UUID], actor: str) -> dict[UUID, ComplianceRequest]:
    """Return the deletions with whom they name. The entries are committed before anybody sees them."""
    with transaction.atomic():
        asked = ComplianceRequest.objects.filter(pk__in=request_ids).select_related("chatbot", "variable")
        found = {one.pk: one for one in asked.order_by("seq") if is_shown(one)}
        changelog.record_all(
            changelog.entry("request.shown", chatbot_id=one.chatbot_id, request_id=one.pk, actor=actor)
            for one in found.values()
        )
    return found


def _whom(request: ComplianceRequest) -> Whom:
    key = request.variable.name if request.variable else None
    return Whom(key, request.uci_value, extent_of(request))
