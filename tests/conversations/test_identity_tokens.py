"""Identity tokens in documents: what they bring, and what is refused without a trace."""

import logging
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chatbots.models import ApiKey, Chatbot, Variable
from chatbots.operations.chatbots import change_chatbot, designate_uci
from conversations.documents import Document
from conversations.models import Conversation, Identity, Message, RefusedIdentity
from tests.calls import TokenCaller
from tests.conversations.documents import document, message, parsed, update
from tests.conversations.intakes import STARTED, erase, results, stored
from tests.factories import VariableFactory, ready_chatbot
from tests.functional.support import dump
from tests.tokens import DAY, HOUR, Backend, compact, hmac_signer


@pytest.fixture
def backend(chatbot: Chatbot) -> Backend:
    return Backend(chatbot)


def signed(token: str, document_id: str = "c-1", **fields: Any) -> Document:
    """A document without variables, and with a token."""
    return parsed(document_id, custom_variables=None, identity_token=token, **fields)


def refused(chatbot: Chatbot, document: Document) -> str:
    """Return why the document's token is refused, after checking that nothing of the document is stored."""
    before = Conversation.objects.count(), Message.objects.count(), Identity.objects.count()
    [result] = stored(chatbot, document)
    [error] = result.errors
    assert (error.pointer, error.code) == ("/identity_token", "invalid_identity_token")
    assert (Conversation.objects.count(), Message.objects.count(), Identity.objects.count()) == before
    return error.detail


def ways() -> list[tuple[str | None, str]]:
    return list(Identity.objects.order_by("pk").values_list("value", "established_by"))


@pytest.mark.parametrize("algorithm", ApiKey.Algorithm.values)
def test_a_signed_value_is_stored_as_signed(chatbot: Chatbot, algorithm: str) -> None:
    backend = Backend(chatbot, algorithm)
    caller = TokenCaller(chatbot, ["conversations:write", "conversations:read"])

    answer = caller.post("conversations", document(custom_variables={}, identity_token=backend.token("4 2")))

    [result] = answer.json()["results"]
    assert (result["outcome"], result["error"]) == ("created", None)
    assert ways() == [("4 2", "signed")]
    named = caller.get(f"conversations/{result['number']}").json()["unique_chatter_identifiers"]
    assert named == [{"key": "member_id", "value": "4 2", "established_by": "signed"}]


def test_a_document_without_variables_is_signed_too_and_a_null_token_is_as_absent(chatbot, backend) -> None:
    assert results(chatbot, parsed("c-2", custom_variables=None, identity_token=None)) == ["created"]
    assert results(chatbot, signed(backend.token()), update(identity_token=backend.token())) == [
        "created",
        "unchanged",
    ]
    assert ways() == [("42", "signed")]


def test_a_token_makes_a_said_value_a_signed_one(chatbot: Chatbot, backend: Backend) -> None:
    assert results(chatbot, parsed()) == ["created"]
    assert results(chatbot, parsed(identity_token=backend.token())) == ["updated"]
    assert results(chatbot, parsed(identity_token=backend.token()), parsed()) == ["unchanged", "unchanged"]
    assert ways() == [("42", "signed")]


def test_a_token_names_a_second_chatter(chatbot: Chatbot, backend: Backend) -> None:
    assert results(chatbot, parsed(), update(identity_token=backend.token("43"))) == ["created", "updated"]
    assert ways() == [("42", "custom"), ("43", "signed")]


@pytest.mark.parametrize("placeholder", ["", "anonymous", None])
def test_a_placeholder_beside_a_token_names_nobody(chatbot, backend, placeholder) -> None:
    one = parsed(custom_variables={"member_id": placeholder}, identity_token=backend.token())
    assert results(chatbot, one) == ["created"]
    assert ways() == [("42", "signed")]


def test_another_value_in_the_variables_is_refused(chatbot: Chatbot, backend: Backend) -> None:
    [result] = stored(chatbot, parsed(identity_token=backend.token("43")))

    assert [(error.pointer, error.code) for error in result.errors] == [("/identity_token", "identity_mismatch")]
    assert not Conversation.objects.exists()


# --- Refused --------------------------------------------------------------------------------------------


def test_a_token_that_proves_nothing_is_refused_with_its_document(chatbot: Chatbot, backend: Backend) -> None:
    for token, detail in (
        (backend.token(aud="acme"), "aud must be the public id"),
        (backend.token(header={"kid": "0" * 12}), "kid names no active identity key"),
        (backend.token(header={"kid": "\0"}), "kid names no active identity key"),
        (backend.token(header={"kid": "\ud800"}), "kid names no active identity key"),
        (compact(backend.header(), {}, hmac_signer(b"other")), "signature"),
        (backend.token(age=2 * HOUR), "expired"),
        (backend.token(uci_key="plan"), "uci_key names no Unique Chatter Identifier"),
        (backend.token(uci_key="\0\ud800"), "uci_key names no Unique Chatter Identifier"),
        (backend.token(conversation_id="c-2"), "conversation_id is not the document's id"),
        ("", "compact"),
    ):
        assert detail in refused(chatbot, signed(token))
    assert results(chatbot, signed(backend.token())) == ["created"]


@pytest.mark.parametrize("change", [{"revoked_at": "2026-01-01T00:00:00Z"}, {"expires_at": "2026-01-01T00:00:00Z"}])
def test_a_key_that_ended_verifies_nothing(chatbot: Chatbot, backend: Backend, change: dict[str, str]) -> None:
    """Not even in a conversation where its token was taken before."""
    token = backend.token()
    assert results(chatbot, signed(token)) == ["created"]
    ApiKey.objects.update(**change)

    assert "no active identity key" in refused(chatbot, update(identity_token=token, language="en"))
    assert "no active identity key" in refused(chatbot, signed(token, "c-2"))


def test_a_key_of_another_chatbot_verifies_nothing(chatbot: Chatbot, neighbour: Chatbot, backend: Backend) -> None:
    theirs = Backend(neighbour)

    assert "no active identity key" in refused(chatbot, signed(theirs.token(aud=str(chatbot.public_id))))
    assert "no active identity key" in refused(neighbour, signed(backend.token(aud=str(neighbour.public_id))))
    assert "aud" in refused(chatbot, signed(backend.token(aud=str(neighbour.public_id))))


def test_a_token_of_the_api_is_no_identity_key(chatbot: Chatbot, backend: Backend) -> None:
    caller = TokenCaller(chatbot)
    made = compact(backend.header(kid=caller.api_key.prefix), {}, hmac_signer(str(caller.token).encode()))
    assert "no active identity key" in refused(chatbot, signed(made))


def test_the_key_of_the_value_is_the_conversation_s_uci(chatbot: Chatbot, backend: Backend) -> None:
    assert results(chatbot, parsed("c-old", custom_variables={})) == ["created"]
    VariableFactory.create(chatbot=chatbot, name="account", is_uci=False)
    designate_uci(chatbot=chatbot, name="account", actor="command")

    former, present = backend.token(), backend.token(uci_key="account")
    assert "not the Unique Chatter Identifier of this" in refused(chatbot, signed(former, "c-new"))
    assert "not the Unique Chatter Identifier of this" in refused(chatbot, signed(present, "c-old"))
    assert results(chatbot, signed(former, "c-old"), signed(present, "c-new")) == ["updated", "created"]
    assert {(each.conversation.external_id, each.variable.name) for each in Identity.objects.all()} == {
        ("c-old", "member_id"),
        ("c-new", "account"),
    }


def test_a_conversation_without_a_uci_takes_no_token(chatbot: Chatbot, backend: Backend) -> None:
    Variable.objects.filter(chatbot=chatbot).update(is_uci=False)
    assert results(chatbot, parsed(custom_variables={})) == ["created"]
    assert "names no Unique" in refused(chatbot, signed(backend.token()))
    designate_uci(chatbot=chatbot, name="member_id", actor="command")

    assert "not the Unique Chatter Identifier of this" in refused(chatbot, signed(backend.token()))


def test_a_chatbot_can_demand_that_a_token_names_its_conversation(chatbot: Chatbot, backend: Backend) -> None:
    change_chatbot(chatbot=chatbot, changes={"token_names_conversation": True}, actor="command")
    chatbot.refresh_from_db()

    assert "must have a conversation_id" in refused(chatbot, signed(backend.token()))
    assert "is not the document's id" in refused(chatbot, signed(backend.token(conversation_id="c-2")))
    assert results(chatbot, signed(backend.token(conversation_id="c-1"))) == ["created"]


def test_all_errors_of_a_document_are_told(chatbot: Chatbot) -> None:
    [result] = stored(chatbot, parsed(custom_variables={"colour": "red"}, identity_token="x"))

    assert [error.code for error in result.errors] == ["undeclared_variable", "invalid_identity_token"]


def test_a_refused_document_affects_no_other(chatbot: Chatbot, backend: Backend) -> None:
    good, bad = backend.token(), backend.token(aud="x")

    outcomes = results(chatbot, signed(bad), signed(good), signed(bad, "c-2"), parsed("c-3"))

    assert outcomes == ["invalid_identity_token", "created", "invalid_identity_token", "created"]


def test_a_key_that_cannot_be_decrypted_refuses_the_call(chatbot, backend, settings, caplog) -> None:
    settings.ENCRYPTION_KEYS = {"other": b"\1" * 32}
    caller = TokenCaller(chatbot)

    answer = caller.post("conversations", document(identity_token=backend.token()))

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "ENCRYPTION_KEYS" in caplog.text
    assert not Conversation.objects.exists()
    assert caller.post("conversations", document()).status_code == 200


# --- Expiry ---------------------------------------------------------------------------------------------


def test_a_conversation_goes_on_with_the_token_that_it_began_with(chatbot: Chatbot, backend: Backend) -> None:
    fresh, old = backend.token(), backend.token(age=3 * DAY)
    assert results(chatbot, signed(fresh)) == ["created"]

    again = update(identity_token=old, messages=[message("m7")])
    assert results(chatbot, again) == ["updated"]

    assert "expired" in refused(chatbot, update(identity_token=backend.token("43", age=3 * DAY)))
    assert "expired" in refused(chatbot, signed(old, "c-2"))
    assert ways() == [("42", "signed")]


def test_within_one_call_too(chatbot: Chatbot, backend: Backend) -> None:
    fresh, old = backend.token(), backend.token(age=3 * DAY)

    assert results(chatbot, signed(old), signed(fresh), update(identity_token=old, language="fr")) == [
        "invalid_identity_token",
        "created",
        "updated",
    ]


@pytest.mark.parametrize(
    ("way", "outcome"),
    [
        ("user_channel", "invalid_identity_token"),
        ("custom", "invalid_identity_token"),
        ("asserted", "updated"),
        ("resolved", "updated"),
    ],
)
def test_an_expired_token_verifies_no_value_that_was_only_said(chatbot, backend, way, outcome) -> None:
    """Where the value was verified in another way, there is nothing left to verify."""
    stored(chatbot, parsed())
    Identity.objects.update(established_by=way)

    assert results(chatbot, update(identity_token=backend.token(age=3 * DAY), language="fr")) == [outcome]
    assert ways() == [("42", way)]


def test_a_known_value_excuses_nothing_but_expiry(chatbot: Chatbot, backend: Backend) -> None:
    assert results(chatbot, signed(backend.token())) == ["created"]
    wrong: list[dict[str, Any]] = [{"aud": "x"}, {"conversation_id": "c-2"}, {"exp": ...}]
    for claims in wrong:
        refused(chatbot, update(identity_token=backend.token(age=3 * DAY, **claims)))


# --- What it costs, and what it leaves ------------------------------------------------------------------


def test_statements_do_not_grow_with_documents(chatbot: Chatbot, backend: Backend) -> None:
    def count(documents: list[Document]) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert "refused" not in {one.outcome for one in stored(chatbot, *documents)}
        return len(captured)

    count([signed(backend.token())])  # notes that the key is used
    few, many = ([signed(backend.token(), f"{n}-{one}") for one in range(n)] for n in (2, 100))
    without = count([parsed(f"x-{one}") for one in range(2)])

    assert count(few) == count(many) == without + 1


def test_the_use_of_a_key_is_noted_once_a_minute(chatbot: Chatbot, backend: Backend) -> None:
    def last_used() -> Any:
        return ApiKey.objects.get().last_used_at

    refused(chatbot, signed(backend.token(aud="x")))
    assert last_used() is None
    stored(chatbot, signed(backend.token()))
    first = last_used()
    stored(chatbot, signed(backend.token()))
    assert last_used() == first is not None
    ApiKey.objects.update(last_used_at=STARTED)
    stored(chatbot, signed(backend.token()))
    assert last_used() > STARTED


@pytest.mark.django_db(transaction=True)
def test_the_use_is_noted_where_no_transaction_is_open() -> None:
    chatbot = ready_chatbot(slug="acme")
    backend = Backend(chatbot)

    assert results(chatbot, signed(backend.token())) == ["created"]
    assert ApiKey.objects.get().last_used_at is not None


def test_no_part_of_a_token_is_kept_or_logged(chatbot, backend, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    caller = TokenCaller(chatbot)
    good = backend.token(planted="planted-claim")
    bad = backend.token(planted="planted-claim", aud="planted-audience")
    with CaptureQueriesContext(connection) as captured:
        answers = [
            caller.post("conversations", document(custom_variables={}, identity_token=token)) for token in (good, bad)
        ]
    assert [answer.json()["results"][0]["outcome"] for answer in answers] == ["created", "refused"]

    left = [*(query["sql"] for query in captured), *(answer.text for answer in answers), caplog.text, dump()]
    for part in (*good.split("."), *bad.split(".")[1:], "planted-claim", "planted-audience", "eyJ"):
        assert not [text for text in left if part in text]


def test_an_erased_chatter_named_by_a_token_is_refused(chatbot: Chatbot, backend: Backend) -> None:
    erase(chatbot, "42", cutoff_at=STARTED.replace(hour=23))

    assert results(chatbot, signed(backend.token())) == ["chatter_erased"]
    assert not Conversation.objects.exists()


def test_a_token_alone_has_no_stranger_s_conversation_erased(chatbot: Chatbot, backend: Backend) -> None:
    stored(chatbot, parsed(custom_variables={"member_id": "43"}))
    request_id = erase(chatbot, "42", cutoff_at=STARTED.replace(hour=23))

    naming = update(identity_token=backend.token(), language="fr")
    assert results(chatbot, naming, naming) == ["chatter_erased", "chatter_erased"]
    row = Conversation.objects.get()
    assert (row.deletion_request_id, row.language) == (None, None)
    listed = RefusedIdentity.objects.get()
    assert (listed.conversation, listed.request_id, listed.way) == (row, request_id, "signed")

    said = update(custom_variables={"member_id": "42"}, identity_token=backend.token())
    assert results(chatbot, said) == ["chatter_erased"]
    assert Conversation.objects.exclude(deletion_request_id=None).exists()


def test_a_token_marks_a_conversation_that_has_no_identity(chatbot: Chatbot, backend: Backend) -> None:
    stored(chatbot, parsed(custom_variables={}))
    request_id = erase(chatbot, "42", cutoff_at=STARTED.replace(hour=23))

    naming = update(identity_token=backend.token())
    assert results(chatbot, naming, naming) == ["chatter_erased", "conversation_deleted"]
    assert Conversation.objects.get().deletion_request_id == request_id
    assert RefusedIdentity.objects.get().request_id == request_id
    assert ways() == [(None, "user_channel")]


@pytest.mark.parametrize(("first", "is_marked"), [("43", False), (None, True)])
def test_within_the_call_that_begins_the_conversation_too(chatbot, backend, first, is_marked) -> None:
    request_id = erase(chatbot, "42", cutoff_at=STARTED.replace(hour=23))
    begun = parsed(custom_variables={"member_id": first})

    assert results(chatbot, begun, update(identity_token=backend.token())) == ["created", "chatter_erased"]
    assert Conversation.objects.get().deletion_request_id == (request_id if is_marked else None)
    assert RefusedIdentity.objects.get().conversation == Conversation.objects.get()


def test_an_erased_chatter_can_be_signed_in_a_later_conversation(chatbot: Chatbot, backend: Backend) -> None:
    erase(chatbot, "42", cutoff_at=STARTED)

    assert results(chatbot, signed(backend.token())) == ["created"]


def test_refusals_of_erased_chatters_take_no_more_statements_for_many(chatbot: Chatbot, backend: Backend) -> None:
    erase(chatbot, "42", cutoff_at=STARTED.replace(hour=23))

    def count(n: int) -> int:
        stored(chatbot, *(parsed(f"{n}-{one}", custom_variables={"member_id": "43"}) for one in range(n)))
        naming = [update(f"{n}-{one}", identity_token=backend.token()) for one in range(n)]
        with CaptureQueriesContext(connection) as captured:
            assert set(results(chatbot, *naming)) == {"chatter_erased"}
        return len(captured)

    count(1)
    assert count(2) == count(60)
