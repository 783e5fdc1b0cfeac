"""Try a chatbot's resolver: type values for what is sent, and see the outcome in words."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.debug import sensitive_post_parameters

from compliance.lookups import overview, trial
from console.common.pages import action, chatbot_or_404
from console.common.scope import DECIDE, actor_of
from console.settings.actions import saved
from console.settings.page import RefusedForm
from console.settings.resolver_forms import TrialForm

SECTION = "resolver"


@action
@sensitive_post_parameters()
def try_resolver(request: HttpRequest, slug: str) -> HttpResponse:
    """Call the client's address with the typed values, for five seconds at most."""
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)
    found = overview.overview_of(chatbot)
    form = TrialForm(request.POST, sent=found.sent if found else [])

    def call() -> str:
        outcome = trial.try_it(chatbot=chatbot, values=form.values(), actor=actor_of(request))
        return f"{outcome}."

    return saved(request, chatbot, RefusedForm(SECTION, form), call)
