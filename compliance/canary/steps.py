"""What each step of a turn does. A step can be repeated at any point: after a kill it begins anew.

Each returns whether it is done; False means that something it waits for is still under way. It raises CannotTell
where it cannot do its work for now.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models.functions import Now

from chatbots.models import DigestKey
from common.db import fetch
from common.times import midnight
from compliance.canary import api, bucket, logs, rows, words
from compliance.canary.api import Sighting
from compliance.canary.client import Client
from compliance.canary.setting_up import keys_of
from compliance.canary.trouble import Budget, CannotTell, Trouble
from compliance.canary.words import Planted, Search
from compliance.models import Canary, CanaryFinding, CanaryTurn

Step, Place = CanaryTurn.Step, CanaryFinding.Place

# Former turns that one cleans up after: more are left to the next.
_FORMER = 10
_NOON = timedelta(hours=12)
# For how long the words of a turn are looked for again, and of how many.
_AGAIN = timedelta(days=1)
_MOST_AGAIN = 200
# Of a request that goes on by itself.
_UNDER_WAY = {"accepted", "processing"}
# Of one that will not, or for staff alone.
_ENDED = {"failed", "cancelled", "rejected"}
_FORMER_TURN = "getRequest (former turn)"

_LONGEST_PLACE: int = CanaryFinding._meta.get_field("where").max_length or 0


class Work:
    """A turn that this process has, and what its steps need."""

    def __init__(self, canary: Canary, turn: CanaryTurn, budget: Budget) -> None:
        self.turn, self.budget = turn, budget
        self._canary = canary

    @cached_property
    def client(self) -> Client:
        """Raises CannotTell without an address, or keys."""
        if not settings.CANARY_URL:
            raise CannotTell(Trouble.NOT_SET_UP, "CANARY_URL")
        keys = keys_of(self._canary)
        slug = self._canary.chatbot.slug
        return Client(settings.CANARY_URL, slug, secret=keys.secret, token=keys.token, budget=self.budget)

    @cached_property
    def _key_since(self) -> datetime | None:
        """Since when `DIGEST_KEY` is what it is: words of before cannot be derived any more."""
        return DigestKey.objects.values_list("created_at", flat=True).first()

    def knows(self, turn: CanaryTurn) -> bool:
        """Return whether a turn's words, if it has planted any, can be derived with today's `DIGEST_KEY`."""
        return turn.planted_at is None or self._key_since is None or turn.planted_at > self._key_since

    @cached_property
    def planted(self) -> Planted:
        """Raises CannotTell once another key derives other words: a search for these would be clean."""
        if not self.knows(self.turn):
            raise CannotTell(Trouble.NOT_SET_UP, "DIGEST_KEY")
        return words.planted(self.turn.pk)

    @cached_property
    def former(self) -> list[CanaryTurn]:
        """The turns whose chatters were erased in the day before this one, newest first.

        Their words are looked for again: something may have brought them back, or written late.
        """
        turns = CanaryTurn.objects.filter(erased_at__gt=self.turn.began_at - _AGAIN).exclude(pk=self.turn.pk)
        return [each for each in turns.order_by("-began_at")[:_MOST_AGAIN] if self.knows(each)]

    @cached_property
    def search(self) -> Search:
        return Search(self.planted, *(words.planted(each.pk) for each in self.former))

    @property
    def since(self) -> datetime:
        """When the last turn began that could look everywhere: what is newer may have been seen by none."""
        looked = (each.began_at for each in self.former if not each.trouble)
        return next(looked, self.turn.began_at - _AGAIN)

    @property
    def request_ids(self) -> list[UUID]:
        """The exports and deletions of this turn and of `former`."""
        turns = [self.turn, *self.former]
        return [each for turn in turns for each in (turn.export_id, turn.deletion_id) if each is not None]

    @property
    def makes_extracts(self) -> bool:
        return self._canary.chatbot.extracts_enabled

    def store(self, **fields: Any) -> None:
        """Store fields of the turn at once, before what they announce is done."""
        for name, value in fields.items():
            setattr(self.turn, name, value)
        self.turn.write(**fields)

    def found(self, place: CanaryFinding.Place, sightings: Iterable[Sighting]) -> None:
        """Store what a search finds in a place, also where it then cannot go on.

        One that is repeated finds the same rows, or more.
        """
        seen: dict[Sighting, None] = {}
        try:
            for each in sightings:
                seen[each] = None
        finally:
            self.turn.write()  # who has lost the turn adds nothing to it
            CanaryFinding.objects.bulk_create(
                [
                    CanaryFinding(
                        turn=self.turn,
                        chatbot_id=self.turn.chatbot_id,
                        place=place,
                        code=each.code,
                        where=each.where[:_LONGEST_PLACE],
                    )
                    for each in seen
                ],
                ignore_conflicts=True,
            )


def clean_up(work: Work) -> bool:
    """Have erased what former turns planted and could not erase. Nothing is planted before all of it is gone."""
    left = CanaryTurn.objects.filter(planted_at__isnull=False, erased_at__isnull=True).exclude(pk=work.turn.pk)
    trouble: CannotTell | None = None
    is_done = True
    for former in left.order_by("pk")[:_FORMER]:
        try:
            if _is_erased(work, former):
                CanaryTurn.objects.filter(pk=former.pk).update(erased_at=Now())
            else:
                is_done = False
        except CannotTell as error:
            trouble = error
    if trouble:
        raise trouble
    return is_done and not left.exists()


def _is_erased(work: Work, former: CanaryTurn) -> bool:
    """Return whether a former turn's conversations are gone, and have its chatter erased if not."""
    if work.knows(former):
        _file_again(work, former)
        return _status(work, _FORMER_TURN, former.deletion_id) == "completed"
    # Nobody knows its words any more, but staff see it.
    if work.client.read("listConversations", "conversations?limit=1&deleted=false")["results"]:
        raise CannotTell(Trouble.NOT_SET_UP, "DIGEST_KEY")
    return True


def _file_again(work: Work, former: CanaryTurn) -> None:
    """File the deletion of a former turn's chatter, unless one is under way or done.

    If that ends without erasing, each turn files another one, once.
    """
    name = f"{former.pk}"
    if former.deletion_id is not None:
        if work.client.read(_FORMER_TURN, f"requests/{former.deletion_id}")["status"] not in _ENDED:
            return
        name += f"-{work.turn.pk}"
    former.deletion_id = _file_deletion(work, words.planted(former.pk), name)
    CanaryTurn.objects.filter(pk=former.pk).update(deletion_id=former.deletion_id)


def plant(work: Work) -> bool:
    turn, planted = work.turn, work.planted
    if turn.planted_at is None:
        # First, so that a later turn erases it whatever becomes of this one.
        before = work.former[0].logs if work.former else {}
        work.store(planted_at=_now(), logs=logs.positions_after(before))
    noon = midnight(turn.day, ZoneInfo(turn.chatbot.timezone)) + _NOON
    documents = planted.documents(now=turn.began_at, earlier=noon)
    results = work.client.send("storeConversations", "conversations", documents)["results"]
    if any(result["error"] for result in results):
        raise CannotTell(Trouble.API_REFUSED, "storeConversations")
    work.store(numbers=[result["number"] for result in results])
    work.store(file_id=_upload(work))
    return True


def _upload(work: Work) -> int:
    """Store the file unless an attempt before has, and return its number."""
    path = f"conversations/{work.turn.numbers[0]}/files"
    if known := work.client.read("listFiles", path)["results"]:
        return int(known[0]["file_id"])
    planted = work.planted
    answer = work.client.upload(
        "storeFile",
        path,
        name=planted.file_name,
        media_type=_media_type(),
        content=planted.file,
        message_id=planted.message_id,
    )
    if answer.status != 201:
        raise CannotTell(Trouble.API_REFUSED, "storeFile")
    return int(answer.json("storeFile")["file_id"])


def _media_type() -> str:
    """Return a type that the service takes; it is the caller's claim, and the content is not checked."""
    taken = settings.UPLOAD_TYPES
    return "text/plain" if any(fnmatchcase("text/plain", each) for each in taken) else taken[0].replace("*", "x")


def export(work: Work) -> bool:
    if work.turn.export_id is None:
        body = work.planted.about | {"action": "export", "include_files": True}
        once = f"canary-export-{work.turn.pk}"
        work.store(export_id=work.client.file("data-export", "data-export", body, once=once))
    return _status(work, "getRequest (export)", work.turn.export_id) == "completed"


def extract(work: Work) -> bool:
    """Wait for the extract of the earlier day, made after the conversations were stored."""
    if not work.makes_extracts:
        return True
    day, planted_at = work.turn.day.isoformat(), work.turn.planted_at
    for one in work.client.read("listExtracts", "extracts")["extracts"]:
        if one["day"] == day and one["state"] == "done":
            return planted_at is None or datetime.fromisoformat(one["finished_at"]) > planted_at
    return False


def control(work: Work) -> bool:
    """See that each search finds what is there: one that finds nothing now would prove nothing later."""
    turn, planted, budget = work.turn, work.planted, work.budget
    in_bucket = bucket.control(planted, turn, has_extract=work.makes_extracts, budget=budget)
    unseen = [
        *(f"api: {name}" for name in api.control(work.client, planted, turn)),
        *(f"bucket: {name}" for name in in_bucket),
        *(f"rows: {name}" for name in rows.control(Search(planted), turn, budget=budget)),
    ]
    if unseen:
        raise CannotTell(Trouble.BLIND, unseen[0])
    return True


def erase(work: Work) -> bool:
    if work.turn.deletion_id is None:
        work.store(deletion_id=_file_deletion(work, work.planted, f"{work.turn.pk}"))
    if _status(work, "getRequest (deletion)", work.turn.deletion_id) != "completed":
        return False
    work.store(erased_at=_now())
    return True


def look_api(work: Work) -> bool:
    work.found(Place.API, api.look(work.client, work.planted, work.search, work.turn))
    return True


def look_bucket(work: Work) -> bool:
    keys = bucket.ledger_keys(work.request_ids, since=work.since)
    work.found(Place.BUCKET, bucket.look(work.search, work.turn, ledger_keys=keys, budget=work.budget))
    return True


def look_rows(work: Work) -> bool:
    work.found(Place.ROWS, rows.look(work.search, work.turn, since=work.since, budget=work.budget))
    return True


def look_logs(work: Work) -> bool:
    turn, now = work.turn, logs.positions()
    work.found(Place.LOGS, logs.look(work.search, turn.logs, turn.began_at, budget=work.budget))
    work.store(logs=now | {"is_read": True})  # where the next turn goes on
    return True


STEPS: Mapping[str, Callable[[Work], bool]] = {
    Step.CLEAN_UP: clean_up,
    Step.PLANT: plant,
    Step.EXPORT: export,
    Step.EXTRACT: extract,
    Step.CONTROL: control,
    Step.ERASE: erase,
    Step.LOOK_API: look_api,
    Step.LOOK_BUCKET: look_bucket,
    Step.LOOK_ROWS: look_rows,
    Step.LOOK_LOGS: look_logs,
}


def _file_deletion(work: Work, planted: Planted, name: str) -> UUID:
    """File the deletion of a turn's chatter, once for each name, with fresh exports: only digests are left."""
    body = planted.about | {"action": "delete", "erase_exports": True}
    return work.client.file("data-deletion", "data-deletion", body, once=f"canary-deletion-{name}")


def _now() -> datetime:
    [(now,)] = fetch("SELECT statement_timestamp()")
    moment: datetime = now
    return moment


def _status(work: Work, where: str, request_id: UUID | None) -> str:
    """Return `completed`, or a state of a request that goes on by itself. Raises CannotTell for any other."""
    request = work.client.read(where, f"requests/{request_id}")
    status: str = request["status"]
    if status != "completed" and status not in _UNDER_WAY:
        # What staff have to decide about: a key of the API's can neither retry nor approve.
        reason = request["hold_reason"] or (request["error"] or {}).get("code", "")
        raise CannotTell(Trouble.NOT_CARRIED_OUT, f"{where}: {status} {reason}".rstrip())
    return status
