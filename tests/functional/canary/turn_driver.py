"""Turns of the canary against a real web server, in this process: step by step, with work in between."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db.models.functions import Now
from django.test import override_settings

from chatbots.buckets import hosted_storage
from common.storage import ObjectStorage
from compliance import worker
from compliance.canary import turns
from compliance.canary.words import Planted
from compliance.models import CanaryTurn, ComplianceRequest
from conversations.extracts import days
from tests.commands import run
from tests.functional.web import WebServer, web_server
from tests.under_roles import role

_ROUNDS = 25
LONG = pytest.mark.long(reason="a turn takes seconds, and others prove the same of another place")


@contextmanager
def versioned_bucket_and_server(log: Path, **more: str) -> Iterator[tuple[str, WebServer]]:
    """A hosted bucket that keeps all versions, and a web server that uses it."""
    name = f"{settings.S3_BUCKET}-canary"
    with override_settings(S3_BUCKET=name):
        storage = hosted_storage()
        storage.create_bucket_if_missing()
        storage.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    with web_server(log=log, S3_BUCKET=name, **more) as server:
        yield name, server


class TurnDriver:
    """One turn. `seen` has the objects of the canary's folder as they were before the deletion."""

    def __init__(self) -> None:
        turn = turns.begin()
        assert turn
        self.turn = turn
        self.seen: dict[str, bytes] = {}
        self.storage: ObjectStorage = hosted_storage()
        self.log = settings.CANARY_LOG_FILES[1].rstrip("*")

    @property
    def words(self) -> Planted:
        return Planted(self.turn.pk)

    @property
    def is_over(self) -> bool:
        self.turn.refresh_from_db()
        return self.turn.state != CanaryTurn.State.RUNNING

    def resume(self) -> None:
        """Go on once, whatever the turn waits for."""
        CanaryTurn.objects.filter(pk=self.turn.pk).update(next_attempt_at=Now())
        with role("worker"):
            turns.resume(seconds=60)

    def work(self) -> None:
        """Do what workers do."""
        with role("worker"):
            days.plan_due()
        worker.drain(seconds=30)

    def reach(self, step: str) -> None:
        for _ in range(_ROUNDS):
            self.turn.refresh_from_db()
            if self.turn.step == step or self.is_over:
                break
            self.resume()
            self._remember()
            self.work()
            self._remember()
        self.turn.refresh_from_db()
        assert self.turn.step == step, (self.turn.state, self.turn.step, self.turn.trouble, self.turn.trouble_at)

    def end(
        self,
        *,
        after_erasing: Callable[["TurnDriver"], object] = lambda _: None,
        at: Mapping[str, Callable[[], AbstractContextManager[object]]] | None = None,
    ) -> CanaryTurn:
        """Go on to the end. `after_erasing` is called once the deletion is completed, before the search."""
        has_been_called = False
        for _ in range(_ROUNDS):
            if self.is_over:
                return self.turn
            if not has_been_called and self._is_deletion_completed():
                after_erasing(self)
                has_been_called = True
            with (at or {}).get(self.turn.step, nullcontext)():
                self.resume()
            self._remember()
            self.work()
            self._remember()
        raise AssertionError((self.turn.state, self.turn.step, self.turn.trouble, self.turn.trouble_at))

    def findings(self) -> list[str]:
        return [f"{one['place']} {one['code']} {one['where']}" for one in self.turn.findings]

    def put(self, key: str, content: bytes) -> None:
        self.storage.put(key, content, "text/csv")

    def key_of(self, folder: str) -> str:
        """Return the key of the only CSV that was in this folder before the deletion."""
        [key] = [key for key in self.seen if f"/{folder}/" in key and key.endswith(".csv")]
        return key

    def _is_deletion_completed(self) -> bool:
        deletions = ComplianceRequest.objects.filter(kind="deletion", status="completed")
        return self.turn.deletion_id in deletions.values_list("pk", flat=True)

    def _remember(self) -> None:
        self.turn.refresh_from_db()
        if self.turn.deletion_id is None and self.turn.planted_at is not None:
            found = {key: self.storage.read(key) for key in self.storage.keys(f"{self.turn.chatbot.slug}/")}
            self.seen |= found


def last() -> tuple[int, dict[str, Any]]:
    """Return the exit code and the document of `canary --last`."""
    code, out, _ = run("canary", "--last", "--json")
    return code, json.loads(out)
