"""The pages of a chatbot's settings and their overview. A page can show a form that was refused.

`PAGES` has each page with its sections. A section has a template and an anchor of its name.
"""

import json
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.timezone import now

from chatbots.buckets.locations import access_policy, trust_policy
from chatbots.callback_urls import receiver_of
from chatbots.models import ApiKey, Bucket, CallbackSecret, Chatbot, Membership, Variable
from chatbots.overview import Overview, overview_of, with_setup
from compliance.deadlines import describe
from compliance.retention import policy
from compliance.work import bucket_checks
from compliance.work.lookups import overview_of as resolver_overview
from config.openapi.samples import post_samples
from console.common.forms import ConsoleForm
from console.common.pages import chatbot_or_404, page, polled, render
from console.common.scope import DECIDE, MANAGE_REQUESTS, is_superuser, may
from console.settings import forms, key_forms, retention_forms
from console.settings.bucket import (
    BucketForm,
    CredentialRow,
    NewCredentialForm,
    RecordCredentialForm,
    credential_rows,
    may_issue,
)
from console.settings.forms import variables_of
from conversations.usage import UciCount, conversations_by_uci

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


@dataclass(frozen=True)
class RefusedForm:
    """A form with errors: its name on the page, and the prefix or id of its API key or credentials."""

    name: str
    form: ConsoleForm
    prefix: str = ""


@dataclass(frozen=True)
class VariableRow:
    variable: Variable
    carried: UciCount | None

    @property
    def is_choosable(self) -> bool:
        return self.variable.category != Variable.Category.SYSTEM


@dataclass(frozen=True)
class KeyRow:
    """An API key, the labels of its scopes, and its two forms; `is_refused` if one of them has errors."""

    key: ApiKey
    scopes: list[str]
    has_expired: bool
    limit: ConsoleForm
    revoke: ConsoleForm
    is_refused: bool

    @property
    def is_active(self) -> bool:
        return self.key.revoked_at is None and not self.has_expired

    @property
    def makes_calls(self) -> bool:
        return self.key.type != ApiKey.Type.IDENTITY


@polled
@page
def check_progress(request: HttpRequest, slug: str) -> HttpResponse:
    """Return the part of the page that changes while a worker checks the bucket."""
    chatbot = chatbot_or_404(request, slug)
    bucket = Bucket.objects.filter(chatbot=chatbot).first()
    template = "console/settings/_check.html"
    return render(
        request, template, title="Check access", chatbot=chatbot, bucket=bucket, check=bucket_checks.last(chatbot)
    )


@dataclass(frozen=True)
class Shown:
    """A chatbot whose settings are shown, and the form that was refused."""

    request: HttpRequest
    overview: Overview
    refused: RefusedForm | None

    @property
    def chatbot(self) -> Chatbot:
        return self.overview.chatbot

    def forms(self, **empty: ConsoleForm) -> dict[str, ConsoleForm]:
        """Return a page's forms by their names, the refused one in place of an empty one."""
        return empty | ({self.refused.name: self.refused.form} if self.refused else {})


def _compliance(shown: Shown) -> dict[str, Any]:
    chatbot = shown.chatbot
    return {
        "forms": shown.forms(rules=forms.RulesForm(chatbot=chatbot)),
        "callback_receiver": receiver_of(chatbot.callback_url),
        "deadline": describe(chatbot.deadline),
        "timezones": sorted(zoneinfo.available_timezones()) if is_superuser(shown.request) else [],
        "calls": _call_samples(shown.request, chatbot=chatbot, uci=shown.overview.uci),
    }


def _identity(shown: Shown) -> dict[str, Any]:
    chatbot = shown.chatbot
    variables, resolver = variables_of(chatbot), resolver_overview(chatbot)
    counted = conversations_by_uci(chatbot=chatbot)
    return {
        "forms": shown.forms(
            uci=forms.UciForm(variables=variables),
            variables=forms.VariableForm(),
            assurance=forms.AssuranceForm(initial={"export_assurance": chatbot.export_assurance}),
            resolver=forms.TrialForm(sent=resolver.sent if resolver else []),
        ),
        "variables": [VariableRow(one, counted.get(one.pk)) for one in variables],
        "resolver": resolver,
    }


def _bucket(shown: Shown) -> dict[str, Any]:
    return {
        "forms": shown.forms(
            bucket=BucketForm(stored=shown.overview.bucket),
            csv_dialect=forms.CsvDialectForm(initial={"csv_dialect": shown.chatbot.csv_dialect}),
            credentials=NewCredentialForm(),
            record=RecordCredentialForm(),
        ),
        "check": bucket_checks.last(shown.chatbot),
        "policies": list(_policies(shown.overview)),
        "credentials": _credentials(shown.chatbot, shown.refused),
        "may_issue": may_issue(),
    }


def _retention(shown: Shown) -> dict[str, Any]:
    return {
        "forms": shown.forms(retention=retention_forms.RetentionForm(chatbot=shown.chatbot)),
        "first_run": policy.waiting_first_run(shown.chatbot),
        "latest_run": policy.latest_run(shown.chatbot),
    }


def _keys_page(shown: Shown) -> dict[str, Any]:
    return {
        "forms": shown.forms(keys=key_forms.NewApiKeyForm(), identity_keys=key_forms.NewIdentityKeyForm()),
        "keys": _keys(shown.chatbot, shown.refused),
    }


def _callbacks(shown: Shown) -> dict[str, Any]:
    return {
        "forms": shown.forms(callbacks=key_forms.CallbackSecretForm()),
        "callback_secret": _callback_secret(shown.chatbot),
        "callback_receiver": receiver_of(shown.chatbot.callback_url),
        "opened_at": now(),
    }


def _members(shown: Shown) -> dict[str, Any]:
    members = Membership.objects.filter(chatbot=shown.chatbot).select_related("user").order_by("user__username")
    return {
        "forms": shown.forms(members=forms.MemberForm(chatbot=shown.chatbot)),
        "members": members,
        "roles": Membership.Role.choices,
    }


@dataclass(frozen=True)
class SettingsPage:
    """A page: its title, purpose, sections, page of help, and the context of its sections."""

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
    return show(request, chatbot_or_404(request, slug))


@page
def settings_page(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    if name not in PAGES:
        raise Http404
    return show(request, chatbot_or_404(request, slug), name)


def show(
    request: HttpRequest, chatbot: Chatbot, name: str | None = None, refused: RefusedForm | None = None
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
    yield "access", title, _as_text(access_policy(chatbot=overview.chatbot))
    if bucket.role_arn:
        yield "trust", "Trust policy of the client's role", _as_text(trust_policy(chatbot=overview.chatbot))


def _credentials(chatbot: Chatbot, refused: RefusedForm | None) -> dict[str, list[CredentialRow]]:
    is_one = refused is not None and refused.name == "revoke_credentials"
    return credential_rows(chatbot, refused.form if refused and is_one else None, refused.prefix if refused else "")


def _as_text(policy: dict[str, Any]) -> str:
    return json.dumps(policy, indent=2)


def _callback_secret(chatbot: Chatbot) -> CallbackSecret | None:
    """Return the secret that signs the chatbot's callbacks, without its ciphertext."""
    secrets = CallbackSecret.objects.filter(chatbot=chatbot).defer("secret_encrypted")
    return secrets.order_by("-created_at", "-pk").first()


def _keys(chatbot: Chatbot, refused: RefusedForm | None) -> dict[str, list[KeyRow]]:
    """Return the active keys and the ended ones, newest first."""
    rows = list(_key_rows(chatbot, refused))
    return {"active": [row for row in rows if row.is_active], "ended": [row for row in rows if not row.is_active]}


def _key_rows(chatbot: Chatbot, refused: RefusedForm | None) -> Iterator[KeyRow]:
    # Neither the encrypted secret nor the digest is read.
    keys = ApiKey.objects.filter(chatbot=chatbot).defer("secret_encrypted", "secret_sha256", "public_key")
    labels, at = dict(ApiKey.Scope.choices), now()
    for key in keys.order_by("-created_at"):
        own: dict[str, ConsoleForm] = {
            "limit": key_forms.RateLimitForm(initial={"rate_limit": key.rate_limit}, key=key.prefix),
            "revoke": key_forms.RevokeForm(key=key.prefix),
        }
        is_refused = refused is not None and refused.prefix == key.prefix
        if refused is not None and is_refused:
            own[refused.name] = refused.form
        has_expired = key.expires_at is not None and key.expires_at <= at
        scopes = [str(labels.get(scope, scope)) for scope in key.scopes]
        yield KeyRow(key, scopes, has_expired, own["limit"], own["revoke"], is_refused)


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
