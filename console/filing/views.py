"""File one request: say whom it is about, see what would happen, confirm."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.debug import sensitive_post_parameters

from chatbots.models import Chatbot
from compliance.errors import Refused
from console.common.pages import chatbot_or_404, form, refusal, render
from console.common.scope import MANAGE_REQUESTS, actor_of
from console.filing import presenters
from console.filing.drafts import (
    BrokenSeal,
    Draft,
    NotConfirmed,
    Sealed,
    confirm,
    dump,
    dump_subject,
    load,
    load_subject,
    look,
    minutes_left,
    part_of,
)
from console.filing.forms import KINDS, OneForm
from console.filing.pasting import peculiarities
from console.filing.subjects import ClosedConversation, NoConversation, subjects_of

TITLE = "File a request"
# What a page says that comes back instead of filing.
WHY_NOT = {
    "mistyped": "Nothing was filed: what you typed is not what the page asks for. Read the numbers once more.",
    "changed": "Nothing was filed: there is more now than you were shown. Look at the numbers again.",
    "expired": "Nothing was filed: a preview holds for 15 minutes. This is a new one.",
}
FILED_BEFORE = (
    "Nothing was filed now: this preview was filed before, and what has become of it stands here. To file the same "
    "anew, begin with a new preview."
)


@form
@sensitive_post_parameters()
def file_request(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=MANAGE_REQUESTS)
    if request.method != "POST":
        return _ask(request, chatbot, _form(request, chatbot))
    match request.POST.get("step"):
        case "file":
            return _file(request, chatbot)
        case "edit":
            return _edit(request, chatbot)
        case "preview":
            return _preview(request, chatbot)
    return _about_conversation(request, chatbot)


def _form(request: HttpRequest, chatbot: Chatbot, data: Any = None, **options: Any) -> OneForm:
    return OneForm(data, chatbot=chatbot, actor=actor_of(request), **options)


def _ask(request: HttpRequest, chatbot: Chatbot, form: OneForm, *, status: int = 200) -> HttpResponse:
    return render(
        request,
        "console/filing/one.html",
        title=TITLE,
        status=status,
        chatbot=chatbot,
        form=form,
        subjects=_offered(request, chatbot, form),
        grace=presenters.grace(chatbot),
    )


def _offered(request: HttpRequest, chatbot: Chatbot, form: OneForm) -> list[dict[str, Any]]:
    """Return the subjects that the form lets choose, where it came with some."""
    offered = request.POST.getlist("offered") or form.initial.get("offered", [])
    chosen = form["subject"].value()
    found = []
    for text in [*offered, *([chosen] if chosen and chosen not in offered else [])]:
        try:
            subject = load_subject(chatbot, actor_of(request), text)
        except BrokenSeal:
            continue
        found.append({"sealed": text, "draft": subject, "is_chosen": text == chosen, "notes": _notes(subject)})
    return found


def _notes(draft: Draft) -> list[str]:
    return peculiarities(draft.values[0]) if draft.values else []


def _about_conversation(request: HttpRequest, chatbot: Chatbot) -> HttpResponse:
    """Show the form for a conversation's chatter, as its page asks by the conversation's number."""
    given = request.POST.get("conversation", "")
    if not (given.isascii() and given.isdigit() and len(given) <= 18):
        raise Http404
    try:
        subjects = subjects_of(chatbot, int(given))
    except NoConversation:
        raise Http404 from None
    except ClosedConversation:
        text = "This conversation is deleted, or its deletion is under way. There is nothing left to file for it."
        return refusal(request, status=410, title="Deleted conversation", text=text)
    sealed = [dump_subject(chatbot, actor_of(request), subject.draft) for subject in subjects]
    action = request.POST.get("action")
    # Of two people in one conversation, nobody is chosen for whoever clicks fast.
    chosen = sealed[0] if len(sealed) <= 2 else None
    initial = {"subject": chosen, "offered": sealed, "action": action if action in KINDS else None}
    return _ask(request, chatbot, _form(request, chatbot, initial=initial))


def _edit(request: HttpRequest, chatbot: Chatbot) -> HttpResponse:
    """Show the form again, with what the preview was about."""
    return _ask(request, chatbot, _form(request, chatbot, initial=request.POST.dict()))


def _preview(request: HttpRequest, chatbot: Chatbot) -> HttpResponse:
    form = _form(request, chatbot, request.POST)
    if form.is_valid():
        try:
            return _show(request, chatbot, form.draft)
        except Refused as refusal:
            form.refuse(refusal)
    return _ask(request, chatbot, form)


def _show(
    request: HttpRequest, chatbot: Chatbot, draft: Draft, *, again: Sealed | None = None, why: str = ""
) -> HttpResponse:
    """Answer with the preview. `again`: another look at what was sealed before, and `why`. Raises Refused."""
    actor = actor_of(request)
    found, seen = look(chatbot, draft)
    part = part_of(found)
    return render(
        request,
        "console/filing/preview.html",
        title="Preview of a deletion" if draft.is_deletion else "Preview of an export",
        chatbot=chatbot,
        draft=draft,
        preview=found,
        part=part,
        conversations=seen.total,
        unnamed=max(seen.total - len(part.found.newest), 0),
        notes=_notes(draft),
        stores=presenters.stores(found.deletion) if found.deletion else [],
        holds=presenters.holds(found.held_by),
        alike=presenters.alike(chatbot, actor, found.similar),
        subject=dump_subject(chatbot, actor, draft),
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
    if sealed.draft.is_many:
        return broken(request)
    try:
        outcome = confirm(chatbot=chatbot, actor=actor, sealed=sealed, typed=request.POST.get("typed", ""))[0]
    except NotConfirmed as not_confirmed:
        return _again(request, chatbot, sealed, not_confirmed.why)
    except Refused as refused:
        outcome = refused
    if isinstance(outcome, Refused):
        return _again(request, chatbot, sealed, f"Nothing was filed. {outcome.detail}")
    if minutes := minutes_left(outcome):
        left = f"{minutes} minute{'s' * (minutes != 1)}"
        filed = "Nothing was filed: an equal export waits already, this one." if outcome.existing else "Filed."
        tell = messages.warning if outcome.existing else messages.success
        tell(request, f"{filed} It begins in {left}; until then it can be cancelled.")
    else:
        messages.warning(request, FILED_BEFORE)
    return redirect("console:request", outcome.pk)


def _again(request: HttpRequest, chatbot: Chatbot, sealed: Sealed, why: str) -> HttpResponse:
    try:
        return _show(request, chatbot, sealed.draft, again=sealed, why=why)
    except Refused as refused:
        return not_filed(request, refused)


def not_filed(request: HttpRequest, refused: Refused) -> HttpResponse:
    """Answer a form that cannot even be previewed any more."""
    return refusal(request, status=409, title="Not filed", text=f"Nothing was filed. {refused.detail}")


def broken(request: HttpRequest) -> HttpResponse:
    """Answer a form whose seal was made for somebody else, for another chatbot, or by nobody."""
    text = "Nothing was filed: this preview was made in another login, or for another chatbot. Preview it again."
    return refusal(request, status=400, title="Not filed", text=text)
