"""`reconcile_storage` and what checks of the hosted bucket leave behind where they are killed."""

from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Any, NoReturn

import pytest
from django.core.management import CommandError

from chatbots.buckets import hosted_location, probe, trial
from chatbots.buckets.probe import new_name
from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance.reconciliation import scan
from compliance.work import bucket_checks
from tests.compliance.reconciling import ORPHANS, file_of, keys, put, reconcile
from tests.patches import Killed, after, failing


@pytest.fixture
def killed(chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill each kind of check when all its objects are written."""
    in_folder = hosted_location(chatbot)
    for location in (in_folder, replace(in_folder, prefix="")):
        assert len(list(islice(probe(location), 4))) == 4  # an object, and an open upload
    with monkeypatch.context() as patch:
        after(patch, ObjectStorage, "put", failing(Killed))
        with pytest.raises(Killed):
            bucket_checks.check_hosted_if_due()

    name = new_name()

    def allow_and_die(_attempts: object) -> NoReturn:
        # As a store that lets the credentials write.
        put(storage, *(f"{key}_written" for key in list(storage.keys()) if name in key))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trial, "new_name", lambda: name)
        patch.setattr(trial, "_check_allowed", allow_and_die)
        patch.setattr(ObjectStorage, "purge", lambda *_: None)
        with pytest.raises(Killed):
            trial.try_credentials(chatbot=chatbot, access_key_id="key", secret="secret")


@pytest.mark.usefixtures("killed")
def test_what_killed_checks_leave_is_removed_after_a_day(
    chatbot: Chatbot, storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = file_of(chatbot).object_key
    others = ["access_checks", "acme/access_check", "acme/access_check_by_hand", f"access_check_{'0' * 16}/notes.txt"]
    put(storage, *others)
    with monkeypatch.context() as patch:
        patch.setattr(scan, "SAFETY_AGE", timedelta(days=1))
        young: dict[str, Any] = reconcile("--fix")
    assert (young["agrees"], young["young"], len(list(storage.uploads()))) == (True, {}, 2)

    # They do not hide how much else would be removed.
    for key in others:
        storage.purge(key)
    put(storage, ORPHANS[0])
    with pytest.raises(CommandError, match="1 of 2 versions"):
        reconcile("--fix")
    storage.purge(ORPHANS[0])
    put(storage, *others)

    report = reconcile("--fix", code=3)

    assert (report["orphans"], report["stale_uploads"]) == ({"access_check": 11}, {"access_check": 2})
    assert report["fixed"] == {"orphans": 11, "uploads": 2}
    assert keys(storage) == sorted([kept, *others])
    assert list(storage.uploads()) == []
