"""Chatbots, their settings and variables (one is the Unique Chatter Identifier), and the roles of staff in them."""

import difflib
import re
import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from chatbots import changelog, locks
from chatbots.buckets.locations import is_folder_shared
from chatbots.callback_urls import checked_url
from chatbots.models import GDPR, Bucket, Chatbot, Membership, Variable
from chatbots.operations import resolvers

Category = Variable.Category

# The changeable settings. Not the slug, which is part of paths and of the keys of stored objects.
SETTINGS = (
    "name",
    "timezone",
    "compliance_enabled",
    "extracts_enabled",
    "max_conversations_per_deletion",
    "four_eyes",
    "require_action",
    "token_names_conversation",
    "grace_minutes",
    "export_assurance",
    "csv_dialect",
    "export_formats",
    "deadline",
    "callback_url",
)
# The change log does not have their values.
_NOT_LOGGED = ("name", "callback_url")

_EXTRACTS_NEED_A_BUCKET = (
    "Extracts need a bucket to go to. Set one first: in the console, with set_bucket, or with --hosted-bucket."
)
_EXTRACTS_NEED_A_LONGER_PERIOD = (
    "Hosted extracts are kept longer than this chatbot's conversations, so each retention run would rebuild them. "
    "Choose a retention period of more than HOSTED_FILE_DAYS first, or ask an operator to lower that."
)
_VARIABLE_NAME = re.compile(r"\S(.{0,126}\S)?")
_USER_CHANNEL_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True)
class NewVariable:
    """A variable to create, with a category of Variable.Category."""

    category: str
    name: str


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
    export_assurance: str = Chatbot.ExportAssurance.ANY,
    csv_dialect: str = Chatbot.CsvDialect.STANDARD,
    export_formats: str = Chatbot.ExportFormat.CSV,
    deadline: str = GDPR,
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
        export_assurance=export_assurance,
        csv_dialect=csv_dialect,
        export_formats=export_formats,
        deadline=deadline,
        callback_url=callback_url and checked_url(callback_url, field="callback_url"),
    )
    chatbot.clean_fields()
    chatbot.validate_constraints()
    if is_folder_shared(slug):
        raise ValidationError(
            {"slug": "Another folder of the bucket differs from this slug in case only. Choose another."}
        )
    _check_timezone(timezone)
    _check_variables(variables, uci=uci)
    if enable_extracts and not hosted_bucket:
        raise ValidationError({"extracts_enabled": _EXTRACTS_NEED_A_BUCKET})
    with transaction.atomic():
        _insert(chatbot, {"slug": f"There is a chatbot {chatbot.slug!r} already. Choose another slug."})
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
    """Change settings (by their names in SETTINGS), add variables, and designate the UCI, all or nothing.

    Each changed setting is a change-log entry. Resolves the host of a callback URL, so do not call it in a
    transaction. Raises ValidationError.
    """
    changes = dict(changes or {})
    if unknown := changes.keys() - set(SETTINGS):
        raise ValidationError(dict.fromkeys(sorted(unknown), "This cannot be changed."))
    _check_extracts(chatbot, changes)
    if changes.get("callback_url"):
        changes["callback_url"] = checked_url(str(changes["callback_url"]), field="callback_url")
    with transaction.atomic():
        current = locks.locked(chatbot.pk)
        _check_extracts(current, changes)
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


def add_variable(*, chatbot: Chatbot, variable: NewVariable, actor: str) -> Variable:
    """Declare a variable, or return the existing one of this name and category. Raises ValidationError."""
    _check_variables([variable], uci=None)
    with transaction.atomic():
        locks.lock(chatbot.pk)
        known = Variable.objects.filter(chatbot=chatbot, name=variable.name).first()
        if known is None:
            return _create_variable(chatbot, variable, actor)
    if known.category != variable.category:
        message = f"{variable.name!r} is a {known.category} variable already. Choose another name."
        raise ValidationError({"variables": message})
    return known


def designate_uci(*, chatbot: Chatbot, name: str, actor: str) -> Variable:
    """Make a variable the chatbot's Unique Chatter Identifier, for conversations that begin from now on.

    Earlier ones stay findable under the UCI of their time. Raises ValidationError.
    """
    with transaction.atomic():
        # One designation at a time. Intake does not wait for this lock, and can insert rows of the chatbot meanwhile.
        locks.lock(chatbot.pk)
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
            resolvers.stop(chatbot=chatbot, uci=variable, actor=actor)
    return variable


def set_role(*, chatbot: Chatbot, user: User, role: Membership.Role | None, actor: str) -> None:
    """Set the role of a staff user in a chatbot; None removes it. An unchanged role makes no change-log entry.

    Raises ValidationError for a user who cannot log in to the console.
    """
    if role is not None and not (user.is_staff and user.is_active):
        raise ValidationError({"user": "Only active staff can have a role. Make this user staff first."})
    with transaction.atomic():
        known = Membership.objects.select_for_update().filter(chatbot=chatbot, user=user).first()
        if role is None:
            if known is not None:
                known.delete()
                changelog.record("membership.removed", chatbot_id=chatbot.pk, actor=actor, data={"user": user.pk})
        elif known is None or known.role != role:
            Membership.objects.update_or_create(chatbot=chatbot, user=user, defaults={"role": role})
            data: changelog.Data = {"user": user.pk, "role": role.value}
            changelog.record("membership.set", chatbot_id=chatbot.pk, actor=actor, data=data)


def add_user(*, user: User, role: Membership.Role | None, chatbots: Iterable[Chatbot], actor: str) -> None:
    """Save a new staff user, without a password: as a superuser, or with a role in chatbots.

    The user's fields were checked. Raises ValidationError if the name was taken since.
    """
    user.is_staff, user.is_superuser = True, role is None
    user.set_unusable_password()
    with transaction.atomic():
        _insert(user, {"username": user.unique_error_message(User, ("username",))})
        for chatbot in chatbots:
            set_role(chatbot=chatbot, user=user, role=role, actor=actor)


def set_mails(*, user: User, wanted: Mapping[int, bool], actor: str) -> None:
    """Set the chatbots about which an officer gets mails, by chatbot id. Chatbots with another role are skipped.

    Unchanged choices make no change-log entry.
    """
    with transaction.atomic():
        own = Membership.objects.select_for_update().filter(user=user, role=Membership.Role.OFFICER)
        for membership in own.filter(chatbot__in=wanted).order_by("pk"):
            if membership.mails != wanted[membership.chatbot_id]:
                membership.mails = wanted[membership.chatbot_id]
                membership.save(update_fields=["mails"])
                data = {"user": user.pk, "wanted": membership.mails}
                changelog.record("membership.mails_set", chatbot_id=membership.chatbot_id, actor=actor, data=data)


def _insert(row: Chatbot | User, taken: Mapping[str, str | ValidationError]) -> None:
    """Insert a row whose fields were checked. Raises ValidationError with `taken` if its name is taken."""
    with suppress(IntegrityError), transaction.atomic():
        row.save(force_insert=True)
        return
    raise ValidationError(dict(taken))


def extracts_outlive(chatbot: Chatbot, days: int) -> bool:
    """Return whether daily extracts of this chatbot are kept as long as conversations with this retention period.

    Retention runs would rebuild them over and over. Extracts in a client's bucket are not changed.
    """
    is_hosted = Bucket.objects.filter(chatbot=chatbot, hosting=Bucket.Hosting.HOSTED).exists()
    return is_hosted and timedelta(days=days) <= settings.HOSTED_FILE_DAYS


def _check_extracts(chatbot: Chatbot, changes: Mapping[str, str | int | bool]) -> None:
    if not changes.get("extracts_enabled"):
        return
    if not Bucket.objects.filter(chatbot=chatbot).exists():
        raise ValidationError({"extracts_enabled": _EXTRACTS_NEED_A_BUCKET})
    if chatbot.retention_days and extracts_outlive(chatbot, chatbot.retention_days):
        raise ValidationError({"extracts_enabled": _EXTRACTS_NEED_A_LONGER_PERIOD})


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


def _create_variable(chatbot: Chatbot, variable: NewVariable, actor: str) -> Variable:
    created = Variable.objects.create(chatbot=chatbot, name=variable.name, category=variable.category)
    data = {"variable": variable.name, "category": str(variable.category)}
    changelog.record("variable.created", chatbot_id=chatbot.pk, actor=actor, data=data)
    return created


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
