"""Try a client's credentials for the hosted bucket: they must read and list the chatbot's folder, and nothing else.

A store can accept a policy and apply another: some leave conditions out, or take the beginning of a name for a
folder.
"""

import time
from collections.abc import Callable
from functools import partial

from django.utils.text import get_text_list

from chatbots.buckets.locations import hosted_location, storage_read_with
from chatbots.buckets.probe import new_name
from chatbots.models import Chatbot
from common import outbound
from common.storage import ObjectStorage, StorageError, Version

# AWS accepts a new key and its policy after some seconds.
PROPAGATION_SECONDS = 20.0
# The time limits of the whole trial, and of the removal of its objects, which follows in any case.
TRIAL_SECONDS = 30.0
_REMOVAL_SECONDS = 15.0
_PAUSE_SECONDS = 1.0

_TEXT = b"A check of what a client's credentials may read. It removes this object itself."

# The name of an action that is tried, and its function.
Attempt = tuple[str, Callable[[], object]]


def try_credentials(*, chatbot: Chatbot, access_key_id: str, secret: str) -> None:
    """Return if the credentials read and list the chatbot's folder, and can do nothing else.

    Writes objects with random names, in the folder and beside it, and removes them. Raises StorageError:
    `credential_reads_nothing`, `credential_reads_more`, or another if the storage fails or does not answer.
    """
    ours, folder, name = hosted_location(chatbot).storage, chatbot.slug, new_name()
    theirs = storage_read_with(access_key_id=access_key_id, secret=secret)
    own = f"{folder}/{name}"
    # In a folder whose name begins like the client's, in any other, and in none.
    foreign = [f"{folder}_{name}/object", f"{name}/object", name]
    written = [f"{key}_written" for key in (own, *foreign)]
    allowed: list[Attempt] = [
        ("list the chatbot's folder", lambda: _list(theirs, f"{folder}/")),
        ("read a file in it", lambda: theirs.read(own)),
    ]
    forbidden: list[Attempt] = [
        ("list the whole bucket", lambda: _list(theirs, "")),
        ("list another folder", lambda: _list(theirs, f"{name}/")),
        ("list a folder with a similar name", lambda: _list(theirs, f"{folder}_{name}/")),
        ("list all names that begin with the slug", lambda: _list(theirs, folder)),
        ("list versions in the whole bucket", lambda: next(theirs.versions(), None)),
        ("list open uploads", lambda: next(theirs.uploads(), None)),
        *(("read files of others", partial(theirs.read, key)) for key in foreign),
        *(("write files", partial(theirs.put, key, _TEXT, "text/plain")) for key in written),
        ("write files in parts", lambda: theirs.open_upload(written[0], content_type="text/plain")),
        ("remove files", lambda: _remove(theirs, own)),
        ("remove versions of files", lambda: _remove_version(theirs, own)),
    ]
    try:
        with outbound.within(TRIAL_SECONDS):
            for key in (own, *foreign):
                ours.put(key, _TEXT, "text/plain")
            _check_allowed(allowed)
            _check_forbidden(forbidden)
    finally:
        with outbound.within(_REMOVAL_SECONDS):
            # Also objects that the credentials should not have been able to write.
            for key in (own, *foreign, *written):
                ours.purge(key)


def _check_allowed(attempts: list[Attempt]) -> None:
    """Raise StorageError unless all is granted within the time that a store needs to accept a new key."""
    end = time.monotonic() + PROPAGATION_SECONDS
    while missing := [what for what, action in attempts if _refusal(action)]:
        if time.monotonic() > end:
            refused = f"With the new key the storage refuses to {get_text_list(missing, 'and')}."
            raise StorageError("credential_reads_nothing", refused)
        time.sleep(_PAUSE_SECONDS)


def _check_forbidden(attempts: list[Attempt]) -> None:
    """Raise StorageError unless the key's policy refuses all."""
    refusals = [(what, _refusal(action)) for what, action in attempts]
    if excess := list(dict.fromkeys(what for what, refusal in refusals if refusal is None)):
        granted = f"With the new key the storage allows to {get_text_list(excess, 'and')}."
        raise StorageError("credential_reads_more", granted)
    for _, refusal in refusals:
        if refusal and not refusal.permission:
            # The key itself was refused, which proves nothing of its policy.
            raise refusal


def _refusal(action: Callable[[], object]) -> StorageError | None:
    """Return the storage's refusal of an action, or None if it was done. Raises StorageError for anything else."""
    try:
        action()
    except StorageError as error:
        if error.code != "storage_access_denied":
            raise
        return error
    return None


def _list(storage: ObjectStorage, prefix: str) -> None:
    next(storage.keys(prefix), None)


def _remove(storage: ObjectStorage, key: str) -> None:
    with storage.calls():
        storage.client.delete_object(Bucket=storage.bucket_name, Key=key)


def _remove_version(storage: ObjectStorage, key: str) -> None:
    for refusal in storage.remove_versions([Version(key, "null")]).values():
        raise refusal
