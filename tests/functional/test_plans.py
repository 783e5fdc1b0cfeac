"""At 1,000,000 messages no statement reads a whole big table, with or without statistics.

A single test, since filling takes most of its time, and one worker of pytest-xdist has to do all of it.
"""

from typing import NamedTuple

import pytest
from django.conf import settings

from chatbots.models import Chatbot
from compliance.erasure import uci_values
from tests import databases, factories
from tests.conversations.documents import parsed
from tests.conversations.intakes import results
from tests.functional import big_tables
from tests.functional.one_day import Day
from tests.functional.scans import Finding, Watch

# More entries of a table than any of these statements has a reason to read: a day's extract reads its messages, up to
# 3,500, twice. Each big table has more than that, and so has one chatbot's share of it.
MOST_ENTRIES = 8_000


class Known(NamedTuple):
    """What reads much of a big table, by a part of the finding's text, and why."""

    part: str
    why: str
    even_with_statistics: bool = False


_NO_COUNT_YET = (
    "Until the first ANALYZE PostgreSQL takes 200 for the number of conversations, of requests, of chatbots."
)
_A_THIRD = "Until then it also takes a third of all rows for older than any given time."

KNOWN = (
    Known(
        "looked.place = 20000",
        "The filters of the console's log look at so many entries of the index at most.",
        even_with_statistics=True,
    ),
    Known(
        "count(*) FILTER (WHERE ((c.started_at",
        "A forecast looks at each open conversation, in slices.",
        even_with_statistics=True,
    ),
    # The sweep, once a minute, without locks that others wait for.
    Known('ORDER BY "compliance_export"."expires_at"', _A_THIRD),
    Known("ORDER BY d.expires_at", _A_THIRD),
    # Once a chunk, of conversations that have files.
    Known("UPDATE conversations_uploadedfile SET state = 'removing', name = ''", _NO_COUNT_YET),
    # The lists of the API and of the admin.
    Known("finding, without statistics", _NO_COUNT_YET),
    Known('"started_at" AS "started_at", "conversations_conversation"."id" AS "id"', _NO_COUNT_YET),
    Known("looking, without statistics", _NO_COUNT_YET),
    Known('FROM "compliance_leftcopy" INNER JOIN', _NO_COUNT_YET),
)

pytestmark = [
    pytest.mark.long(reason="1,000,000 messages are stored, and each statement is planned twice"),
    pytest.mark.one_postgresql(reason="plans"),
]


@pytest.fixture
def chatbots() -> list[Chatbot]:
    """Five chatbots in a database that is big; the first has four fifths of it."""
    databases.empty()  # what a test has rolled back stays in the tables, and would be read
    chatbots = [factories.ready_chatbot(slug=f"chatbot-{number}") for number in range(5)]
    big_tables.fill(chatbots)
    uci_values.erase()  # reads a table whole, once for a designation
    return chatbots


def test_no_statement_reads_a_big_table_whole(chatbots, storage, admin_client, monkeypatch) -> None:
    monkeypatch.setattr(settings, "METRICS_TOKEN", "a-token-of-the-tests")
    watch = Watch(big_tables.TABLES, most_entries=MOST_ENTRIES, monkeypatch=monkeypatch)
    # PostgreSQL never counts whose rows a table has, so each chatbot is as one that is newer than the statistics.
    for name, prepare in {"without": big_tables.forget_statistics, "with": big_tables.analyze}.items():
        prepare()
        Day(watch, chatbots[0], admin_client, f"{name} statistics").work()
    with watch.step("intake of a chatbot that the statistics do not know, with statistics"):
        new = factories.ready_chatbot(slug="new")
        for _ in range(2):
            results(new, *(parsed(f"new {number}") for number in range(300)))

    assert watch.statements > 500
    assert any(_is_known(finding) for finding in watch.findings), "The watch does not even see what is known."
    unknown = [finding for finding in watch.findings if not _is_known(finding)]
    assert not unknown, "\n\n".join(map(str, unknown))


def _is_known(finding: Finding) -> bool:
    has_statistics = finding.step.endswith("with statistics")
    return any(one.part in str(finding) and one.even_with_statistics >= has_statistics for one in KNOWN)
