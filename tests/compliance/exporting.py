"""What the tests of exports share."""

from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.utils import timezone

from chatbots.buckets import ObjectStorage
from chatbots.models import Chatbot
from compliance.claims import HeldClaim
from compliance.export import engine
from compliance.models import Claim, ComplianceRequest
from conversations.transcripts import ChatterTranscript
from tests import factories

# The file is read on a connection of its own, which sees only what is committed.
committed = pytest.mark.django_db(transaction=True)

AT = datetime(2026, 11, 23, 9, 5, 7, tzinfo=UTC)


def taken(request: ComplianceRequest) -> HeldClaim:
    """A worker's claim on an export that is under way."""
    claim = factories.ClaimFactory.create()
    now = timezone.now()
    ComplianceRequest.objects.filter(pk=request.pk).update(
        claim=claim, status="processing", started_at=now, cut_at=now
    )
    return HeldClaim(
        id=claim.pk,
        token=claim.token,
        kind=ComplianceRequest.Kind.EXPORT,
        lane=ComplianceRequest.Lane.NORMAL,
        request_ids=(request.pk,),
    )


def lose(held: HeldClaim) -> None:
    """Break up the claim, as the sweep does when its lease is over."""
    Claim.objects.filter(pk=held.id).delete()


def exported(chatbot: Chatbot, value: str = "42", **fields: Any) -> engine.Delivered:
    request = factories.export_of(chatbot, value, **fields)
    return engine.write_export(taken(request), request)


def open_uploads(storage: ObjectStorage) -> list[str]:
    listed = storage.connection.meta.client.list_multipart_uploads(Bucket=storage.bucket_name)
    return [upload["Key"] for upload in listed.get("Uploads", [])]


def is_empty(storage: ObjectStorage) -> bool:
    return not (list(storage.versions()) or open_uploads(storage))


def patch_chunks(monkeypatch: pytest.MonkeyPatch, before_the_end: Callable[[], object]) -> None:
    """Call something when the first file has been read, before its last part is sent."""
    read = ChatterTranscript.chunks
    left = [before_the_end]

    def chunks(self: ChatterTranscript) -> Generator[bytes]:
        yield from read(self)
        if left:
            left.pop()()

    monkeypatch.setattr(ChatterTranscript, "chunks", chunks)
