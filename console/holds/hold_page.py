"""The list of legal holds, and the page of one: what it covers, the requests that it keeps, review and release."""

from dataclasses import replace
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from common.crypto import SecretUnreadable
from common.texts import counted
from compliance import hold_coverage, holds
from compliance.errors import Refused
from compliance.hold_coverage import Waiting
from compliance.models import LegalHold
from compliance.requests.decisions import party
from console.changelog import names_of
from console.common.lists import ListPage, MergedQuery, tabs
from console.common.pages import action, form, page, refusal, render, require
from console.common.scope import DECIDE, actor_of, row_or_404, scope_of
from console.filing.pasted_values import peculiarities
from console.holds.forms import ReleaseForm, ReviewForm
from console.holds.place_page import MOST_LISTED

_VIEWS = {"in-force": "In force", "released": "Released"}
# Released holds below those in force.
_MOST_RELEASED = 10


@page
def holds_list(request: HttpRequest) -> HttpResponse:
    """List the holds in force, and the last ones that were released; or all of those."""
    scope = scope_of(request, roles=DECIDE)
    view, views = tabs(request, _VIEWS, scope.slug)
    # The personal fields are never read for a list.
    rows = LegalHold.objects.select_related("chatbot", "variable").defer("value_encrypted", "uci_digest")
    in_force = MergedQuery(rows, scope.ids, branches=(Q(released_at=None),))
    ended = replace(in_force, branches=(Q(released_at__isnull=False),))
    found: ListPage[LegalHold] = (in_force if view == "in-force" else ended).page(request)
    released = ended.order_by("-id")[:_MOST_RELEASED] if view == "in-force" else []
    return render(
        request,
        "console/holds/list.html",
        title="Legal holds",
        scope=scope,
        page=found,
        released=released,
        people=names_of(name for one in [*found.rows, *released] for name in (one.placed_by, one.released_by)),
        now=timezone.now(),
        view=view,
        views=views,
    )


@page
def hold_page(request: HttpRequest, hold_id: UUID) -> HttpResponse:
    return _answer(request, _find(request, hold_id))


@action
def show_value(request: HttpRequest, hold_id: UUID) -> HttpResponse:
    """Show the UCI value of a hold in force, in this response only. The change log records it."""
    hold = _find(request, hold_id)
    try:
        value = holds.disclose(chatbot=hold.chatbot, hold_id=hold.pk, actor=actor_of(request))
    except Refused as refused:
        return _answer(request, hold, refused=refused.detail, status=HTTPStatus.CONFLICT)
    except SecretUnreadable:
        text = "The value cannot be read with ENCRYPTION_KEYS. The hold works without it."
        return _answer(request, hold, refused=text, status=HTTPStatus.SERVICE_UNAVAILABLE)
    return _answer(request, hold, shown={"value": value, "notes": peculiarities(value or "")})


@action
def review(request: HttpRequest, hold_id: UUID) -> HttpResponse:
    hold = _find(request, hold_id)
    filled_in = ReviewForm(request.POST, chatbot=hold.chatbot)
    if filled_in.is_valid():
        try:
            holds.review(
                chatbot=hold.chatbot, hold_id=hold.pk, review_at=filled_in.review_at, actor=actor_of(request)
            )
        except Refused as refused:
            if refused.code != "invalid":
                return _answer(request, _find(request, hold_id), refused=refused.detail, status=HTTPStatus.CONFLICT)
            filled_in.refuse(refused)
        else:
            messages.success(request, "The review is recorded. The hold stays in force.")
            return redirect("console:hold", hold.pk)
    return _answer(request, hold, review_form=filled_in, status=HTTPStatus.BAD_REQUEST)


@form
def release(request: HttpRequest, hold_id: UUID) -> HttpResponse:
    """Show what a release lets continue; with a reason, release the hold.

    It is not released if other requests would continue than those that the page showed.
    """
    hold = _find(request, hold_id)
    if hold.released_at or not _may_release(request, hold):
        return redirect("console:hold", hold.pk)
    filled_in = ReleaseForm(request.POST if request.method == "POST" else None)
    waiting = hold_coverage.waiting_for(hold)
    going = [one for one in waiting if not one.held_by_others]
    if filled_in.is_valid():
        if filled_in.cleaned_data["seen"] != _digest_of(going):
            filled_in.add_error(
                None, "Nothing was released: other requests wait now than the page showed. Check them."
            )
        else:
            return _release(request, hold, filled_in.cleaned_data["reason"])
    return render(
        request,
        "console/holds/release.html",
        title="Release a legal hold",
        status=HTTPStatus.BAD_REQUEST if filled_in.is_bound else HTTPStatus.OK,
        hold=hold,
        chatbot=hold.chatbot,
        form=filled_in,
        going=going,
        seen=_digest_of(going),
        conversations=len(set[int]().union(*(one.numbers for one in going))),
        staying=len(waiting) - len(going),
        waiting=_listed(waiting),
    )


def _release(request: HttpRequest, hold: LegalHold, reason: str) -> HttpResponse:
    try:
        _, free = holds.release(chatbot=hold.chatbot, hold_id=hold.pk, reason=reason, actor=actor_of(request))
    except Refused as refused:
        return refusal(request, status=HTTPStatus.CONFLICT, title="Not released", text=refused.detail)
    is_ = "is" if len(free) == 1 else "are"
    continues = f" {counted(len(free), 'request')} {is_} not under a legal hold any more." if free else ""
    messages.success(request, f"Released.{continues}")
    return redirect("console:hold", hold.pk)


def _find(request: HttpRequest, hold_id: UUID) -> LegalHold:
    """Return the hold without its value, for an officer. Raises Http404 outside the user's chatbots."""
    found = LegalHold.objects.filter(pk=hold_id).select_related("chatbot", "variable").defer("value_encrypted")
    hold = row_or_404(request, found)
    require(request, hold.chatbot, DECIDE)
    return hold


def _may_release(request: HttpRequest, hold: LegalHold) -> bool:
    return party(hold.placed_by) != party(actor_of(request))


def _digest_of(waiting: list[Waiting]) -> str:
    return sha256(" ".join(sorted(str(one.request.pk) for one in waiting)).encode()).hexdigest()


def _listed(waiting: list[Waiting]) -> list[Waiting]:
    """Return those that continue after a release first, MOST_LISTED at most."""
    return sorted(waiting, key=lambda one: one.held_by_others > 0)[:MOST_LISTED]


def _answer(
    request: HttpRequest,
    hold: LegalHold,
    *,
    review_form: ReviewForm | None = None,
    shown: dict[str, Any] | None = None,
    refused: str = "",
    status: int = HTTPStatus.OK,
) -> HttpResponse:
    is_in_force = hold.released_at is None
    waiting = hold_coverage.waiting_for(hold) if is_in_force else []
    return render(
        request,
        "console/holds/hold.html",
        title="Legal hold",
        status=status,
        hold=hold,
        chatbot=hold.chatbot,
        is_in_force=is_in_force,
        is_due=is_in_force and hold.review_at <= timezone.now(),
        covered=hold_coverage.coverage(hold) if is_in_force else None,
        waiting=_listed(waiting),
        waiting_number=len(waiting),
        may_release=_may_release(request, hold),
        people=names_of({hold.placed_by, hold.reviewed_by, hold.released_by} - {""}),
        review_form=review_form or ReviewForm(chatbot=hold.chatbot, review_at=hold.review_at),
        shown=shown,
        refused=refused,
    )
