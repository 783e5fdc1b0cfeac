"""The erasure ledger: what was erased, by keyed digest, outside the database.

A database restored from a backup contains the erased people again. The ledger is in the hosted bucket, so it survives
the restore and says what must be erased once more. It contains request ids, cutoffs and digests, no value and no
text. Chatbots and variables have their public ids: a restored database can reuse their numbers. Each finished claim
writes one object, below its UTC day, which is removed after ERASURE_LEDGER_DAYS.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, cast
from uuid import UUID, uuid4

from django.conf import settings
from django.utils import timezone

from chatbots.buckets import hosted_storage
from common import crypto
from common.db import array, fetch
from common.storage import StorageError, errors
from compliance.errors import StepFailed
from compliance.models import Redaction, RetentionRun
from compliance.work.sql import subjects
from conversations.models import Conversation, Message

PREFIX = "erasure_ledger/"

_CONVERSATIONS = """
SELECT ours.id, marked.external_id_digest
  FROM unnest(%(ids)s::uuid[]) AS ours(id)
 CROSS JOIN LATERAL (
       SELECT id, external_id_digest FROM conversations_conversation
        WHERE deletion_request_id = ours.id AND chatbot_id = ANY(%(chatbots)s)
          AND external_id_digest IS NOT NULL OFFSET 0) AS marked
 ORDER BY marked.id
"""

_REQUESTS = """
SELECT r.id, (SELECT public_id FROM chatbots_chatbot WHERE id = r.chatbot_id),
       (SELECT public_id FROM chatbots_variable WHERE id = r.variable_id),
       r.uci_digest, r.conversation_digests, r.cutoff_at
  FROM compliance_compliancerequest r
 WHERE r.id = ANY(%s) ORDER BY r.seq
"""

Entry = dict[str, Any]


def read(request_ids: Sequence[UUID]) -> dict[UUID, Entry]:
    """Return the ledger entries of these deletions, in the order of filing.

    Conversations are those with the deletion's mark, and those that it named by id: others may have marked them.
    """
    digests: dict[UUID, list[str]] = defaultdict(list)
    for request_id, digest in fetch(_CONVERSATIONS, subjects(request_ids)):
        digests[request_id].append(bytes(digest).hex())
    return {
        request_id: {
            "request_id": str(request_id),
            "chatbot": str(chatbot),
            "variable": str(variable) if variable else None,
            "chatter": bytes(digest or b"").hex(),
            "cutoff_at": cutoff_at.isoformat() if cutoff_at else None,
            "conversations": list(dict.fromkeys([*digests[request_id], *(bytes(one).hex() for one in named or ())])),
        }
        for request_id, chatbot, variable, digest, named, cutoff_at in fetch(_REQUESTS, [array(request_ids)])
    }


def read_runs(request_ids: Sequence[UUID]) -> dict[UUID, Entry]:
    """Return the ledger entries of these retention runs: chatbot, age and the last number say what was due."""
    runs = RetentionRun.objects.filter(request__in=request_ids).select_related("chatbot")
    return {
        cast("UUID", run.request_id): {
            "request_id": str(run.request_id),
            "chatbot": str(run.chatbot.public_id),
            "older_than": run.older_than.isoformat(),
            "up_to": run.examined_number,
        }
        for run in runs
    }


def read_redactions(request_ids: Sequence[UUID]) -> dict[UUID, Entry]:
    """Return the ledger entries of these redactions: the conversation and its messages, by digests of their ids.

    Without those that a deletion has erased meanwhile: its own entry names the conversation.
    """
    entries: dict[UUID, Entry] = {}
    for redaction in Redaction.objects.filter(request__in=request_ids).select_related("chatbot"):
        chatbot = redaction.chatbot
        messages = Message.objects.filter(
            chatbot=chatbot, conversation=redaction.conversation_id, pk__in=redaction.message_numbers
        )
        named = Conversation.objects.filter(chatbot=chatbot, pk=redaction.conversation_id)
        of_conversation = named.values_list("external_id_digest", flat=True).first()
        of_conversation_hex = bytes(of_conversation or b"").hex()
        entries[redaction.request_id] = {
            "request_id": str(redaction.request_id),
            "chatbot": str(chatbot.public_id),
            "conversation": of_conversation_hex,
            "messages": [
                crypto.digest("message", chatbot.public_id, f"{of_conversation_hex}:{external_id}").hex()
                for external_id in messages.order_by("pk").values_list("external_id", flat=True)
            ],
        }
    return entries


def write(erased: Sequence[Entry]) -> None:
    """Write these entries as one ledger object. Raises StepFailed when storage refuses.

    Written again, after a kill or without an answer, they make a second object, which does no harm.
    """
    content = json.dumps({"version": 1, "erased": erased}, separators=(",", ":")).encode()
    try:
        try:
            _put(content)
        except StorageError as error:
            if error.code != errors.UNAVAILABLE:
                raise
            _put(content)
    except StorageError as error:
        raise StepFailed.of(error) from None


def _put(content: bytes) -> None:
    # Each try has its own key: the same key twice would be two versions in a bucket with versioning.
    key = f"{PREFIX}{timezone.now():%Y-%m-%d}/{uuid4().hex}.json"
    hosted_storage().put(key, content, content_type="application/json")


def expired_keys() -> Iterator[str]:
    """Yield the keys of expired ledger objects. Raises StorageError."""
    last_kept = f"{PREFIX}{timezone.now() - settings.ERASURE_LEDGER_DAYS:%Y-%m-%d}/"
    # Keys are listed in order, so those to remove come first.
    return takewhile(lambda key: key < last_kept, hosted_storage().keys(PREFIX))
