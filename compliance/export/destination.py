"""The storage of a claim's files: all of a claim go to one."""

from collections.abc import Mapping
from dataclasses import dataclass

from chatbots.buckets import StorageLocation
from chatbots.models import Bucket
from common.storage import ObjectStorage
from compliance.errors import StepFailed
from compliance.models import ComplianceRequest
from compliance.storage_locations import HOSTED, open_location
from compliance.work.claims import HeldClaim
from compliance.work.transitions import requeue


@dataclass(frozen=True)
class Destination:
    """One storage, and the place of each chatbot in it, by the chatbot's id."""

    storage: ObjectStorage
    places: Mapping[int, StorageLocation]


def choose(held: HeldClaim) -> Destination | None:
    """Return where the claim's exports go, or None if none is left in the claim.

    An export fails if its chatbot's bucket was removed or cannot be opened, and is requeued if the bucket was changed
    since the claim was taken.
    """
    waiting = dict(ComplianceRequest.objects.filter(claim=held.id).values_list("pk", "chatbot_id"))
    found = Bucket.objects.filter(chatbot__in=set(waiting.values())).select_related("chatbot").order_by("chatbot_id")
    buckets = {bucket.chatbot_id: bucket for bucket in found}
    # Only a claim on a client's bucket may call one; it is of one chatbot.
    reached = [each for each in buckets.values() if held.bucket_of is not None or each.hosting == HOSTED]
    failures: dict[int, StepFailed] = {}
    places: dict[int, StorageLocation] = {}
    for bucket in reached:
        try:
            places[bucket.chatbot_id] = open_location(bucket)
        except StepFailed as failure:
            failures[bucket.chatbot_id] = failure
    for chatbot in set(waiting.values()) - buckets.keys():
        detail = "The chatbot's bucket was removed. Set one up, then retry."
        failures[chatbot] = StepFailed("export_destination_missing", detail, retryable=False)
    if failures:
        requeue.step_failed(
            held, {request: failures[chatbot] for request, chatbot in waiting.items() if chatbot in failures}
        )
    changed = [request for request, chatbot in waiting.items() if chatbot not in places and chatbot not in failures]
    if changed:
        requeue.try_again(held, changed, code="bucket_changed")
    if not places:
        return None
    return Destination(next(iter(places.values())).storage, places)
