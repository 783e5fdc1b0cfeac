"""Try a client's credentials for the hosted bucket: they must read and list the chatbot's folder, and nothing else.

A store can accept a policy and apply another: some leave conditions out, or take the beginning of a name for a
folder.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from chatbots.buckets.check_names import new_name
from chatbots.buckets.locations import hosted_location, storage_read_with
from chatbots.models import Chatbot
from common import outbound
from common.storage import ObjectStorage, StorageError, Version

# AWS knows a new key and its policy after some seconds.
PROPAGATION_SECONDS = 20.0
# Of the whole trial, and of the removal of its objects, which follows in any case.
TRIAL_SECONDS = 30.0
_REMOVAL_SECONDS = 15.0
_PAUSE_SECONDS = 1.0

_TEXT = b"A check of what a client's credentials may read. It removes this object itself."

Action = Callable[[], object]


class TrialFailed(Exception):
    """The credentials grant too little or too much. `code` and `detail` are ours."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def try_credentials(*, chatbot: Chatbot, access_key_id: str, secret: str) -> None:
    """Return if the credentials read and list the chatbot's folder, and can do nothing else. Raises TrialFailed.

    Writes objects with random names, in the folder and beside it, and removes them. Raises StorageError if that
    fails, or if the storage does not answer.
    """
    ours = hosted_location(chatbot).storage
    trial = _Trial(
        storage_read_with(access_key_id=access_key_id, secret=secret),
        folder=chatbot.slug,
        name=new_name(),
    )
    try:
        with outbound.within(TRIAL_SECONDS):
            for key in (trial.own, *trial.foreign):
                ours.put(key, _TEXT, "text/plain")
            _check_allowed(trial)
            _check_forbidden(trial)
    finally:
        with outbound.within(_REMOVAL_SECONDS):
            # Also what the credentials should not have been able to write.
            for key in (trial.own, *trial.foreign, *trial.written):
                ours.purge(key)


def _check_allowed(trial: "_Trial") -> None:
    """Raise TrialFailed unless the folder can be read within the time that a store needs to know a new key."""
    end = time.monotonic() + PROPAGATION_SECONDS
    while missing := [what for what, action in trial.allowed() if _refusal(action)]:
        if time.monotonic() > end:
            raise TrialFailed(
                "credential_reads_nothing", f"With the new key the storage refuses to {_listed(missing)}."
            )
        time.sleep(_PAUSE_SECONDS)


def _check_forbidden(trial: "_Trial") -> None:
    excess = []
    for what, action in trial.forbidden():
        refusal = _refusal(action)
        if refusal is None:
            excess.append(what)
        elif not refusal.permission:
            # The key itself was refused, which proves nothing of its policy.
            raise refusal
    if excess:
        raise TrialFailed("credential_reads_more", f"With the new key the storage allows to {_listed(excess)}.")


def _listed(found: list[str]) -> str:
    names = list(dict.fromkeys(found))
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _refusal(action: Action) -> StorageError | None:
    """Return the storage's refusal of an action, or None where it was done. Raises StorageError for anything else."""
    try:
        action()
    except StorageError as error:
        if error.code != "storage_access_denied":
            raise
        return error
    return None


@dataclass(frozen=True)
class _Trial:
    theirs: ObjectStorage
    folder: str
    name: str

    @property
    def own(self) -> str:
        return f"{self.folder}/{self.name}"

    @property
    def foreign(self) -> tuple[str, str, str]:
        """Keys in a folder whose name begins with that of the client's, in any other, and in none."""
        return f"{self.folder}_{self.name}/object", f"{self.name}/object", self.name

    @property
    def written(self) -> tuple[str, ...]:
        """The keys that the credentials try to write."""
        return tuple(f"{key}_written" for key in (self.own, *self.foreign))

    def allowed(self) -> Iterator[tuple[str, Action]]:
        yield "list the chatbot's folder", lambda: self._list(f"{self.folder}/")
        yield "read a file in it", lambda: self.theirs.read(self.own)

    def forbidden(self) -> Iterator[tuple[str, Action]]:
        yield "list the whole bucket", lambda: self._list("")
        yield "list another folder", lambda: self._list(f"{self.name}/")
        yield "list a folder with a similar name", lambda: self._list(f"{self.folder}_{self.name}/")
        yield "list all names that begin with the slug", lambda: self._list(self.folder)
        yield "list versions in the whole bucket", lambda: next(self.theirs.versions(), None)
        yield "list open uploads", lambda: next(self.theirs.uploads(), None)
        yield from (("read files of others", partial(self.theirs.read, key)) for key in self.foreign)
        yield from (("write files", partial(self.theirs.put, key, _TEXT, "text/plain")) for key in self.written)
        yield "write files in parts", lambda: self.theirs.open_upload(self.written[0], content_type="text/plain")
        yield "remove files", self._remove
        yield "remove versions of files", self._remove_version

    def _list(self, prefix: str) -> None:
        next(self.theirs.keys(prefix), None)

    def _remove(self) -> None:
        with self.theirs.calls():
            self.theirs.client.delete_object(Bucket=self.theirs.bucket_name, Key=self.own)

    def _remove_version(self) -> None:
        for refusal in self.theirs.remove_versions([Version(self.own, "null")]).values():
            raise refusal
