"""One factory per model: the smallest valid object, without randomness that matters."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Max
from django.utils import timezone
from factory.declarations import LazyAttribute, LazyFunction, Sequence, SubFactory, Trait
from factory.django import DjangoModelFactory
from uuid_utils.compat import uuid7

from chatbots.models import ApiKey, Bucket, BucketCredential, Chatbot, Variable
from common.crypto import digest
from common.folding import look_hash, words
from compliance.models import Callback, Claim, ComplianceRequest, Export
from compliance.redaction.filing import redact
from compliance.requests.insert import store_subjects
from conversations.models import Conversation, Identity, Message, NameWord, UploadedFile, VariableValue

NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


class ChatbotFactory(DjangoModelFactory[Chatbot]):
    class Meta:
        model = Chatbot

    slug = Sequence(lambda n: f"chatbot-{n}")
    name = LazyAttribute(lambda chatbot: chatbot.slug.title())
    compliance_enabled = True


class VariableFactory(DjangoModelFactory[Variable]):
    class Meta:
        model = Variable

    chatbot = SubFactory(ChatbotFactory)
    name = "member_id"
    category = Variable.Category.CUSTOM
    is_uci = True


class BucketFactory(DjangoModelFactory[Bucket]):
    class Meta:
        model = Bucket

    chatbot = SubFactory(ChatbotFactory)


def ready_chatbot(*, slug: str, **settings: Any) -> Chatbot:
    """A chatbot with compliance on, `member_id` as its UCI, a `plan` variable, and a hosted bucket."""
    chatbot = ChatbotFactory.create(slug=slug, **settings)
    VariableFactory.create(chatbot=chatbot)
    VariableFactory.create(chatbot=chatbot, name="plan", category=Variable.Category.USER_CHANNEL, is_uci=False)
    BucketFactory.create(chatbot=chatbot)
    return chatbot


def uci_of(chatbot: Chatbot) -> Variable:
    return Variable.objects.get(chatbot=chatbot, is_uci=True)


class ConversationFactory(DjangoModelFactory[Conversation]):
    class Meta:
        model = Conversation

    chatbot = SubFactory(ChatbotFactory)
    external_id = Sequence(lambda n: f"conversation-{n}")
    external_id_digest = LazyAttribute(
        lambda row: digest("conversation", row.chatbot.public_id, row.external_id) if row.external_id else None
    )
    channel = Conversation.Channel.WIDGET
    started_at = NOON

    @classmethod
    def _create(cls, model_class: Any, *args: Any, **kwargs: Any) -> Any:
        row = super()._create(model_class, *args, **kwargs)
        named = [NameWord(chatbot=row.chatbot, conversation=row, word=word) for word in words(row.user_name or "")]
        NameWord.objects.bulk_create(named)
        return row


class IdentityFactory(DjangoModelFactory[Identity]):
    class Meta:
        model = Identity

    conversation = SubFactory(ConversationFactory)
    chatbot = LazyAttribute(lambda row: row.conversation.chatbot)
    variable = LazyAttribute(lambda row: row.conversation.uci_variable or uci_of(row.conversation.chatbot))
    value = "42"
    digest = LazyAttribute(lambda row: digest("chatter", row.variable.public_id, row.value))
    look = LazyAttribute(lambda row: None if row.value is None else look_hash(row.value))
    established_by = Identity.EstablishedBy.CUSTOM


class MessageFactory(DjangoModelFactory[Message]):
    class Meta:
        model = Message

    conversation = SubFactory(ConversationFactory)
    chatbot = LazyAttribute(lambda row: row.conversation.chatbot)
    external_id = Sequence(lambda n: f"m{n}")
    sender = Message.Sender.USER
    kind = Message.Kind.TEXT
    text = "hello"
    sent_at = Sequence(lambda n: NOON + timedelta(seconds=n))


class VariableValueFactory(DjangoModelFactory[VariableValue]):
    class Meta:
        model = VariableValue

    conversation = SubFactory(ConversationFactory)
    chatbot = LazyAttribute(lambda row: row.conversation.chatbot)
    variable = LazyAttribute(lambda row: Variable.objects.get(chatbot=row.conversation.chatbot, name="plan"))
    value = "gold"
    expires_at = LazyFunction(lambda: timezone.now() + timedelta(days=7))


class UploadedFileFactory(DjangoModelFactory[UploadedFile]):
    class Meta:
        model = UploadedFile

    conversation = SubFactory(ConversationFactory)
    chatbot = LazyAttribute(lambda row: row.conversation.chatbot)
    object_key = Sequence(lambda n: f"uploads/1/{n}")
    name = "photo.jpg"
    content_type = "image/jpeg"

    class Params:
        stored = Trait(state="stored", size=1, sha256="0" * 64)


class ApiKeyFactory(DjangoModelFactory[ApiKey]):
    """A token with an unknown secret; use `create_api_key` for one that can call."""

    class Meta:
        model = ApiKey

    chatbot = SubFactory(ChatbotFactory)
    label = "test"
    type = ApiKey.Type.TOKEN
    prefix = Sequence(lambda n: f"key{n}")
    secret_sha256 = b"\0" * 32


class BucketCredentialFactory(DjangoModelFactory[BucketCredential]):
    """Active credentials that were recorded by hand; use `issue_bucket_credential` for some that work."""

    class Meta:
        model = BucketCredential

    id = LazyFunction(uuid7)
    chatbot = SubFactory(ChatbotFactory)
    origin = BucketCredential.Origin.BY_HAND
    label = "test"
    access_key_id = Sequence(lambda n: f"AKIA{n}")
    place = 1
    created_by = "command"
    active_at = LazyFunction(timezone.now)


class RequestFactory(DjangoModelFactory[ComplianceRequest]):
    class Meta:
        model = ComplianceRequest

    id = LazyFunction(uuid7)
    chatbot = SubFactory(ChatbotFactory)
    kind = ComplianceRequest.Kind.DELETION
    origin = ComplianceRequest.Origin.API
    variable = LazyAttribute(lambda row: uci_of(row.chatbot))
    uci_value = "42"
    uci_digest = LazyAttribute(lambda row: digest("chatter", row.variable.public_id, row.uci_value or "42"))
    filed_by = "api:test"
    due_at = LazyFunction(lambda: timezone.now() + timedelta(days=30))
    cutoff_at = None
    cutoff_number = LazyAttribute(lambda row: _highest_number(row.chatbot) if _has_marked(row) else None)


def _has_marked(row: Any) -> bool:
    return row.kind == ComplianceRequest.Kind.DELETION and row.cutoff_at is not None


def _highest_number(chatbot: Chatbot) -> int:
    found = Conversation.objects.filter(chatbot=chatbot).aggregate(highest=Max("pk"))
    return found["highest"] or 0


class ClaimFactory(DjangoModelFactory[Claim]):
    class Meta:
        model = Claim

    owner = "test"
    token = LazyFunction(uuid7)
    expires_at = LazyFunction(lambda: timezone.now() + timedelta(minutes=2))


class ExportFactory(DjangoModelFactory[Export]):
    class Meta:
        model = Export

    request = SubFactory(RequestFactory, kind=ComplianceRequest.Kind.EXPORT)
    chatbot = LazyAttribute(lambda row: row.request.chatbot)


class CallbackFactory(DjangoModelFactory[Callback]):
    """A callback for a cancelled request, to a receiver that does not exist."""

    class Meta:
        model = Callback

    id = LazyFunction(uuid7)
    request = SubFactory(RequestFactory)
    chatbot = LazyAttribute(lambda row: row.request.chatbot)
    status = "cancelled"
    occurred_at = LazyFunction(timezone.now)
    url = "https://hooks.example.com/privacy-5813"
    next_attempt_at = LazyFunction(timezone.now)
    give_up_at = LazyFunction(lambda: timezone.now() + timedelta(days=1))
    expires_at = LazyFunction(lambda: timezone.now() + timedelta(days=30))

    class Params:
        given_up = Trait(state="given_up", next_attempt_at=None, last_error="no_answer", attempts=30)
        delivered = Trait(
            state="delivered",
            next_attempt_at=None,
            url="",
            attempts=1,
            last_status=200,
            delivered_at=LazyFunction(timezone.now),
        )


def conversation_of(
    chatbot: Chatbot, *values: str, messages: int = 2, text: str = "hello", **fields: Any
) -> Conversation:
    """A conversation of the chatters with these UCI values, with its messages, as intake would store it."""
    uci = uci_of(chatbot)
    conversation = ConversationFactory.create(
        chatbot=chatbot, uci_variable=uci, **({"message_count": messages, "last_message_at": NOON} | fields)
    )
    for value in values:
        IdentityFactory.create(conversation=conversation, variable=uci, value=value)
    MessageFactory.create_batch(messages, conversation=conversation, text=text)
    return conversation


def conversation_by(chatbot: Chatbot, people: Mapping[str, Identity.EstablishedBy], **fields: Any) -> Conversation:
    """A conversation of chatters whose identities came in these ways, by their values."""
    conversation = conversation_of(chatbot, **fields)
    for value, way in people.items():
        IdentityFactory.create(conversation=conversation, value=value, established_by=way)
    return conversation


def deletion_of(chatbot: Chatbot, value: str | None, **fields: Any) -> ComplianceRequest:
    return _request(chatbot, value, ComplianceRequest.Kind.DELETION, **fields)


def export_of(chatbot: Chatbot, value: str, **fields: Any) -> ComplianceRequest:
    return _request(chatbot, value, ComplianceRequest.Kind.EXPORT, **fields)


def of_conversations(chatbot: Chatbot, *ids: str, kind: str = "deletion", **fields: Any) -> ComplianceRequest:
    """A request by the platform's ids of conversations."""
    digests = [digest("conversation", chatbot.public_id, one) for one in ids]
    request = RequestFactory.create(
        chatbot=chatbot,
        kind=kind,
        variable=None,
        uci_value=None,
        uci_digest=None,
        conversation_digests=digests,
        **fields,
    )
    store_subjects([request])
    return ComplianceRequest.objects.get(pk=request.pk)


def redaction_of(
    conversation: Conversation,
    *,
    reference: str = "",
    origin: ComplianceRequest.Origin = ComplianceRequest.Origin.API,
) -> ComplianceRequest:
    """File a redaction of all messages of a conversation."""
    messages = Message.objects.filter(conversation=conversation, chatbot=conversation.chatbot)
    return redact(
        chatbot=conversation.chatbot,
        number=conversation.pk,
        message_numbers=list(messages.values_list("pk", flat=True)),
        reason="other",
        origin=origin,
        actor="api:x",
        reference=reference,
    )


def _request(chatbot: Chatbot, value: str | None, kind: ComplianceRequest.Kind, **fields: Any) -> ComplianceRequest:
    request = RequestFactory.create(chatbot=chatbot, uci_value=value, kind=kind, **fields)
    request.refresh_from_db()
    return request


def as_bytes(column: bytes | memoryview | None) -> bytes:
    """A binary column's value as bytes; psycopg may return a memoryview."""
    assert column is not None
    return bytes(column)
