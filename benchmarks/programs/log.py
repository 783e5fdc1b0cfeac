"""The console's log of one chatbot with 1,000,000 conversations: the default list, deep pages, and each filter.

For each: the time of the page as the web process makes it, its statements, and what the statement of the log reads:
entries of an index, rows of the table for what is shown, and pages of 8 KiB. There is no floor; the target is that of
the statements: 7 at most, and one more on an empty page, which names the last day with a conversation.
"""

import html
import json
import re
import time
import warnings
from statistics import median
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from benchmarks import world
from benchmarks.filling import fill
from benchmarks.results import Result, Run
from common.db import fetch_in_index_order

_MOST_STATEMENTS = 7
_TIMES = 9

# A year of it, in the order of time; every fifth belongs to another chatbot, every twentieth is deleted.
_FILL = """
INSERT INTO conversations_conversation (chatbot_id, external_id, external_id_digest, channel, language, user_name,
       started_at, last_message_at, message_count, has_file_upload, has_agent_handover, has_push, score, csat_score,
       csat_vote, csat_comment, deletion_request_id, deleted_at)
SELECT CASE WHEN n %% 5 = 4 THEN %(other)s ELSE %(chatbot)s END,
       CASE WHEN NOT is_erased THEN 'c-' || n END, sha256(convert_to('log-' || n, 'UTF8')),
       (ARRAY['widget', 'whatsapp', 'messenger', 'wechat'])[1 + n %% 4],
       CASE WHEN NOT is_erased THEN (ARRAY['en', 'fr', 'de', 'pt-BR'])[1 + n %% 4] END,
       CASE WHEN NOT is_erased AND n %% 3 = 0 THEN 'Name ' || n %% 1000 END,
       CASE WHEN is_erased THEN date_trunc('day', at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' ELSE at END,
       CASE WHEN NOT is_erased THEN at END, CASE WHEN NOT is_erased THEN 10 END,
       n %% 50 = 0, n %% 7 = 0, n %% 20 = 1, CASE WHEN n %% 2 = 0 THEN 1 + (n %% 91) / 10.0 END,
       CASE WHEN n %% 10 = 2 THEN n %% 11 END,
       CASE WHEN n %% 10 = 2 THEN (ARRAY['positive', 'neutral', 'negative'])[1 + n %% 3] END,
       CASE WHEN n %% 40 = 2 AND NOT is_erased THEN 'a comment' END,
       CASE WHEN is_erased THEN gen_random_uuid() END, CASE WHEN is_erased THEN now() END
  FROM generate_series(1, %(rows)s::bigint) AS n
 CROSS JOIN LATERAL (SELECT n %% 20 = 3 AS is_erased,
                            now() - interval '365 days' * (1 - n / %(rows)s::float) AS at) AS each
"""

# Of a year, so that rare entries have to be searched.
_FILTERS = {
    "handover, 14 %": "handover=yes",
    "score 7 to 10, 17 %": "score=high",
    "channel, 25 %": "channel=wechat",
    "language, 24 %": "language=pt",
    "files, 2 %": "uploads=yes",
    "begun by a push, 6 %": "started=bot",
    "CSAT vote, 3 %": "csat=negative",
    "CSAT comment, 3 %": "csat=comment",
    "deleted, 6 %": "state=deleted",
    "deletion under way, none": "state=marked",
    "an unused language": "language=zh",
    "five together": "uploads=yes&started=bot&handover=yes&csat=low&score=low",
}


def run(run: Run) -> None:
    rows = run.size(1_250_000, 12_500)
    chatbot = fill("log", chatters=10, conversations=1)
    other = fill("other", chatters=10, conversations=1)
    run.log(f"filling {rows:,} conversations")
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(_FILL, {"rows": rows, "chatbot": chatbot.chatbot, "other": other.chatbot})
        cursor.execute("RESET session_replication_role")
    world.settle()
    warnings.filterwarnings("ignore", "No directory at")  # nothing is collected here, and nothing asked for
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("log"))
    year = f"chatbot={chatbot.slug}&since=2000-01-01"
    pages = {"48 hours": f"chatbot={chatbot.slug}", "a year": year, **_deep(client, year)}
    pages |= {f"a year, {name}": f"{year}&{query}" for name, query in _FILTERS.items()}
    for name, query in pages.items():
        _measure(run, client, name, query)


def _deep(client: Client, year: str) -> dict[str, str]:
    """The page that begins in the middle of the year."""
    middle = client.get(f"{reverse('console:conversations')}?{year}&until={_middle()}")
    older = re.search(r'href="[^"?]*\?([^"]*)" rel="next"', middle.content.decode())
    if older is None:
        raise RuntimeError("The log has no older page.")
    return {"a year, its middle": html.unescape(older[1])}


def _middle() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT (now() - interval '182 days')::date::text")
        return str(cursor.fetchone()[0])


def _measure(run: Run, client: Client, name: str, query: str) -> None:
    address = f"{reverse('console:conversations')}?{query}"
    statements: list[tuple[str, Any]] = []

    def noted(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(noted):
        answer = client.get(address)
    if answer.status_code != 200:
        raise RuntimeError(f"{name}: {answer.status_code}")
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        client.get(address)
        times.append(time.perf_counter() - began)
    (statement,) = [one for one in statements if "row_number()" in one[0]]
    read = _read(*statement)
    shown = answer.content.decode().count('<th scope="row"')
    verdict = "" if len(statements) <= _MOST_STATEMENTS + (not shown) else ", too many"
    run.add(Result(f"log: {name}", shown, None, median(times), None))
    run.note(
        f"log: {name}: {len(statements)} statements{verdict}; {shown} shown, {read['rows']} rows read for them, "
        f"{read['entries']} entries looked at, {read['buffers']} pages, {read['ms']:.1f} ms"
    )


def _read(statement: str, values: Any) -> dict[str, Any]:
    """Return what the statement of the log reads: the lower scan finds, the upper one reads what is shown."""
    [(found,)] = fetch_in_index_order(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", values)
    plan = (json.loads(found) if isinstance(found, str) else found)[0]
    scans = list(_scans(plan["Plan"]))
    entries = next(one for one in scans if "chatbot_id" in one.get("Index Cond", ""))
    shown = next(one for one in scans if one is not entries)
    return {
        "entries": round(entries["Actual Rows"]),
        "rows": round(shown["Actual Rows"] * shown["Actual Loops"]),
        "buffers": plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"],
        "ms": plan["Execution Time"],
    }


def _scans(node: dict[str, Any]) -> Any:
    if "Scan" in node["Node Type"] and "Index Name" in node:
        yield node
    for inner in node.get("Plans", []):
        yield from _scans(inner)
