"""What can be saved of a chatbot's settings: each a POST that makes one call into an operation.

None of them opens a transaction: saving a bucket or a callback URL asks the name service. None calls a bucket: a
worker checks it. Messages name nothing personal.
"""

from collections.abc import Callable

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from accounts.proof import require_password
from chatbots import operations
from chatbots.models import Bucket, Chatbot
from chatbots.operations import NewApiKey, NewCallbackSecret
from chatbots.operations.buckets import set_bucket
from compliance.work import bucket_checks
from console.common.pages import action, chatbot_or_404, render
from console.common.scope import DECIDE, SUPERUSER_ONLY, actor_of
from console.settings import forms
from console.settings.page import Refused, shown, variables_of


@action
def switch_compliance(request: HttpRequest, slug: str) -> HttpResponse:
    return _switch(request, slug, section="compliance", setting="compliance_enabled", word="Data compliance")


@action
def switch_extracts(request: HttpRequest, slug: str) -> HttpResponse:
    return _switch(request, slug, section="extracts", setting="extracts_enabled", word="The daily extract")


def _switch(request: HttpRequest, slug: str, *, section: str, setting: str, word: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)
    form = forms.SwitchForm(request.POST)

    def call() -> str:
        is_on = form.cleaned_data["on"]
        operations.change_settings(chatbot=chatbot, changes={setting: is_on}, actor=actor_of(request))
        return f"{word} is {'on' if is_on else 'off'}."

    return _saved(request, chatbot, Refused(section, form), call)


@action
def choose_uci(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)
    form = forms.UciForm(request.POST, variables=variables_of(chatbot))

    def call() -> str:
        operations.designate_uci(chatbot=chatbot, name=form.cleaned_data["uci"], actor=actor_of(request))
        return "The UCI is saved. It counts for conversations that begin from now on."

    return _saved(request, chatbot, Refused("uci", form), call)


@action
def create_variable(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)
    form = forms.VariableForm(request.POST)

    def call() -> str:
        operations.add_variable(chatbot=chatbot, variable=form.variable(), actor=actor_of(request))
        return "The variable is there. Choose it, and save, to make it the UCI."

    return _saved(request, chatbot, Refused("variables", form), call, section="uci")


@action
@sensitive_post_parameters("secret")
def save_bucket(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.BucketForm(request.POST, stored=None)

    def call() -> str:
        form.require_as_shown(Bucket.objects.filter(chatbot=chatbot).first())
        set_bucket(chatbot=chatbot, client=form.client(), actor=actor_of(request))
        return "The bucket is saved. Check access to see whether it can be used."

    return _saved(request, chatbot, Refused("bucket", form), call)


@action
def check_access(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)
    form = forms.ConsoleForm(request.POST)
    try:
        bucket_checks.enqueue(chatbot=chatbot)
    except ValidationError as error:
        form.full_clean()
        form.refuse(error)
        return shown(request, chatbot, Refused("check", form))
    return _back(chatbot, "bucket")


@action
def save_rules(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.RulesForm(request.POST, chatbot=chatbot)

    def call() -> str:
        operations.change_settings(chatbot=chatbot, changes=form.changes(), actor=actor_of(request))
        return "The settings are saved."

    return _saved(request, chatbot, Refused("rules", form), call)


@action
@sensitive_variables("made")
def create_key(request: HttpRequest, slug: str) -> HttpResponse:
    """Answer with the secret, once: it is in this answer alone, which nobody may store."""
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.NewApiKeyForm(request.POST)
    made: list[NewApiKey] = []
    if form.is_valid():
        try:
            made = [operations.create_api_key(chatbot=chatbot, actor=actor_of(request), **form.asked())]
        except ValidationError as error:
            form.refuse(error)
    if not made:
        return shown(request, chatbot, Refused("keys", form))
    return render(request, "console/settings/new_key.html", title="New API key", chatbot=chatbot, made=made[0])


@action
@sensitive_variables("made")
def create_callback_secret(request: HttpRequest, slug: str) -> HttpResponse:
    """Answer with the secret, once, as `create_key` does."""
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.CallbackSecretForm(request.POST)
    made: list[NewCallbackSecret] = []
    if form.is_valid():
        hours = form.cleaned_data["overlap_hours"]
        try:
            made = [operations.create_callback_secret(chatbot=chatbot, overlap_hours=hours, actor=actor_of(request))]
        except ValidationError as error:
            form.refuse(error)
    if not made:
        return shown(request, chatbot, Refused("callbacks", form))
    title = "New callback secret"
    return render(request, "console/settings/new_callback_secret.html", title=title, chatbot=chatbot, made=made[0])


@action
def revoke_key(request: HttpRequest, slug: str, prefix: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    form = forms.RevokeForm(request.POST, auto_id=f"revoke-{prefix}-%s")

    def call() -> str:
        operations.revoke_api_key(chatbot=chatbot, prefix=prefix, actor=actor_of(request))
        return f"The key {prefix} is revoked."

    return _saved(request, chatbot, Refused("revoke", form, prefix), call, section="keys")


@action
def change_limit(request: HttpRequest, slug: str, prefix: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    form = forms.RateLimitForm(request.POST, auto_id=f"limit-{prefix}-%s")

    def call() -> str:
        limit = form.cleaned_data["rate_limit"]
        operations.change_api_key_rate_limit(
            chatbot=chatbot, prefix=prefix, rate_limit=limit, actor=actor_of(request)
        )
        return f"The rate limit of the key {prefix} is saved."

    return _saved(request, chatbot, Refused("limit", form, prefix), call, section="keys")


@action
def set_member(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.MemberForm(request.POST, chatbot=chatbot)

    def call() -> str:
        user, role = form.cleaned_data["user"], form.role_or_none()
        operations.set_role(chatbot=chatbot, user=user, role=role, actor=actor_of(request))
        return "The role is saved." if role else "The role is taken away."

    return _saved(request, chatbot, Refused("members", form), call)


def _saved(
    request: HttpRequest, chatbot: Chatbot, asked: Refused, call: Callable[[], str], *, section: str = ""
) -> HttpResponse:
    """Carry a form out and go back to its section with what `call` tells; else show it with what is wrong."""
    if asked.form.is_valid():
        try:
            told = call()
        except ValidationError as error:
            asked.form.refuse(error)
        else:
            messages.success(request, told)
            return _back(chatbot, section or asked.name)
    return shown(request, chatbot, asked)


def _back(chatbot: Chatbot, section: str) -> HttpResponse:
    return redirect(f"{reverse('console:settings', args=[chatbot.slug])}#{section}")
