"""The actions of the settings pages: each is a POST that makes one call into an operation.

They open no transaction, since saving a bucket or a callback URL resolves a host name. Workers check buckets.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from accounts.proof import require_password
from chatbots.buckets.locations import hosted_place
from chatbots.models import Bucket, Chatbot
from chatbots.operations import chatbots, identity_keys, keys
from chatbots.operations.buckets import set_bucket
from chatbots.operations.credentials import (
    issue_bucket_credential,
    record_bucket_credential,
    revoke_bucket_credential,
)
from compliance.callbacks import trial as callback_trial
from compliance.errors import Refused
from compliance.lookups import trial
from compliance.retention import policy
from compliance.work import bucket_checks
from console.common import pages
from console.common.forms import ConsoleForm
from console.common.pages import chatbot_or_404, render
from console.common.scope import DECIDE, SUPERUSER_ONLY, Role, actor_of
from console.settings import bucket, forms, key_forms, retention_forms
from console.settings.page import PAGE_OF, PAGES, RefusedForm, address_of, show

Form = TypeVar("Form", bound=ConsoleForm)


@dataclass(frozen=True)
class Submitted(Generic[Form]):
    """A valid form of a settings page."""

    request: HttpRequest
    chatbot: Chatbot
    form: Form

    @property
    def actor(self) -> str:
        return actor_of(self.request)

    def show(self, template: str, title: str, **context: Any) -> HttpResponse:
        return render(self.request, f"console/settings/{template}", title=title, chatbot=self.chatbot, **context)


Answer = HttpResponse | str


def action(
    form_class: type[Form],
    section: str,
    *,
    form: str = "",
    roles: Collection[Role] = SUPERUSER_ONLY,
    asks_password: bool = True,
) -> Callable[[Callable[..., Answer]], Callable[..., HttpResponseBase]]:
    """Make a function of a `Submitted` form the view of an action.

    It is called once the form is valid, with the variables of the URL, and returns a response, or a message with
    which to redirect to the section. Errors of the form, and a ValidationError, are shown on the section's page at
    the form with the name `form`, by default the name of the section. The form that has the name of a page is
    submitted to the page's address, where a GET shows the page.
    """
    page = PAGE_OF[section]
    is_at_page = (form or section) in PAGES

    def decorate(save: Callable[..., Answer]) -> Callable[..., HttpResponseBase]:
        def view(request: HttpRequest, slug: str, **path: Any) -> HttpResponse:
            if request.method != "POST":
                return show(request, chatbot_or_404(request, slug), page)
            chatbot = chatbot_or_404(request, slug, roles=roles)
            if asks_password:
                require_password(request)
            filled_in = form_class.submitted(request.POST, chatbot=chatbot, **path)
            if filled_in.is_valid():
                try:
                    answer = save(Submitted(request, chatbot, filled_in), **path)
                except ValidationError as error:
                    filled_in.refuse(error)
                else:
                    if isinstance(answer, HttpResponse):
                        return answer
                    messages.success(request, answer)
                    return _back(chatbot, section)
            about = "".join(str(value) for value in path.values())
            return show(request, chatbot, page, RefusedForm(form or section, filled_in, about))

        return (pages.form if is_at_page else pages.action)(update_wrapper(view, save))

    return decorate


def _back(chatbot: Chatbot, section: str) -> HttpResponse:
    return redirect(address_of(chatbot.slug, section))


# --- Data compliance, variables, rules, members


@action(forms.SwitchForm, "compliance", roles=DECIDE, asks_password=False)
def switch_compliance(submitted: Submitted[forms.SwitchForm]) -> str:
    return _switch(submitted, "compliance_enabled", "Data compliance")


@action(forms.SwitchForm, "extracts", roles=DECIDE, asks_password=False)
def switch_extracts(submitted: Submitted[forms.SwitchForm]) -> str:
    return _switch(submitted, "extracts_enabled", "Daily extracts")


def _switch(submitted: Submitted[forms.SwitchForm], setting: str, label: str) -> str:
    is_on = submitted.form.cleaned_data["on"]
    chatbots.change_chatbot(chatbot=submitted.chatbot, changes={setting: is_on}, actor=submitted.actor)
    return f"{label} turned {'on' if is_on else 'off'}."


@action(forms.UciForm, "uci", roles=DECIDE, asks_password=False)
def choose_uci(submitted: Submitted[forms.UciForm]) -> str:
    name = submitted.form.cleaned_data["uci"]
    chatbots.designate_uci(chatbot=submitted.chatbot, name=name, actor=submitted.actor)
    return "UCI saved. It applies to new conversations."


@action(forms.VariableForm, "uci", form="variables", roles=DECIDE, asks_password=False)
def create_variable(submitted: Submitted[forms.VariableForm]) -> str:
    variable = submitted.form.variable()
    chatbots.add_variable(chatbot=submitted.chatbot, variable=variable, actor=submitted.actor)
    return "Variable created. To make it the UCI, choose it and save."


@action(forms.AssuranceForm, "assurance", roles=DECIDE)
def set_export_assurance(submitted: Submitted[forms.AssuranceForm]) -> str:
    changes = submitted.form.cleaned_data
    chatbots.change_chatbot(chatbot=submitted.chatbot, changes=changes, actor=submitted.actor)
    return "Setting for exports saved. It applies to exports that have not started."


@action(forms.RulesForm, "rules")
def save_rules(submitted: Submitted[forms.RulesForm]) -> str:
    changes = submitted.form.changes()
    chatbots.change_chatbot(chatbot=submitted.chatbot, changes=changes, actor=submitted.actor)
    return "Settings saved."


@action(forms.MemberForm, "members")
def set_member(submitted: Submitted[forms.MemberForm]) -> str:
    user, role = submitted.form.cleaned_data["user"], submitted.form.role_or_none()
    chatbots.set_role(chatbot=submitted.chatbot, user=user, role=role, actor=submitted.actor)
    return "Role saved." if role else "Role removed."


# --- The retention period


@action(retention_forms.RetentionForm, "retention", roles=DECIDE)
def set_retention(submitted: Submitted[retention_forms.RetentionForm]) -> Answer:
    """Save a longer period, or none, at once. For any other period, show first what it would erase."""
    chatbot, days = submitted.chatbot, submitted.form.chosen
    policy.check_period(chatbot, days)
    if days is not None and policy.needs_confirmation(chatbot, days):
        return _confirm(submitted, days)
    policy.change_period(chatbot=chatbot, days=days, actor=submitted.actor)
    return "Retention period saved." if days else "Retention turned off. A run that waited is cancelled."


def _confirm(submitted: Submitted[retention_forms.RetentionForm], days: int) -> Answer:
    """Save the period if the shown number was confirmed, or else show the number."""
    request, chatbot, actor = submitted.request, submitted.chatbot, submitted.actor
    confirmation = request.POST if "shown" in request.POST else None
    form = retention_forms.RetentionConfirmationForm(confirmation, chatbot=chatbot, actor=actor, days=days)
    if form.is_bound and form.is_valid():
        policy.change_period(chatbot=chatbot, days=days, actor=actor, confirmed=form.cleaned_data["confirmed"])
        return "Retention period saved. The first run waits 24 hours; until then it can be cancelled."
    found = policy.forecast(chatbot, days)
    return submitted.show(
        "retention_confirm.html",
        "Delete conversations automatically",
        status=400 if form.is_bound else 200,
        period=policy.label(days),
        chosen=submitted.form,
        found=found,
        is_typed=found.first_run > 0 or not found.is_whole,
        form=form,
        token=form.sealed(found.first_run),
        waits_hours=int(policy.FIRST_RUN_WAITS.total_seconds() // 3600),
    )


# --- The bucket, the CSV dialect of exports, and clients' credentials for the hosted one


@sensitive_post_parameters("secret")
@action(bucket.BucketForm, "bucket")
def save_bucket(submitted: Submitted[bucket.BucketForm]) -> str:
    chatbot, form = submitted.chatbot, submitted.form
    form.require_as_shown(Bucket.objects.filter(chatbot=chatbot).first())
    set_bucket(chatbot=chatbot, client=form.client(), actor=submitted.actor)
    return "Bucket saved. Check access to verify that it can be used."


@action(forms.CsvDialectForm, "bucket", form="csv_dialect", roles=DECIDE, asks_password=False)
def set_csv_dialect(submitted: Submitted[forms.CsvDialectForm]) -> str:
    changes = submitted.form.cleaned_data
    chatbots.change_chatbot(chatbot=submitted.chatbot, changes=changes, actor=submitted.actor)
    return "CSV dialect saved. It applies to exports that are filed from now on."


@action(ConsoleForm, "bucket", form="check", roles=DECIDE, asks_password=False)
def check_access(submitted: Submitted[ConsoleForm]) -> HttpResponse:
    bucket_checks.enqueue(chatbot=submitted.chatbot)
    return _back(submitted.chatbot, "bucket")


@action(bucket.NewCredentialForm, "bucket", form="credentials")
@sensitive_variables("new")
def issue_credentials(submitted: Submitted[bucket.NewCredentialForm]) -> HttpResponse:
    """Return the page with the secret, once, as `create_key` does. Calls IAM and the bucket for up to a minute."""
    if not bucket.may_issue():
        raise ValidationError("The console does not issue credentials here. Use issue_bucket_credentials.")
    label, chatbot = submitted.form.cleaned_data["label"], submitted.chatbot
    new = issue_bucket_credential(chatbot=chatbot, label=label, actor=submitted.actor)
    return submitted.show("new_credentials.html", "New credentials", new=new, place=hosted_place(chatbot))


@action(bucket.RecordCredentialForm, "bucket", form="record")
def record_credentials(submitted: Submitted[bucket.RecordCredentialForm]) -> str:
    record_bucket_credential(chatbot=submitted.chatbot, actor=submitted.actor, **submitted.form.cleaned_data)
    return "Credentials recorded."


@action(bucket.RevokeCredentialForm, "bucket", form="revoke_credentials")
def revoke_credentials(submitted: Submitted[bucket.RevokeCredentialForm], *, credential: UUID) -> str:
    by_hand = submitted.form.by_hand
    revoke_bucket_credential(
        chatbot=submitted.chatbot, name=str(credential), removed_by_hand=by_hand, actor=submitted.actor
    )
    return "Credentials revoked."


# --- Keys and secrets


@action(key_forms.NewApiKeyForm, "keys")
@sensitive_variables("created")
def create_key(submitted: Submitted[key_forms.NewApiKeyForm]) -> HttpResponse:
    """Return the page with the secret, once. The response must not be stored."""
    arguments = submitted.form.arguments()
    created = keys.create_api_key(chatbot=submitted.chatbot, actor=submitted.actor, **arguments)
    return submitted.show("new_key.html", "New API key", created=created)


@sensitive_post_parameters("public_key")
@action(key_forms.NewIdentityKeyForm, "keys", form="identity_keys")
@sensitive_variables("created")
def create_identity_key(submitted: Submitted[key_forms.NewIdentityKeyForm]) -> HttpResponse:
    """Return the page with the claims that tokens need and, once, a secret of ours, as `create_key` does."""
    arguments = submitted.form.arguments()
    created = identity_keys.create_identity_key(chatbot=submitted.chatbot, actor=submitted.actor, **arguments)
    return submitted.show("new_identity_key.html", "New identity key", created=created)


@action(key_forms.CallbackSecretForm, "callbacks")
@sensitive_variables("created")
def create_callback_secret(submitted: Submitted[key_forms.CallbackSecretForm]) -> HttpResponse:
    """Return the page with the secret, once, as `create_key` does."""
    hours = submitted.form.cleaned_data["overlap_hours"]
    created = keys.create_callback_secret(chatbot=submitted.chatbot, overlap_hours=hours, actor=submitted.actor)
    return submitted.show("new_callback_secret.html", "New callback secret", created=created)


@action(ConsoleForm, "callbacks", form="test_callback", roles=DECIDE, asks_password=False)
def send_test_callback(submitted: Submitted[ConsoleForm]) -> Answer:
    """Call the chatbot's callback URL for up to five seconds, and show the outcome."""
    try:
        sent = callback_trial.send(chatbot=submitted.chatbot, actor=submitted.actor)
    except Refused as refused:
        raise ValidationError(refused.detail) from None
    if sent.error is None:
        return f"Test callback delivered: the receiver answered {sent.status} after {sent.milliseconds:,} ms."
    reason = f"The receiver answered {sent.status}" if sent.status else sent.error.label
    messages.warning(submitted.request, f"Test callback not delivered. {reason}.")
    return _back(submitted.chatbot, "callbacks")


@action(key_forms.RevokeForm, "keys", form="revoke")
def revoke_key(submitted: Submitted[key_forms.RevokeForm], *, prefix: str) -> str:
    keys.revoke_api_key(chatbot=submitted.chatbot, prefix=prefix, actor=submitted.actor)
    return f"Key {prefix} revoked."


@action(key_forms.RateLimitForm, "keys", form="limit")
def change_limit(submitted: Submitted[key_forms.RateLimitForm], *, prefix: str) -> str:
    limit = submitted.form.cleaned_data["rate_limit"]
    keys.change_api_key_rate_limit(chatbot=submitted.chatbot, prefix=prefix, rate_limit=limit, actor=submitted.actor)
    return f"Rate limit of key {prefix} saved."


# --- The resolver


@sensitive_post_parameters()
@action(forms.TrialForm, "resolver", roles=DECIDE, asks_password=False)
def try_resolver(submitted: Submitted[forms.TrialForm]) -> str:
    """Call the client's address with the typed values for up to five seconds. The message is the outcome."""
    outcome = trial.run(chatbot=submitted.chatbot, values=submitted.form.values(), actor=submitted.actor)
    return f"{outcome}."
