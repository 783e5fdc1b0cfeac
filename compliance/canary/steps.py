"""The steps of a turn. A step can be repeated at any point: after a kill it begins anew.

Each returns whether it is done; False means that something it waits for is still under way. It raises Inconclusive if
it cannot do its work for now, and reports its findings.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models.functions import Now

from common.times import midnight
from compliance.canary import api, bucket, logs, rows
from compliance.canary.client import Client
from compliance.canary.report import Inconclusive, Report, Trouble
from compliance.canary.words import Planted, Search
from compliance.models import Canary, CanaryTurn

Step = CanaryTurn.Step

# The number of former turns that a turn cleans up after. The next turn takes the others.
_FORMER = 10
# How long the words of a turn are searched for again, and of how many turns.
_AGAIN = timedelta(days=1)
_MOST_AGAIN = 200
# States of a request that continues by itself.
_UNDER_WAY = {"accepted", "processing"}
# States of a request that does not, or only by a decision of staff.
_ENDED = {"failed", "cancelled", "rejected"}


class Work:
    """A turn that this process has leased, with the objects for its steps."""

    def __init__(self, turn: CanaryTurn) -> None:
        self.turn, self.report = turn, Report()
        self.planted = Planted(turn.pk)

    @cached_property
    def client(self) -> Client:
        """Raises Inconclusive."""
        return Client.of(Canary.objects.select_related("chatbot").get())

    @cached_property
    def former(self) -> list[CanaryTurn]:
        """The turns whose chatters were erased in the day before this one, newest first.

        Their words are searched for again: something may have brought them back, or written them late.
        """
        turns = CanaryTurn.objects.filter(erased_at__gt=self.turn.began_at - _AGAIN).exclude(pk=self.turn.pk)
        return list(turns.order_by("-began_at")[:_MOST_AGAIN])

    @cached_property
    def search(self) -> Search:
        return Search([self.planted.stem, *(Planted(each.pk).stem for each in self.former)])

    @property
    def since(self) -> datetime:
        """When the last turn began that could search all places: newer data may not have been searched."""
        looked = (each.began_at for each in self.former if not each.trouble)
        return next(looked, self.turn.began_at - _AGAIN)


def clean_up(work: Work) -> bool:
    """Have the remaining chatters of former turns erased. Nothing is planted before all of them are gone."""
    left = CanaryTurn.objects.filter(planted_at__isnull=False, erased_at__isnull=True).exclude(pk=work.turn.pk)
    for former in left.order_by("pk")[:_FORMER]:
        with work.report.capture_failure(""):
            _is_erased(work, former, "getRequest (former turn)")
    return not left.exists()


def plant(work: Work) -> bool:
    turn, planted = work.turn, work.planted
    if turn.planted_at is None:
        # First, so that a later turn erases it even if this one fails.
        turn.write(planted_at=Now(), logs=logs.positions_after(work.former[0].logs if work.former else {}))
        turn.refresh_from_db(fields=["planted_at", "logs"])
    noon = midnight(turn.day, ZoneInfo(turn.chatbot.timezone)) + timedelta(hours=12)
    documents = planted.documents(now=turn.began_at, earlier=noon)
    results = work.client.read("storeConversations", "conversations", documents)["results"]
    if any(result["error"] for result in results):
        raise Inconclusive(Trouble.API_REFUSED, "storeConversations")
    turn.numbers = [result["number"] for result in results]
    # A type that the service accepts. The caller declares it, and the content is not checked.
    taken = settings.UPLOAD_TYPES
    is_text_taken = any(fnmatchcase("text/plain", each) for each in taken)
    stored = work.client.upload(
        "storeFile",
        f"conversations/{turn.numbers[0]}/files",
        name=planted.file_name,
        media_type="text/plain" if is_text_taken else taken[0].replace("*", "x"),
        content=planted.file,
        message_id=planted.message_id,
    )
    turn.file_id = int(stored["file_id"])
    turn.write(numbers=turn.numbers, file_id=turn.file_id)
    return True


def export(work: Work) -> bool:
    turn = work.turn
    if turn.export_id is None:
        body = work.planted.about | {"action": "export", "include_files": True}
        turn.export_id = work.client.file("data-export", "data-export", body, once=f"canary-export-{turn.pk}")
        turn.write(export_id=turn.export_id)
    return _is_completed(work, "getRequest (export)", turn.export_id)


def extract(work: Work) -> bool:
    """Wait for the extract of the earlier day, made after the conversations were stored."""
    turn = work.turn
    if not turn.chatbot.extracts_enabled:
        return True
    for one in work.client.read("listExtracts", "extracts")["extracts"]:
        if one["day"] == turn.day.isoformat() and one["state"] == "done":
            return turn.planted_at is None or datetime.fromisoformat(one["finished_at"]) > turn.planted_at
    return False


def control(work: Work) -> bool:
    """Check that each search finds the present data: one that finds nothing now would prove nothing later."""
    turn, planted = work.turn, work.planted
    unseen = [
        *(f"api: {name}" for name in api.control(work.client, planted, turn)),
        *(f"bucket: {name}" for name in bucket.control(planted, turn, has_extract=turn.chatbot.extracts_enabled)),
        *(f"rows: {name}" for name in rows.control(Search([planted.stem]), turn)),
    ]
    if unseen:
        raise Inconclusive(Trouble.BLIND, unseen[0])
    return True


def erase(work: Work) -> bool:
    return _is_erased(work, work.turn, "getRequest (deletion)")


def scan_api(work: Work) -> bool:
    api.scan(work.client, work.planted, work.search, work.turn, work.report)
    return True


def scan_bucket(work: Work) -> bool:
    turns = [work.turn, *work.former]
    ids = [each for turn in turns for each in (turn.export_id, turn.deletion_id) if each is not None]
    bucket.scan(work.search, work.turn, work.report, ledger_keys=bucket.ledger_keys(ids, since=work.since))
    return True


def scan_rows(work: Work) -> bool:
    rows.scan(work.search, work.turn, work.report, since=work.since)
    return True


def scan_logs(work: Work) -> bool:
    turn, now = work.turn, logs.positions()
    logs.scan(work.search, turn.logs, turn.began_at, work.report)
    if not work.report.trouble:
        turn.logs = now | {"is_read": True}  # the next turn continues there
        turn.write(logs=turn.logs)
    return True


STEPS: Mapping[str, Callable[[Work], bool]] = {
    Step.CLEAN_UP: clean_up,
    Step.PLANT: plant,
    Step.EXPORT: export,
    Step.EXTRACT: extract,
    Step.CONTROL: control,
    Step.ERASE: erase,
    Step.LOOK_API: scan_api,
    Step.LOOK_BUCKET: scan_bucket,
    Step.LOOK_ROWS: scan_rows,
    Step.LOOK_LOGS: scan_logs,
}


def _is_erased(work: Work, of: CanaryTurn, where: str) -> bool:
    """Have the chatter of a turn erased, by a deletion that is filed once; return whether that is done.

    If the deletion ends without erasing, each turn files another one, once. It is filed with fresh exports, since
    only digests are left.
    """
    if of.deletion_id is None or work.client.read(where, f"requests/{of.deletion_id}")["status"] in _ENDED:
        body = Planted(of.pk).about | {"action": "delete", "erase_exports": True}
        once = f"canary-deletion-{of.pk}-{work.turn.pk}"
        of.deletion_id = work.client.file("data-deletion", "data-deletion", body, once=once)
        of.write(deletion_id=of.deletion_id)
    if not _is_completed(work, where, of.deletion_id):
        return False
    of.write(erased_at=Now())
    return True


def _is_completed(work: Work, where: str, request_id: UUID) -> bool:
    """Return whether a request is completed. Raises Inconclusive if it does not continue by itself."""
    request = work.client.read(where, f"requests/{request_id}")
    status: str = request["status"]
    if status != "completed" and status not in _UNDER_WAY:
        # Staff have to decide: a key of the API can neither retry nor approve.
        reason = request["hold_reason"] or (request["error"] or {}).get("code", "")
        raise Inconclusive(Trouble.NOT_CARRIED_OUT, f"{where}: {status} {reason}".rstrip())
    return status == "completed"
