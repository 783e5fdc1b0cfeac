"""Chatbots and their settings."""

import difflib
import zoneinfo
from collections.abc import Mapping, Sequence

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from chatbots import changelog
from chatbots.callback_urls import CallbackUrlRefused, canonical_url, check_reachable
from chatbots.models import Bucket, Chatbot
from chatbots.operations.variables import NewVariable, add_variable, check_variables, create_variable, designate_uci

# The changeable settings. Not the slug, which is part of paths and of the keys of stored objects.
SETTINGS = (
    "name",
    "timezone",
    "compliance_enabled",
    "extracts_enabled",
    "max_conversations_per_deletion",
    "four_eyes",
    "require_action",
    "grace_minutes",
    "callback_url",
)
# The change log does not have their values.
_NOT_LOGGED = ("name", "callback_url")

_EXTRACTS_NEED_A_BUCKET = (
    "Extracts need a bucket to go to. Set one first: in the console, with set_bucket, or with --hosted-bucket."
)


def create_chatbot(
    *,
    slug: str,
    name: str,
    actor: str,
    timezone: str = "UTC",
    variables: Sequence[NewVariable] = (),
    uci: str | None = None,
    enable_compliance: bool = False,
    hosted_bucket: bool = False,
    enable_extracts: bool = False,
    callback_url: str = "",
) -> Chatbot:
    """Create a chatbot with its variables, one of which may be its UCI, and optionally the hosted bucket.

    `actor` is as in the change log, `timezone` an IANA name. Resolves the host of a callback URL, so do not call it
    in a transaction. Raises ValidationError.
    """
    chatbot = Chatbot(
        slug=slug,
        name=name,
        timezone=timezone,
        compliance_enabled=enable_compliance,
        extracts_enabled=enable_extracts,
        callback_url=_checked_callback_url(callback_url),
    )
    chatbot.clean_fields()
    chatbot.validate_constraints()
    _check_timezone(timezone)
    check_variables(variables, uci=uci)
    if enable_extracts and not hosted_bucket:
        raise ValidationError({"extracts_enabled": _EXTRACTS_NEED_A_BUCKET})
    with transaction.atomic():
        _insert(chatbot)
        changelog.record("chatbot.created", chatbot_id=chatbot.pk, actor=actor)
        for variable in variables:
            create_variable(chatbot, variable, actor)
        if uci is not None:
            designate_uci(chatbot=chatbot, name=uci, actor=actor)
        if hosted_bucket:
            Bucket.objects.create(chatbot=chatbot, hosting=Bucket.Hosting.HOSTED)
            changelog.record("bucket.set", chatbot_id=chatbot.pk, actor=actor, data={"hosting": "hosted"})
    return chatbot


def change_chatbot(
    *,
    chatbot: Chatbot,
    actor: str,
    changes: Mapping[str, str | int | bool] | None = None,
    variables: Sequence[NewVariable] = (),
    uci: str | None = None,
) -> Chatbot:
    """Change settings (by their names in SETTINGS), add variables, then designate the UCI: all of it or nothing.

    Each changed setting is a change-log entry. Resolves the host of a callback URL, so do not call it in a
    transaction. Raises ValidationError.
    """
    changes = dict(changes or {})
    if unknown := changes.keys() - set(SETTINGS):
        raise ValidationError(dict.fromkeys(sorted(unknown), "This cannot be changed."))
    _check_extracts(chatbot, changes)
    if "callback_url" in changes:
        changes["callback_url"] = _checked_callback_url(str(changes["callback_url"]))
    with transaction.atomic():
        current = Chatbot.objects.select_for_update(no_key=True).get(pk=chatbot.pk)
        _check_extracts(chatbot, changes)
        changed = [name for name, value in changes.items() if getattr(current, name) != value]
        for name in changed:
            setattr(current, name, changes[name])
        current.clean_fields()
        _check_timezone(current.timezone)
        current.save(update_fields=changed)
        for name in changed:
            data = {"setting": name} | ({} if name in _NOT_LOGGED else {"value": changes[name]})
            changelog.record("chatbot.changed", chatbot_id=chatbot.pk, actor=actor, data=data)
        for variable in variables:
            add_variable(chatbot=chatbot, variable=variable, actor=actor)
        if uci is not None:
            designate_uci(chatbot=chatbot, name=uci, actor=actor)
    return current


def _insert(chatbot: Chatbot) -> None:
    try:
        with transaction.atomic():
            chatbot.save(force_insert=True)
    except IntegrityError:
        # The fields were checked, so the slug is taken.
        message = f"There is a chatbot {chatbot.slug!r} already. Choose another slug."
    else:
        return
    raise ValidationError({"slug": message})


def _check_extracts(chatbot: Chatbot, changes: Mapping[str, str | int | bool]) -> None:
    if changes.get("extracts_enabled") and not Bucket.objects.filter(chatbot=chatbot).exists():
        raise ValidationError({"extracts_enabled": _EXTRACTS_NEED_A_BUCKET})


def _checked_callback_url(url: str) -> str:
    """Return the URL in canonical form after checking where it leads; empty stays empty."""
    if not url:
        return ""
    try:
        checked = canonical_url(url)
        check_reachable(checked)
    except CallbackUrlRefused as refused:
        message = str(refused)
    else:
        return checked
    raise ValidationError({"callback_url": message})


def _check_timezone(name: str) -> None:
    known = zoneinfo.available_timezones()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        advice = f"Did you mean {close[0]}?" if close else "Use an IANA name such as Europe/Paris."
        raise ValidationError({"timezone": f"Unknown time zone {name!r}. {advice}"})
