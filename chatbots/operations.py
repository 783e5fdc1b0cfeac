"""Set up chatbots: every change of a chatbot, its variables and its keys that a person asks for.

Commands and admin each make one call into here. Each operation is one transaction, change-log entries
included. What cannot be done raises ValidationError, its messages by field, each saying what to do.
"""

import difflib
import re
import secrets
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.timezone import now

from chatbots import changelog
from chatbots.authentication import secret_binding, token_digest
from chatbots.callback_urls import CallbackUrlRefused, check_reachable, in_one_form
from chatbots.models import ApiKey, Bucket, Chatbot, Membership, Variable
from chatbots.secrets import encrypt

Category = Variable.Category
Scope = ApiKey.Scope

# A signature covers no path, so it serves only the calls that these two scopes allow.
SIGNING_SCOPES = (Scope.DELETIONS_WRITE, Scope.EXPORTS_WRITE)

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

_EXTRACTS_NEED_A_BUCKET = "Extracts need a bucket to go to. Set one first: with --hosted-bucket, or with set_bucket."

_VARIABLE_NAME = re.compile(r"\S(.{0,126}\S)?")
_USER_CHANNEL_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class NewVariable:
    """A variable to create; `category` is one of Variable.Category."""

    category: str
    name: str


@dataclass(frozen=True)
class NewApiKey:
    """A key just created. `secret` is to be shown once: it is kept encrypted or as a digest.

    It is None for a signing key that took over a secret its owner has already.
    """

    api_key: ApiKey
    secret: str | None


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
    _check_variables(variables, uci=uci)
    if enable_extracts and not hosted_bucket:
        raise ValidationError({"extracts_enabled": _EXTRACTS_NEED_A_BUCKET})
    with transaction.atomic():
        _insert(chatbot)
        changelog.record("chatbot.created", chatbot_id=chatbot.pk, actor=actor)
        for variable in variables:
            _create_variable(chatbot, variable, actor)
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


def add_variable(*, chatbot: Chatbot, variable: NewVariable, actor: str) -> Variable:
    """Declare one more variable. One that is there already, in this category, is returned as it is.

    Raises ValidationError, also where the name stands for a variable of another category.
    """
    _check_variables([variable], uci=None)
    with transaction.atomic():
        Chatbot.objects.select_for_update(no_key=True).get(pk=chatbot.pk)
        known = Variable.objects.filter(chatbot=chatbot, name=variable.name).first()
        if known is None:
            return _create_variable(chatbot, variable, actor)
    if known.category != variable.category:
        message = f"{variable.name!r} is a {known.category} variable already. Choose another name."
        raise ValidationError({"variables": message})
    return known


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


def set_role(*, chatbot: Chatbot, user: User, role: Membership.Role | None, actor: str) -> None:
    """Give a staff user a role in a chatbot, in place of the one they have; None takes it away."""
    with transaction.atomic():
        if role is None:
            Membership.objects.filter(chatbot=chatbot, user=user).delete()
            changelog.record("membership.removed", chatbot_id=chatbot.pk, actor=actor, data={"user": user.pk})
        else:
            Membership.objects.update_or_create(chatbot=chatbot, user=user, defaults={"role": role})
            changelog.record(
                "membership.set",
                chatbot_id=chatbot.pk,
                actor=actor,
                data={"user": user.pk, "role": role.value},
            )


def designate_uci(*, chatbot: Chatbot, name: str, actor: str) -> Variable:
    """Make a variable of the chatbot its Unique Chatter Identifier, for conversations that begin from now on.

    Those of before stay findable under the UCI of their time. Designating the present UCI changes nothing.
    Raises ValidationError.
    """
    with transaction.atomic():
        # One designation at a time. Without the key, so that intake can go on pointing rows at the chatbot.
        Chatbot.objects.select_for_update(no_key=True).get(pk=chatbot.pk)
        variable = Variable.objects.filter(chatbot=chatbot, name=name).first()
        if variable is None:
            raise ValidationError({"uci": "This chatbot has no such variable. Declare it first."})
        if variable.category == Category.SYSTEM:
            raise ValidationError(
                {"uci": "A system variable cannot be the UCI. Choose a custom or user-channel one."}
            )
        if not variable.is_uci:
            Variable.objects.filter(chatbot=chatbot, is_uci=True).update(is_uci=False, was_uci=True)
            variable.is_uci = True
            variable.save(update_fields=["is_uci"])
            changelog.record("variable.designated_uci", chatbot_id=chatbot.pk, actor=actor, data={"variable": name})
    return variable


def create_api_key(
    *,
    chatbot: Chatbot,
    type: ApiKey.Type,  # noqa: A002  the field's name
    label: str,
    actor: str,
    scopes: Sequence[str] = (),
    expires_at: datetime | None = None,
    rate_limit: int | None = None,
    taken_over_secret: str | None = None,
) -> NewApiKey:
    """Create a key and return it with its secret, which cannot be shown again.

    A signing key has both of SIGNING_SCOPES unless told otherwise; a token needs at least one scope. `rate_limit`
    is in calls a minute; None is the limit of the settings, as that is when a call comes.
    `taken_over_secret` is for clients that sign already: it becomes the signing key's secret. Raises
    ValidationError.
    """
    api_key = ApiKey(
        chatbot=chatbot,
        type=type,
        label=label,
        prefix=secrets.token_hex(6),
        scopes=_checked_scopes(type, scopes),
        expires_at=expires_at,
        rate_limit=rate_limit,
    )
    secret = _give_secret(api_key, taken_over_secret)
    api_key.clean_fields(exclude=["chatbot"])
    api_key.validate_constraints(exclude=["chatbot", "prefix"])
    with transaction.atomic():
        api_key.save(force_insert=True)
        changelog.record(
            "apikey.created",
            chatbot_id=chatbot.pk,
            actor=actor,
            data={"prefix": api_key.prefix, "type": str(api_key.type)},
        )
    return NewApiKey(api_key, None if taken_over_secret else secret)


def revoke_api_key(*, prefix: str, actor: str) -> ApiKey:
    """End a key, for good: the next call with it is refused. Raises ValidationError (no such key, ended before)."""
    with transaction.atomic():
        api_key = ApiKey.objects.select_for_update().filter(prefix=prefix).first()
        if api_key is None:
            raise ValidationError({"prefix": "There is no key with this prefix."})
        if api_key.revoked_at is not None:
            raise ValidationError({"prefix": "This key was revoked before."})
        api_key.revoked_at = now()
        api_key.save(update_fields=["revoked_at"])
        changelog.record("apikey.revoked", chatbot_id=api_key.chatbot_id, actor=actor, data={"prefix": prefix})
    return api_key


def _create_variable(chatbot: Chatbot, variable: NewVariable, actor: str) -> Variable:
    created = Variable.objects.create(chatbot=chatbot, name=variable.name, category=variable.category)
    data = {"variable": variable.name, "category": str(variable.category)}
    changelog.record("variable.created", chatbot_id=chatbot.pk, actor=actor, data=data)
    return created


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
        checked = in_one_form(url)
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


def _check_variables(variables: Sequence[NewVariable], *, uci: str | None) -> None:
    errors: dict[str, list[str]] = {"variables": [], "uci": []}
    names = [variable.name for variable in variables]
    for variable in variables:
        errors["variables"] += _errors_of(variable)
        if names.count(variable.name) > 1:
            errors["variables"].append(f"{variable.name!r} is named more than once. Names are unique in a chatbot.")
    categories = {variable.name: variable.category for variable in variables}
    if uci is not None and uci not in categories:
        errors["uci"].append(f"The UCI {uci!r} is not among the variables. Declare it too: custom:{uci}.")
    elif uci is not None and categories[uci] == Category.SYSTEM:
        errors["uci"].append("A system variable cannot be the UCI. Choose a custom or user-channel one.")
    if any(errors.values()):
        raise ValidationError({field: list(dict.fromkeys(found)) for field, found in errors.items() if found})


def _errors_of(variable: NewVariable) -> list[str]:
    errors = []
    if variable.category not in Category.values:
        errors.append(f"Unknown category {variable.category!r}. Use one of: {', '.join(Category.values)}.")
    advice = ""
    if not _VARIABLE_NAME.fullmatch(variable.name) or not variable.name.isprintable():
        advice = "Use 1 to 128 printable characters, with no space at either end."
    elif variable.category == Category.USER_CHANNEL and not _USER_CHANNEL_NAME.fullmatch(variable.name):
        advice = "Names of user-channel variables have lower-case letters, digits and underscores."
    if advice:
        errors.append(f"Bad name {variable.name!r}. {advice}")
    return errors


def _checked_scopes(key_type: ApiKey.Type, scopes: Sequence[str]) -> list[str]:
    """Return the scopes of a key in the order of Scope, each once."""
    offered = [scope.value for scope in (SIGNING_SCOPES if key_type == ApiKey.Type.SIGNING else Scope)]
    if not scopes and key_type == ApiKey.Type.SIGNING:
        return offered
    if not scopes or not set(scopes) <= set(offered):
        message = f"Give a {key_type.value} key at least one of, and only: {', '.join(offered)}."
        raise ValidationError({"scopes": message})
    return [scope for scope in offered if scope in scopes]


def _give_secret(api_key: ApiKey, taken_over: str | None) -> str:
    """Put a secret into the key, in the form its type keeps, and return it."""
    if api_key.type == ApiKey.Type.TOKEN:
        if taken_over is not None:
            raise ValidationError({"secret": "Only a signing key can take over a secret."})
        token = f"dca_{api_key.prefix}_{secrets.token_hex(32)}"
        api_key.secret_sha256 = token_digest(token)
        return token
    secret = secrets.token_urlsafe(32) if taken_over is None else taken_over
    if not 8 <= len(secret) <= 512 or not secret.isprintable():
        raise ValidationError({"secret": "The secret must have 8 to 512 printable characters."})
    api_key.secret_encrypted = encrypt(secret, bound_to=secret_binding(api_key.prefix))
    return secret
