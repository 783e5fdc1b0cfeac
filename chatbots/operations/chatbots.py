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

# What can be changed of a chatbot. Not its slug: that stands in paths and in the keys of stored objects.
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
# Of these the change log tells only that they changed.
_UNTOLD = ("name", "callback_url")

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
    """Create a chatbot with its variables, one of which may be its UCI, and the hosted bucket for exports.

    `actor` is kind and id as in the change log, `timezone` an IANA name. Asks the name service about a callback
    URL, so do not call it in a transaction. Raises ValidationError.
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
    """Change settings, add variables, then designate the UCI: all of it or nothing. Raises ValidationError.

    Asks the name service about a callback URL, so do not call it in a transaction.
    """
    checked = check_settings(chatbot=chatbot, changes=changes or {})
    with transaction.atomic():
        changed = _change_settings(chatbot=chatbot, changes=checked, actor=actor)
        for variable in variables:
            add_variable(chatbot=chatbot, variable=variable, actor=actor)
        if uci is not None:
            designate_uci(chatbot=chatbot, name=uci, actor=actor)
    return changed


def check_settings(*, chatbot: Chatbot, changes: Mapping[str, str | int | bool]) -> dict[str, str | int | bool]:
    """Return changes in their one form. Asks the name service about a callback URL.

    Raises ValidationError for changes that a chatbot as it is now cannot have.
    """
    _check_extracts(chatbot, changes)
    checked = dict(changes)
    if "callback_url" in checked:
        checked["callback_url"] = _checked_callback_url(str(checked["callback_url"]))
    return checked


def change_settings(*, chatbot: Chatbot, changes: Mapping[str, str | int | bool], actor: str) -> Chatbot:
    """Change settings of a chatbot, by their names in SETTINGS; each that differs is a change-log entry.

    Asks the name service about a callback URL, so do not call it in a transaction. Raises ValidationError.
    """
    return _change_settings(chatbot=chatbot, changes=check_settings(chatbot=chatbot, changes=changes), actor=actor)


def _change_settings(*, chatbot: Chatbot, changes: Mapping[str, str | int | bool], actor: str) -> Chatbot:
    if unknown := changes.keys() - set(SETTINGS):
        raise ValidationError(dict.fromkeys(sorted(unknown), "This cannot be changed."))
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
            data = {"setting": name} | ({} if name in _UNTOLD else {"value": changes[name]})
            changelog.record("chatbot.changed", chatbot_id=chatbot.pk, actor=actor, data=data)
    return current


def _insert(chatbot: Chatbot) -> None:
    try:
        with transaction.atomic():
            chatbot.save(force_insert=True)
    except IntegrityError:
        # The fields were checked, so it is the slug; also when another call took it just now.
        message = f"There is a chatbot {chatbot.slug!r} already. Choose another slug."
    else:
        return
    raise ValidationError({"slug": message})


def _check_extracts(chatbot: Chatbot, changes: Mapping[str, str | int | bool]) -> None:
    if changes.get("extracts_enabled") and not Bucket.objects.filter(chatbot=chatbot).exists():
        raise ValidationError({"extracts_enabled": _EXTRACTS_NEED_A_BUCKET})


def _checked_callback_url(url: str) -> str:
    """Return it in its one form, after a look where it leads; empty stays empty."""
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
