"""Put the sample data into this copy: chatbots by their operation, documents by intake, files by uploads."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from chatbots import operations
from chatbots.models import Chatbot
from conversations.demo_data import Company, SampleConversation, sample_conversations
from conversations.documents import parse_document
from conversations.intake import Result, store
from conversations.models import Conversation, UploadedFile
from conversations.uploads import receive

# A conversation comes in two documents at most, and intake takes 1,000 at once.
_BATCH = 250


@dataclass
class Seeded:
    """What was made for one company. `outcomes` counts conversations: what is `unchanged` was there already, and
    what is `refused` has been deleted since."""

    company: Company
    chatbot_created: bool
    outcomes: Counter[Result] = field(default_factory=Counter)
    messages: int = 0
    files: int = 0


def seed(*, company: Company, conversations: int, actor: str, on_progress: Callable[[int], object]) -> Seeded:
    """Make a company's chatbot, unless it is there, and its first `conversations` conversations, in batches.

    Safe to run again: times count from the chatbot's creation, so the documents are the same as before.
    `on_progress` is told how many conversations were stored since it was last told. Raises IntakeFailed and
    StorageError; what was stored until then stays.
    """
    chatbot, created = _chatbot(company, actor)
    seeded = Seeded(company, created)
    samples = sample_conversations(company, count=conversations, anchor=chatbot.created_at)
    while batch := list(islice(samples, _BATCH)):
        _upload_missing(_store(chatbot, batch, seeded), seeded)
        on_progress(len(batch))
    return seeded


def _chatbot(company: Company, actor: str) -> tuple[Chatbot, bool]:
    known = Chatbot.objects.filter(slug=company.slug).first()
    if known is not None:
        return known, False
    made = operations.create_chatbot(
        slug=company.slug,
        name=company.name,
        timezone=company.timezone,
        variables=company.variables,
        uci=company.uci.name,
        enable_compliance=True,
        hosted_bucket=True,
        actor=actor,
    )
    made.refresh_from_db()
    return made, True


def _store(chatbot: Chatbot, batch: list[SampleConversation], seeded: Seeded) -> dict[int, SampleConversation]:
    """Store the documents of a batch and count; return the conversations that are there now, by number."""
    documents = [parse_document(document) for sample in batch for document in sample.documents]
    outcomes = iter(store(chatbot=chatbot, documents=documents))
    there = {}
    for sample in batch:
        first, *more = islice(outcomes, len(sample.documents))
        seeded.outcomes[first.outcome] += 1
        seeded.messages += first.messages + sum(outcome.messages for outcome in more)
        if first.outcome is not Result.REFUSED and first.number is not None:
            there[first.number] = sample
    return there


def _upload_missing(there: dict[int, SampleConversation], seeded: Seeded) -> None:
    """Upload the files that are not stored yet: also those that an interrupted run has left out."""
    having = {number for number, sample in there.items() if sample.file}
    stored = UploadedFile.objects.filter(conversation__in=having, state=UploadedFile.State.STORED)
    missing = having - set(stored.values_list("conversation_id", flat=True))
    for conversation in Conversation.objects.filter(pk__in=missing).order_by("pk"):
        file = there[conversation.pk].file
        if file is not None:
            receive(
                conversation=conversation,
                name=file.name,
                content_type=file.content_type,
                chunks=[file.content],
                message_external_id=file.message_id,
            )
            seeded.files += 1
