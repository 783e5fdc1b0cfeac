"""Issue, record and revoke a client's credentials for its folder of the hosted bucket.

The row is written first, then IAM is called, then the row is marked. So every IAM user has a row, whichever process
is killed: an interrupted row stays listed, and revoking it removes the user.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from chatbots import changelog, locks
from chatbots.bucket_models import MOST_ACTIVE, USER_PREFIX
from chatbots.buckets.locations import access_policy, is_folder_shared, require_bucket
from chatbots.buckets.trial import try_credentials
from chatbots.models import Bucket, BucketCredential, Chatbot
from chatbots.operations.buckets import ACCESS_KEY
from common import outbound
from common.storage import StorageError
from common.storage.iam import IamUsers

Origin = BucketCredential.Origin

# The time limits of the calls to IAM that create a user, or that remove one. The trial in between has its own.
IAM_SECONDS = 15.0
# Longer than all of them, so that credentials are not removed while they are being issued.
_INTERRUPTED_AFTER = timedelta(minutes=2)
_MOST_REPORTED = 20

_INTERRUPTED = Q(revoked_at__isnull=True) & (
    Q(active_at__isnull=True, created_at__lt=Now() - _INTERRUPTED_AFTER)
    | Q(revoking_at__lt=Now() - _INTERRUPTED_AFTER)
)

_BY_HAND = (
    "Create a user in the storage by hand, with the policy that bucket_policy prints and an access key, and record "
    "the key: manage.py issue_bucket_credentials {slug} --made-by-hand KEY_ID, or in the chatbot's settings."
)
_ODD_KEY = (
    "IAM made an access key whose id is not 1 to 128 characters long, or has others than letters, digits and ._@:+- "
    "in it."
)


class NoIam(ValidationError):
    """Credentials cannot be issued here. A user has to be created by hand, with the policy of `access_policy`."""

    def __init__(self, reason: str, *, chatbot: Chatbot) -> None:
        super().__init__(f"{reason} {_BY_HAND.format(slug=chatbot.slug)}")


@dataclass(frozen=True)
class NewCredential:
    """New credentials. The secret can be shown only now: it is stored nowhere."""

    credential: BucketCredential
    secret: str = field(repr=False)


def can_issue() -> bool:
    """Return whether this process has an identity that manages IAM users."""
    return bool(settings.IAM_ACCESS_KEY_ID)


def issue_bucket_credential(*, chatbot: Chatbot, label: str, actor: str) -> NewCredential:
    """Create an IAM user that reads the chatbot's folder of the hosted bucket, try its key, and return both.

    Takes a minute at most, so do not call it in a transaction. A key that grants anything else is removed again.
    Raises ValidationError, and NoIam without IAM.
    """
    _require_hosted(chatbot)
    policy = access_policy(chatbot=chatbot)
    if not can_issue():
        raise NoIam("IAM_ACCESS_KEY_ID is not set here, so credentials cannot be issued.", chatbot=chatbot)
    credential = _insert(BucketCredential(chatbot=chatbot, origin=Origin.ISSUED, label=label, created_by=actor))
    users, name, is_created = IamUsers(), credential.user_name, False
    try:
        with outbound.within(IAM_SECONDS):
            users.create(name)
            is_created = True
            users.grant(name, policy)
            key = users.create_key(name)
        if not ACCESS_KEY.fullmatch(key.id):
            raise StorageError("credential_key_invalid", _ODD_KEY)
        # Before the trial, since it identifies the credentials if that is interrupted.
        credential.access_key_id = key.id
        _update(credential, access_key_id=key.id)
        try_credentials(chatbot=chatbot, access_key_id=key.id, secret=key.secret)
        _activate(credential, actor=actor)
        return NewCredential(credential, key.secret)
    except StorageError as error:
        failure = error
    noted = BucketCredential.objects.filter(pk=credential.pk)
    noted.update(revoking_at=Now(), failure=f"{failure.code}: {failure.detail}"[:500])
    # Also if IAM did not answer, the user may exist.
    has_user, event = is_created or failure.retryable, "bucket_credential.not_issued"
    unremoved = _end(credential, event, has_user=has_user, actor=actor, code=failure.code)
    left = f"Its IAM user {name} could not be removed: {unremoved.detail} Revoke it later." if unremoved else ""
    if failure.code == "iam_missing":
        raise NoIam(failure.detail, chatbot=chatbot)
    raise ValidationError(f"No credentials were issued. {failure.detail} {left}".strip())


def record_bucket_credential(*, chatbot: Chatbot, access_key_id: str, label: str, actor: str) -> BucketCredential:
    """Record credentials that were created in the storage by hand. They are not tried. Raises ValidationError."""
    _require_hosted(chatbot)
    credential = BucketCredential(
        chatbot=chatbot, origin=Origin.BY_HAND, label=label, access_key_id=access_key_id.strip(), created_by=actor
    )
    if not credential.access_key_id:
        raise ValidationError({"access_key_id": "Give the id of the access key."})
    with transaction.atomic():
        _insert(credential)
        _activate(credential, actor=actor)
    return credential


def revoke_bucket_credential(
    *, chatbot: Chatbot, name: str, actor: str, removed_by_hand: bool = False
) -> BucketCredential:
    """Remove the IAM user of credentials with all its keys, and mark them as revoked.

    `name` is the id of the access key or of the row, or the name of the IAM user. `removed_by_hand` only marks them:
    the caller has removed the user. It is needed for credentials that were created by hand. Can be repeated after a
    failure. Do not call it in a transaction. Raises ValidationError.
    """
    credential = _begin_revoking(chatbot, name, removed_by_hand=removed_by_hand)
    event, origin = "bucket_credential.revoked", str(credential.origin)
    if failure := _end(credential, event, has_user=not removed_by_hand, actor=actor, origin=origin):
        raise ValidationError(f"The credentials are not revoked yet. {failure.detail} Then revoke them again.")
    credential.refresh_from_db()
    return credential


def list_bucket_credentials() -> list[BucketCredential]:
    """Return the credentials of all chatbots that are not revoked, with their chatbots."""
    present = BucketCredential.objects.filter(revoked_at__isnull=True).select_related("chatbot")
    return list(present.order_by("chatbot__slug", "created_at", "pk"))


def compare_with_iam() -> tuple[list[str], list[str]]:
    """Return the names of IAM users without credentials here, and of those that are gone. Raises ValidationError."""
    try:
        users = {name for name in IamUsers().names() if name.startswith(USER_PREFIX)}
    except StorageError as error:
        raise ValidationError(error.detail) from None
    issued = {one.user_name for one in list_bucket_credentials() if one.origin == Origin.ISSUED}
    return sorted(users - issued), sorted(issued - users)


def interrupted_chatbots(chatbots: Collection[int] | None = None) -> list[str]:
    """Return the slugs of chatbots, of all or of these, with credentials whose issuing or revoking did not end."""
    rows = BucketCredential.objects.filter(_INTERRUPTED)
    if chatbots is not None:
        rows = rows.filter(chatbot__in=chatbots)
    return list(rows.order_by("chatbot__slug").values_list("chatbot__slug", flat=True).distinct()[:_MOST_REPORTED])


def _require_hosted(chatbot: Chatbot) -> None:
    if require_bucket(chatbot).hosting != Bucket.Hosting.HOSTED:
        raise ValidationError("The files go to the client's own bucket, so the client has access already.")
    if is_folder_shared(chatbot.slug):
        # The trial cannot find this: its objects are in none of these folders.
        raise ValidationError(
            "Another folder of the bucket has the same name in upper or lower case. Some storages take both for one, "
            "so credentials for this folder could read the other. Create a chatbot with another slug."
        )


def _insert(credential: BucketCredential) -> BucketCredential:
    """Store a new row in a free place. Raises ValidationError."""
    credential.pk = uuid7()
    try:
        with transaction.atomic():
            locks.lock(credential.chatbot_id)
            present = BucketCredential.objects.filter(chatbot=credential.chatbot_id, revoked_at__isnull=True)
            free = set(range(1, MOST_ACTIVE + 1)) - set(present.values_list("place", flat=True))
            if not free:
                raise ValidationError(f"There are {MOST_ACTIVE} already. Revoke one of them first.")
            credential.place = min(free)
            credential.clean_fields(exclude=["chatbot"])
            credential.save(force_insert=True)
            return credential
    except IntegrityError:
        pass  # the place was free and the fields are checked, so the key is known
    raise ValidationError({"access_key_id": "This access key is recorded already."})


def _begin_revoking(chatbot: Chatbot, name: str, *, removed_by_hand: bool) -> BucketCredential:
    """Mark credentials as being revoked, and return them. Raises ValidationError."""
    is_named, identifier = Q(access_key_id=name), _id_of(name)
    if identifier is not None:
        is_named |= Q(pk=identifier)
    with transaction.atomic():
        named = BucketCredential.objects.select_for_update().filter(is_named, chatbot=chatbot)
        credential = named.order_by(F("revoked_at").desc(nulls_first=True)).first() if name else None
        if credential is None:
            raise ValidationError({"name": "This chatbot has no such credentials."})
        if credential.revoked_at is not None:
            raise ValidationError({"name": "They are revoked already."})
        if credential.state == "issuing" and not named.filter(_INTERRUPTED, pk=credential.pk).exists():
            raise ValidationError({"name": "They are being issued now. Try again in two minutes."})
        if not removed_by_hand and credential.origin == Origin.BY_HAND:
            raise ValidationError(
                "This key was created by hand. Remove it in the storage, then confirm that it is removed."
            )
        if not removed_by_hand and not can_issue():
            raise ValidationError(
                "IAM_ACCESS_KEY_ID is not set here. Revoke them where it is, or remove the user "
                f"{credential.user_name} in the storage by hand, then confirm that it is removed."
            )
        if credential.revoking_at is None:
            BucketCredential.objects.filter(pk=credential.pk).update(revoking_at=Now())
    return credential


def _id_of(name: str) -> UUID | None:
    """Return the id of credentials from a text that is the id, or the name of their IAM user."""
    try:
        return UUID(hex=name.removeprefix(USER_PREFIX))
    except ValueError:
        return None


def _activate(credential: BucketCredential, *, actor: str) -> None:
    with transaction.atomic():
        _update(credential, active_at=Now())
        _log("bucket_credential.issued", credential, actor=actor, origin=str(credential.origin))
    credential.refresh_from_db()


def _update(credential: BucketCredential, **values: Any) -> None:
    """Raises StorageError if the credentials were revoked meanwhile."""
    still = BucketCredential.objects.filter(pk=credential.pk, revoking_at__isnull=True, revoked_at__isnull=True)
    if not still.update(**values):
        raise StorageError("credential_revoked", "They were revoked meanwhile.")


def _end(credential: BucketCredential, event: str, *, has_user: bool, actor: str, **data: str) -> StorageError | None:
    """Remove the IAM user and its keys, and mark the credentials as ended, unless they are marked already.

    Return the failure, if any: then they stay as they are.
    """
    if has_user:
        try:
            with outbound.within(IAM_SECONDS):
                IamUsers().remove(credential.user_name)
        except StorageError as error:
            return error
    with transaction.atomic():
        still = BucketCredential.objects.filter(pk=credential.pk, revoked_at__isnull=True)
        if still.update(revoked_at=Now()):
            _log(event, credential, actor=actor, **data)
    return None


def _log(event: str, credential: BucketCredential, *, actor: str, **data: str) -> None:
    named = {"credential": str(credential.pk), "key": credential.access_key_id}
    changelog.record(event, chatbot_id=credential.chatbot_id, actor=actor, data={**named, **data})
