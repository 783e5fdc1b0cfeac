"""System checks: conditions for starting the service, and advice if they fail.

A check imports what it alone needs itself (PLC0415): this module is loaded with every process.
"""

import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Info, Tags, register
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Min

from chatbots import digest_key
from chatbots.models import Bucket, Chatbot
from common import former_schema
from common.commands import INSTALLATION
from common.texts import counted
from conversations.placement import distribution

_YEAR_SECONDS = 31_536_000


@register(Tags.models)
def every_model_is_declared(**_: object) -> list[CheckMessage]:
    from compliance import inventory
    from compliance.retention import expiry

    return [Error(instruction, id="compliance.E001") for instruction in (*inventory.undeclared(), *expiry.unended())]


@register(Tags.security, deploy=True)
def no_embedded_servers(**_: object) -> Iterator[CheckMessage]:
    if settings.EMBEDDED_POSTGRES:
        hint = "Set DATABASE_URL to a server of your own."
        yield Error("PostgreSQL runs embedded.", hint=hint, id="compliance.E002")
    if settings.EMBEDDED_S3:
        yield Error("The S3 server runs embedded.", hint="Set the S3_* variables.", id="compliance.E003")


def hosted_bucket_can_be_used(**_: object) -> Iterator[CheckMessage]:
    from chatbots.operations.buckets import check_hosted_bucket

    result = check_hosted_bucket()
    if not result.is_ok:
        yield Error(
            f"The hosted bucket cannot be used. {result.error}",
            # A wrong name is often reported as a missing right.
            hint=f"S3_BUCKET is {settings.S3_BUCKET}, at {settings.S3_ENDPOINT_URL or 'AWS'} in "
            f"{settings.S3_REGION}. If so, create it, or grant what is missing. After migrate, check_bucket --hosted "
            "lists each call.",
            id="compliance.E013",
        )


# Without its tag every `check` would run it. Django does not pass the requested tags to a check.
if sys.argv[1:2] == ["check"] and {"storage", "--tag=storage"} & {*sys.argv}:
    register(hosted_bucket_can_be_used, "storage")


@register(Tags.security, deploy=True)
def iam_identity_is_apart(**_: object) -> Iterator[CheckMessage]:
    """Check the identity that manages IAM users, and that only processes that use it have it."""
    key_id, secret = settings.IAM_ACCESS_KEY_ID, settings.IAM_SECRET_ACCESS_KEY
    if bool(key_id) != bool(secret):
        hint = "Set both IAM_ACCESS_KEY_ID and IAM_SECRET_ACCESS_KEY, or neither."
        yield Error("The identity for IAM is incomplete.", hint=hint, id="compliance.E005")
    if key_id and key_id == settings.S3_ACCESS_KEY_ID:
        yield Error(
            "The identity for IAM is that of the bucket: the key that every process has could create users.",
            hint="Create another user that may only manage users below /dca/ "
            "(docs/operators/hosted-bucket-credentials.md).",
            id="compliance.E006",
        )
    if key_id and not settings.IAM_CONSOLE:
        yield checks.Warning(
            "This environment has the identity for IAM, which the web server and the workers do not use.",
            hint="Set IAM_* only for the commands that issue and revoke credentials, or IAM_CONSOLE=true for the web "
            "server.",
            id="compliance.W003",
        )
    if settings.IAM_CONSOLE and not key_id:
        hint = "Set IAM_ACCESS_KEY_ID and IAM_SECRET_ACCESS_KEY, or remove IAM_CONSOLE."
        fault = "The console is to issue credentials, but has no identity for IAM."
        yield checks.Warning(fault, hint=hint, id="compliance.W005")
    if key_id and not settings.IAM_ENDPOINT_URL and not settings.IAM_BOUNDARY_ARN:
        hint = "Set IAM_BOUNDARY_ARN to a permissions boundary (docs/operators/hosted-bucket-credentials.md)."
        fault = "Nothing limits the rights of the IAM users that this service creates."
        yield checks.Warning(fault, hint=hint, id="compliance.W004")


@register(INSTALLATION)
def check_canary(**_: object) -> list[CheckMessage]:
    """Check that an active canary has an address, and absolute patterns of log files."""
    problems: list[CheckMessage] = []
    if settings.CANARY_EVERY is not None and not settings.CANARY_URL:
        hint = "Set CANARY_URL to the address at which clients reach it, or remove CANARY_MINUTES."
        problems.append(Error("The canary does not know where the service is.", hint=hint, id="compliance.E011"))
    if not all(pattern.startswith("/") for pattern in settings.CANARY_LOG_FILES):
        hint = "Begin each with /, such as /var/log/data-compliance/*.log*"
        problems.append(Error("CANARY_LOG_FILES has a relative pattern.", hint=hint, id="compliance.E012"))
    return problems


@register(INSTALLATION)
def letters_can_be_written(**_: object) -> list[CheckMessage]:
    """Check an operator's templates of letters. Those of ours are tested."""
    folder = Path(settings.LETTER_TEMPLATES)
    if not settings.LETTER_TEMPLATES:
        return []
    if not (folder.is_absolute() and folder.is_dir()):
        hint = "Set it to the absolute path of a folder that this process can read, or remove it."
        return [Error("LETTER_TEMPLATES is no folder.", hint=hint, id="compliance.E015")]
    hint = f"Correct or remove the file in {folder} (docs/operators/letters.md)."
    from compliance import letters

    return [
        Error(f"A letter cannot be written: {fault}", hint=hint, id="compliance.E016") for fault in letters.faults()
    ]


@register(Tags.security, deploy=True)
def hsts_can_be_raised(**_: object) -> Iterator[CheckMessage]:
    """Report it as information, which fails no deployment. Django's `security.W004` warns if it is off."""
    if 0 < settings.SECURE_HSTS_SECONDS < _YEAR_SECONDS:
        yield Info(
            f"Browsers insist on HTTPS for {settings.SECURE_HSTS_SECONDS:,} seconds after each answer.",
            hint=f"Once HTTPS works for all, raise SECURE_HSTS_SECONDS, to {_YEAR_SECONDS} in the end. See also "
            "SECURE_HSTS_INCLUDE_SUBDOMAINS and SECURE_HSTS_PRELOAD.",
            id="compliance.I001",
        )


@register(Tags.security, deploy=True)
def ledger_outlives_backups(**_: object) -> Iterator[CheckMessage]:
    if settings.BACKUP_HORIZON_DAYS > settings.ERASURE_LEDGER_DAYS:
        yield Error(
            f"BACKUP_HORIZON_DAYS is {settings.BACKUP_HORIZON_DAYS.days}, ERASURE_LEDGER_DAYS "
            f"{settings.ERASURE_LEDGER_DAYS.days}: after the restore of an older backup, nothing would say who was "
            "erased since.",
            hint="Set ERASURE_LEDGER_DAYS at least as high, or keep backups for a shorter time.",
            id="compliance.E009",
        )


@register(Tags.security, deploy=True)
def second_factor_is_required(**_: object) -> Iterator[CheckMessage]:
    if not settings.SECOND_FACTOR_REQUIRED:
        yield checks.Warning(
            "The console can be used without a second factor: a stolen password is enough to read conversations.",
            hint="Remove SECOND_FACTOR_REQUIRED=false, or set it to true. Staff without a second factor must set one "
            "up after their next log-in.",
            id="compliance.W001",
        )


# Not a database check: those are skipped by all commands but `migrate`.
@register(INSTALLATION)
def digest_key_matches(**_: object) -> list[CheckMessage]:
    try:
        digest_key.check()
    except digest_key.DigestKeyMismatch:
        return [Error(digest_key.FAULT, hint=digest_key.HOW_TO_MEND, id="compliance.E004")]
    return []


@register(INSTALLATION)  # as above
def tables_are_of_this_version(**_: object) -> list[CheckMessage]:
    try:
        former_schema.check()
    except former_schema.FormerSchema:
        return [Error(former_schema.FAULT, hint=former_schema.HOW_TO_MEND, id="compliance.E014")]
    return []


# Not a database check either. It passes if `migrate` has something to do: that comes first.
@register(INSTALLATION)
def conversations_are_distributed(*, databases: Sequence[str] | None = None, **_: object) -> list[CheckMessage]:
    """Check that a database of Citus is distributed as a whole."""
    try:
        distribution.check()
    except distribution.NotDistributed:
        if databases and distribution.has_migrations_to_apply():
            return []
        return [Error(distribution.FAULT, hint=distribution.HOW_TO_MEND, id="compliance.E010")]
    return []


@register(Tags.database, deploy=True)
def retention_outlives_hosted_files(*, databases: Sequence[str] | None = None, **_: object) -> list[CheckMessage]:
    """Check, for `check --deploy --database default`, that no daily extract outlives its conversations."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    hosted = Chatbot.objects.filter(extracts_enabled=True, bucket__hosting=Bucket.Hosting.HOSTED)
    shortest = hosted.aggregate(days=Min("retention_days"))["days"]
    if shortest is None or timedelta(days=shortest) > settings.HOSTED_FILE_DAYS:
        return []
    return [
        Error(
            f"HOSTED_FILE_DAYS is {settings.HOSTED_FILE_DAYS.days}, the shortest retention period of a chatbot with "
            f"hosted extracts {counted(shortest, 'day')}.",
            hint="Retention runs would have to rebuild daily extracts. Set HOSTED_FILE_DAYS below the period.",
            id="compliance.E007",
        )
    ]


@register(Tags.database, deploy=True)
def secrets_can_be_read(*, databases: Sequence[str] | None = None, **_: object) -> list[CheckMessage]:
    """Check the keys of stored secrets by their ids, for `check --deploy --database default`."""
    from compliance import rotation

    in_use = rotation.keys_in_use() if DEFAULT_DB_ALIAS in (databases or ()) else {}
    newest, *older = settings.ENCRYPTION_KEYS
    problems: list[CheckMessage] = []
    for key_id, count in in_use.items():
        secrets = f"{counted(count, 'stored secret')} under the key {key_id}, which"
        if key_id not in {newest, *older}:
            hint = "Put the key back, at the end. Remove a key when rotate_secrets says that none is left under it."
            problems.append(
                Error(f"{secrets} ENCRYPTION_KEYS lacks, cannot be used.", hint=hint, id="compliance.E008")
            )
        elif key_id != newest:
            hint = "Run manage.py rotate_secrets, once every process has the newest key as its first."
            problems.append(checks.Warning(f"{secrets} is not the newest.", hint=hint, id="compliance.W006"))
    return problems


@register(Tags.database, deploy=True)
def role_has_few_rights(*, databases: Sequence[str] | None = None, **_: object) -> list[CheckMessage]:
    """Check the role of DATABASE_URL, for `check --deploy --database default`."""
    from compliance import database_rights

    excess = database_rights.excess() if DEFAULT_DB_ALIAS in (databases or ()) else []
    hint = (
        "Give web server and workers their own roles (docs/operators/database-roles.md). Only migrate and a few "
        "commands need the role that owns the tables."
    )
    fault = f"The database role of this process {', '.join(excess)}."
    return [checks.Warning(fault, hint=hint, id="compliance.W002")] if excess else []
