"""A retention run on a million conversations of which half are due, while another chatbot's small requests go on.

The floor is plain SQL, 2,500 conversations a transaction. Beside the run a small deletion is filed every second, the
first one at once; the floor of their wait is the median on the idle cluster before. No target is set.
"""

from datetime import timedelta
from itertools import cycle
from statistics import median

from django.db.models.functions import Now
from django.utils import timezone

from benchmarks import world
from benchmarks.beside import measure_wait, measure_waits
from benchmarks.erasing import erase_in_chunks
from benchmarks.filing import NotCompleted, filter_completed
from benchmarks.filling import FilledChatbot, fill
from benchmarks.results import Result, Run
from benchmarks.running import cluster
from benchmarks.watching import longest_transaction
from chatbots.models import Chatbot
from compliance.models import ComplianceRequest
from compliance.retention import policy
from conversations.models import Conversation

_DAYS = 90
_CHUNK = 2_500
_MESSAGES_OF_A_CONVERSATION = 4
_IDLE_SAMPLES = 5

_FIND = """
SELECT id FROM conversations_conversation
 WHERE chatbot_id = %s AND deletion_request_id IS NULL AND last_message_at < now() - make_interval(days => %s)
 ORDER BY id
"""


def run(run: Run) -> None:
    conversations = run.size(1_000_000, 10_000)
    for _ in range(run.rounds(1)):
        _measure(run, conversations)


def _measure(run: Run, conversations: int) -> None:
    filled = _fresh(conversations)
    floor_s, floor_longest_s = erase_in_chunks(_FIND, [filled.chatbot, _DAYS], chunk=_CHUNK)
    large = _fresh(conversations)
    cutoff = timezone.now() - timedelta(days=_DAYS)
    young = Conversation.objects.filter(chatbot=large.chatbot, last_message_at__gte=cutoff).count()
    small = fill("small", chatters=run.size(1_000, 50))
    values = cycle(small.values)
    world.settle()
    with cluster() as workers, longest_transaction() as longest:
        idle = [measure_wait(small, next(values), "deletion") for _ in range(_IDLE_SAMPLES)]
        workers.forget_peak()
        longest.seconds = 0.0
        request = _file(large)
        seconds, waits = measure_waits(small, values, "deletion", is_over=lambda: _is_over(request))
        peak = workers.peak_mib()
    request.refresh_from_db()
    left = Conversation.objects.filter(chatbot=large.chatbot, deletion_request_id=None).count()
    # As time passes, one becomes due each quarter of a minute.
    if left + request.conversations != conversations or not young - conversations // 1_000 <= left <= young:
        raise NotCompleted(f"{left} of {young} young conversations are left, {request.conversations} were erased.")
    run.add(Result("retention, conversations due", request.conversations, floor_s, seconds, None, peak_mib=peak))
    run.add(Result("retention: longest transaction", conversations, floor_longest_s, longest.seconds, None))
    run.add(Result("retention: longest wait beside it", conversations, median(idle), max(waits), None))
    run.note(f"retention: {len(waits)} small deletions went beside it, median wait {median(waits):.2f} s")


def _file(large: FilledChatbot) -> ComplianceRequest:
    Chatbot.objects.filter(pk=large.chatbot).update(retention_days=_DAYS, retention_set_at=Now())
    request = policy.file_run(Chatbot.objects.get(pk=large.chatbot), actor="command")
    if request is None:
        raise NotCompleted("Nothing is due.")
    return request


def _is_over(request: ComplianceRequest) -> bool:
    return bool(filter_completed([request.pk]))


def _fresh(conversations: int) -> FilledChatbot:
    """Conversations of the last 180 days."""
    world.empty()
    filled = fill(
        "large",
        chatters=conversations // 5,
        messages=_MESSAGES_OF_A_CONVERSATION,
        apart=2 * _DAYS * 86_400 // conversations,
        days=2 * _DAYS,
    )
    world.settle()
    return filled
