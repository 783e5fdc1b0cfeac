"""The input of a request, and its validation against the settings of its chatbot."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from chatbots.callback_secrets import can_sign
from chatbots.callback_urls import canonical_url
from chatbots.models import Bucket, Chatbot, Variable, stored_formats
from common.crypto import digest
from common.network_guard import UrlRefused
from common.texts import REFERENCE, RULES
from common.times import EARLIEST, LATEST, midnight
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests.selectors import ByUci, Identifiers, Selector

Kind = ComplianceRequest.Kind

# Limits of the time at which a person asked. An older time is a mistyped year. A client's clock may be ahead, as with
# signatures.
LONGEST_AGO = timedelta(days=365)
_CLOCKS_DIFFER = timedelta(minutes=5)
_NO_TIME = "Must be a date such as 2026-11-30, or an instant with an offset such as 2026-11-30T09:30:00Z."
_DATE, _INSTANT = re.compile(r"\d{4}-\d\d-\d\d"), re.compile(r"\d{4}-\d\d-\d\dT\S+(Z|[+-]\d\d:\d\d)")

# Chatbot and name -> a variable that is or was the UCI, as this process has read it.
_VARIABLES: dict[tuple[int, str], Variable] = {}


class ChatbotConfig:
    """The settings of a chatbot that requests need, each read once, on first use.

    With `remembers`, a UCI that this process has read before is not read again: `insert` checks it.
    """

    def __init__(self, chatbot: Chatbot, *, remembers: bool = False) -> None:
        self.chatbot = chatbot
        self._remembers = remembers

    @cached_property
    def ucis(self) -> dict[str, Variable]:
        """The chatbot's present and former UCIs by name; the present one first."""
        ucis = Variable.objects.filter(Q(is_uci=True) | Q(was_uci=True), chatbot=self.chatbot)
        return {variable.name: variable for variable in ucis.order_by("-is_uci", "name")}

    @cached_property
    def has_bucket(self) -> bool:
        return Bucket.objects.filter(chatbot=self.chatbot).exists()

    @cached_property
    def signs_callbacks(self) -> bool:
        return can_sign(self.chatbot)

    def require_compliance(self) -> None:
        if not self.chatbot.compliance_enabled:
            raise Refused(
                "compliance_disabled",
                "Data compliance is switched off for this chatbot. Switch it on in its settings.",
            )

    def require_bucket(self) -> None:
        if not self.has_bucket:
            raise Refused("export_destination_missing", "This chatbot has no bucket for exports. Set one up first.")

    def find_uci(self, uci_key: str) -> Variable:
        """Return the present or former UCI of this name.

        Raises Refused (`uci_not_designated`, `unknown_uci_key`).
        """
        known = (self.chatbot.pk, uci_key)
        if self._remembers and known in _VARIABLES:
            return _VARIABLES[known]
        if not self.ucis:
            raise Refused(
                "uci_not_designated",
                "This chatbot has no Unique Chatter Identifier. Designate one of its variables first.",
            )
        if uci_key not in self.ucis:
            raise Refused(
                "unknown_uci_key",
                "The key is neither the present nor a former Unique Chatter Identifier of this chatbot.",
                pointer="/unique_chatter_identifier_key",
            )
        _VARIABLES[known] = self.ucis[uci_key]
        return _VARIABLES[known]


@dataclass(frozen=True)
class RequestInput:
    """A request to be filed: its kind, its selector, and its options.

    `requested_at`: when the person asked, in a form for `read_requested_at`. `csv_dialect` and `formats`: for an
    export; empty for the chatbot's. `archive`: `zip` for an export that is one ZIP. `again`: file an export even if
    an equal one waits (`equal_exports`).
    """

    kind: Kind
    selector: Selector
    reference: str = ""
    callback_url: str = ""
    requested_at: str = ""
    erase_exports: bool = False
    include_shared: bool = False
    include_files: bool = False
    csv_dialect: str = ""
    formats: Collection[str] = ()
    archive: str = ""
    again: bool = False

    @property
    def accepts_equal(self) -> bool:
        """Whether an equal request that waits answers for this one."""
        return self.kind == Kind.EXPORT and not self.again

    def validate(self, config: ChatbotConfig, *, origin: ComplianceRequest.Origin, actor: str) -> ComplianceRequest:
        """Return the request, not stored yet.

        Raises Refused (`compliance_disabled`, `uci_not_designated`, `unknown_uci_key`, `invalid`,
        `signing_key_missing`).
        """
        chatbot, selector = config.chatbot, self.selector
        config.require_compliance()
        request = ComplianceRequest(
            id=uuid7(),
            chatbot=chatbot,
            kind=self.kind,
            origin=origin,
            filed_by=actor,
            reference=self.reference,
            erase_exports=self.erase_exports,
            include_shared=self.include_shared,
            include_files=self.include_files,
        )
        if isinstance(selector, ByUci):
            request.variable = uci = config.find_uci(selector.key)
            selector.check()
            request.uci_value, request.uci_digest = selector.value, digest("chatter", uci.public_id, selector.value)
        else:
            selector.check()
            request.conversation_digests = [digest("conversation", chatbot.public_id, one) for one in selector.ids]
        check_reference(self.reference, selector)
        request.callback_url = checked_callback_url(self.callback_url, selector, config)
        request.requested_at = read_requested_at(self.requested_at, chatbot)
        if self.kind == Kind.EXPORT:
            # They stay if the chatbot's settings change.
            request.csv_dialect = self.csv_dialect or chatbot.csv_dialect
            request.formats = stored_formats(self.formats) if self.formats else chatbot.export_formats
            request.archive = self.archive
        return request


def read_requested_at(text: str, chatbot: Chatbot) -> datetime | None:
    """Return when a person asked, in UTC. The text is an instant with an offset, or a date, which begins in the
    chatbot's time zone. None for an empty text.

    Raises Refused(`invalid`) for another form, a time of the future, or one of more than 365 days ago.
    """
    if not text:
        return None
    now = timezone.now()
    zone = ZoneInfo(chatbot.timezone)
    at = _instant(text, zone)
    if at is None:
        fault = _NO_TIME
    elif at > now + _CLOCKS_DIFFER:
        fault = "Must not be in the future."
    elif at < midnight(timezone.localdate(timezone=zone) - LONGEST_AGO, zone):
        fault = f"Must be at most {LONGEST_AGO.days} days ago."
    else:
        return min(at, now)
    raise Refused("invalid", fault, pointer="/requested_at")


def read_instant(text: str, chatbot: Chatbot, *, pointer: str) -> datetime:
    """Return an instant in UTC, of a text as for `read_requested_at`. Raises Refused(`invalid`)."""
    at = _instant(text, ZoneInfo(chatbot.timezone))
    if at is None or not EARLIEST <= at < LATEST:
        raise Refused("invalid", _NO_TIME, pointer=pointer)
    return at


def read_instants(given: Mapping[str, str | None], chatbot: Chatbot) -> dict[str, Any]:
    """Return the instants of texts by their names, None for none, as `read_instant` does."""
    return {name: text and read_instant(text, chatbot, pointer=f"/{name}") for name, text in given.items()}


def _instant(text: str, zone: ZoneInfo) -> datetime | None:
    try:
        if _DATE.fullmatch(text):
            return midnight(date.fromisoformat(text), zone)
        return datetime.fromisoformat(text).astimezone(UTC) if _INSTANT.fullmatch(text) else None
    except (ValueError, OverflowError):
        return None


def check_reference(reference: str, selector: Identifiers) -> None:
    """Raise Refused(`invalid`) for a reference of another form, or one that contains the subject of the request."""
    if reference and not re.fullmatch(REFERENCE, reference):
        raise Refused("invalid", f"The reference must be {RULES[REFERENCE]}", pointer="/reference")
    if reference and selector.is_in(reference):
        raise Refused(
            "invalid",
            f"The reference must not contain {selector.description}, in any form: it is kept longer.",
            pointer="/reference",
        )


def checked_callback_url(url: str, selector: Identifiers, config: ChatbotConfig) -> str:
    """Return the normalized URL. Its address is checked when it is called: the name service may be slow.

    Raises Refused (`invalid`, `signing_key_missing`).
    """
    if not url:
        return ""
    try:
        checked = canonical_url(url)
    except UrlRefused as error:
        fault = str(error)
    else:
        fault = f"The address must not contain {selector.description}." if selector.is_in(checked) else ""
    if fault:
        raise Refused("invalid", fault, pointer="/callback_url")
    if not config.signs_callbacks:
        raise Refused(
            "signing_key_missing", "Callbacks are signed, and this chatbot has no secret for them. Make one first."
        )
    return checked
