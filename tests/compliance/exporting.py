"""Helpers for the tests of exports."""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chatbots.models import Bucket, Chatbot
from common.storage import ObjectStorage
from compliance.export import engine
from compliance.models import Claim, ComplianceRequest, Export
from compliance.work.claims import HeldClaim
from conversations.transcripts import TranscriptPiece, Transcripts
from tests import factories
from tests.patches import after, once

# The files are read on a connection of its own, which sees only what is committed.
committed = pytest.mark.django_db(transaction=True)

AT = datetime(2026, 11, 23, 9, 5, 7, tzinfo=UTC)


def taken(*requests: ComplianceRequest) -> HeldClaim:
    """A worker's claim on exports: for a client's bucket if the first export goes to one."""
    chatbot = requests[0].chatbot_id if requests else None
    bucket_of = chatbot if Bucket.objects.filter(chatbot=chatbot, hosting="client").exists() else None
    claim = factories.ClaimFactory.create(bucket_of_id=bucket_of)
    ids = tuple(request.pk for request in requests)
    ComplianceRequest.objects.filter(pk__in=ids).update(claim=claim)
    return HeldClaim(
        id=claim.pk,
        token=claim.token,
        kind=ComplianceRequest.Kind.EXPORT,
        lane=ComplianceRequest.Lane(requests[0].lane) if requests else ComplianceRequest.Lane.NORMAL,
        request_ids=ids,
        bucket_of=bucket_of,
    )


def lose(held: HeldClaim) -> None:
    """Release the claim, as the sweep does when its lease has ended."""
    Claim.objects.filter(pk=held.id).delete()


def carry_out(held: HeldClaim, *, seconds: float = 60) -> None:
    engine.run(held, deadline=time.monotonic() + seconds)
    if held.bucket_of is not None:
        # A client's bucket has one claim at a time.
        held.abandon()


def export_of_request(request: ComplianceRequest) -> Export:
    return Export.objects.select_related("request").get(request=request)


def exported(chatbot: Chatbot, value: str = "42", **fields: Any) -> Export:
    """An export that ran in its own claim, with any result."""
    request = factories.export_of(chatbot, value, **fields)
    carry_out(taken(request))
    return export_of_request(request)


def outcome(request: ComplianceRequest) -> tuple[str, str, int]:
    """The outcome of a request: status, error code and lost attempts."""
    request.refresh_from_db()
    return str(request.status), request.error_code, request.attempts


COMPLETED = ("completed", "", 0)


def open_uploads(storage: ObjectStorage) -> list[str]:
    listed = storage.client.list_multipart_uploads(Bucket=storage.bucket_name)
    return [upload["Key"] for upload in listed.get("Uploads", [])]


def is_empty(storage: ObjectStorage) -> bool:
    return not (list(storage.versions()) or open_uploads(storage))


def patch_pieces(monkeypatch: pytest.MonkeyPatch, before_the_end: Callable[[], object]) -> None:
    """Call a function once, after everything is read and before the last part is sent."""
    read = Transcripts.pieces
    left = [before_the_end]

    def pieces(self: Transcripts, places: Iterable[int]) -> Generator[TranscriptPiece]:
        yield from read(self, places)
        if left:
            left.pop()()

    monkeypatch.setattr(Transcripts, "pieces", pieces)


def patch_count(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Call a function once, between counting and reading: in the snapshot, with all uploads open."""
    after(monkeypatch, Transcripts, "count", once(lambda _: act()))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Peak:
    """The peak memory of this process within the context."""

    def __enter__(self) -> "Peak":
        self.before = self.most = resident_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        return self.most - self.before

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self.most = max(self.most, resident_bytes())
