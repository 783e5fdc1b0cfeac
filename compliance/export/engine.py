"""Write the files of each export of a claim into the bucket, each as one whole object or not at all.

Set-wise, so that many small exports cost little more than their calls to the storage:

    start, record keys -> open uploads -> record them -> one snapshot: record its conversations, copy uploaded files,
    then one COPY, split into files, sent while it is read -> complete

All go to one storage: the hosted bucket, or the bucket of one client.

After a kill, the Export rows contain the keys, so the next attempt or a deletion can remove the objects. A worker
that has lost its claim publishes nothing: its upload was aborted when the key was purged, or it finds its claim gone
first. Only a small file that it was sending at that moment may appear, under a recorded key, until the key is purged.

A deletion may mark one of the conversations meanwhile. The snapshot's conversations are recorded under the chatbot's
intake lock, which excludes marks, before anything is sent. So either the mark came first, and the conversation is
found closed, or the mark finds the record and expires the export. Either way the file is never delivered: the export
is overtaken, and runs again on the remaining conversations.
"""

import logging
import time
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import partial

from chatbots.buckets import StorageLocation
from chatbots.models import Bucket
from common.leases import LeaseRenewer
from common.storage import ObjectStorage
from compliance.erasure import objects
from compliance.errors import StepFailed
from compliance.export import records
from compliance.export.delivery import Delivery, Reporter
from compliance.export.formats import media_type_of
from compliance.export.records import Leftover, Target
from compliance.models import ComplianceRequest, Export
from compliance.storage_locations import HOSTED, open_location, storage_of
from compliance.work.claims import HeldClaim
from compliance.work.transitions import completion, requeue
from compliance.work.upload_pool import UploadPool

logger = logging.getLogger(__name__)

# Opening an upload is one of the three calls of a small file: no more are opened than can be sent in time.
_SHARE_OF_OPENING = 1 / 3


def run(held: HeldClaim, *, deadline: float) -> None:
    """Write the files of the claim's exports and complete them. Call it outside any transaction.

    `deadline` is a `time.monotonic()` value: past it exports that have not begun are requeued. The first always
    begins. Each export fails by itself: with a storage code, a code of its bucket, `export_file_lost` (a file to be
    copied) or `export_not_read` (the database). Raises ClaimLost.

    An export that was not completed leaves nothing visible under its key, unless the storage broke while it
    published, or the worker stopped between publishing and completing. The next attempt removes that, and the files
    beside it that were complete. A sweep does so if there is none.
    """
    places = _choose_destination(held)
    if not places:
        # No request is left in the claim, or it was lost.
        held.renew()
        return
    storage = next(iter(places.values())).storage
    renewer, report = LeaseRenewer(held.renew), Reporter(held)
    now = time.monotonic()
    until = now + (deadline - now) * _SHARE_OF_OPENING
    targets = _start(held, renewer, places, until=until)
    opening = UploadPool[Target, str](renewer)
    try:
        _open_uploads(held, report, opening, storage, targets, until=until)
        report.unchanged([target for target in targets if target not in opening.begun])
        if opening.done:
            Delivery(held, renewer, report, storage, opening.done).run(deadline=deadline)
    finally:
        # The delivery has removed the uploads that it has sent, or tried to send.
        aborted = _abort(storage, opening.done)
    report.unchanged(aborted)


def _choose_destination(held: HeldClaim) -> dict[int, StorageLocation]:
    """Return the place of each chatbot in the claim's storage, or nothing if none is left in the claim.

    An export fails if its chatbot's bucket was removed or cannot be opened, and is requeued if the bucket was changed
    since the claim was taken.
    """
    waiting = dict(ComplianceRequest.objects.filter(claim=held.id).values_list("pk", "chatbot_id"))
    found = Bucket.objects.filter(chatbot__in=set(waiting.values())).select_related("chatbot").order_by("chatbot_id")
    buckets = {bucket.chatbot_id: bucket for bucket in found}
    failures: dict[int, StepFailed] = {}
    places: dict[int, StorageLocation] = {}
    for chatbot_id, bucket in buckets.items():
        # Only a claim on a client's bucket may call that bucket. The claim has one chatbot.
        if held.bucket_of is not None or bucket.hosting == HOSTED:
            try:
                places[chatbot_id] = open_location(bucket)
            except StepFailed as failure:
                failures[chatbot_id] = failure
    for chatbot_id in set(waiting.values()) - buckets.keys():
        detail = "The chatbot's bucket was removed. Set one up, then retry."
        failures[chatbot_id] = StepFailed("export_destination_missing", detail, retryable=False)
    if failures:
        requeue.step_failed(
            held, {request: failures[chatbot] for request, chatbot in waiting.items() if chatbot in failures}
        )
    changed = [request for request, chatbot in waiting.items() if chatbot not in places and chatbot not in failures]
    if changed:
        requeue.retry_now(held, changed, code="bucket_changed")
    return places


def _start(
    held: HeldClaim, renewer: LeaseRenewer, places: Mapping[int, StorageLocation], *, until: float
) -> list[Target]:
    """Start all exports and record their keys, after the files of earlier attempts are removed."""

    def start(now: datetime, chatbots: set[int]) -> list[Target | Leftover]:
        started = completion.start_exports(held, now, chatbots)
        # All at once, in the order of the ids, as everywhere.
        known = Export.objects.select_for_update().filter(request__in=started).order_by("pk")
        objects.forget_unreachable(known.values_list("pk", flat=True))
        return records.record(started, now, places=places)

    recorded = held.share_with_intake(places, start)
    left = [each for each in recorded if isinstance(each, Leftover)]
    if left:
        purged = _purge(held, renewer, left, until=until)

        def start_again(now: datetime, chatbots: set[int]) -> list[Target | Leftover]:
            ready = [each.request for each in purged if each.request.chatbot_id in chatbots]
            return records.record(ready, now, places=places, purged=purged)

        recorded += held.share_with_intake({each.request.chatbot_id for each in purged}, start_again)
    return [each for each in recorded if isinstance(each, Target)]


def _purge(held: HeldClaim, renewer: LeaseRenewer, left: Collection[Leftover], *, until: float) -> set[Leftover]:
    """Remove the files of earlier attempts. Return the leftovers that are removed entirely."""
    failures = objects.erase_copies(
        held.transaction, [each.request.pk for each in left if each.request.has_files_beside]
    )
    storages = {}
    for each in left:
        try:
            storages[each] = storage_of(each.where)
        except StepFailed as failure:
            failures.setdefault(each.request.pk, failure)
    removable = [each for each in storages if each.request.pk not in failures]
    with UploadPool[Leftover, int](renewer) as purging:
        purging.submit_all(removable, lambda each: objects.purge_unfinished(storages[each], each.key), until=until)
    failures |= {each.request.pk: failure for each, failure in purging.failed.items()}
    if failures:
        requeue.step_failed(held, failures)
    late = [each.request.pk for each in removable if each not in purging.begun]
    requeue.requeue(held, late, waiting_for=ComplianceRequest.WaitingFor.TURN)
    return set(purging.done)


def _open_uploads(
    held: HeldClaim,
    report: Reporter,
    opening: UploadPool[Target, str],
    storage: ObjectStorage,
    targets: Collection[Target],
    *,
    until: float,
) -> None:
    """Open the uploads and record their ids, before the first byte is sent."""
    # Always a multipart upload: it can be aborted. A single PUT of a stale worker could bring an erased file back.
    with opening:
        opening.submit_all(
            targets, lambda target: storage.open_upload(target.key, content_type=media_type_of(target)), until=until
        )

    def record(_now: datetime, chatbots: set[int]) -> set[Target]:
        uploads = {target: upload for target, upload in opening.done.items() if target.chatbot_id in chatbots}
        return records.record_uploads(uploads)

    overtaken = held.share_with_intake({target.chatbot_id for target in opening.done}, record)
    _abort(storage, {target: opening.done.pop(target) for target in overtaken})
    report.overtaken(overtaken)
    report.failed(opening.failed)


def _abort(storage: ObjectStorage, uploads: Mapping[Target, str]) -> list[Target]:
    """Abort uploads that will not be sent. Return the targets whose uploads are aborted.

    Stops at the first failure: the next attempt purges the keys.
    """
    # Without renewing the claim: it may be lost, and these few calls fit in the lease.
    with UploadPool[Target, None](LeaseRenewer(lambda: None)) as aborting:
        for target, upload_id in uploads.items():
            aborting.submit(target, partial(storage.abort, target.key, upload_id))
            aborting.note_finished()
            if aborting.failed:
                break
    for failure in aborting.failed.values():
        logger.warning("export.upload_not_aborted code=%s", failure.code)
    return list(aborting.done)
