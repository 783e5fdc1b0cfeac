"""The pages of a chatbot's settings and their overview, and the actions of their forms.

An action is a POST that makes one call into an operation. It opens no transaction, since saving a bucket or a
callback URL resolves a host name. Workers check buckets.

`PAGES` has each page with its sections. A section has a template and an anchor of its name.
"""

import json
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.timezone import now

from accounts.proof import require_password
from chatbots.buckets.locations import access_policy, trust_policy
from chatbots.callback_urls import receiver_of
from chatbots.models import ApiKey, Bucket, BucketCredential, CallbackSecret, Chatbot, Membership
from chatbots.overview import Overview, overview_of, with_setup
from compliance.deadlines import describe
from compliance.retention import policy
from compliance.work import bucket_checks
from config.openapi.samples import post_samples
from console.changelog import names_of
from console.common import pages
from console.common.pages import chatbot_or_404, page, polled, render
from console.common.scope import DECIDE, MANAGE_REQUESTS, is_superuser, may
from console.settings import bucket, forms, key_forms, retention_forms
from console.settings.forms import SettingForm
from conversations.usage import conversations_by_uci

Form = TypeVar("Form", bound=SettingForm)

SECTIONS = {
    "compliance": "Data compliance",
    "uci": "Unique Chatter Identifier",
    "assurance": "Identities in exports",
    "bucket": "Bucket",
    "extracts": "Daily extracts",
    "retention": "Conversation Data Retention",
    "rules": "Conversation settings",
    "keys": "API keys",
    "callbacks": "Callbacks",
    "resolver": "Resolver",
    "members": "Members",
    "calls": "Export or delete customer data",
}


# The change log has all credentials.
_MOST_CREDENTIALS = 20


class KeyRow(NamedTuple):
    """An API key, the labels of its scopes, and its two forms, of which one can be refused."""

    key: ApiKey
    scopes: list[str]
    has_expired: bool
    limit: SettingForm
    revoke: SettingForm

    @property
    def is_active(self) -> bool:
        return self.key.revoked_at is None and not self.has_expired


@polled
@page
def check_progress(request: HttpRequest, slug: str) -> HttpResponse:
    """Return the part of the page that changes while a worker checks the bucket."""
    chatbot = chatbot_or_404(request, slug)
    return render(
        request,
        "console/settings/_check.html",
        title="Check access",
        chatbot=chatbot,
        bucket=Bucket.objects.filter(chatbot=chatbot).first(),
        check=bucket_checks.last(chatbot),
    )


@dataclass(frozen=True)
class Shown:
    request: HttpRequest
    overview: Overview
    refused: SettingForm | None

    @property
    def chatbot(self) -> Chatbot:
        return self.overview.chatbot

    def form(self, form_class: type[Form], path: Mapping[str, Any] | None = None, **options: Any) -> Form:
        """Return an empty form, or in its place the refused one. `path` has the variables of its action's URL."""
        if isinstance(self.refused, form_class) and self.refused.path == (path or {}):
            return self.refused
        return form_class(chatbot=self.chatbot, **(path or {}), **options)

    def forms(self, *classes: type[SettingForm]) -> dict[str, SettingForm]:
        """Return forms by the names by which templates find them."""
        return {one.form_name: self.form(one) for one in classes}


def _compliance(shown: Shown) -> dict[str, Any]:
    chatbot = shown.chatbot
    return {
        "forms": shown.forms(forms.RulesForm),
        "callback_receiver": receiver_of(chatbot.callback_url),
        "deadline": describe(chatbot.deadline),
        "timezones": sorted(zoneinfo.available_timezones()) if is_superuser(shown.request) else [],
        "calls": _call_samples(shown.request, chatbot=chatbot, uci=shown.overview.uci),
    }


def _identity(shown: Shown) -> dict[str, Any]:
    uci, trial = shown.form(forms.UciForm), shown.form(forms.TrialForm)
    counted = conversations_by_uci(chatbot=shown.chatbot)
    return {
        "forms": shown.forms(forms.VariableForm, forms.AssuranceForm) | {"uci": uci, "resolver": trial},
        "variables": [(one, counted.get(one.pk)) for one in uci.variables],
        "resolver": trial.resolver,
    }


def _bucket(shown: Shown) -> dict[str, Any]:
    others = shown.forms(forms.ExportsForm, bucket.NewCredentialForm, bucket.RecordCredentialForm)
    return {
        "forms": others | {"bucket": shown.form(bucket.BucketForm, stored=shown.overview.bucket)},
        "check": bucket_checks.last(shown.chatbot),
        "policies": list(_policies(shown.overview)),
        "credentials": _credentials(shown),
        "may_issue": bucket.may_issue(),
    }


def _retention(shown: Shown) -> dict[str, Any]:
    return {
        "forms": shown.forms(retention_forms.RetentionForm),
        "first_run": policy.waiting_first_run(shown.chatbot),
        "latest_run": policy.latest_run(shown.chatbot),
    }


def _keys_page(shown: Shown) -> dict[str, Any]:
    return {
        "forms": shown.forms(key_forms.NewApiKeyForm, key_forms.NewIdentityKeyForm),
        "keys": _keys(shown),
    }


def _callbacks(shown: Shown) -> dict[str, Any]:
    # The last one signs the chatbot's callbacks. Its ciphertext is not read.
    secrets = CallbackSecret.objects.filter(chatbot=shown.chatbot).defer("secret_encrypted")
    return {
        "forms": shown.forms(key_forms.CallbackSecretForm),
        "callback_secret": secrets.order_by("-created_at", "-pk").first(),
        "callback_receiver": receiver_of(shown.chatbot.callback_url),
        "opened_at": now(),
    }


def _members(shown: Shown) -> dict[str, Any]:
    members = Membership.objects.filter(chatbot=shown.chatbot).select_related("user").order_by("user__username")
    return {
        "forms": shown.forms(forms.MemberForm),
        "members": members,
        "roles": Membership.Role.choices,
    }


@dataclass(frozen=True)
class SettingsPage:
    title: str
    purpose: str
    sections: tuple[str, ...]
    help: str
    context: Callable[[Shown], dict[str, Any]]


# By their names in addresses.
PAGES = {
    "compliance": SettingsPage(
        "Data compliance",
        "Turn filing on or off, set the rules for requests, and copy the calls that file them.",
        ("compliance", "rules", "calls"),
        "data-compliance",
        _compliance,
    ),
    "identity": SettingsPage(
        "Identity",
        "Choose the variable that identifies a chatter, and how reliable its values must be.",
        ("uci", "assurance", "resolver"),
        "identities",
        _identity,
    ),
    "bucket": SettingsPage(
        "Bucket and extracts",
        "Store exports and a daily file of messages, and give the client credentials for them.",
        ("bucket", "extracts"),
        "bucket-credentials",
        _bucket,
    ),
    "retention": SettingsPage(
        "Retention", "Delete old conversations automatically.", ("retention",), "retention", _retention
    ),
    "keys": SettingsPage(
        "API keys", "Keys for the client's calls and identity tokens.", ("keys",), "keys", _keys_page
    ),
    "callbacks": SettingsPage(
        "Callbacks", "The secret that signs callbacks, and a test callback.", ("callbacks",), "keys", _callbacks
    ),
    "members": SettingsPage(
        "Members", "The users with access to the chatbot, and their roles.", ("members",), "roles", _members
    ),
}
PAGE_OF = {section: name for name, one in PAGES.items() for section in one.sections}


def address_of(slug: str, section: str) -> str:
    """Return the address of a section of a chatbot's settings."""
    return f"{reverse('console:settings_page', args=[slug, PAGE_OF[section]])}#{section}"


@page
def settings_overview(request: HttpRequest, slug: str) -> HttpResponse:
    return _show(request, chatbot_or_404(request, slug))


@page
def settings_page(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    if name not in PAGES:
        raise Http404
    return _show(request, chatbot_or_404(request, slug), name)


def saving(form_class: type[SettingForm]) -> Callable[..., HttpResponseBase]:
    """Return the view of a form's action: it saves the form and redirects to its section.

    A form with errors is shown on its page. One with the name of a page is submitted to the page's address, where a
    GET shows the page.
    """
    name = PAGE_OF[form_class.section]

    def view(request: HttpRequest, slug: str, **path: Any) -> HttpResponse:
        if request.method != "POST":
            return _show(request, chatbot_or_404(request, slug), name)
        chatbot = chatbot_or_404(request, slug, roles=form_class.roles)
        if form_class.asks_password:
            require_password(request)
        form = form_class(request.POST, chatbot=chatbot, **path)
        if form.is_valid():
            try:
                answer = form.save(request)
            except ValidationError as error:
                form.refuse(error)
            else:
                if isinstance(answer, HttpResponse):
                    return answer
                if answer:
                    messages.success(request, answer)
                return redirect(address_of(chatbot.slug, form.section))
        return _show(request, chatbot, name, form)

    return (pages.form if form_class.form_name in PAGES else pages.action)(view)


def _show(
    request: HttpRequest, chatbot: Chatbot, name: str | None = None, refused: SettingForm | None = None
) -> HttpResponse:
    """Return a page of the settings, or their overview. A refused form replaces an empty one."""
    overview = overview_of(with_setup(Chatbot.objects.all()).get(pk=chatbot.pk))
    here = PAGES[name] if name else None
    return render(
        request,
        "console/settings/page.html" if here else "console/settings/overview.html",
        title=f"{here.title} · User data settings" if here else "User data settings",
        chatbot=overview.chatbot,
        overview=overview,
        gaps=[gap for gap in overview.gaps if name in {None, PAGE_OF[gap.section]}],
        lacking={PAGE_OF[gap.section] for gap in overview.gaps},
        pages=PAGES,
        here=here,
        sections=SECTIONS,
        refused=refused,
        service=settings,
        may_decide=may(request, chatbot, DECIDE),
        may_file=may(request, chatbot, MANAGE_REQUESTS),
        is_superuser=is_superuser(request),
        **(here.context(Shown(request, overview, refused)) if here else {}),
    )


def _policies(overview: Overview) -> Iterator[tuple[str, str, str]]:
    """Yield (id, title, JSON) of the policies that the bucket needs."""
    bucket = overview.bucket
    if bucket is None:
        return
    is_hosted = bucket.hosting == Bucket.Hosting.HOSTED
    title = "Policy for credentials that read these files" if is_hosted else "Policy that the client must grant"
    yield "access", title, json.dumps(access_policy(chatbot=overview.chatbot), indent=2)
    if bucket.role_arn:
        trust = json.dumps(trust_policy(chatbot=overview.chatbot), indent=2)
        yield "trust", "Trust policy of the client's role", trust


def _credentials(shown: Shown) -> dict[str, list[tuple[BucketCredential, str, SettingForm]]]:
    """Return the credentials in use and those that ended, newest first, each with its creator and the form."""
    newest_first = [F("revoked_at").desc(nulls_first=True), F("created_at").desc(), F("pk").desc()]
    found = list(BucketCredential.objects.filter(chatbot=shown.chatbot).order_by(*newest_first)[:_MOST_CREDENTIALS])
    names = names_of(one.created_by for one in found)
    rows = [
        (one, names[one.created_by], shown.form(bucket.RevokeCredentialForm, {"credential": one.pk}, stored=one))
        for one in found
    ]
    return {
        "present": [row for row in rows if row[0].revoked_at is None],
        "ended": [row for row in rows if row[0].revoked_at is not None],
    }


def _keys(shown: Shown) -> dict[str, list[KeyRow]]:
    # Neither the encrypted secret nor the digest is read.
    keys = ApiKey.objects.filter(chatbot=shown.chatbot).defer("secret_encrypted", "secret_sha256", "public_key")
    labels, at = dict(ApiKey.Scope.choices), now()
    rows = []
    for key in keys.order_by("-created_at"):
        path = {"prefix": key.prefix}
        limit = shown.form(key_forms.RateLimitForm, path, initial={"rate_limit": key.rate_limit})
        has_expired = key.expires_at is not None and key.expires_at <= at
        scopes = [str(labels.get(scope, scope)) for scope in key.scopes]
        rows.append(KeyRow(key, scopes, has_expired, limit, shown.form(key_forms.RevokeForm, path)))
    return {"active": [row for row in rows if row.is_active], "ended": [row for row in rows if not row.is_active]}


def _call_samples(request: HttpRequest, *, chatbot: Chatbot, uci: str | None) -> dict[str, Any]:
    """Return code samples of the chatbot's calls, with this host's URLs and placeholders for values.

    `environment` sets the variables that the samples read, in a shell.
    """
    key = uci or "<UCI key>"
    body = {"unique_chatter_identifier_key": key, "unique_chatter_identifier_value": f"<the value of {key}>"}
    api, calls = "", []
    for action, title, name in (("delete", "Delete", "data-deletion"), ("export", "Export", "data-export")):
        url = request.build_absolute_uri(reverse(f"compliance-api:{name}", args=[chatbot.slug]))
        api = url.removesuffix(f"/{name}")
        sent = body | ({"action": action} if chatbot.require_action else {})
        samples = [(one["label"], one["source"]) for one in post_samples(name, api=api, body=sent, signed=True)]
        calls.append({"action": action, "title": title, "url": url, "samples": samples})
    return {"environment": f"export API='{api}'\nexport SECRET='<the secret of a signing key>'", "calls": calls}
