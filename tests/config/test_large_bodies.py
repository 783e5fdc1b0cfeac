"""Who may send a large body, as a proxy asks before it receives one."""

import pytest
from django.test import Client

from chatbots.models import Chatbot
from chatbots.operations.keys import revoke_api_key
from tests.calls import Caller, SigningCaller, TokenCaller
from tests.closed import close
from tests.people import Role, member

pytestmark = pytest.mark.django_db(transaction=True)


def asked(client: Client, target: str, **headers: str) -> int:
    return client.get("/api/may-send", headers={"X-Forwarded-Uri": target, **headers}).status_code


def asked_by(caller: Caller, target: str = "conversations?x=1") -> int:
    return asked(Client(), caller.url(target), **caller.credentials(b""))


def test_a_valid_token_of_the_chatbot_may_send(chatbot: Chatbot) -> None:
    caller = TokenCaller(chatbot)
    assert asked_by(caller) == 204
    assert asked_by(caller, "/api/v1/chatbots/other/conversations") == 401
    assert asked_by(caller, "/api/nowhere") == 401
    assert asked_by(Caller(chatbot)) == 401
    assert asked_by(SigningCaller(chatbot)) == 401
    revoke_api_key(prefix=caller.api_key.prefix, actor="command")
    assert asked_by(caller) == 401


def test_only_a_logged_in_user_may_send_a_form(chatbot: Chatbot) -> None:
    staff = member(chatbot, Role.SUPPORT)
    assert asked(staff, "/admin/file/acme/many/") == 204
    assert asked(Client(), "/admin/file/acme/many/") == 403
    assert asked(Client(), "//[/../admin/") == 403  # looks like a host
    assert asked(staff, "/api/v1/chatbots/acme/conversations") == 401


def test_nobody_may_while_the_service_is_closed(chatbot: Chatbot) -> None:
    caller = TokenCaller(chatbot)
    close()
    assert asked_by(caller) == 503
