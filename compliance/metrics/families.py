"""The metrics: names, labels and what to do about them.

Labels are closed lists, and each series is always there, with 0 where there is nothing. Names are never changed:
rules and boards of others hold them. What is told of one chatbot has names of its own (`dca_chatbot_…`), so that no
sum counts it twice.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from chatbots.models import Chatbot
from common.version import VERSION
from compliance.deadlines import DUE_SOON_WITHIN, OPEN
from compliance.failure_docs import FAILURES
from compliance.metrics import queries
from compliance.metrics.queries import ChatbotStats
from compliance.models import Callback, ComplianceRequest
from compliance.work import health
from compliance.work.heartbeats import Condition

_KINDS = ComplianceRequest.Kind.values
_LANES = ComplianceRequest.Lane.values
_HOLD_REASONS = ComplianceRequest.HoldReason.values
_WAITING_FOR = ComplianceRequest.WaitingFor.values
_FAILURES = [*FAILURES, "other"]
_CALLBACKS = [Callback.State.WAITING.value, Callback.State.GIVEN_UP.value]
_EXTRACTS = ["pending", "stale", "failed"]

_Values = Mapping[tuple[str, ...], float]


class Service(Collector):
    """The service as a whole: what waits in all chatbots, and the workers."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask the database. Raises django.db.Error."""
        chatbots = list(Chatbot.objects.order_by("pk").values_list("pk", flat=True))
        yield _gauge("dca_build_info", "Always 1; the label tells the version of the web server.", 1, version=VERSION)
        yield from _of_chatbots("dca", queries.chatbot_stats(chatbots), {})
        yield from _of_workers(health.check())
        yield _by_labels(
            "dca_files_kept_too_long_seconds",
            "For how many seconds a hosted file is past its time and still there. Minutes are normal; if it grows, "
            "run manage.py purge_expired, which says what the storage refuses.",
            {"kind": ["export", "extract"]},
            {(kind,): seconds for kind, seconds in queries.files_kept_too_long().items()},
        )
        yield _gauge(
            "dca_mailboxes_failing",
            "Officers whose last mail could not be sent and who still have something to hear of. The log says "
            "mail.failed with a code.",
            queries.mailboxes_failing(),
        )


class OneChatbot(Collector):
    """What waits in one chatbot, labelled with its slug."""

    def __init__(self, chatbot: Chatbot) -> None:
        self._chatbot = chatbot

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask the database. Raises django.db.Error."""
        return _of_chatbots("dca_chatbot", queries.chatbot_stats([self._chatbot.pk]), {"chatbot": self._chatbot.slug})


def _of_chatbots(prefix: str, found: ChatbotStats, of: Mapping[str, str]) -> Iterator[GaugeMetricFamily]:
    yield _by_labels(
        f"{prefix}_oldest_waiting_seconds",
        "For how many seconds the oldest request that may be taken up has waited. Seconds are normal; if it grows, "
        "look at the clusters and the workers' log.",
        {"kind": _KINDS, "lane": _LANES},
        found.waiting_seconds,
        of,
    )
    yield from _of_open_requests(prefix, found, of)
    yield _by_labels(
        f"{prefix}_callbacks",
        "Callbacks that wait to be delivered, and that were given up (kept for CALLBACK_DAYS). Counted up to "
        "2,000. Send given up ones again with manage.py resend_callbacks.",
        {"state": _CALLBACKS},
        {(state,): queued.number for state, queued in found.callbacks.items()},
        of,
    )
    yield _gauge(
        f"{prefix}_callbacks_oldest_due_seconds",
        "For how many seconds the next attempt of a callback is due. Seconds are normal; if it grows, no worker "
        "sends callbacks.",
        found.callbacks.get("waiting", queries.NONE).oldest_seconds,
        **of,
    )
    yield _by_labels(
        f"{prefix}_extracts",
        "Daily extracts to be made, to be made again, and failed. Counted up to 1,000. Have failed ones made again: "
        "manage.py daily_extract.",
        {"state": _EXTRACTS},
        {(state,): queued.number for state, queued in found.extracts.items()},
        of,
    )
    yield _gauge(
        f"{prefix}_extracts_oldest_due_seconds",
        "For how many seconds a daily extract is due to be made, or made again. Minutes are normal; deletions wait "
        "for it.",
        max(found.extracts.get(state, queries.NONE).oldest_seconds for state in ("pending", "stale")),
        **of,
    )


def _of_open_requests(prefix: str, found: ChatbotStats, of: Mapping[str, str]) -> Iterator[GaugeMetricFamily]:
    counted = "Counted up to 2,000 of each state, and less of each chatbot the more there are."
    by_kind = {"kind": _KINDS}
    yield _by_labels(
        f"{prefix}_requests",
        f"Requests that are not over, by state; of the failed ones those that can be retried. {counted}",
        by_kind | {"status": [status.value for status in OPEN]},
        _sum(((one.kind, one.status), one.number) for one in found.open),
        of,
    )
    yield _by_labels(
        f"{prefix}_requests_overdue",
        f"Of these, requests past their due date (DUE_DAYS): a promise is broken. Carry them out. {counted}",
        by_kind,
        _sum(((one.kind,), one.overdue) for one in found.open),
        of,
    )
    yield _by_labels(
        f"{prefix}_requests_due_soon",
        f"Of these, requests due within {DUE_SOON_WITHIN.days} days. Find out what each waits for. {counted}",
        by_kind,
        _sum(((one.kind,), one.due_soon) for one in found.open),
        of,
    )
    yield _by_labels(
        f"{prefix}_requests_held",
        f"Requests on hold, by why. Somebody has to approve or reject them. {counted}",
        by_kind | {"reason": _HOLD_REASONS},
        _sum(((one.kind, one.reason), one.number) for one in found.open if one.status == "on_hold"),
        of,
    )
    yield _by_labels(
        f"{prefix}_requests_put_back",
        f"Requests that a worker put back into the line, by what they wait for. They go on by themselves. {counted}",
        by_kind | {"waiting_for": _WAITING_FOR},
        _sum(((one.kind, one.reason), one.number) for one in found.open if one.status == "accepted" and one.reason),
        of,
    )
    yield _by_labels(
        f"{prefix}_requests_failed",
        "Requests that failed and can be retried, by the error's code. What to do about each code is in "
        f"docs/operating.md. {counted}",
        by_kind | {"code": _FAILURES},
        _sum(
            ((one.kind, one.reason if one.reason in FAILURES else "other"), one.number)
            for one in found.open
            if one.status == "failed"
        ),
        of,
    )


def _of_workers(found: health.Health) -> Iterator[GaugeMetricFamily]:
    codes = {problem.code for problem in found.problems}
    yield _by_labels(
        "dca_health_problem",
        "1 while manage.py health tells this problem, which says what to do; else 0.",
        {"code": list(health.Code)},
        {(code,): 1 for code in codes},
    )
    yield _by_labels(
        "dca_clusters",
        "Clusters of workers of the last day, by condition. Start one if none is alive; restart one that is stalled.",
        {"condition": list(Condition)},
        _sum(((cluster.condition,), 1) for cluster in found.clusters),
    )
    yield _gauge(
        "dca_sweep_age_seconds",
        "How many seconds ago the sweep ran, which does each minute what is due by time. Up to 90 are normal; if it "
        "grows, restart the clusters.",
        found.sweep_age.total_seconds(),
    )
    yield _gauge("dca_claims", "Claims of workers: what is in hand now. Counted up to 200.", len(found.claims))
    yield _gauge(
        "dca_claims_expired",
        "Claims whose worker is gone. The sweep of the next minute breaks them up; if they stay, start a cluster.",
        len(found.expired_claims),
    )
    yield _gauge(
        "dca_tasks_waiting",
        "Tasks that no worker has taken yet, counted up to 1,000. A handful is normal; if it grows, look at the "
        "clusters.",
        found.tasks_waiting,
    )


def _sum(counted: Iterable[tuple[tuple[str, ...], int]]) -> _Values:
    total: Counter[tuple[str, ...]] = Counter()
    for labels, number in counted:
        total[labels] += number
    return total


def _gauge(name: str, documentation: str, value: float, **labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _by_labels(
    name: str,
    documentation: str,
    lists: Mapping[str, Sequence[str]],
    values: _Values,
    of: Mapping[str, str] | None = None,
) -> GaugeMetricFamily:
    """Make a series for each combination of the lists, whether or not there is a value for it."""
    of = of or {}
    family = GaugeMetricFamily(name, documentation, labels=[*of, *lists])
    for labels in product(*lists.values()):
        family.add_metric([*of.values(), *labels], values.get(labels, 0))
    return family
