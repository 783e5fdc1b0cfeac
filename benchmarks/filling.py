"""Fill the tables by SQL, as quickly as they can be filled with their indexes in place."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

from benchmarks import world
from chatbots.models import Chatbot
from chatbots.operations.chatbots import NewVariable, create_chatbot
from common.crypto import digest
from common.folding import look_hash

# Messages per transaction, and connections at once.
_CHUNK_MESSAGES = 100_000
_CONNECTIONS = 2

# A chatter's conversations lie far apart, as those of people who come back after days.
_FILL = """
WITH conversation AS (
    INSERT INTO conversations_conversation (chatbot_id, external_id, external_id_digest, uci_variable_id, channel,
           language, user_name, started_at, last_message_at, message_count, has_file_upload, has_agent_handover,
           has_push)
    SELECT %(chatbot)s, 'c-' || n, sha256(convert_to(%(chatbot)s::bigint || '-' || n, 'UTF8')), %(variable)s,
           'widget', 'en', 'Some Name', began.at, began.at + interval '1 hour', %(messages)s, FALSE, FALSE, FALSE
      FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
     CROSS JOIN LATERAL (
           SELECT date_trunc('day', now()) - %(days)s * interval '1 day' + n * %(apart)s * interval '1 second'
     ) AS began(at)
    RETURNING id, external_id, started_at
), identity AS (
    INSERT INTO conversations_identity (chatbot_id, conversation_id, variable_id, value, digest, look)
    SELECT %(chatbot)s, id, %(variable)s, 'member-' || number %% %(chatters)s::bigint, chatter.digest,
           chatter.look
      FROM (SELECT id, substr(external_id, 3)::bigint AS number FROM conversation) AS c
      JOIN unnest(%(digests)s::bytea[], %(looks)s::bigint[]) WITH ORDINALITY AS chatter(digest, look, place)
        ON chatter.place = number - %(first)s::bigint + 1
), word AS (
    INSERT INTO conversations_nameword (chatbot_id, conversation_id, word)
    SELECT %(chatbot)s, id, word FROM conversation CROSS JOIN unnest(ARRAY['some', 'name']) AS word
)
INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)
SELECT %(chatbot)s, id, 'm-' || n, 'user', 'text', repeat('a text of some length ', 5),
       started_at + n * interval '1 second'
  FROM conversation CROSS JOIN generate_series(1, %(messages)s::integer) AS n ORDER BY id, n
"""


@dataclass(frozen=True)
class FilledChatbot:
    """A filled chatbot: its number, number and public id of its UCI, and its chatters' values."""

    chatbot: int
    variable: int
    scope: UUID
    slug: str
    values: list[str]

    def digest_of(self, value: str) -> bytes:
        """Return the digest of a value."""
        return digest("chatter", self.scope, value)


def fill(
    slug: str, *, chatters: int, conversations: int = 5, messages: int = 10, apart: int = 1, days: int = 60
) -> FilledChatbot:
    """Create a chatbot with chatters, conversations for each, and messages for each conversation.

    The first conversation begins `days` ago at midnight, UTC, and each next one `apart` seconds later.
    """
    chatbot = create_chatbot(
        slug=slug,
        name=slug,
        actor="command",
        variables=[NewVariable("custom", "member_id")],
        uci="member_id",
        enable_compliance=True,
        hosted_bucket=True,
    )
    # A very large request is intended here, and must not wait for an approval.
    Chatbot.objects.filter(pk=chatbot.pk).update(max_conversations_per_deletion=1_000_000)
    uci = chatbot.variables.get()
    values = [f"member-{number}" for number in range(chatters)]
    filled = FilledChatbot(chatbot.pk, uci.pk, uci.public_id, slug, values)
    insert(filled, range(1, chatters * conversations + 1), messages=messages, apart=apart, days=days)
    return filled


def insert(filled: FilledChatbot, numbers: range, *, messages: int, apart: int = 1, days: int = 60) -> None:
    """Add conversations with these new numbers, to the chatters in turn."""

    def fill_range(some: range) -> None:
        with world.plain_connection() as connection:
            # Switches the triggers of foreign keys off, for which the rows are right by construction.
            connection.execute("SET session_replication_role = replica")
            connection.execute("SET synchronous_commit = off")
            whose = {
                "digests": [digests[number % chatters] for number in some],
                "looks": [looks[number % chatters] for number in some],
            }
            connection.execute(_FILL, {**fixed, **whose, "first": some[0], "last": some[-1]})

    step = max(1, _CHUNK_MESSAGES // messages)
    chatters = len(filled.values)
    digests = [filled.digest_of(f"member-{number}") for number in range(chatters)]
    looks = [look_hash(f"member-{number}") for number in range(chatters)]
    fixed = {
        "chatbot": filled.chatbot,
        "variable": filled.variable,
        "chatters": chatters,
        "messages": messages,
        "apart": apart,
        "days": days,
    }
    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        list(threads.map(fill_range, [numbers[start : start + step] for start in range(0, len(numbers), step)]))
