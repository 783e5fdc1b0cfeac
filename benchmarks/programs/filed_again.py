"""One more deletion of a UCI value whose many conversations are all erased, against one index scan of as many rows.

Once nothing of them is left anywhere, once half of them stand in an export that is in its grace. Each is carried out
in this process, so that no poll interval and no other worker is in the figure. The floor reads the conversations by
the mark of the deletion that erased them, with the planner kept to that index, and does nothing with them.
"""

import math
import time
from statistics import median

from benchmarks import world
from benchmarks.filing import NotCompleted, are_completed, file
from benchmarks.filling import FilledChatbot, fill, insert
from benchmarks.results import Result, Run
from chatbots.buckets import hosted_storage
from compliance import worker
from compliance.models import Export

_MESSAGES_OF_A_CONVERSATION = 2
_SESSION = ("SET enable_seqscan = off", "SET enable_bitmapscan = off")
_SCAN = """
SELECT id, external_id_digest, started_at, deleted_at FROM conversations_conversation WHERE deletion_request_id = %s
"""


def run(run: Run) -> None:
    conversations = run.size(100_000, 2_000)
    for what, is_copied in (("nothing is left", False), ("half stand in an export", True)):
        floors, ours = [], []
        for _ in range(run.rounds(3)):
            filled, floor = _erased(conversations, is_copied=is_copied)
            floors.append(floor)
            file(filled, filled.values)
            ours.append(_carry_out(filled, "deletion"))
            _remove_copies(filled, expected=is_copied)
            run.log(f"floor {floors[-1]:.4f} s, ours {ours[-1]:.4f} s")
        name = f"filed again, {what}, conversations"
        run.add(Result(name, conversations, median(floors), median(ours), None))


def _erased(conversations: int, *, is_copied: bool) -> tuple[FilledChatbot, float]:
    """Have one chatter's conversations erased, and return the seconds of the floor."""
    world.empty()
    half = conversations // 2
    filled = fill("acme", chatters=1, conversations=half, messages=_MESSAGES_OF_A_CONVERSATION)
    if is_copied:
        world.settle()
        file(filled, filled.values, "export")
        _carry_out(filled, "export")
    insert(filled, range(half + 1, conversations + 1), messages=_MESSAGES_OF_A_CONVERSATION)
    world.settle()
    (request_id,) = file(filled, filled.values)
    _carry_out(filled, "deletion")
    world.settle()
    with world.plain_connection(autocommit=True) as connection:
        for statement in _SESSION:
            connection.execute(statement)
        seconds = []
        for _ in range(4):
            began = time.perf_counter()
            rows = connection.execute(_SCAN, [request_id]).fetchall()
            seconds.append(time.perf_counter() - began)
    if len(rows) != conversations:
        raise NotCompleted(f"{len(rows)} of {conversations} conversations are erased.")
    # The first one brings the pages into memory, where the deletion then finds them too.
    return filled, median(seconds[1:])


def _carry_out(filled: FilledChatbot, kind: str) -> float:
    began = time.perf_counter()
    worker.drain(seconds=math.inf)
    seconds = time.perf_counter() - began
    if not are_completed(filled, kind):
        raise NotCompleted(f"The {kind} was not carried out.")
    return seconds


def _remove_copies(filled: FilledChatbot, *, expected: bool) -> None:
    keys = Export.objects.filter(chatbot=filled.chatbot, key__isnull=False).values_list("key", flat=True)
    if len(keys) != expected:
        raise NotCompleted("The export of before is not as it was left.")
    for key in keys:
        hosted_storage().purge(str(key))
