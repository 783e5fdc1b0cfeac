"""Every page of the console, from the resolver, and the table of roles that may open it.

A page that is not in the table fails `tests/functional/test_who_may.py`: add a line for it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.db.models import Model
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts.models import Authenticator, LoginFailures, StaffLogin
from compliance.models import Callback, Claim, ComplianceRequest, Export
from console.common.scope import DECIDE, MANAGE_REQUESTS, READ, SUPERUSER_ONLY, Role
from console.help import GUIDES
from console.settings.page import PAGES
from conversations.models import DailyExtract
from tests import every_call

# For each path parameter a value without a row.
ANYTHING: Mapping[str, Any] = {
    **every_call.ANYTHING,
    "slug": "nobody",
    "prefix": "0123456789ab",
    "callback": every_call.ANYTHING["request_id"],
    "extract": 999_999_999,
    "file": "999999999",
    "message": 999_999_999,
    "credential": every_call.ANYTHING["request_id"],
    "hold_id": every_call.ANYTHING["request_id"],
}


@dataclass(frozen=True)
class Page:
    """A page and method. `roles` may open it; superusers may open all.

    `given` are path parameters without a row, such as an action; `named` means that the query's
    `chatbot` names one; `body` is a POST body that passes validation, with `{number}` for a row.
    """

    name: str
    roles: tuple[Role, ...]
    method: str = "GET"
    given: Mapping[str, str] = field(default_factory=dict)
    named: bool = False
    body: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join([self.method, self.name, *self.given.values()])

    @property
    def parameters(self) -> list[str]:
        """The path parameters that name a row."""
        return [name for name in parameters_of(self.name) if name not in self.given]

    @property
    def rows(self) -> list[str]:
        """The rows that its path, query and body name."""
        named = ["slug"] if self.named else []
        return [*self.parameters, *named, *re.findall(r"{(\w+)}", "".join(self.body.values()))]

    def sent(self, values: Mapping[str, Any]) -> str:
        """Return its body, as `url` does its address."""
        return urlencode({name: text.format(**{**ANYTHING, **values}) for name, text in self.body.items()})

    def url(self, values: Mapping[str, Any]) -> str:
        """Return its address with a value for each parameter; of ANYTHING for those that are not given."""
        known = {**ANYTHING, **values}
        unknown = set(self.parameters) - known.keys()
        assert not unknown, f"Give {sorted(unknown)} a value in ANYTHING."
        address = reverse(
            f"console:{self.name}", kwargs={**{one: known[one] for one in self.parameters}, **self.given}
        )
        return f"{address}?chatbot={known['slug']}" if self.named else address


# About the user's own account; no chatbot is involved.
OF_ONESELF = frozenset(
    {
        *("login_code", "second_factor", "second_factor_set_up", "second_factor_recovery_codes"),
        *("second_factor_remove", "confirm_password"),
    }
)

# For every staff user; `tests/console/test_help.py` opens them.
OF_STAFF = frozenset({"help", "help_page"})

# For whoever has a link: nobody is logged in there.
OF_ANYONE = frozenset({"set_password"})

TABLE = (
    Page("changelog", DECIDE),
    Page("file", MANAGE_REQUESTS),
    Page("changelog", DECIDE, named=True),
    Page("changelog_download", DECIDE),
    Page("chatbots", READ),
    Page("new_chatbot", SUPERUSER_ONLY),
    Page("new_chatbot", SUPERUSER_ONLY, "POST"),
    Page("settings", READ),
    *(Page("settings_page", READ, given={"name": name}) for name in PAGES),
    *(Page("guide", READ, given={"guide": name}) for name in GUIDES),
    Page("switch_compliance", DECIDE, "POST"),
    Page("switch_extracts", DECIDE, "POST"),
    Page("set_retention", DECIDE, "POST"),
    Page("choose_uci", DECIDE, "POST"),
    Page("set_export_assurance", DECIDE, "POST"),
    Page("set_exports", DECIDE, "POST"),
    Page("create_variable", DECIDE, "POST"),
    Page("check_access", DECIDE, "POST"),
    Page("check_progress", READ),
    Page("save_bucket", SUPERUSER_ONLY, "POST"),
    Page("issue_credentials", SUPERUSER_ONLY, "POST"),
    Page("record_credentials", SUPERUSER_ONLY, "POST"),
    Page("revoke_credentials", SUPERUSER_ONLY, "POST"),
    Page("save_rules", SUPERUSER_ONLY, "POST"),
    Page("create_key", SUPERUSER_ONLY, "POST"),
    Page("create_identity_key", SUPERUSER_ONLY, "POST"),
    Page("revoke_key", SUPERUSER_ONLY, "POST", body={"sure": "on"}),
    Page("change_limit", SUPERUSER_ONLY, "POST", body={"rate_limit": "10"}),
    Page("try_resolver", DECIDE, "POST"),
    Page("create_callback_secret", SUPERUSER_ONLY, "POST"),
    Page("send_test_callback", DECIDE, "POST"),
    Page("set_member", SUPERUSER_ONLY, "POST"),
    Page("requests", READ),
    Page("requests", READ, named=True),
    Page("due", READ),
    Page("due", READ, named=True),
    Page("requests_decide", MANAGE_REQUESTS, "POST"),
    Page("request", READ),
    Page("request_progress", READ),
    *(Page("request_letter", READ, given={"kind": "received", "form": form}) for form in ("txt", "html")),
    Page("request_whom", DECIDE, "POST"),
    Page("request_download", MANAGE_REQUESTS),
    Page("request_copy", MANAGE_REQUESTS),
    *(
        Page("request_action", roles, "POST", given={"action": action}, body={f"{action}-reason": "other"})
        for action, roles in {
            "approve": DECIDE,
            "reject": DECIDE,
            "retry": MANAGE_REQUESTS,
            "cancel": MANAGE_REQUESTS,
            "extend": DECIDE,
            "resend": MANAGE_REQUESTS,
            "answer": MANAGE_REQUESTS,
            # Of a deletion; `test_early_start.py` has the roles for a redaction.
            "start": DECIDE,
        }.items()
    ),
    Page("limit_request", DECIDE),
    Page("limit_request", DECIDE, "POST", body={"erase_unheld-reason": "other"}),
    Page("file_request", MANAGE_REQUESTS),
    Page("file_request", MANAGE_REQUESTS, "POST", body={"step": "preview"}),
    Page("file_many", MANAGE_REQUESTS),
    Page("file_many", MANAGE_REQUESTS, "POST"),
    Page("dashboard", READ),
    Page("dashboard", READ, named=True),
    Page("conversations", READ),
    Page("conversations", READ, named=True),
    Page("conversation", READ),
    Page("conversation_file", MANAGE_REQUESTS),
    *(
        Page("redact", MANAGE_REQUESTS, "POST", body={"messages": "{message}", "reason": "other"} | step)
        for step in ({}, {"confirmed": "yes"})
    ),
    Page("lookup", READ),
    Page("lookup", READ, named=True),
    Page("lookup", READ, "POST", body={"chatbot": "{slug}", "what": "conversation", "text": "c-1"}),
    Page("holds", DECIDE),
    Page("holds", DECIDE, named=True),
    Page("choose_hold_chatbot", DECIDE),
    Page("place_hold", DECIDE),
    Page("place_hold", DECIDE, "POST", body={"step": "preview"}),
    Page("hold", DECIDE),
    Page("hold_value", DECIDE, "POST"),
    Page("review_hold", DECIDE, "POST"),
    Page("release_hold", DECIDE),
    Page("release_hold", DECIDE, "POST", body={"reason": "matter_closed", "seen": "1"}),
    Page("exports", READ),
    Page("exports", READ, named=True),
    Page("extracts", READ),
    Page("extracts", READ, named=True),
    Page("extracts_again", DECIDE, "POST", body={"selected": "{extract}"}),
    Page("refused_identities", DECIDE),
    Page("refused_identities", DECIDE, named=True),
    Page("callbacks", READ),
    Page("callbacks", READ, named=True),
    Page("callbacks_resend", MANAGE_REQUESTS, "POST", body={"selected": "{callback}"}),
    Page("workers", READ),
    Page("mails", READ),
    Page("mails", READ, "POST"),
)


# The models in Django's admin, each with a list and a page of a row, for superusers only.
RECORDS = (ComplianceRequest, Export, Callback, DailyExtract, Claim)
STAFF = (User, Authenticator, LoginFailures, StaffLogin)


def admin_page(model: type[Model], name: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


def patterns() -> Iterator[tuple[str, str]]:
    """Yield name and path of each page in the namespace `console`."""
    for one in get_resolver().url_patterns:
        if isinstance(one, URLResolver) and one.namespace == "console":
            for leaf in one.url_patterns:
                assert isinstance(leaf, URLPattern)
                assert leaf.name, f"{leaf.pattern} has no name"
                yield leaf.name, str(leaf.pattern)


def parameters_of(name: str) -> list[str]:
    return re.findall(r"<(?:\w+:)?(\w+)>", dict(patterns())[name])


__all__ = [
    "ANYTHING",
    "DECIDE",
    "MANAGE_REQUESTS",
    "OF_ANYONE",
    "OF_ONESELF",
    "OF_STAFF",
    "READ",
    "RECORDS",
    "STAFF",
    "SUPERUSER_ONLY",
    "TABLE",
    "Page",
    "admin_page",
    "parameters_of",
    "patterns",
]
