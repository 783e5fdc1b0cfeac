"""The actions of the settings page: each is a POST that makes one call into an operation.

They open no transaction, since saving a bucket or a callback URL resolves a host name. Workers check buckets.
"""

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from accounts.proof import require_password
from chatbots.buckets.locations import hosted_place
from chatbots.models import Bucket, BucketCredential, Chatbot
from chatbots.operations import chatbots, identity_keys, keys
from chatbots.operations.buckets import set_bucket
from chatbots.operations.credentials import (
    issue_bucket_credential,
    record_bucket_credential,
    revoke_bucket_credential,
)
from compliance.work import bucket_checks
from console.common.pages import action, chatbot_or_404, render
from console.common.scope import DECIDE, SUPERUSER_ONLY, actor_of
from console.settings import forms
from console.settings.credentials import NewCredentialForm, RecordCredentialForm, by_hand, may_issue, revoke_form
from console.settings.identity_keys import NewIdentityKeyForm
from console.settings.page import RefusedForm, settings_of, variables_of


@action
def switch_compliance(request: HttpRequest, slug: str) -> HttpResponse:
    return _switch(request, slug, section="compliance", setting="compliance_enabled", label="Data compliance")


@action
def switch_extracts(request: HttpRequest, slug: str) -> HttpResponse:
    return _switch(request, slug, section="extracts", setting="extracts_enabled", label="Daily extracts")


def _switch(request: HttpRequest, slug: str, *, section: str, setting: str, label: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)
    form = forms.SwitchForm(request.POST)

    def call() -> str:
        is_on = form.cleaned_data["on"]
        chatbots.change_chatbot(chatbot=chatbot, changes={setting: is_on}, actor=actor_of(request))
        return f"{label} turned {'on' if is_on else 'off'}."

    return saved(request, chatbot, RefusedForm(section, form), call)


@action
def choose_uci(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)
    form = forms.UciForm(request.POST, variables=variables_of(chatbot))

    def call() -> str:
        chatbots.designate_uci(chatbot=chatbot, name=form.cleaned_data["uci"], actor=actor_of(request))
        return "UCI saved. It applies to new conversations."

    return saved(request, chatbot, RefusedForm("uci", form), call)


@action
def set_export_assurance(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)
    require_password(request)
    form = forms.AssuranceForm(request.POST)

    def call() -> str:
        chatbots.change_chatbot(chatbot=chatbot, changes=form.cleaned_data, actor=actor_of(request))
        return "Setting for exports saved. It applies to exports that have not started."

    return saved(request, chatbot, RefusedForm("assurance", form), call)


@action
def create_variable(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)
    form = forms.VariableForm(request.POST)

    def call() -> str:
        chatbots.add_variable(chatbot=chatbot, variable=form.variable(), actor=actor_of(request))
        return "Variable created. To make it the UCI, choose it and save."

    return saved(request, chatbot, RefusedForm("variables", form), call, section="uci")


@action
@sensitive_post_parameters("secret")
def save_bucket(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.BucketForm(request.POST, stored=None)

    def call() -> str:
        form.require_as_shown(Bucket.objects.filter(chatbot=chatbot).first())
        set_bucket(chatbot=chatbot, client=form.client(), actor=actor_of(request))
        return "Bucket saved. Check access to verify that it can be used."

    return saved(request, chatbot, RefusedForm("bucket", form), call)


@action
def check_access(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=DECIDE)

    def call() -> HttpResponse:
        bucket_checks.enqueue(chatbot=chatbot)
        return _back(chatbot, "bucket")

    return saved(request, chatbot, RefusedForm("check", forms.ConsoleForm(request.POST)), call)


@action
def issue_credentials(request: HttpRequest, slug: str) -> HttpResponse:
    """Answer with the secret, once, as `create_key` does. Calls IAM and the hosted bucket, for a minute at most."""
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = NewCredentialForm(request.POST)

    @sensitive_variables("new")
    def call() -> HttpResponse:
        if not may_issue():
            raise ValidationError("The console does not issue credentials here. Use issue_bucket_credentials.")
        new = issue_bucket_credential(chatbot=chatbot, label=form.cleaned_data["label"], actor=actor_of(request))
        template, place = "console/settings/new_credentials.html", hosted_place(chatbot)
        return render(request, template, title="New credentials", chatbot=chatbot, new=new, place=place)

    return saved(request, chatbot, RefusedForm("credentials", form), call)


@action
def record_credentials(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = RecordCredentialForm(request.POST)

    def call() -> str:
        record_bucket_credential(chatbot=chatbot, actor=actor_of(request), **form.cleaned_data)
        return "Credentials recorded."

    return saved(request, chatbot, RefusedForm("record", form), call, section="bucket")


@action
def revoke_credentials(request: HttpRequest, slug: str, credential: UUID) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    found = BucketCredential.objects.filter(chatbot=chatbot, pk=credential).first()
    if found is None:
        raise Http404
    form = revoke_form(found, request.POST)

    def call() -> str:
        revoke_bucket_credential(
            chatbot=chatbot, name=str(found.pk), removed_by_hand=by_hand(found), actor=actor_of(request)
        )
        return "Credentials revoked."

    return saved(request, chatbot, RefusedForm("revoke_credentials", form, str(found.pk)), call, section="bucket")


@action
def save_rules(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.RulesForm(request.POST, chatbot=chatbot)

    def call() -> str:
        chatbots.change_chatbot(chatbot=chatbot, changes=form.changes(), actor=actor_of(request))
        return "Settings saved."

    return saved(request, chatbot, RefusedForm("rules", form), call)


@action
def create_key(request: HttpRequest, slug: str) -> HttpResponse:
    """Answer with the secret, once. The answer must not be stored."""
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.NewApiKeyForm(request.POST)

    @sensitive_variables("created")
    def call() -> HttpResponse:
        created = keys.create_api_key(chatbot=chatbot, actor=actor_of(request), **form.arguments())
        return render(request, "console/settings/new_key.html", title="New API key", chatbot=chatbot, created=created)

    return saved(request, chatbot, RefusedForm("keys", form), call)


@action
@sensitive_post_parameters("public_key")
def create_identity_key(request: HttpRequest, slug: str) -> HttpResponse:
    """Answer with what tokens have to name, and with a secret of ours, once, as `create_key` does."""
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = NewIdentityKeyForm(request.POST)

    @sensitive_variables("created")
    def call() -> HttpResponse:
        created = identity_keys.create_identity_key(chatbot=chatbot, actor=actor_of(request), **form.arguments())
        template = "console/settings/new_identity_key.html"
        return render(request, template, title="New identity key", chatbot=chatbot, created=created)

    return saved(request, chatbot, RefusedForm("identity_keys", form), call, section="keys")


@action
def create_callback_secret(request: HttpRequest, slug: str) -> HttpResponse:
    """Answer with the secret, once, as `create_key` does."""
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.CallbackSecretForm(request.POST)

    @sensitive_variables("created")
    def call() -> HttpResponse:
        hours = form.cleaned_data["overlap_hours"]
        created = keys.create_callback_secret(chatbot=chatbot, overlap_hours=hours, actor=actor_of(request))
        template = "console/settings/new_callback_secret.html"
        return render(request, template, title="New callback secret", chatbot=chatbot, created=created)

    return saved(request, chatbot, RefusedForm("callbacks", form), call)


@action
def revoke_key(request: HttpRequest, slug: str, prefix: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.RevokeForm(request.POST, auto_id=f"revoke-{prefix}-%s")

    def call() -> str:
        keys.revoke_api_key(chatbot=chatbot, prefix=prefix, actor=actor_of(request))
        return f"Key {prefix} revoked."

    return saved(request, chatbot, RefusedForm("revoke", form, prefix), call, section="keys")


@action
def change_limit(request: HttpRequest, slug: str, prefix: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.RateLimitForm(request.POST, auto_id=f"limit-{prefix}-%s")

    def call() -> str:
        limit = form.cleaned_data["rate_limit"]
        keys.change_api_key_rate_limit(chatbot=chatbot, prefix=prefix, rate_limit=limit, actor=actor_of(request))
        return f"Rate limit of key {prefix} saved."

    return saved(request, chatbot, RefusedForm("limit", form, prefix), call, section="keys")


@action
def set_member(request: HttpRequest, slug: str) -> HttpResponse:
    chatbot = chatbot_or_404(request, slug, roles=SUPERUSER_ONLY)
    require_password(request)
    form = forms.MemberForm(request.POST, chatbot=chatbot)

    def call() -> str:
        user, role = form.cleaned_data["user"], form.role_or_none()
        chatbots.set_role(chatbot=chatbot, user=user, role=role, actor=actor_of(request))
        return "Role saved." if role else "Role removed."

    return saved(request, chatbot, RefusedForm("members", form), call)


def saved(
    request: HttpRequest,
    chatbot: Chatbot,
    submitted: RefusedForm,
    call: Callable[[], HttpResponse | str],
    *,
    section: str = "",
) -> HttpResponse:
    """Run `call` for a valid form; show the errors if it or the form is refused.

    Answers with what `call` returns: a response, or a message with which to redirect to the form's section.
    """
    if submitted.form.is_valid():
        try:
            answer = call()
        except ValidationError as error:
            submitted.form.refuse(error)
        else:
            if isinstance(answer, HttpResponse):
                return answer
            messages.success(request, answer)
            return _back(chatbot, section or submitted.name)
    return settings_of(request, chatbot, submitted)


def _back(chatbot: Chatbot, section: str) -> HttpResponse:
    return redirect(f"{reverse('console:settings', args=[chatbot.slug])}#{section}")
