"""The findings and actions of a replay or dry run, by request ids, chatbots, and numbers of conversations."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from common.db import fetch
from compliance.models import LedgerLine, Service
from compliance.replay.filing import ERASING
from compliance.replay.loading import Refused, RevokedKey

Outcome = LedgerLine.Outcome
Plan = LedgerLine.Plan

_LINES_AT_ONCE = 500

# Plans without consequences here, which are not listed one by one.
_QUIET = [str(Plan.LEAVE), str(Plan.RECORD)]
# Plans that change nothing, with the advice for the client.
_ADVICE: Mapping[str, str] = {
    Plan.END_EXPORT: "Tell the client to file the export again, if the person still wants it.",
    Plan.LOST_EXPORT: "Tell the client to file the export again.",
    Plan.LOST_REDACTION: "Tell the client to send the conversation again, and then to redact the messages again.",
    Plan.UNKNOWN_CHATBOT: "Create the chatbot again. Tell the client to send its conversations again, and then to "
    "file this request again.",
    Plan.UNKNOWN_VARIABLE: "File it again by the value or by the ids of conversations (request_deletion), then leave "
    "it (--leave).",
    Plan.CONFLICT: "Find out which is right. If it has to be carried out, file it again (request_deletion). Then "
    "leave it (--leave).",
    Plan.UNFILED: "The log says why (replay.not_filed). Report it; run the command again after an update.",
}

_COUNTS = """
SELECT l.plan, l.outcome, count(*), sum(l.conversations)::bigint, count(*) FILTER (WHERE r.error_code <> '')
  FROM compliance_ledgerline l
  LEFT JOIN compliance_compliancerequest r ON r.id = l.request_id AND l.outcome = 'left'
 WHERE l.incarnation = %s GROUP BY 1, 2
"""
_LINES = """
SELECT json_build_object(
           'request_id', l.request_id, 'line', l.kind,
           'kind', CASE l.kind WHEN 'exact' THEN 'deletion' WHEN 'redacted' THEN 'redaction'
                               WHEN 'retention' THEN 'retention' ELSE coalesce(l.line->>'request_kind', '') END,
           'chatbot', b.slug, 'plan', l.plan, 'conversations', l.conversations, 'numbers', coalesce(l.numbers, '{}'),
           'outcome', CASE l.outcome WHEN 'filed' THEN '' ELSE l.outcome END, 'error', coalesce(r.error_code, '')),
       l.outcome = 'left' AND r.lane = 'client'
  FROM compliance_ledgerline l
  LEFT JOIN chatbots_chatbot b ON b.id = l.chatbot_id
  LEFT JOIN compliance_compliancerequest r ON r.id = l.request_id AND l.outcome IN ('failed', 'left')
 WHERE l.incarnation = %(incarnation)s AND l.request_id > %(after)s AND l.plan <> ALL(%(quiet)s)
 ORDER BY l.request_id LIMIT %(most)s
"""


@dataclass
class Report:
    """A replay, or a dry run of one (`is_dry_run`). `requests` reads its lines from the database.

    `state` is the former state of the service. `reach` is the highest number that it erases whatever its age. `lives`
    are those of the database, by the objects that each has written.
    """

    state: Service.State
    incarnation: UUID
    reach: int
    is_dry_run: bool
    unknown: int = 0
    refused: list[Refused] = field(default_factory=list)
    lives: list[dict[str, Any]] = field(default_factory=list)
    revoked: list[RevokedKey] = field(default_factory=list)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    conversations: int = 0
    failing: int = 0
    opened: bool = False
    _kept: list[dict[str, Any]] | None = None

    @property
    def is_resolved(self) -> bool:
        """Whether no attention is needed: no object was refused, all was carried out or is left for its bucket."""
        failed = any(outcome in {Outcome.FAILED, Outcome.UNDECIDED} for _, outcome in self.counts)
        return not (self.refused or failed or self.failing)

    @property
    def are_lives_mixed(self) -> bool:
        """Whether a life has written between two objects of another: one belongs to a copy with the same name."""
        return len({life["incarnation"] for life in self.lives}) < len(self.lives)

    def note_object(self, incarnation: UUID, at: datetime) -> None:
        """Record an authentic object, in the order of writing."""
        if not self.lives or self.lives[-1]["incarnation"] != str(incarnation):
            self.lives.append({"incarnation": str(incarnation), "objects": 0, "first_at": at.isoformat()})
        self.lives[-1]["objects"] += 1
        self.lives[-1]["last_at"] = at.isoformat()

    def count(self) -> None:
        """Read the numbers of lines from the database."""
        self.counts, self.conversations, self.failing = {}, 0, 0
        for plan, outcome, lines, conversations, failing in fetch(_COUNTS, [self.incarnation]):
            self.counts[plan, outcome] = lines
            self.conversations += conversations if plan in ERASING else 0
            self.failing += failing

    def keep(self) -> None:
        """Keep the items of `requests`, before the transaction of a dry run is rolled back."""
        self._kept = list(self.requests())

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield the plan and outcome of each request in the ledger, in the order of filing."""
        if self._kept is not None:
            yield from self._kept
            return
        after = str(UUID(int=0))
        values = {"incarnation": self.incarnation, "quiet": _QUIET, "most": _LINES_AT_ONCE}
        while rows := fetch(_LINES, values | {"after": after}):
            for one, at_client in rows:
                yield one | {"advice": _advice(one)} | ({"waits_for": "client_bucket"} if at_client else {})
            after = rows[-1][0]["request_id"]

    def unreported(self) -> Iterator[tuple[str, str]]:
        """Yield the id and the plan of each request that an operator must learn of: the report can get lost."""
        for one in self.requests():
            if one["advice"] or one["outcome"] == Outcome.FAILED:
                yield one["request_id"], one["plan"]

    def summary(self) -> dict[str, Any]:
        by_plan: Counter[str] = Counter()
        by_outcome: Counter[str] = Counter()
        for (plan, outcome), lines in sorted(self.counts.items()):
            by_plan[plan] += lines
            if outcome:
                by_outcome[outcome] += lines
        return {
            "dry_run": self.is_dry_run,
            "state": str(self.state),
            "opened": self.opened,
            "resolved": self.is_resolved,
            "up_to_number": self.reach,
            "objects": {
                "unknown": self.unknown,
                "refused": [{"key": key, "fault": str(fault)} for key, fault in self.refused],
                "lives": self.lives,
                "lives_mixed": self.are_lives_mixed,
            },
            "keys_revoked": [{"chatbot": chatbot, "key": prefix} for chatbot, prefix in self.revoked],
            "plans": by_plan,
            "outcomes": by_outcome,
            "conversations": self.conversations,
        }


def _advice(one: dict[str, Any]) -> str:
    if one["outcome"] == Outcome.DECIDED:
        return ""
    return _ADVICE.get(one["plan"], _ADVICE[Plan.UNKNOWN_VARIABLE] if one["outcome"] == Outcome.UNDECIDED else "")
