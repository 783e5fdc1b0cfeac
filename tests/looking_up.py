"""A chatbot with a resolver, and conversations whose chatter is not known yet."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from chatbots.models import Chatbot, Resolver
from chatbots.operations.chatbots import NewVariable, add_variable
from chatbots.operations.keys import create_callback_secret
from chatbots.operations.resolvers import set_resolver
from compliance.lookups.queue import look_up
from conversations.intake import store
from conversations.models import Conversation, Identity, IdentityLookup
from tests.conversations.documents import parsed

SESSION = "session"


def with_resolver(chatbot: Chatbot, url: str, **options: Any) -> str:
    """Set a resolver that gets the session token, and return the callback secret."""
    secret = create_callback_secret(chatbot=chatbot, actor="test").secret
    add_variable(chatbot=chatbot, variable=NewVariable("user_channel", SESSION), actor="test")
    set_resolver(
        chatbot=chatbot,
        url=url,
        actor="test",
        **{"send": [SESSION], "session_token": SESSION, "pointer": "/value"} | options,
    )
    return secret


def send(chatbot: Chatbot, *ids: str, session: str = "token-{}", **fields: Any) -> None:
    """Store conversations that begin now, each with its own session token, and nothing that says who it is."""
    documents = [_today(one, user_channel_variables={SESSION: session.format(one)}, **fields) for one in ids]
    store(chatbot=chatbot, documents=documents)


def begin(chatbot: Chatbot, *ids: str, **fields: Any) -> list[Conversation]:
    """As `send`; return the conversations."""
    send(chatbot, *ids, **fields)
    found = {one.external_id: one for one in Conversation.objects.filter(chatbot=chatbot, external_id__in=ids)}
    return [found[one] for one in ids]


def lookup_of(conversation: Conversation) -> IdentityLookup:
    return IdentityLookup.objects.get(conversation=conversation)


def identities(conversation: Conversation) -> list[tuple[str | None, str]]:
    return list(Identity.objects.filter(conversation=conversation).values_list("value", "established_by"))


def resolver_of(chatbot: Chatbot) -> Resolver:
    return Resolver.objects.get(chatbot=chatbot)


def make_due(chatbot: Chatbot) -> None:
    past = timezone.now() - timedelta(seconds=1)
    IdentityLookup.objects.filter(chatbot=chatbot, state="pending").update(next_attempt_at=past, token=None)


def _today(document_id: str, **fields: Any) -> Any:
    started_at = timezone.now().isoformat()
    return parsed(document_id, **{"started_at": started_at, "custom_variables": {}, "messages": []} | fields)


def after_a_turn(conversation: Conversation) -> tuple[str, str]:
    look_up()
    lookup = lookup_of(conversation)
    return lookup.state, lookup.last_error
