"""What the benchmarks work on: a copy of its own under var/bench, filled by SQL, with real servers and workers."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VAR_DIR = ROOT / "var" / "bench"
for name in [name for name in os.environ if name.startswith(("DATABASE_URL", "SECRET_KEY", "S3_"))]:
    del os.environ[name]
os.environ |= {"DJANGO_SETTINGS_MODULE": "config.settings", "VAR_DIR": str(VAR_DIR), "LOG_LEVEL": "WARNING"}
# The workers read their settings themselves, from the same environment as this process does.
ENVIRONMENT = dict(os.environ)

import django  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402

from config import embedded  # noqa: E402
from scripts.processes import Processes  # noqa: E402

_CONVERSATIONS = """
INSERT INTO conversations_conversation (chatbot_id, external_id, external_id_digest, uci_variable_id, channel,
       started_at, last_message_at, message_count, has_file_upload, has_agent_handover, has_push)
SELECT %(chatbot)s, 'c-' || n, sha256(('conversation' || %(chatbot)s || '-' || n)::bytea), %(variable)s, 'widget',
       now() - interval '2 days', now() - interval '1 day', %(messages)s, FALSE, FALSE, FALSE
  FROM generate_series(1, %(chatters)s * %(conversations)s) AS n
"""

_IDENTITIES = """
INSERT INTO conversations_identity (chatbot_id, conversation_id, variable_id, value)
SELECT chatbot_id, id, %(variable)s, 'member-' || substr(external_id, 3)::int %% %(chatters)s
  FROM conversations_conversation WHERE chatbot_id = %(chatbot)s
"""

_MESSAGES = """
INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
SELECT c.chatbot_id, c.id, 'm-' || n, 'user', 'text', repeat('a text of some length ', 5), now() - interval '1 day'
  FROM conversations_conversation c CROSS JOIN generate_series(1, %(messages)s) AS n
 WHERE c.chatbot_id = %(chatbot)s ORDER BY c.id, n
"""


@contextmanager
def servers() -> Iterator[None]:
    """PostgreSQL, an S3 server and an empty, migrated database; gone afterwards."""
    shutil.rmtree(VAR_DIR, ignore_errors=True)
    embedded.start()
    try:
        django.setup()
        call_command("migrate", verbosity=0)
        yield
    finally:
        connection.close()
        embedded.stop()


@contextmanager
def cluster() -> Iterator[None]:
    """A django-q2 cluster with its two workers."""
    with Processes() as processes:
        log = VAR_DIR / "worker.log"
        processes.start("worker", [sys.executable, str(ROOT / "manage.py"), "qcluster"], env=ENVIRONMENT, log=log)
        yield


def fill(slug: str, *, chatters: int, conversations: int, messages: int) -> tuple[int, int]:
    """Make a chatbot of so many chatters, conversations each and messages each; return its id and its UCI's id."""
    from chatbots.operations import NewVariable, create_chatbot  # noqa: PLC0415  (needs the apps)

    chatbot = create_chatbot(
        slug=slug,
        name=slug,
        actor="command",
        variables=[NewVariable("custom", "member_id")],
        uci="member_id",
        enable_compliance=True,
        hosted_bucket=True,
    )
    variable = chatbot.variables.get()
    values = {
        "chatbot": chatbot.pk,
        "variable": variable.pk,
        "chatters": chatters,
        "conversations": conversations,
        "messages": messages,
    }
    with connection.cursor() as cursor:
        for statement in (_CONVERSATIONS, _IDENTITIES, _MESSAGES):
            cursor.execute(statement, values)
        cursor.execute("VACUUM (ANALYZE)")
    return chatbot.pk, variable.pk
