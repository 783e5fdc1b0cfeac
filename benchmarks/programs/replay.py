"""A replay of 100,000 lines of the erasure ledger in a database of a million identities, some of which are erased.

The database looks restored: the objects have no rows. One line in twenty is about a stored chatter, with five
conversations; the others are about unknown ones. The command is run as an operator runs it, including its start. It
may take two minutes at most, and there is no floor.
"""

import os
from datetime import timedelta

from django.utils import timezone
from uuid_utils.compat import uuid7

from benchmarks import world
from benchmarks.filing import NotCompleted
from benchmarks.filling import FilledChatbot, fill
from benchmarks.results import Result, Run
from benchmarks.running import command
from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from compliance.ledger import content, objects, service
from compliance.ledger.content import Header
from compliance.models import ComplianceRequest, Service
from conversations.models import Conversation

_CONVERSATIONS = 5
_NAMED = 20  # one in so many
_LINES_OF_AN_OBJECT = 500
MOST_SECONDS = 120


def run(run: Run) -> None:
    identities, lines = run.size(1_000_000, 20_000), run.size(100_000, 2_000)
    for _ in range(run.rounds(1)):
        world.empty()
        filled = fill("acme", chatters=identities // _CONVERSATIONS, messages=1)
        named = _write(filled, lines)
        _check_restored()
        world.settle()
        seconds, peak = command("replay_erasures", "--dry-run", "--json")
        run.add(Result("replay, dry run, lines", lines, None, seconds, None, peak_mib=peak))
        seconds, peak = command("replay_erasures", "--json")
        erased = Conversation.objects.filter(chatbot=filled.chatbot, deleted_at__isnull=False).count()
        requests = ComplianceRequest.objects.filter(status="completed").count()
        if (erased, requests) != (named * _CONVERSATIONS, lines):
            raise NotCompleted(f"{erased} conversations of {named} chatters were erased, for {requests} requests.")
        run.add(Result("replay, lines", lines, None, seconds, None, peak_mib=peak))
        run.note(f"replay: {named:,} of {lines:,} lines were about stored chatters; to take at most {MOST_SECONDS} s")


def _write(filled: FilledChatbot, lines: int) -> int:
    """Write the ledger's objects, without rows; return the number of lines about stored chatters."""
    ours = service.current()
    chatbot = Chatbot.objects.get(pk=filled.chatbot)
    variable = chatbot.variables.get()
    named = filled.values[: lines // _NAMED]
    at = timezone.now() - timedelta(hours=1)
    for start in range(0, lines, _LINES_OF_AN_OBJECT):
        of_object = []
        for number in range(start, min(start + _LINES_OF_AN_OBJECT, lines)):
            is_named = number % _NAMED == 0
            chatter = filled.digest_of(named[number // _NAMED]) if is_named else os.urandom(32)
            of_object.append(
                {
                    "kind": "exact",
                    "request": str(uuid7()),
                    "chatbot": str(chatbot.public_id),
                    "variable": str(variable.public_id),
                    "chatter": chatter.hex(),
                    "erase_exports": False,
                    "received_at": at.isoformat(),
                    "requested_at": None,
                    "due_at": at.isoformat(),
                    "deadline": "30",
                    "extended_at": None,
                    "extension_reason": None,
                    "answered_at": None,
                    "named": None,
                    "cutoff_at": at.isoformat(),
                    "conversations": [os.urandom(32).hex() for _ in range(_CONVERSATIONS)],
                }
            )
        at += timedelta(seconds=1)
        key = f"{objects.folder()}{at:%Y/%m/%d/%H%M%S}-{uuid7()}.jsonl"
        sealed = content.seal(Header(key, ours.service_id, ours.incarnation, at), of_object)
        hosted_storage().put(key, sealed, objects.CONTENT_TYPE)
    return len(named)


def _check_restored() -> None:
    Service.objects.update(
        state="restored",
        reason="objects_unknown",
        tripped_at=timezone.now(),
        highest_number=Conversation.objects.order_by("-pk").values_list("pk", flat=True)[0],
    )
