"""File a request: check what is asked, store it in one statement, nudge the workers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Q
from uuid_utils.compat import uuid7

from chatbots import changelog
from chatbots.callback_secrets import can_sign
from chatbots.callback_urls import CallbackUrlRefused, canonical_url
from chatbots.models import Bucket, Chatbot, Variable
from common.crypto import digest
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import equal_exports, idempotency, insert
from compliance.requests.selectors import ByConversations, ByUci, Selector
from compliance.work import notify

Kind = ComplianceRequest.Kind

_REFERENCE = re.compile(r"[A-Za-z0-9._:-]{1,64}")

# A second attempt is made when what is remembered of a variable is no longer so, or when the answer to the same
# call was gone by the time it was looked for.
ATTEMPTS = 5

# Chatbot and name -> a variable that is or was the UCI, as this process has read it. `insert` asks the database
# again, so an entry that is no longer true costs a second look and nothing else.
_VARIABLES: dict[tuple[int, str], Variable] = {}

# A person who files in the console can always think again for this long.
CONSOLE_GRACE = timedelta(minutes=15)


class ChatbotConfig:
    """What a chatbot has that requests need: each read once, when it is asked for."""

    def __init__(self, chatbot: Chatbot) -> None:
        self.chatbot = chatbot

    @cached_property
    def ucis(self) -> dict[str, Variable]:
        """The chatbot's present and former UCIs by name; the present one first."""
        ucis = Variable.objects.filter(Q(is_uci=True) | Q(was_uci=True), chatbot=self.chatbot)
        return {variable.name: variable for variable in ucis.order_by("-is_uci", "name")}

    @cached_property
    def has_bucket(self) -> bool:
        """Whether exports have somewhere to go."""
        return Bucket.objects.filter(chatbot=self.chatbot).exists()

    @cached_property
    def signs_callbacks(self) -> bool:
        return can_sign(self.chatbot)


class ValidatedInput(NamedTuple):
    """What was asked for, as it is stored: the columns that say whom it is about, and the callback's URL."""

    names: dict[str, Any]
    callback_url: str


@dataclass(frozen=True)
class RequestInput:
    """A request that is to be filed: its kind, whom it is about, and its options.

    `again` is of an export: file it also where an equal one waits (`equal_exports`).
    """

    kind: Kind
    about: Selector
    reference: str = ""
    callback_url: str = ""
    erase_exports: bool = False
    include_shared: bool = False
    include_files: bool = False
    again: bool = False

    @property
    def can_be_answered(self) -> bool:
        """Say whether an equal request that waits answers for it."""
        return self.kind == Kind.EXPORT and not self.again

    def unsaved(
        self, chatbot: Chatbot, checked: ValidatedInput, *, origin: ComplianceRequest.Origin, actor: str
    ) -> ComplianceRequest:
        """Return the request, not stored yet."""
        return ComplianceRequest(
            id=uuid7(),
            chatbot=chatbot,
            kind=self.kind,
            origin=origin,
            filed_by=actor,
            **checked.names,
            reference=self.reference,
            callback_url=checked.callback_url,
            erase_exports=self.erase_exports,
            include_shared=self.include_shared,
            include_files=self.include_files,
        )


def submit(
    *,
    chatbot: Chatbot,
    kind: Kind,
    about: Selector,
    origin: ComplianceRequest.Origin,
    actor: str,
    reference: str = "",
    callback_url: str = "",
    erase_exports: bool = False,
    include_shared: bool = False,
    include_files: bool = False,
    again: bool = False,
    replay: idempotency.ReplayKey | None = None,
) -> ComplianceRequest:
    """File a request about one chatter, or about certain conversations, and return it.

    An equal export that waits is returned instead, as `existing`, unless `again` is said.
    With `replay`, the same call returns the same request.
    `actor` is kind and id, as in the change log (`api:<key prefix>`, `command`). Raises Refused with the codes
    `compliance_disabled`, `uci_not_designated`, `unknown_uci_key`, `invalid`, `export_destination_missing`,
    `signing_key_missing`, `idempotency_conflict`; nothing is stored then.
    """
    asked = RequestInput(kind, about, reference, callback_url, erase_exports, include_shared, include_files, again)
    can_be_answered = asked.can_be_answered
    for _ in range(ATTEMPTS):
        try:
            require_compliance(chatbot)
            uci = _variable_to_search(chatbot, about.key) if isinstance(about, ByUci) else None
            about.check()
            _check_reference(reference, about)
            receiver = _checked_callback_url(callback_url, about, ChatbotConfig(chatbot))
            checked = ValidatedInput(_names(about, uci or chatbot), receiver)
        except Refused:
            # A call that was answered is answered alike whatever has changed since.
            if replay and (answered := idempotency.recall(chatbot, replay)):
                return answered
            raise
        request = asked.unsaved(chatbot, checked, origin=origin, actor=actor)
        filed = insert.file(
            request,
            uci=uci,
            grace=grace_of(chatbot, origin),
            due_in=settings.DUE_DAYS,
            entry=accepted(request),
            replay=replay,
            unless_one_waits=can_be_answered,
        )
        if filed:
            notify.notify_workers_after_commit()
            return request
        if replay and (answered := idempotency.recall(chatbot, replay)):
            return answered
        if isinstance(about, ByUci):
            _forget_variable(chatbot, about.key)
        if kind == Kind.EXPORT and not ChatbotConfig(chatbot).has_bucket:
            raise no_bucket()
        if can_be_answered and (uci is None or uci == find_uci(chatbot, uci.name)):
            if equal := equal_exports.answer(request, replay):
                return equal
            # What waits asks for something else, or has begun meanwhile.
            can_be_answered = False
    raise RuntimeError("A request could not be filed: what stood in its way was gone each time it was looked for.")


def check(setup: ChatbotConfig, about: Selector, reference: str = "", callback_url: str = "") -> ValidatedInput:
    """Raise Refused as `submit` does, save for an export without a bucket."""
    require_compliance(setup.chatbot)
    scope = one_of(setup.ucis, about.key) if isinstance(about, ByUci) else setup.chatbot
    about.check()
    _check_reference(reference, about)
    receiver = _checked_callback_url(callback_url, about, setup)
    return ValidatedInput(_names(about, scope), receiver)


def find_uci(chatbot: Chatbot, uci_key: str) -> Variable:
    """Return a chatbot's present or former UCI of this name.

    Raises Refused (`uci_not_designated`, `unknown_uci_key`).
    """
    return one_of(ChatbotConfig(chatbot).ucis, uci_key)


def one_of(ucis: Mapping[str, Variable], uci_key: str) -> Variable:
    """As `find_uci`, of UCIs that are read."""
    if not ucis:
        raise Refused(
            "uci_not_designated",
            "This chatbot has no Unique Chatter Identifier. Designate one of its variables first.",
        )
    if uci_key not in ucis:
        raise Refused(
            "unknown_uci_key",
            "The key is neither the present nor a former Unique Chatter Identifier of this chatbot.",
            pointer="/unique_chatter_identifier_key",
        )
    return ucis[uci_key]


def _names(about: Selector, scope: Variable | Chatbot) -> dict[str, Any]:
    """Return the columns that say whom the request is about. Of conversations no id is kept, only its digest.

    `scope` is that of the digests: the variable of a value, the chatbot of ids.
    """
    if isinstance(about, ByConversations):
        return {"conversation_digests": [digest("conversation", scope.public_id, one) for one in about.ids]}
    uci_digest = digest("chatter", scope.public_id, about.value)
    return {"variable_id": scope.pk, "uci_value": about.value, "uci_digest": uci_digest}


def _check_reference(reference: str, about: Selector) -> None:
    if reference and not _REFERENCE.fullmatch(reference):
        raise Refused("invalid", "The reference may have 1 to 64 of A-Z a-z 0-9 . _ : -", pointer="/reference")
    if reference and about.is_in(reference):
        raise Refused(
            "invalid",
            "The reference must contain neither the value nor a conversation's id, however written: it is kept.",
            pointer="/reference",
        )


def _checked_callback_url(url: str, about: Selector, setup: ChatbotConfig) -> str:
    """Return it in its one form. Where it leads is looked at when it is called: the name service may be slow."""
    if not url:
        return ""
    try:
        checked = canonical_url(url)
    except CallbackUrlRefused as error:
        fault = str(error)
    else:
        fault = (
            "The address must not contain the chatter's value, nor a conversation's id."
            if about.is_in(checked)
            else ""
        )
    if fault:
        raise Refused("invalid", fault, pointer="/callback_url")
    if not setup.signs_callbacks:
        raise Refused(
            "signing_key_missing", "Callbacks are signed, and this chatbot has no secret for them. Make one first."
        )
    return checked


def no_bucket() -> Refused:
    return Refused("export_destination_missing", "This chatbot has no bucket for exports. Set one up first.")


def accepted(request: ComplianceRequest) -> changelog.Entry:
    """Return the change-log entry of a request that is filed."""
    return changelog.entry(
        "request.accepted",
        chatbot_id=request.chatbot_id,
        request_id=request.pk,
        actor=request.filed_by,
        data={"kind": str(request.kind), "origin": str(request.origin)},
    )


def grace_of(chatbot: Chatbot, origin: ComplianceRequest.Origin) -> timedelta | None:
    """Return how long a request that is filed now waits before it is taken up, None for not at all."""
    grace = timedelta(minutes=chatbot.grace_minutes)
    return (max(grace, CONSOLE_GRACE) if origin == ComplianceRequest.Origin.CONSOLE else grace) or None


def require_compliance(chatbot: Chatbot) -> None:
    """Raise Refused(`compliance_disabled`) where data compliance is switched off."""
    if not chatbot.compliance_enabled:
        raise Refused(
            "compliance_disabled",
            "Data compliance is switched off for this chatbot. Switch it on in its settings.",
        )


def _variable_to_search(chatbot: Chatbot, uci_key: str) -> Variable:
    """Return the variable; from memory, where it was read before."""
    known = _VARIABLES.get((chatbot.pk, uci_key))
    if known is None:
        known = _VARIABLES[chatbot.pk, uci_key] = find_uci(chatbot, uci_key)
    return known


def _forget_variable(chatbot: Chatbot, uci_key: str) -> None:
    _VARIABLES.pop((chatbot.pk, uci_key), None)
