"""A big database, filled set-wise: 1,000,000 messages, and a matching number of related rows.

One chatbot has four fifths of it. There are 50,000 completed requests, with all rows that they leave.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from django.db import connection

from chatbots.models import Chatbot
from common.crypto import digest
from common.folding import look_hash
from tests.factories import uci_of

# The tables that grow with the data or over the years. No statement that users or workers wait for reads one whole.
TABLES = (
    "conversations_conversation",
    "conversations_message",
    "conversations_identity",
    "conversations_variablevalue",
    "conversations_nameword",
    "conversations_identitylookup",
    "conversations_uploadedfile",
    "conversations_tombstone",
    "conversations_refusedidentity",
    "conversations_dailyextract",
    "conversations_extractconversation",
    "compliance_compliancerequest",
    "compliance_export",
    "compliance_exportconversation",
    "compliance_exportfile",
    "compliance_leftcopy",
    "compliance_redaction",
    "compliance_repeatedexport",
    "compliance_replay",
    "compliance_requestsubject",
    "compliance_callback",
    "chatbots_changelogentry",
)


@dataclass(frozen=True)
class Sizes:
    """The numbers of rows. Every fifth request is an export, the others deletions; every fourth has
    conversations, every second has a reference."""

    live: int = 100_000  # conversations, of ten messages each
    erased: int = 50_000  # no more than requests
    requests: int = 50_000
    days: int = 11_000  # of each chatbot, with an extract


BIG = Sizes()

# `chatbots` is an array of (chatbot, UCI variable, plan variable), the big one first; every fifth row
# goes to another.
_OWNERS = """
CREATE TEMPORARY TABLE owner AS
SELECT n - 1 AS place, chatbot_id, uci_id, plan_id
  FROM unnest(%(chatbots)s::bigint[], %(ucis)s::bigint[], %(plans)s::bigint[])
       WITH ORDINALITY AS given(chatbot_id, uci_id, plan_id, n)
"""
_OWNER = """
JOIN owner ON owner.place = CASE WHEN n %% 5 = 0 THEN 1 + (n / 5) %% ((SELECT count(*) FROM owner) - 1) ELSE 0 END
"""

_STATEMENTS = {
    # A request's conversation is the one of its number; that is all the fillings have to agree on.
    "requests": f"""
INSERT INTO compliance_compliancerequest (id, chatbot_id, kind, origin, status, variable_id, uci_digest,
       named_conversations, filed_by, reference, callback_url, erase_exports, include_shared, include_files,
       approved_by, approved_holds, attempts, lane, error_code, error_detail, received_at, queued_at, due_at,
       started_at, cutoff_at, cutoff_number, completed_at, result,
       conversations_total, conversations, shared_conversations, messages, identities, variable_values, files,
       exports, extracts, extracts_left, erased_before)
SELECT lpad(to_hex(n), 32, '0')::uuid, chatbot_id, CASE WHEN n %% 5 = 1 THEN 'export' ELSE 'deletion' END, 'api',
       'completed', CASE WHEN NOT is_by_ids THEN uci_id END, CASE WHEN NOT is_by_ids THEN sha256(n::text::bytea) END,
       CASE WHEN is_by_ids THEN 2 END,
       'api:filling', CASE WHEN n %% 2 = 0 THEN 'T-' || n ELSE '' END, '', FALSE, FALSE, FALSE, '', '{{}}', 0,
       'normal', '', '', t, t, t + interval '30 days', t, t, n, t, 'done', 1, 1, 0, 10, 1, 0, 0, 0, 0, 0, 0
  FROM generate_series(1, %(requests)s) AS n {_OWNER}
  CROSS JOIN LATERAL (
        SELECT now() - interval '80 days' + n * interval '2 minutes' AS t, n %% 4 = 3 AS is_by_ids) AS filed
 ORDER BY n
""",
    "subjects": """
INSERT INTO compliance_requestsubject (request_id, chatbot_id, digest)
SELECT lpad(to_hex(n), 32, '0')::uuid, chatbot_id, sha256(('live' || n + one)::bytea)
  FROM generate_series(1, %(requests)s) AS n
  JOIN compliance_compliancerequest ON id = lpad(to_hex(n), 32, '0')::uuid AND named_conversations IS NOT NULL
 CROSS JOIN generate_series(0, 1) AS one
 ORDER BY n, one
""",
    "change log": """
INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, at, data)
SELECT chatbot_id, id, event, 'worker', received_at, '{}'
  FROM compliance_compliancerequest
 CROSS JOIN unnest(ARRAY['request.accepted', 'request.started', 'request.completed']) AS event
 ORDER BY seq
""",
    "exports": """
INSERT INTO compliance_export (chatbot_id, request_id, hosting, bucket, endpoint, key, rows, bytes, sha256,
       finished_at, expires_at, removed_at)
SELECT chatbot_id, id, 'hosted', '', '', CASE WHEN is_young THEN 'filling/' || seq END, 10, 1000, repeat('0', 64),
       completed_at, completed_at + interval '40 days', CASE WHEN NOT is_young THEN now() END
  FROM compliance_compliancerequest
 CROSS JOIN LATERAL (SELECT completed_at > now() - interval '39 days' AS is_young) AS age
 WHERE kind = 'export'
""",
    "erased chatters": """
INSERT INTO conversations_tombstone (chatbot_id, variable_id, digest, cutoff_at, cutoff_number, request_id,
       expires_at)
SELECT chatbot_id, variable_id, uci_digest, cutoff_at, cutoff_number, id, cutoff_at + interval '90 days'
  FROM compliance_compliancerequest WHERE kind = 'deletion' AND variable_id IS NOT NULL
""",
    "replays": """
INSERT INTO compliance_replay (chatbot_id, path, digest, body_digest, request_id, expires_at)
SELECT chatbot_id, '/api/v1/chatbots/' || chatbot_id || '/data-deletion', sha256(id::text::bytea), '', id,
       now() + interval '1 day'
  FROM compliance_compliancerequest
""",
    # One delivered callback for each request; for every tenth another, to be retried in an hour.
    "callbacks": """
INSERT INTO compliance_callback (id, chatbot_id, request_id, status, result, error_code, occurred_at, url, state,
       attempts, next_attempt_at, give_up_at, last_status, last_error, delivered_at, expires_at)
SELECT gen_random_uuid(), chatbot_id, id, 'completed', 'done', '', completed_at + waits * interval '1 second',
       CASE waits WHEN 1 THEN 'http://127.0.0.1:9/' ELSE '' END,
       CASE waits WHEN 1 THEN 'waiting' ELSE 'delivered' END, 1,
       CASE waits WHEN 1 THEN now() + interval '1 hour' END, now() + interval '1 day',
       CASE waits WHEN 1 THEN 500 ELSE 200 END, CASE waits WHEN 1 THEN 'bad_status' ELSE '' END,
       CASE waits WHEN 0 THEN completed_at END, now() + interval '30 days'
  FROM compliance_compliancerequest CROSS JOIN generate_series(0, 1) AS waits
 WHERE waits = 0 OR seq %% 10 = 0
""",
    "erased conversations": f"""
INSERT INTO conversations_conversation (chatbot_id, external_id_digest, channel, started_at, has_file_upload,
       has_agent_handover, has_push, deletion_request_id, deleted_at)
SELECT chatbot_id, sha256(('erased' || n)::bytea), 'widget',
       date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - (n %% 365) * interval '1 day',
       FALSE, FALSE, FALSE, lpad(to_hex(n), 32, '0')::uuid, now() - interval '1 day' - n * interval '1 minute'
  FROM generate_series(1, %(erased)s) AS n {_OWNER} ORDER BY n
""",
    "conversations": f"""
INSERT INTO conversations_conversation (chatbot_id, external_id, external_id_digest, uci_variable_id, channel,
       language, user_name, started_at, last_message_at, message_count, has_file_upload, has_agent_handover, has_push)
SELECT chatbot_id, 'filling-' || n, sha256(('live' || n)::bytea), uci_id,
       (ARRAY['widget', 'whatsapp', 'messenger'])[1 + n %% 3], 'en', 'somebody',
       now() - interval '365 days' + n * interval '5 minutes', now(), 10, FALSE, n %% 7 = 0, FALSE
  FROM generate_series(1, %(live)s) AS n {_OWNER} ORDER BY n
""",
    "words of names": """
INSERT INTO conversations_nameword (chatbot_id, conversation_id, word)
SELECT chatbot_id, id, user_name FROM conversations_conversation WHERE user_name IS NOT NULL ORDER BY id
""",
    # Each erased chatter was identified in a conversation of another chatter.
    "refused identities": """
INSERT INTO conversations_refusedidentity (chatbot_id, conversation_id, request_id, way, expires_at)
SELECT e.chatbot_id, c.id, e.request_id, 'asserted', e.expires_at
  FROM conversations_tombstone e
 CROSS JOIN LATERAL (SELECT ('x' || right(e.request_id::text, 8))::bit(32)::int AS n) AS request
  JOIN conversations_conversation c
    ON c.chatbot_id = e.chatbot_id AND c.external_id_digest = sha256(('live' || n)::bytea)
""",
    # Four conversations a chatter.
    "identities": """
INSERT INTO conversations_identity (chatbot_id, conversation_id, variable_id, value, digest, look)
SELECT c.chatbot_id, c.id, c.uci_variable_id, chatter.value, chatter.digest, chatter.look
  FROM conversations_conversation c
  JOIN chatter ON chatter.variable_id = c.uci_variable_id AND chatter.value = 'member-' || (c.id / 4)
 WHERE c.deleted_at IS NULL ORDER BY c.id
""",
    # An existing export holds ten live conversations, the first ones of the newest, and two erased since.
    "conversations of exports": """
INSERT INTO compliance_exportconversation (chatbot_id, export_id, conversation_id)
SELECT e.chatbot_id, e.id, c.id
  FROM compliance_export e
 CROSS JOIN LATERAL (SELECT ('x' || right(e.request_id::text, 8))::bit(32)::int AS n) AS request
 CROSS JOIN LATERAL (
       SELECT sha256(('live' || n + %(live)s - %(requests)s + 5 * k)::bytea) FROM generate_series(0, 9) AS k
        UNION ALL
       SELECT sha256(('erased' || n + k)::bytea) FROM generate_series(1, 2) AS k) AS held(digest)
  JOIN conversations_conversation c ON c.chatbot_id = e.chatbot_id AND c.external_id_digest = held.digest
 WHERE e.key IS NOT NULL
 ORDER BY e.id, c.id
""",
    "identities of what was erased": """
INSERT INTO conversations_identity (chatbot_id, conversation_id, variable_id, digest)
SELECT r.chatbot_id, c.id, r.variable_id, r.uci_digest
  FROM conversations_conversation c
  JOIN compliance_compliancerequest r ON r.id = c.deletion_request_id AND r.variable_id IS NOT NULL
 WHERE EXISTS (SELECT FROM compliance_exportconversation WHERE conversation_id = c.id) ORDER BY c.id
""",
    "copies beside exports": """
INSERT INTO compliance_exportfile (chatbot_id, export_id, file_id, key, bytes, sha256)
SELECT chatbot_id, id, n, key || '_files/' || n, 1, repeat('0', 64)
  FROM compliance_export CROSS JOIN generate_series(1, 3) AS n WHERE key IS NOT NULL ORDER BY id, n
""",
    "values": """
INSERT INTO conversations_variablevalue (chatbot_id, conversation_id, variable_id, value, expires_at)
SELECT c.chatbot_id, c.id, owner.plan_id, 'gold', now() + interval '1 day' + c.id * interval '1 second'
  FROM conversations_conversation c JOIN owner USING (chatbot_id) WHERE deleted_at IS NULL ORDER BY c.id
""",
    # Of a busy week: one in ten waits for an attempt that comes later.
    "look-ups": """
INSERT INTO conversations_identitylookup (chatbot_id, conversation_id, state, attempts, queued_at, next_attempt_at,
       give_up_at, last_error, finished_at, expires_at)
SELECT chatbot_id, id, CASE WHEN waits THEN 'pending' ELSE 'unknown' END, 1, ended,
       CASE WHEN waits THEN now() + interval '1 hour' END, now() + interval '1 hour', '',
       CASE WHEN NOT waits THEN ended END, now() + interval '1 hour' + id * interval '1 second'
  FROM conversations_conversation
 CROSS JOIN LATERAL (SELECT id %% 10 = 0 AS waits, now() - id * interval '6 seconds' AS ended) AS one
 WHERE deleted_at IS NULL ORDER BY id
""",
    "messages": """
INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
SELECT chatbot_id, id, 'm' || n, 'user', 'text', 'something that somebody said', started_at + n * interval '1 minute'
  FROM conversations_conversation CROSS JOIN generate_series(1, 10) AS n WHERE deleted_at IS NULL ORDER BY id, n
""",
    # As if each chatbot had kept thirty years of them: the day of a message is found among its chatbot's.
    "extracts": """
INSERT INTO conversations_dailyextract (chatbot_id, day, starts_at, ends_at, state, version, made_version, hosting,
       bucket, key, rows, bytes, sha256, finished_at, expires_at, attempts, error_code, error_detail)
SELECT chatbot_id, day, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC',
       CASE WHEN is_young THEN 'done' ELSE 'expired' END, 1, 1, 'hosted', '',
       CASE WHEN is_young THEN 'filling/' || chatbot_id || '/' || day END, 10, 1000, repeat('0', 64), now(),
       now() + interval '40 days', 0, '', ''
  FROM owner
 CROSS JOIN generate_series(1, %(days)s) AS n
 CROSS JOIN LATERAL (SELECT (now() AT TIME ZONE 'UTC')::date - n AS day, n <= 40 AS is_young) AS d
""",
    "conversations of extracts": """
INSERT INTO conversations_extractconversation (chatbot_id, conversation_id, extract_id, version)
SELECT e.chatbot_id, c.id, e.id, 1
  FROM conversations_conversation c
 CROSS JOIN LATERAL (SELECT id, chatbot_id FROM conversations_dailyextract d
                      WHERE d.chatbot_id = c.chatbot_id AND d.day > now() - interval '40 days'
                      ORDER BY d.id LIMIT 1) e
 WHERE c.deleted_at IS NOT NULL
 ORDER BY c.id
""",
    "left copies": """
INSERT INTO compliance_leftcopy (chatbot_id, deletion_id, export_id, extract_id)
SELECT t.chatbot_id, c.deletion_request_id, NULL::bigint, t.extract_id
  FROM conversations_extractconversation t JOIN conversations_conversation c ON c.id = t.conversation_id
 UNION ALL
SELECT held.chatbot_id, c.deletion_request_id, held.export_id, NULL
  FROM compliance_exportconversation held JOIN conversations_conversation c ON c.id = held.conversation_id
 WHERE c.deletion_request_id IS NOT NULL
""",
    # As if so many requests had been redactions, each of a message of the conversation with its number.
    "redactions": """
INSERT INTO compliance_redaction (chatbot_id, request_id, conversation_id, message_numbers, reason)
SELECT c.chatbot_id, r.id, c.id,
       ARRAY(SELECT id FROM conversations_message WHERE conversation_id = c.id LIMIT 1), 'other'
  FROM compliance_compliancerequest r
 CROSS JOIN LATERAL (SELECT ('x' || right(r.id::text, 8))::bit(32)::int AS n) AS request
  JOIN conversations_conversation c ON c.external_id = 'filling-' || n
 WHERE n %% 4 = 0
""",
    "repeated exports": """
INSERT INTO compliance_repeatedexport (chatbot_id, redaction_id, removed_id)
SELECT chatbot_id, id, id FROM compliance_compliancerequest WHERE kind = 'export'
""",
    "files": """
INSERT INTO conversations_uploadedfile (chatbot_id, conversation_id, object_key, name, content_type, size, sha256,
       state)
SELECT chatbot_id, id, 'uploads/filling/' || id, 'picture.png', 'image/png', 1, repeat('0', 64), 'stored'
  FROM conversations_conversation WHERE deleted_at IS NULL AND substr(external_id, 9)::int %% 5 = 1
""",
}


def fill(chatbots: list[Chatbot], sizes: Sizes = BIG) -> None:
    """Fill the tables for these chatbots, two or more, the first of which gets most. Gathers no statistics."""
    plans = [chatbot.variables.get(name="plan").pk for chatbot in chatbots]
    values = {
        "chatbots": [chatbot.pk for chatbot in chatbots],
        "ucis": [uci_of(chatbot).pk for chatbot in chatbots],
        "plans": plans,
    }
    with connection.cursor() as cursor, _as_fast_as_it_goes():
        cursor.execute(_OWNERS, values)
        for name, statement in _STATEMENTS.items():
            cursor.execute(statement, asdict(sizes))
            if name == "conversations":
                _digest_chatters(chatbots)
        cursor.execute("DROP TABLE owner, chatter")


def _digest_chatters(chatbots: list[Chatbot]) -> None:
    """Create a table of chatters for the conversations: SQL cannot compute their digests and hashes."""
    scopes = {uci.pk: uci.public_id for uci in map(uci_of, chatbots)}
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE chatter (variable_id bigint, value text, digest bytea, look bigint)")
        cursor.execute(
            "SELECT DISTINCT uci_variable_id, 'member-' || (id / 4) FROM conversations_conversation"
            " WHERE deleted_at IS NULL"
        )
        chatters = cursor.fetchall()
        with cursor.copy("COPY chatter FROM STDIN") as copy:
            for variable_id, value in chatters:
                hashed = digest("chatter", scopes[variable_id], value)
                copy.write_row((variable_id, value, hashed, look_hash(value)))


@contextlib.contextmanager
def _as_fast_as_it_goes() -> Iterator[None]:
    """The rows are correct by construction: checking foreign keys row by row would take longer than filling."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica; SET synchronous_commit = off; SET work_mem = '64MB'")
        try:
            yield
        finally:
            cursor.execute("RESET session_replication_role; RESET synchronous_commit; RESET work_mem")


def forget_statistics() -> None:
    """Leave the tables as if never analysed."""
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute("SELECT pg_clear_relation_stats('public', %s)", [table])
            cursor.execute(
                "SELECT pg_clear_attribute_stats('public', %s, attname, FALSE) FROM pg_stats WHERE tablename = %s",
                [table, table],
            )


def analyze() -> None:
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"ANALYZE {table}")
