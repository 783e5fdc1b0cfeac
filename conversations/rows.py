"""The SQL of intake: a fixed number of statements, however many documents there are.

Call it in intake's transaction, under its locks (`intake.py`): since the conversation rows are locked, "not stored
yet" stays true until the new rows are written, so they go in by plain COPY.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, NamedTuple, cast

from django.conf import settings
from django.db import connection

from common.db import array, by_index, execute, fetch
from common.folding import look_hash, words
from conversations import protection
from conversations.merge import (
    ConversationRow,
    EstablishedBy,
    IncomingDocument,
    MergedConversation,
    StoredValue,
)
from conversations.models import Conversation, RefusedIdentity
from conversations.tombstones import Erasure, bytea_array, json_rows

# A value sent again is kept longer. It is written only if this moves its expiry by this much, not at every message.
RENEWAL_STEP = timedelta(hours=1)


class Refusal(NamedTuple):
    """A stored, open conversation that was to be given the identity of an erased chatter."""

    conversation: MergedConversation
    erasure: Erasure
    way: EstablishedBy


_COLUMNS = [column.name for column in fields(ConversationRow)]

# Rows go to the server as one JSON parameter: psycopg dumps arrays in Python, item by item. Only the constants above
# are formatted into statements.
_COLUMN_LIST = ", ".join(_COLUMNS)
_TYPES = {field.attname: field.db_type(connection) for field in Conversation._meta.concrete_fields}
_TYPED_COLUMNS = ", ".join(f"{column} {_TYPES[column]}" for column in _COLUMNS)

# One look-up per digest, then the rows by number: with all digests at once, the planner may read the whole
# chatbot, which it takes for small until there are statistics. The digest can be removed while we wait for a lock: an
# erased conversation without a digest counts as unknown.
_LOCK_CONVERSATIONS = f"""
    SELECT id, {_COLUMN_LIST} FROM conversations_conversation
    WHERE chatbot_id = %(chatbot)s AND id = ANY(ARRAY(
        SELECT found.id
        FROM unnest(%(digests)s::bytea[]) AS wanted(digest)
        CROSS JOIN LATERAL (
            SELECT c.id FROM conversations_conversation c
            WHERE c.chatbot_id = %(chatbot)s AND c.external_id_digest = wanted.digest LIMIT 1
        ) AS found) || %(numbers)s::bigint[])
      AND external_id_digest IS NOT NULL
    ORDER BY id FOR UPDATE
"""  # noqa: S608
_INSERT_CONVERSATIONS = f"""
    INSERT INTO conversations_conversation (chatbot_id, {_COLUMN_LIST})
    SELECT %s, new.* FROM json_to_recordset(%s::json) AS new({_TYPED_COLUMNS})
    ON CONFLICT (external_id_digest, chatbot_id) DO NOTHING
    RETURNING external_id_digest, id
"""  # noqa: S608
# The numbers are given beside the join: otherwise the planner reads the whole chatbot if it takes that for small.
_UPDATE_CONVERSATIONS = f"""
    UPDATE conversations_conversation AS stored
    SET {", ".join(f"{column} = new.{column}" for column in _COLUMNS)}
    FROM json_to_recordset(%s::json) AS new(id bigint, {_TYPED_COLUMNS})
    WHERE stored.chatbot_id = %s AND stored.id = new.id AND stored.id = ANY(%s::bigint[])
"""  # noqa: S608

# LIMIT in the lateral part keeps the planner at one index look-up per pair; else it may read the whole table.
_WHICH_MESSAGES = """
    SELECT wanted.number, item.value
    FROM json_to_recordset(%s::json) AS wanted(number bigint, items json)
    CROSS JOIN LATERAL json_array_elements_text(wanted.items) AS item(value)
    CROSS JOIN LATERAL (
        SELECT 1 FROM conversations_message m
        WHERE m.chatbot_id = %s AND m.conversation_id = wanted.number AND m.external_id = item.value LIMIT 1
    ) AS found
"""
_WHICH_IDENTITIES = """
    SELECT wanted.number, wanted.digest, found.established_by
    FROM json_to_recordset(%s::json) AS wanted(number bigint, variable bigint, digest bytea)
    CROSS JOIN LATERAL (
        SELECT i.established_by FROM conversations_identity i
        WHERE i.chatbot_id = %s AND i.conversation_id = wanted.number AND i.variable_id = wanted.variable
          AND i.digest = wanted.digest
        LIMIT 1
    ) AS found
"""
_STRENGTHEN = """
    UPDATE conversations_identity AS stored SET established_by = new.established_by
    FROM json_to_recordset(%s::json) AS new(number bigint, variable_id bigint, digest bytea, established_by text)
    WHERE stored.chatbot_id = %s AND stored.conversation_id = new.number AND stored.variable_id = new.variable_id
      AND stored.digest = new.digest AND stored.conversation_id = ANY(%s::bigint[])
"""
_NAME_ERASED = """
    INSERT INTO conversations_identity (chatbot_id, conversation_id, variable_id, digest)
    SELECT %s, new.number, new.variable_id, new.digest
    FROM json_to_recordset(%s::json) AS new(number bigint, variable_id bigint, digest bytea)
    ON CONFLICT DO NOTHING
"""
_HAVE_IDENTITIES = """
    SELECT wanted.number
    FROM unnest(%s::bigint[]) AS wanted(number)
    CROSS JOIN LATERAL (
        SELECT 1 FROM conversations_identity i
        WHERE i.chatbot_id = %s AND i.conversation_id = wanted.number LIMIT 1
    ) AS found
"""
_DELETE_WORDS = """
    DELETE FROM conversations_nameword WHERE chatbot_id = %s AND conversation_id = ANY(%s::bigint[])
"""
# OFFSET 0 has the same effect as LIMIT above.
_READ_VALUES = """
    SELECT wanted.number, found.variable_id, found.value, found.expires_at < now() + make_interval(secs => %s)
    FROM unnest(%s::bigint[]) AS wanted(number)
    CROSS JOIN LATERAL (
        SELECT variable_id, value, expires_at FROM conversations_variablevalue
        WHERE chatbot_id = %s AND conversation_id = wanted.number OFFSET 0
    ) AS found
"""
_WRITE_VALUES = """
    INSERT INTO conversations_variablevalue (chatbot_id, conversation_id, variable_id, value, expires_at)
    SELECT %s, new.number, new.variable, new.value, now() + make_interval(secs => %s)
    FROM json_to_recordset(%s::json) AS new(number bigint, variable bigint, value text)
    ON CONFLICT ON CONSTRAINT variablevalue_once
    DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
"""


class ConcurrentIntake(Exception):
    """Another intake has created one of these conversations meanwhile: roll back and start again."""


def lock_conversations(
    *, chatbot_id: int, digests: Iterable[bytes], numbers: Iterable[int] = ()
) -> dict[bytes, MergedConversation]:
    """Lock the stored conversations with these digests or numbers, in id order, and return them by digest."""
    conversations = {}
    values = {"chatbot": chatbot_id, "digests": bytea_array(set(digests)), "numbers": array(set(numbers))}
    for number, *columns in fetch(_LOCK_CONVERSATIONS, values):
        row = ConversationRow(*columns)
        conversations[row.external_id_digest] = MergedConversation(row=row, number=number)
    return conversations


def read_known(
    conversations: Mapping[bytes, MergedConversation], incoming: Iterable[IncomingDocument], *, chatbot_id: int
) -> None:
    """Add to each stored, open conversation its values, and those messages and chatters of the documents it has."""
    by_number = {
        conversation.number: conversation
        for conversation in conversations.values()
        if conversation.number is not None and conversation.row.deletion_request_id is None
    }
    if not by_number:
        return
    messages: list[dict[str, Any]] = []
    chatters: list[tuple[MergedConversation, bytes]] = []
    for one in incoming:
        conversation = conversations.get(one.digest)
        if conversation is None or conversation.number not in by_number:
            continue
        number, uci_id = conversation.number, conversation.row.uci_variable_id
        if carried := one.document.get("messages"):
            messages.append({"number": number, "items": [message["id"] for message in carried]})
        if uci_id in one.chatters:
            chatters.append((conversation, one.chatters[uci_id]))
    for number, message_id in _find_stored(_WHICH_MESSAGES, messages, chatbot_id):
        by_number[number].known_messages.add(message_id)
    read_identities(chatters, chatbot_id=chatbot_id)
    latest_expiry = (settings.VARIABLE_DAYS - RENEWAL_STEP).total_seconds()
    values = [latest_expiry, list(by_number), chatbot_id]
    for number, variable_id, value, renewal_due in fetch(_READ_VALUES, values):
        by_number[number].known_values[variable_id] = StoredValue(value, renewal_due)


def read_identities(chatters: Iterable[tuple[MergedConversation, bytes]], *, chatbot_id: int) -> None:
    """Add to each stored conversation whether it has the chatter with this digest under its UCI."""
    by_number: dict[int | None, MergedConversation] = {}
    wanted = []
    for conversation, digest in chatters:
        by_number[conversation.number] = conversation
        variable_id = conversation.row.uci_variable_id
        wanted.append({"number": conversation.number, "variable": variable_id, "digest": digest})
    for number, digest, established_by in _find_stored(_WHICH_IDENTITIES, wanted, chatbot_id):
        by_number[number].known_identities[bytes(digest)] = EstablishedBy(established_by)


def find_kept(conversations: Iterable[MergedConversation], *, chatbot_id: int) -> set[int]:
    """Return the numbers of the stored conversations that an erased chatter's identity does not close.

    They have an identity of any chatter, a request waits for them, or they are under a legal hold.
    """
    numbers = {one.number for one in conversations if one.number is not None}
    if not numbers:
        return set()
    identified = {number for (number,) in fetch(_HAVE_IDENTITIES, [array(numbers), chatbot_id])}
    identified |= protection.find_waited_for(chatbot_id, numbers)
    return identified | protection.find_under_hold(chatbot_id, numbers)


def find_under_hold(conversations: Iterable[MergedConversation], *, chatbot_id: int) -> set[int]:
    """Return the numbers of the stored conversations under a legal hold: nothing closes these."""
    numbers = {one.number for one in conversations if one.number is not None}
    return protection.find_under_hold(chatbot_id, numbers)


def list_refused(refusals: Collection[Refusal], *, chatbot_id: int) -> None:
    """List the refusals for an officer, each conversation once for an erasure."""
    listed = [
        RefusedIdentity(
            chatbot_id=chatbot_id,
            conversation_id=cast("int", one.conversation.number),
            request_id=one.erasure.request_id,
            way=one.way,
            expires_at=one.erasure.expires_at,
        )
        for one in refusals
    ]
    RefusedIdentity.objects.bulk_create(listed, ignore_conflicts=True)


def _find_stored(statement: str, rows: Sequence[Mapping[str, Any]], chatbot_id: int) -> list[tuple[Any, ...]]:
    return fetch(statement, [json_rows(rows), chatbot_id]) if rows else []


def write(*, chatbot_id: int, conversations: Sequence[MergedConversation]) -> None:
    """Write what merging has changed and added. Raises ConcurrentIntake."""
    renamed = [one.number for one in conversations if one.number is not None and one.name_changed]
    _update_conversations(chatbot_id, [one for one in conversations if one.number is not None and one.row_changed])
    _insert_conversations(chatbot_id, [one for one in conversations if one.number is None])
    _write_words(chatbot_id, conversations, renamed=renamed)
    _write_identities(chatbot_id, conversations)
    _write_values(chatbot_id, conversations)
    _write_messages(chatbot_id, conversations)


def _update_conversations(chatbot_id: int, conversations: Sequence[MergedConversation]) -> None:
    if conversations:
        changed = [{"id": one.number, **_columns_of(one)} for one in conversations]
        numbers = array(one.number for one in conversations if one.number is not None)
        execute(_UPDATE_CONVERSATIONS, [json_rows(changed), chatbot_id, numbers])


def _insert_conversations(chatbot_id: int, conversations: Sequence[MergedConversation]) -> None:
    """Store new conversations and set their numbers.

    They are stored in the order of their digests, so that two intakes with the same new ones cannot block each other.
    """
    if not conversations:
        return
    new = sorted(conversations, key=lambda conversation: conversation.row.external_id_digest)
    numbers = dict(fetch(_INSERT_CONVERSATIONS, [chatbot_id, json_rows([_columns_of(one) for one in new])]))
    if len(numbers) < len(new):
        raise ConcurrentIntake
    for conversation in new:
        conversation.number = numbers[conversation.row.external_id_digest]


def _columns_of(conversation: MergedConversation) -> dict[str, Any]:
    row = conversation.row
    return {column: getattr(row, column) for column in _COLUMNS}


def _write_words(chatbot_id: int, conversations: Iterable[MergedConversation], *, renamed: Collection[int]) -> None:
    """Store the words of new names. `renamed` are the conversations that were stored before: they may have others."""
    if renamed:
        execute(by_index())
        execute(_DELETE_WORDS, [chatbot_id, array(renamed)])
    new = [
        (chatbot_id, one.number, word)
        for one in conversations
        if one.name_changed
        for word in words(one.row.user_name or "")
    ]
    if new:
        _copy("conversations_nameword (chatbot_id, conversation_id, word)", new)


def _write_identities(chatbot_id: int, conversations: Sequence[MergedConversation]) -> None:
    """Store the chatters of conversations. For erased chatters, store only the digests, if not stored already."""
    new = [(conversation.number, one) for conversation in conversations for one in conversation.new_identities]
    named = [(chatbot_id, number, *one, look_hash(one.value)) for number, one in new if one.value is not None]
    erased = [{"number": number, **one._asdict()} for number, one in new if one.value is None]
    stronger = [
        {"number": conversation.number, **one._replace(value=None)._asdict()}  # the value is stored already
        for conversation in conversations
        for one in conversation.stronger_identities.values()
    ]
    if named:
        columns = "chatbot_id, conversation_id, variable_id, digest, value, established_by, look"
        _copy(f"conversations_identity ({columns})", named)
    if erased:
        execute(_NAME_ERASED, [chatbot_id, json_rows(erased)])
    if stronger:
        numbers = array(one.number for one in conversations if one.stronger_identities and one.number is not None)
        execute(_STRENGTHEN, [json_rows(stronger), chatbot_id, numbers])


def _write_values(chatbot_id: int, conversations: Iterable[MergedConversation]) -> None:
    """Store the values of variables, each for VARIABLE_DAYS from now by the database's clock."""
    new = [
        {"number": conversation.number, "variable": variable_id, "value": value}
        for conversation in conversations
        for variable_id, value in conversation.new_values.items()
    ]
    if new:
        execute(_WRITE_VALUES, [chatbot_id, settings.VARIABLE_DAYS.total_seconds(), json_rows(new)])


def _write_messages(chatbot_id: int, conversations: Sequence[MergedConversation]) -> None:
    if any(conversation.new_messages for conversation in conversations):
        _copy(
            "conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)",
            _message_rows(chatbot_id, conversations),
        )


def _message_rows(chatbot_id: int, conversations: Iterable[MergedConversation]) -> Iterator[tuple[Any, ...]]:
    for conversation in conversations:
        number = conversation.number
        for one in conversation.new_messages:
            # psycopg would do the same with the time, half as fast.
            sent_at = one["sent_at"].isoformat()
            yield chatbot_id, number, one["id"], one["sender"], one["kind"], one["text"], sent_at


def _copy(target: str, rows: Iterable[tuple[Any, ...]]) -> None:
    # COPY is psycopg's own, so Django does not convert its errors by itself.
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(f"COPY {target} FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row(row)
