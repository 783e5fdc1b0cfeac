"""The steps of a turn. A step can be repeated at any point: after a kill it begins anew.

A step that returns is done. It raises UnderWay if it has to wait, and Inconclusive if it cannot do its work for now.
What it notes on the turn is stored when it ends, either way.
"""

import fnmatch
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models.functions import Now

from common.times import midnight
from compliance.canary import api, bucket, logs, rows
from compliance.canary.errors import Inconclusive, Trouble, UnderWay
from compliance.canary.words import Planted, Search
from compliance.canary.work import Work
from compliance.models import CanaryTurn

Step = CanaryTurn.Step

# States of a request that continues by itself.
_UNDER_WAY = {"accepted", "processing"}
# States of a request that does not, or only by a decision of staff.
_ENDED = {"failed", "cancelled", "rejected"}

# What the search has to find before the deletion, at least.
_CONTROLS = Counter(
    [
        "api not_erased previewRequest",
        "api text_left lookUpConversations",
        "api text_left getConversation",
        "api text_left listConversations",
        "api text_left listMessages",
        "api text_left listFiles",
        "api text_left getRequest (export)",
        "bucket text_left uploads/* (content)",
        # The CSV, and beside it a copy of the file.
        "bucket text_left chatter_data_exports/* (content)",
        "bucket text_left chatter_data_exports/* (content)",
        "bucket text_left daily_conversations_extracts/* (content)",
        "rows text_left compliance_export.key",
        "rows text_left conversations_conversation.user_name",
        "rows text_left conversations_identity.value",
        "rows text_left conversations_message.text",
        "rows text_left conversations_nameword.word",
        "rows text_left conversations_uploadedfile.name",
        "rows text_left conversations_variablevalue.value",
    ]
)


def clean_up(work: Work) -> None:
    """Have the remaining chatter of a former turn erased. Nothing is planted before that."""
    left = CanaryTurn.objects.filter(planted_at__isnull=False, erased_at__isnull=True).exclude(pk=work.turn.pk)
    for former in left.order_by("pk"):
        _erase(work, former, "getRequest (former turn)")


def plant(work: Work) -> None:
    turn, planted = work.turn, work.planted
    if turn.planted_at is None:
        # First, so that a later turn erases it even if this one fails.
        turn.write(planted_at=Now())
        turn.refresh_from_db(fields=["planted_at"])
    noon = midnight(turn.day, ZoneInfo(turn.chatbot.timezone)) + timedelta(hours=12)
    documents = planted.documents(now=turn.began_at, earlier=noon)
    results = work.client.read("storeConversations", "conversations", documents)["results"]
    if any(result["error"] for result in results):
        raise Inconclusive(Trouble.API_REFUSED, "storeConversations")
    turn.numbers = [result["number"] for result in results]
    stored = work.client.upload(
        "storeFile",
        f"conversations/{turn.numbers[0]}/files",
        name=planted.file_name,
        # A type that the service accepts. The caller declares it, and the content is not checked.
        media_type=settings.UPLOAD_TYPES[0].replace("*", "x"),
        content=planted.file,
        message_id=planted.message_id,
    )
    turn.file_id = int(stored["file_id"])


def export(work: Work) -> None:
    turn = work.turn
    if turn.export_id is None:
        body = work.planted.about | {"action": "export", "include_files": True}
        turn.export_id = work.client.file("data-export", body, once=f"canary-export-{turn.pk}")
    _require_completed(work, "getRequest (export)", turn.export_id)


def extract(work: Work) -> None:
    """Require the extract of the earlier day, made after the conversations were stored."""
    turn = work.turn
    for one in work.client.read("listExtracts", "extracts")["extracts"]:
        is_made = one["day"] == turn.day.isoformat() and one["state"] == "done"
        if is_made and (turn.planted_at is None or datetime.fromisoformat(one["finished_at"]) > turn.planted_at):
            return
    raise UnderWay(Trouble.EXTRACT_LATE, "extract")


def control(work: Work) -> None:
    """Check that the search finds the present data: one that finds nothing now would prove nothing later."""
    if places := unseen(work):
        raise Inconclusive(Trouble.BLIND, places[0])


def unseen(work: Work) -> list[str]:
    """Return the places in which the search should find the present data, and does not. Raises Inconclusive."""
    present = Work(work.turn, Search(work.planted.texts))
    for scan in (api.scan, bucket.scan, rows.scan):
        scan(present)
    if present.trouble:
        raise present.trouble
    found = [" ".join(finding) for finding in present.findings]
    return [place for place, least in _CONTROLS.items() if len(fnmatch.filter(found, place)) < least]


def erase(work: Work) -> None:
    _erase(work, work.turn, "getRequest (deletion)")


STEPS: Mapping[str, Callable[[Work], None]] = {
    Step.CLEAN_UP: clean_up,
    Step.PLANT: plant,
    Step.EXPORT: export,
    Step.EXTRACT: extract,
    Step.CONTROL: control,
    Step.ERASE: erase,
    Step.LOOK_API: api.scan,
    Step.LOOK_BUCKET: bucket.scan,
    Step.LOOK_ROWS: rows.scan,
    Step.LOOK_LOGS: logs.scan,
}


def _erase(work: Work, turn: CanaryTurn, where: str) -> None:
    """Have the chatter of a turn erased, by a deletion that is filed once.

    If the deletion ends without erasing, each turn files another one, once. It is filed with fresh exports, since
    only digests are left.
    """
    if turn.deletion_id is None or work.client.read(where, f"requests/{turn.deletion_id}")["status"] in _ENDED:
        body = Planted(turn.pk).about | {"action": "delete", "erase_exports": True}
        turn.deletion_id = work.client.file("data-deletion", body, once=f"canary-deletion-{turn.pk}-{work.turn.pk}")
        turn.write(deletion_id=turn.deletion_id)
    _require_completed(work, where, turn.deletion_id)
    turn.write(erased_at=Now())


def _require_completed(work: Work, where: str, request_id: UUID) -> None:
    """Raise UnderWay until a request is completed, and Inconclusive if it does not continue by itself."""
    request = work.client.read(where, f"requests/{request_id}")
    status: str = request["status"]
    if status in _UNDER_WAY:
        raise UnderWay(Trouble.NOT_CARRIED_OUT, where)
    if status != "completed":
        # Staff have to decide: a key of the API can neither retry nor approve.
        reason = request["hold_reason"] or (request["error"] or {}).get("code", "")
        raise Inconclusive(Trouble.NOT_CARRIED_OUT, f"{where}: {status} {reason}".rstrip())
