"""The metrics: names, labels, and advice.

Labels are closed lists, and every series always exists, with 0 where there is nothing. Names are never changed, since
users' rules and boards contain them. Metrics of one chatbot have names of their own (`dca_chatbot_…`), so that no sum
counts it twice.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import product

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from chatbots.models import Chatbot
from common.version import VERSION
from compliance.cluster.heartbeats import Condition
from compliance.cluster.occurrences import Name
from compliance.deadlines import DUE_SOON_WITHIN, OPEN
from compliance.errors import FAILURES
from compliance.metrics import queries
from compliance.models import Callback, ComplianceRequest
from compliance.models import Service as Identity
from compliance.models.canary import Place
from compliance.work import health
from compliance.work.health_codes import Code
from conversations.models import IdentityLookup

_COUNTED = "Counted up to 2,000 of each state, and less of each chatbot the more there are."

_Values = Mapping[tuple[str, ...], float]
_Labels = Mapping[str, str]
_NO_LABELS: _Labels = {}


class Service(Collector):
    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Query the database. Raises django.db.Error."""
        chatbots = list(Chatbot.objects.order_by("pk").values_list("pk", flat=True))
        yield _gauge(
            "dca_build_info", "Always 1; the label is the version of the web server.", 1, {"version": VERSION}
        )
        yield from _of_chatbots(chatbots)
        found = health.check()
        yield from _of_workers(found)
        yield from _of_ledger(found)
        yield from _of_canary(found)
        yield _gauge("dca_legal_holds_in_force", "Legal holds in force.", sum(one.in_force for one in found.holds))
        yield _gauge(
            "dca_legal_holds_review_due",
            "Legal holds that are past their review date. They stay in force. manage.py legal_holds --state "
            "due_for_review lists them.",
            sum(one.review_due for one in found.holds),
        )
        yield _by_labels(
            "dca_files_kept_too_long_seconds",
            "Seconds since the oldest expired hosted file should have been deleted. Minutes are normal; if it grows, "
            "run manage.py purge_expired, which says what the storage refuses.",
            {"kind": ["export", "extract"]},
            {(kind,): seconds for kind, seconds in queries.files_kept_too_long().items()},
        )
        yield _gauge(
            "dca_mailboxes_failing",
            "Officers whose last mail could not be sent and who still have notifications. The log says mail.failed "
            "with a code.",
            queries.mailboxes_failing(),
        )


class OneChatbot(Collector):
    """The waiting work of one chatbot, labelled with its slug."""

    def __init__(self, chatbot: Chatbot) -> None:
        self._chatbot = chatbot

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Query the database. Raises django.db.Error."""
        return _of_chatbots([self._chatbot.pk], "dca_chatbot", {"chatbot": self._chatbot.slug})


def _of_chatbots(
    chatbots: Sequence[int], prefix: str = "dca", of: _Labels = _NO_LABELS
) -> Iterator[GaugeMetricFamily]:
    gauge, by_labels = partial(_gauge, of=of), partial(_by_labels, of=of)
    stats = queries.chatbot_stats(chatbots)
    yield by_labels(
        f"{prefix}_oldest_waiting_seconds",
        "Age of the oldest request that may be taken. Seconds are normal; if it grows, check the clusters and the "
        "workers' log.",
        {"kind": ComplianceRequest.Kind.values, "lane": ComplianceRequest.Lane.values},
        stats.waiting_seconds,
    )
    yield from _of_open_requests(f"{prefix}_requests", stats.open, by_labels)
    yield by_labels(
        f"{prefix}_callbacks",
        "Callbacks that wait to be delivered, and that were given up (kept for CALLBACK_DAYS). Counted up to "
        "2,000. Send given up ones again with manage.py resend_callbacks.",
        {"state": [Callback.State.WAITING.value, Callback.State.GIVEN_UP.value]},
        {(state,): queued.number for state, queued in stats.callbacks.items()},
    )
    yield gauge(
        f"{prefix}_callbacks_oldest_due_seconds",
        "Seconds since the oldest callback was due. Seconds are normal; if it grows, no worker sends callbacks.",
        stats.callbacks.get("waiting", queries.NONE).oldest_seconds,
    )
    yield by_labels(
        f"{prefix}_identity_lookups",
        "Look-ups of identities that wait, and by state those of the last hour that ended, where the resolver is "
        "on, but not those on a silent machine of Citus. Counted up to 2,000. The page Identity of a "
        "chatbot's settings has the last error.",
        {"state": IdentityLookup.State.values},
        {(state,): queued.number for state, queued in stats.lookups.items()},
    )
    yield gauge(
        f"{prefix}_identity_lookups_oldest_seconds",
        "Seconds since the oldest look-up of an identity was queued. Seconds are normal; a resolver that is down is "
        "tried for a day.",
        stats.lookups.get("pending", queries.NONE).oldest_seconds,
    )
    yield by_labels(
        f"{prefix}_extracts",
        "Daily extracts to make, to rebuild, and failed. Counted up to 1,000. Retry failed ones with manage.py "
        "daily_extract.",
        {"state": ["pending", "stale", "failed"]},
        {(state,): queued.number for state, queued in stats.extracts.items()},
    )
    yield gauge(
        f"{prefix}_extracts_oldest_due_seconds",
        "Seconds since the oldest daily extract was due to be made or rebuilt. Minutes are normal; deletions wait "
        "for it.",
        max(stats.extracts.get(state, queries.NONE).oldest_seconds for state in ("pending", "stale")),
    )
    yield gauge(
        f"{prefix}_retention_late",
        "Chatbots with a retention period that had no run yesterday or today. Check the sweep's age and the workers' "
        "log.",
        stats.retention_late,
    )


def _of_open_requests(
    prefix: str, found: Sequence[queries.OpenRequests], by_labels: Callable[..., GaugeMetricFamily]
) -> Iterator[GaugeMetricFamily]:
    def family(name: str, help_text: str, values: _Values, **lists: Sequence[str]) -> GaugeMetricFamily:
        kinds = {"kind": ComplianceRequest.Kind.values}
        return by_labels(prefix + name, f"{help_text} {_COUNTED}", kinds | lists, values)

    yield family(
        "",
        "Open requests, by state; of the failed ones, those that can be retried.",
        _sum(((row.kind, row.status), row.number) for row in found),
        status=[status.value for status in OPEN],
    )
    yield family(
        "_overdue",
        "Open requests past the deadline of their chatbot's rule, and unanswered. Carry them out.",
        _sum(((row.kind,), row.overdue) for row in found),
    )
    yield family(
        "_due_soon",
        f"Open requests due within {DUE_SOON_WITHIN.days} days. Find out what each waits for.",
        _sum(((row.kind,), row.due_soon) for row in found),
    )
    yield family(
        "_held",
        "Requests on hold, by reason. An officer has to approve or reject them; those under a legal hold continue "
        "with its release.",
        _sum(((row.kind, row.reason), row.number) for row in found if row.status == "on_hold"),
        reason=ComplianceRequest.HoldReason.values,
    )
    yield family(
        "_requeued",
        "Requests that a worker requeued, by what they wait for. They go on by themselves.",
        _sum(((row.kind, row.reason), row.number) for row in found if row.status == "accepted" and row.reason),
        waiting_for=ComplianceRequest.WaitingFor.values,
    )
    yield family(
        "_failed",
        "Failed requests that can be retried, by error code. docs/reference/failure-codes.md has the remedy of each.",
        _sum(
            ((row.kind, row.reason if row.reason in FAILURES else "other"), row.number)
            for row in found
            if row.status == "failed"
        ),
        code=[*FAILURES, "other"],
    )


def _of_workers(found: health.Health) -> Iterator[GaugeMetricFamily]:
    yield _by_labels(
        "dca_health_problem",
        "1 while manage.py health reports this problem, with what to do; else 0.",
        {"code": list(Code)},
        {(problem.code,): 1 for problem in found.problems},
    )
    yield _by_labels(
        "dca_clusters",
        "Clusters of workers of the last day, by condition. Start one if none is alive; restart a stalled one.",
        {"condition": list(Condition)},
        _sum(((cluster.condition,), 1) for cluster in found.clusters),
    )
    yield _gauge(
        "dca_sweep_age_seconds",
        "Seconds since the last sweep, which does each minute what is due by time. Up to 90 are normal; if it grows, "
        "restart the clusters.",
        found.sweep_age.total_seconds(),
    )
    yield _gauge("dca_claims", "Claims that workers are working on. Counted up to 200.", len(found.claims))
    yield _gauge(
        "dca_claims_expired",
        "Claims of lost workers. They are requeued within a minute; if they stay, start a cluster.",
        len(found.expired_claims),
    )
    yield _gauge(
        "dca_tasks_waiting",
        "Tasks that no worker has taken yet, counted up to 1,000. A handful is normal; if it grows, check the "
        "clusters.",
        found.tasks_waiting,
    )


def _of_ledger(found: health.Health) -> Iterator[GaugeMetricFamily]:
    ledger = found.ledger
    yield _by_labels(
        "dca_service_state",
        "1 for the present state, else 0. In a database that was restored nothing is filed, shown or worked on; "
        "manage.py health says what to do.",
        {"state": Identity.State.values},
        {(ledger.state,): 1},
    )
    yield _gauge(
        "dca_ledger_compared_age_seconds",
        "Seconds since the erasure ledger was compared with the database. Up to 90 are normal; if it grows, a "
        "restore would not be noticed.",
        _age(found, ledger.compared_at if ledger.is_open else None),
    )
    yield _gauge(
        "dca_ledger_journal_oldest_seconds",
        "Seconds since the oldest acceptance, withdrawal or revocation that the erasure ledger does not have yet. A "
        "few are normal.",
        _age(found, ledger.journal_since if ledger.is_open else None),
    )
    yield _by_labels(
        "dca_ledger_findings",
        "How often objects of the erasure ledger were gone, or foreign ones were there. manage.py health says "
        "what to do.",
        {"kind": ["missing", "foreign"]},
        {("missing",): found.last[Name.LEDGER_MISSING].times, ("foreign",): found.last[Name.LEDGER_FOREIGN].times},
    )


def _of_canary(found: health.Health) -> Iterator[GaugeMetricFamily]:
    state = found.canary
    yield _gauge(
        "dca_last_clean_canary_age_seconds",
        "Seconds since the canary last showed that a deletion leaves nothing; 0 without CANARY_MINUTES. Some more "
        "than that are normal; if it grows, manage.py canary --last says why.",
        _age(found, state.clean_since if state.is_on else None),
    )
    yield _by_labels(
        "dca_canary_findings",
        "What the last turn of the canary that could look found left after a deletion, by place. manage.py canary "
        "--last names it.",
        {"place": Place.values},
        {(place,): number for place, number in state.findings.items()} if state.is_on else {},
    )


def _age(found: health.Health, since: datetime | None) -> float:
    return max(0.0, (found.at - since).total_seconds()) if since else 0


def _sum(counts: Iterable[tuple[tuple[str, ...], int]]) -> _Values:
    total: Counter[tuple[str, ...]] = Counter()
    for labels, number in counts:
        total[labels] += number
    return total


def _gauge(name: str, help_text: str, value: float, of: _Labels = _NO_LABELS) -> GaugeMetricFamily:
    return _by_labels(name, help_text, {}, {(): value}, of)


def _by_labels(
    name: str, help_text: str, lists: Mapping[str, Sequence[str]], values: _Values, of: _Labels = _NO_LABELS
) -> GaugeMetricFamily:
    """Return a family with a series for each combination of the lists, with 0 where there is no value."""
    family = GaugeMetricFamily(name, help_text, labels=[*of, *lists])
    for labels in product(*lists.values()):
        family.add_metric([*of.values(), *labels], values.get(labels, 0))
    return family
