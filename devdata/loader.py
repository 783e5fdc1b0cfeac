"""Loads the sample data through the same code as production: chatbot operations, intake and uploads."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from chatbots.models import Chatbot
from chatbots.operations.chatbots import create_chatbot
from conversations.documents import parse_document
from conversations.intake import DocumentOutcome, store
from conversations.models import Conversation, UploadedFile
from conversations.uploads import receive
from devdata.sample_data import Company, SampleConversation, sample_conversations

# A conversation comes in two documents at most, and intake takes 1,000 at once.
_BATCH = 250


@dataclass
class LoadResult:
    """Counts for one company. Conversations that were `refused` were deleted since an earlier run."""

    company: Company
    chatbot_created: bool
    outcomes: Counter[DocumentOutcome] = field(default_factory=Counter)
    messages: int = 0
    files: int = 0


def load(*, company: Company, conversations: int, actor: str, on_progress: Callable[[int], object]) -> LoadResult:
    """Create a company's chatbot if it is missing, and load its first `conversations` conversations in batches.

    Safe to run again: times count from the chatbot's creation, so the documents are the same as before.
    `on_progress` receives the size of each batch. Raises IntakeFailed and StorageError; earlier batches stay.
    """
    chatbot, created = _chatbot(company, actor)
    result = LoadResult(company, created)
    samples = sample_conversations(company, count=conversations, anchor=chatbot.created_at)
    while batch := list(islice(samples, _BATCH)):
        _upload_missing(chatbot, _store(chatbot, batch, result), result)
        on_progress(len(batch))
    return result


def _chatbot(company: Company, actor: str) -> tuple[Chatbot, bool]:
    known = Chatbot.objects.filter(slug=company.slug).first()
    if known is not None:
        return known, False
    chatbot = create_chatbot(
        slug=company.slug,
        name=company.name,
        timezone=company.timezone,
        variables=company.variables,
        uci=company.uci.name,
        enable_compliance=True,
        hosted_bucket=True,
        actor=actor,
    )
    chatbot.refresh_from_db()
    return chatbot, True


def _store(chatbot: Chatbot, batch: list[SampleConversation], result: LoadResult) -> dict[int, SampleConversation]:
    """Store the documents of a batch; return the samples that are stored now, by conversation number."""
    documents = [parse_document(document) for sample in batch for document in sample.documents]
    outcomes = iter(store(chatbot=chatbot, documents=documents))
    stored = {}
    for sample in batch:
        first, *more = islice(outcomes, len(sample.documents))
        result.outcomes[first.outcome] += 1
        result.messages += first.messages + sum(outcome.messages for outcome in more)
        if first.outcome is not DocumentOutcome.REFUSED and first.number is not None:
            stored[first.number] = sample
    return stored


def _upload_missing(chatbot: Chatbot, samples: dict[int, SampleConversation], result: LoadResult) -> None:
    """Upload the files that are not stored yet, including those left out by an interrupted run."""
    with_file = {number for number, sample in samples.items() if sample.file}
    stored = UploadedFile.objects.filter(chatbot=chatbot, conversation__in=with_file, state=UploadedFile.State.STORED)
    missing = with_file - set(stored.values_list("conversation_id", flat=True))
    for conversation in Conversation.objects.filter(chatbot=chatbot, pk__in=missing).order_by("pk"):
        file = samples[conversation.pk].file
        if file is not None:
            receive(
                conversation=conversation,
                name=file.name,
                content_type=file.content_type,
                chunks=[file.content],
                message_external_id=file.message_id,
            )
            result.files += 1
