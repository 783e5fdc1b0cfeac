"""Choose a chatbot's retention period: see what it would erase, type the number, save."""

from django.http import HttpRequest, HttpResponse

from accounts.proof import require_password
from chatbots.models import Chatbot
from compliance.retention import policy
from console.common.pages import action, chatbot_or_404, render
from console.common.scope import DECIDE, actor_of
from console.settings.actions import saved
from console.settings.page import RefusedForm
from console.settings.retention_forms import RetentionConfirmationForm, RetentionForm

SECTION = "retention"


@action
def set_retention(request: HttpRequest, slug: str) -> HttpResponse:
    """Save a longer period, or none, at once. Of another one show first what it would erase."""
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)
    require_password(request)
    form = RetentionForm(request.POST, chatbot=chatbot)

    def call() -> HttpResponse | str:
        if form.chosen is not None and policy.needs_confirmation(chatbot, form.chosen):
            return _confirm(request, chatbot, form.chosen)
        policy.change_period(chatbot=chatbot, days=form.chosen, actor=actor_of(request))
        return "Retention period saved." if form.chosen else "Retention turned off. A run that waited is cancelled."

    return saved(request, chatbot, RefusedForm(SECTION, form), call)


def _confirm(request: HttpRequest, chatbot: Chatbot, days: int) -> HttpResponse | str:
    """Save the period if the number was typed as shown, else show it."""
    form = RetentionConfirmationForm(
        request.POST if "confirmed" in request.POST else None, chatbot=chatbot, days=days
    )
    if form.is_bound and form.is_valid():
        confirmed = form.cleaned_data["confirmed"]
        policy.change_period(chatbot=chatbot, days=days, actor=actor_of(request), confirmed=confirmed)
        return "Retention period saved. The first run waits 24 hours; until then it can be cancelled."
    found = policy.forecast(chatbot, days)
    return render(
        request,
        "console/settings/retention_confirm.html",
        title="Delete conversations automatically",
        status=400 if form.is_bound else 200,
        chatbot=chatbot,
        days=days,
        period=Chatbot.RetentionDays(days).label,
        found=found,
        form=form,
        token=form.sign(found.first_run),
        waits_hours=int(policy.FIRST_RUN_WAITS.total_seconds() // 3600),
    )
