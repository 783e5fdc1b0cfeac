"""File many requests: one preview of all that is pasted or in a file, one confirmation, one page of outcomes."""

import csv
import io
import json
from dataclasses import dataclass
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.debug import sensitive_post_parameters

from chatbots.models import Chatbot
from common.crypto import SecretUnreadable, decrypt, encrypt
from compliance.errors import Refused
from compliance.requests.operations import MAX_BATCH
from console.common.pages import chatbot_or_404, form, render
from console.common.scope import MANAGE_REQUESTS, actor_of
from console.filing import presenters
from console.filing.drafts import (
    BrokenSeal,
    Draft,
    NotConfirmed,
    Outcomes,
    Sealed,
    confirm,
    dump,
    load,
    look_at_many,
    minutes_left,
    part_of,
)
from console.filing.forms import ManyForm
from console.filing.pasting import Pasted
from console.filing.views import FILED_BEFORE, WHY_NOT, broken, not_filed

TITLE = "File many requests"


@form
@sensitive_post_parameters()
def file_many(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=MANAGE_REQUESTS)
    if request.method != "POST":
        return _ask(request, chatbot, ManyForm(chatbot=chatbot, actor=actor_of(request)))
    match request.POST.get("step"):
        case "file":
            return _file(request, chatbot)
        case "outcomes":
            return _download(request, chatbot)
    return _preview(request, chatbot)


def _ask(request: HttpRequest, chatbot: Chatbot, form: ManyForm) -> HttpResponse:
    return render(
        request,
        "console/filing/many.html",
        title=TITLE,
        chatbot=chatbot,
        form=form,
        most=MAX_BATCH,
        grace=presenters.grace(chatbot),
    )


def _preview(request: HttpRequest, chatbot: Chatbot) -> HttpResponse:
    form = ManyForm(request.POST, request.FILES, chatbot=chatbot, actor=actor_of(request))
    if form.is_valid():
        try:
            return _show(request, chatbot, form.draft, pasted=form.pasted_rows)
        except Refused as refusal:
            form.refuse(refusal)
    return _ask(request, chatbot, form)


def _show(
    request: HttpRequest,
    chatbot: Chatbot,
    draft: Draft,
    *,
    pasted: Pasted | None = None,
    again: Sealed | None = None,
    why: str = "",
) -> HttpResponse:
    """Answer with the preview of all. `again`: another look at what was sealed before, and `why`. Raises Refused."""
    actor = actor_of(request)
    found, seen = look_at_many(chatbot, draft)
    lines = presenters.lines(draft, found)
    return render(
        request,
        "console/filing/many_preview.html",
        title="Preview of many deletions" if draft.is_deletion else "Preview of many exports",
        chatbot=chatbot,
        draft=draft,
        preview=found,
        part=part_of(found),
        lines=lines,
        has_references=any(draft.references),
        tally=presenters.tally(lines, pasted),
        repeated=sorted(pasted.repeated.items()) if pasted else [],
        stores=presenters.stores(found.deletion) if found.deletion else [],
        sealed=dump(chatbot, actor, draft, seen, nonce=again.nonce if again else ""),
        phrase=seen.phrase,
        grace=presenters.grace(chatbot),
        why=WHY_NOT.get(why, why),
    )


def _file(request: HttpRequest, chatbot: Chatbot) -> HttpResponse:
    actor = actor_of(request)
    try:
        sealed = load(chatbot, actor, request.POST.get("sealed", ""))
    except BrokenSeal:
        return broken(request)
    if not sealed.draft.is_many:
        return broken(request)
    try:
        outcomes = confirm(chatbot=chatbot, actor=actor, sealed=sealed, typed=request.POST.get("typed", ""))
    except NotConfirmed as not_confirmed:
        return _again(request, chatbot, sealed, not_confirmed.why)
    except Refused as refused:
        return _again(request, chatbot, sealed, f"Nothing was filed. {refused.detail}")
    return _tell(request, chatbot, sealed.draft, outcomes)


def _again(request: HttpRequest, chatbot: Chatbot, sealed: Sealed, why: str) -> HttpResponse:
    try:
        return _show(request, chatbot, sealed.draft, again=sealed, why=why)
    except Refused as refused:
        return not_filed(request, refused)


@dataclass(frozen=True)
class Outcome:
    """What became of a row: a request, with its state and how long it can be cancelled, or a code and why not."""

    row: int
    value: str
    request_id: UUID | None
    code: str = ""
    why: str = ""
    state: str = ""
    minutes: int = 0
    existing: bool = False

    @property
    def word(self) -> str:
        if self.existing:
            return "existing"
        return "filed" if self.request_id else "refused"


def _tell(request: HttpRequest, chatbot: Chatbot, draft: Draft, outcomes: Outcomes) -> HttpResponse:
    told = [
        Outcome(row, value, None, outcome.code, outcome.detail)
        if isinstance(outcome, Refused)
        else Outcome(
            row,
            value,
            outcome.pk,
            state=outcome.get_status_display(),
            minutes=minutes_left(outcome),
            existing=outcome.existing,
        )
        for place, (row, value) in enumerate(zip(draft.rows, draft.values, strict=True))
        if (outcome := outcomes.get(place)) is not None
    ]
    filed = [one for one in told if one.request_id]
    return render(
        request,
        "console/filing/many_filed.html",
        title="Requests filed",
        chatbot=chatbot,
        draft=draft,
        outcomes=sorted(told, key=lambda one: (one.request_id is not None, one.row)),
        filed=len(filed),
        refused=len(told) - len(filed),
        existing=sum(one.existing for one in filed),
        filed_before="" if all(one.minutes for one in filed) else FILED_BEFORE,
        grace=min((one.minutes for one in filed), default=0),
        sealed=_dump_outcomes(request, chatbot, told),
    )


def _dump_outcomes(request: HttpRequest, chatbot: Chatbot, outcomes: list[Outcome]) -> str:
    """Return rows for the CSV. Without values: a downloaded file outlives what is erased here."""
    rows = [[one.row, one.word, str(one.request_id or ""), one.code, one.why] for one in outcomes]
    return encrypt(json.dumps(rows), bound_to=_bound_to(request, chatbot))


def _download(request: HttpRequest, chatbot: Chatbot) -> HttpResponse:
    try:
        rows = json.loads(decrypt(request.POST.get("sealed", ""), bound_to=_bound_to(request, chatbot)))
    except SecretUnreadable:
        return broken(request)
    written = io.StringIO(newline="")
    writer = csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["row", "outcome", "request_id", "code", "reason"])
    writer.writerows(rows)
    answer = HttpResponse(written.getvalue(), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="requests_filed.csv"'
    return answer


def _bound_to(request: HttpRequest, chatbot: Chatbot) -> str:
    return f"console:outcomes:{chatbot.pk}:{actor_of(request)}"
