"""Set and check a chatbot's bucket. A refusal is a ValidationError with messages by field."""

import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils.timezone import now

from chatbots import changelog, locks
from chatbots.buckets import Step, location_of, probe, silence
from chatbots.buckets.locations import StorageLocation, bucket_secret_binding, hosted_storage, require_bucket
from chatbots.models import Bucket, BucketCheck, Chatbot
from common.crypto import SecretUnreadable, encrypt
from common.network_guard import UrlRefused
from common.storage import StorageError
from common.storage.transport import check_endpoint

Hosting = Bucket.Hosting
Sse = Bucket.Sse

# The settings of a bucket. The change log names those that changed; a secret is compared by its ciphertext.
SETTINGS = (
    *("hosting", "bucket", "region", "prefix", "endpoint", "sse", "kms_key_id"),
    *("access_key_id", "secret_encrypted", "role_arn", "external_id"),
)

_EXTRACTS_OUTLIVE = (
    "Hosted daily extracts are kept longer than this chatbot's conversations: each retention run would rebuild them. "
    "Turn daily extracts off first, or choose a retention period of more than HOSTED_FILE_DAYS."
)
_LOCATION_TAKEN = "Another chatbot stores its files there. Give each chatbot a prefix of its own."

_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_IP_ADDRESS = re.compile(r"(?:\d+\.){3}\d+")
_NOT_A_BUCKET = re.compile(r"xn--.*|sthree-.*|.*(?:-s3alias|--ol-s3|\.mrap|--x-s3|--table-s3)")
_AWS_REGION = re.compile(r"[a-z]{2,5}(?:-[a-z]+)+-\d{1,2}")
_OTHER_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
# No character with a meaning in a policy, a URL or a shell.
_PREFIX_SEGMENT = re.compile(r"[A-Za-z0-9._=@+-]+")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}", re.ASCII)
_KMS_KEY = re.compile(r"[A-Za-z0-9:/_.=@+-]{1,2048}")
ACCESS_KEY = re.compile(r"[A-Za-z0-9_.@:+-]{1,128}")
_SECRET = re.compile(r"[!-~]{8,512}")


@dataclass(frozen=True)
class ClientBucket:
    """A client's own bucket, with either an access key or a role that the client lets us assume.

    `endpoint` is empty for AWS. `secret` None keeps the one stored for this access key. `kms_key_id` is for
    Bucket.Sse.KMS only; empty means the store's default key.
    """

    bucket: str
    region: str
    prefix: str = ""
    endpoint: str = ""
    sse: str = Sse.BUCKET_DEFAULT
    kms_key_id: str = ""
    access_key_id: str = ""
    secret: str | None = None
    role_arn: str = ""


# Its settings but the secret.
CLIENT_SETTINGS = tuple(field.name for field in fields(ClientBucket) if field.name != "secret")


@dataclass(frozen=True)
class BucketCheckResult:
    """The steps of a check. `error` is `code: detail`, or empty if all steps succeeded."""

    steps: list[Step]
    error: str

    @property
    def is_ok(self) -> bool:
        return not self.error


def set_bucket(*, chatbot: Chatbot, client: ClientBucket | None, actor: str) -> Bucket:
    """Store a chatbot's files in a client's bucket, or in the operator's (None). Files written before stay.

    Resolves the name of an endpoint, so do not call it in a transaction. The bucket itself is not tried: see
    `check_bucket`. A new role gets an unguessable external id, which stays as long as the role. Raises
    ValidationError.
    """
    checked = None if client is None else check_settings(chatbot=chatbot, client=client)
    try:
        with transaction.atomic():
            locks.lock(chatbot.pk)
            # Locked too: `rotate_secrets` may be about to change the ciphertext, which is stored again below.
            stored = Bucket.objects.select_for_update().filter(chatbot=chatbot).first()
            bucket = Bucket(chatbot=chatbot) if stored is None else stored
            changed = _apply(bucket, checked)
            if client is None and "hosting" in changed:
                _require_lasting_extracts(chatbot)
            if stored is not None and not changed:
                return bucket
            bucket.last_checked_at, bucket.last_error = None, ""
            bucket.save()
            # Both belong to the previous settings.
            silence.forget(chatbot.pk)
            BucketCheck.objects.filter(chatbot=chatbot).delete()
            changelog.record("bucket.set", chatbot_id=chatbot.pk, actor=actor, data=_change_log_data(bucket, changed))
            return bucket
    except IntegrityError:
        pass  # the fields were checked, so another chatbot took the location just now
    raise ValidationError({"prefix": _LOCATION_TAKEN})


def check_settings(*, chatbot: Chatbot, client: ClientBucket) -> ClientBucket:
    """Return the settings in canonical form. Resolves the name of an endpoint. Raises ValidationError."""
    errors: dict[str, str] = {}
    prefix, endpoint = client.prefix.strip("/"), client.endpoint
    if prefix and not all(_is_segment(segment) for segment in prefix.split("/")):
        errors["prefix"] = "Use folders such as exports/acme: letters, digits and -_.=@+, no empty, . or .. folder."
    elif len(prefix) > 199:
        errors["prefix"] = "Use a prefix of at most 200 characters."
    if endpoint:
        try:
            endpoint = check_endpoint(endpoint)
            if endpoint in {"https://s3.amazonaws.com", f"https://s3.{client.region}.amazonaws.com"}:
                # The default. A location must have one name, or two chatbots could share it unnoticed.
                endpoint = ""
        except UrlRefused as refused:
            errors["endpoint"] = str(refused)
    checked = replace(client, prefix=f"{prefix}/" if prefix else "", endpoint=endpoint)
    for field, message in _faults(chatbot, checked):
        errors.setdefault(field, message)
    if errors:
        raise ValidationError(errors)
    return checked


def check_bucket(*, chatbot: Chatbot, on_step: Callable[[Step], object] = lambda _step: None) -> BucketCheckResult:
    """Try each call that the service makes to the chatbot's bucket, and store the result with the bucket.

    Takes some minutes if the storage does not answer, so a web request never calls this. Writes an object with a
    random name below the prefix, and removes it. `on_step` is called after each step. Raises ValidationError if no
    bucket is set.
    """
    bucket = require_bucket(chatbot)
    result = _probe_location(lambda: location_of(bucket), on_step)
    # Stored only if the settings have not changed meanwhile.
    same = {name: getattr(bucket, name) for name in SETTINGS}
    Bucket.objects.filter(pk=bucket.pk, **same).update(last_checked_at=now(), last_error=result.error[:500])
    # The result of an earlier check.
    BucketCheck.objects.filter(chatbot=chatbot, finished_at__isnull=False).delete()
    return result


def check_hosted_bucket() -> BucketCheckResult:
    """Try each call that the service makes to the operator's bucket, as `check_bucket` does. Needs no database."""
    return _probe_location(lambda: StorageLocation(Hosting.HOSTED, settings.S3_BUCKET, "", hosted_storage()))


def _probe_location(
    locate: Callable[[], StorageLocation], on_step: Callable[[Step], object] = lambda _step: None
) -> BucketCheckResult:
    steps: list[Step] = []
    errors: list[StorageError] = []
    try:
        for step in probe(locate()):
            steps.append(step)
            on_step(step)
        errors = [step.error for step in steps if step.error]
    except StorageError as failure:
        errors = [failure]
    except SecretUnreadable:
        errors = [StorageError("internal_error", "The stored secret cannot be decrypted. Set it again.")]
    return BucketCheckResult(steps, f"{errors[0].code}: {errors[0].detail}" if errors else "")


def _require_lasting_extracts(chatbot: Chatbot) -> None:
    """Raise ValidationError if retention runs would rebuild hosted daily extracts over and over."""
    settings_now = Chatbot.objects.get(pk=chatbot.pk)
    days = settings_now.retention_days
    if settings_now.extracts_enabled and days and timedelta(days=days) <= settings.HOSTED_FILE_DAYS:
        raise ValidationError({"hosting": _EXTRACTS_OUTLIVE})


def _apply(bucket: Bucket, client: ClientBucket | None) -> list[str]:
    """Set the fields of the row, unsaved, and return the names of those that changed."""
    before = {name: getattr(bucket, name) for name in SETTINGS}
    if client is None:
        values = dict.fromkeys(SETTINGS, "") | {"hosting": str(Hosting.HOSTED)}
    else:
        values = {name: getattr(client, name) for name in SETTINGS if hasattr(client, name)}
        values["hosting"] = str(Hosting.CLIENT)
        values["secret_encrypted"] = _encrypted_secret(bucket, client)
        values["external_id"] = _external_id(bucket, client)
    for name, value in values.items():
        setattr(bucket, name, value)
    return [name for name in SETTINGS if values[name] != before[name]]


def _encrypted_secret(bucket: Bucket, client: ClientBucket) -> str:
    if not client.access_key_id:
        return ""
    if client.secret is None:
        if bucket.access_key_id != client.access_key_id:  # changed since it was checked
            raise ValidationError({"secret": "Give the secret of this access key too."})
        return bucket.secret_encrypted
    return encrypt(client.secret, bound_to=bucket_secret_binding(bucket.chatbot_id))


def _external_id(bucket: Bucket, client: ClientBucket) -> str:
    if not client.role_arn:
        return ""
    same = bucket.external_id if bucket.role_arn == client.role_arn else ""
    return same or secrets.token_urlsafe(24)


def _change_log_data(bucket: Bucket, changed: list[str]) -> dict[str, str]:
    data = {"hosting": str(bucket.hosting), "changed": ",".join(name.removesuffix("_encrypted") for name in changed)}
    if bucket.hosting == Hosting.CLIENT:
        data["access"] = "role" if bucket.role_arn else "access_key"
        data["sse"] = str(bucket.sse)
    return data


def _is_segment(segment: str) -> bool:
    return segment not in {".", ".."} and bool(_PREFIX_SEGMENT.fullmatch(segment))


def _faults(chatbot: Chatbot, client: ClientBucket) -> Iterator[tuple[str, str]]:
    if not _BUCKET.fullmatch(client.bucket) or _IP_ADDRESS.fullmatch(client.bucket):
        yield "bucket", "Use the bucket's name: 3 to 63 lower-case letters, digits, dots and hyphens."
    elif _NOT_A_BUCKET.fullmatch(client.bucket):
        yield "bucket", "S3 reserves such names. Use the name of a bucket."
    elif _is_hosted(client):
        yield (
            "bucket",
            "This is the operator's own bucket. Choose the hosted bucket; it has a folder for each chatbot.",
        )
    if not (_OTHER_REGION if client.endpoint else _AWS_REGION).fullmatch(client.region):
        yield "region", "Use the bucket's region, such as eu-west-3."
    if client.sse not in Sse.values:
        yield "sse", "Use AES256, aws:kms, or nothing for the bucket's default."
    if client.kms_key_id and client.sse != Sse.KMS:
        yield "kms_key_id", "A KMS key needs aws:kms. Leave it out, or choose aws:kms."
    elif client.kms_key_id and not _KMS_KEY.fullmatch(client.kms_key_id):
        yield "kms_key_id", "Use the id, alias or ARN of a KMS key."
    same_location = Bucket.objects.filter(bucket=client.bucket, endpoint=client.endpoint, prefix=client.prefix)
    if client.bucket and same_location.exclude(chatbot=chatbot).exists():
        yield "prefix", _LOCATION_TAKEN
    yield from _access_faults(chatbot, client)


def _is_hosted(client: ClientBucket) -> bool:
    """Return whether this is the hosted bucket, in which reconciliation would treat a client's files as orphans."""
    ours = {settings.S3_ENDPOINT_URL, settings.S3_PUBLIC_ENDPOINT_URL}
    theirs = urlsplit(client.endpoint or "https://s3.amazonaws.com").netloc
    hosts = {urlsplit(url or "https://s3.amazonaws.com").netloc.lower() for url in ours}
    is_aws = theirs.endswith(".amazonaws.com") and any(host.endswith(".amazonaws.com") for host in hosts)
    return client.bucket == settings.S3_BUCKET and (is_aws or theirs in hosts)


def _access_faults(chatbot: Chatbot, client: ClientBucket) -> Iterator[tuple[str, str]]:
    if bool(client.access_key_id) == bool(client.role_arn):
        yield "access_key_id", "Give either an access key or the ARN of a role."
    elif client.role_arn:
        if not _ROLE.fullmatch(client.role_arn):
            yield "role_arn", "Use the ARN of a role, such as arn:aws:iam::123456789012:role/exports."
        if client.secret is not None:
            yield "secret", "A role needs no secret. Leave it out."
    elif not ACCESS_KEY.fullmatch(client.access_key_id):
        yield "access_key_id", "Use the id of an access key: letters, digits and ._@:+-, no spaces."
    elif client.secret is None:
        if not Bucket.objects.filter(chatbot=chatbot, access_key_id=client.access_key_id).exists():
            yield "secret", "Give the secret of this access key too."
    elif not _SECRET.fullmatch(client.secret):
        yield "secret", "Use the secret of the access key: 8 to 512 characters without spaces."
