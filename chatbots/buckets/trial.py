"""Try a client's credentials for the hosted bucket: they must read and list the chatbot's folder, and nothing else.

A store can accept a policy and apply another: some leave conditions out, or take the beginning of a name for a
folder.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

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

Action = Callable[[], object]
# The name of an action that is tried, and its function.
Attempt = tuple[str, Action]


class TrialFailed(StorageError):
    """The credentials grant too little or too much, or are no longer wanted."""


def try_credentials(*, chatbot: Chatbot, access_key_id: str, secret: str) -> None:
    """Return if the credentials read and list the chatbot's folder, and can do nothing else. Raises TrialFailed.

    Writes objects with random names, in the folder and beside it, and removes them. Raises another StorageError if
    that fails, or if the storage does not answer.
    """
    ours, folder, name = hosted_location(chatbot).storage, chatbot.slug, new_name()
    theirs = storage_read_with(access_key_id=access_key_id, secret=secret)
    own = f"{folder}/{name}"
    # In a folder whose name begins like the client's, in any other, and in none.
    foreign = [f"{folder}_{name}/object", f"{name}/object", name]
    written = [f"{key}_written" for key in (own, *foreign)]
    try:
        with outbound.within(TRIAL_SECONDS):
            for key in (own, *foreign):
                ours.put(key, _TEXT, "text/plain")
            _check_allowed(theirs, folder, own)
            _check_forbidden(_forbidden(theirs, folder, name, own=own, foreign=foreign, written=written))
    finally:
        with outbound.within(_REMOVAL_SECONDS):
            # Also objects that the credentials should not have been able to write.
            for key in (own, *foreign, *written):
                ours.purge(key)


def _check_allowed(theirs: ObjectStorage, folder: str, own: str) -> None:
    """Raise TrialFailed unless the folder can be read within the time that a store needs to accept a new key."""
    allowed: list[Attempt] = [
        ("list the chatbot's folder", lambda: _list(theirs, f"{folder}/")),
        ("read a file in it", lambda: theirs.read(own)),
    ]
    end = time.monotonic() + PROPAGATION_SECONDS
    while missing := [what for what, action in allowed if _refusal(action)]:
        if time.monotonic() > end:
            raise TrialFailed(
                "credential_reads_nothing", f"With the new key the storage refuses to {_listed(missing)}."
            )
        time.sleep(_PAUSE_SECONDS)


def _check_forbidden(attempts: Iterable[Attempt]) -> None:
    excess = []
    for what, action in attempts:
        refusal = _refusal(action)
        if refusal is None:
            excess.append(what)
        elif not refusal.permission:
            # The key itself was refused, which proves nothing of its policy.
            raise refusal
    if excess:
        raise TrialFailed("credential_reads_more", f"With the new key the storage allows to {_listed(excess)}.")


def _forbidden(
    theirs: ObjectStorage, folder: str, name: str, *, own: str, foreign: list[str], written: list[str]
) -> Iterator[Attempt]:
    yield "list the whole bucket", lambda: _list(theirs, "")
    yield "list another folder", lambda: _list(theirs, f"{name}/")
    yield "list a folder with a similar name", lambda: _list(theirs, f"{folder}_{name}/")
    yield "list all names that begin with the slug", lambda: _list(theirs, folder)
    yield "list versions in the whole bucket", lambda: next(theirs.versions(), None)
    yield "list open uploads", lambda: next(theirs.uploads(), None)
    yield from (("read files of others", partial(theirs.read, key)) for key in foreign)
    yield from (("write files", partial(theirs.put, key, _TEXT, "text/plain")) for key in written)
    yield "write files in parts", lambda: theirs.open_upload(written[0], content_type="text/plain")
    yield "remove files", lambda: _remove(theirs, own)
    yield "remove versions of files", lambda: _remove_version(theirs, own)


def _refusal(action: Action) -> StorageError | None:
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


def _listed(found: list[str]) -> str:
    names = list(dict.fromkeys(found))
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
