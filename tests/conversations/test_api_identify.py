"""Identities of stored conversations over HTTP: stored or refused one by one."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots.models import Chatbot, Variable
from conversations.models import Conversation, Identity, RefusedIdentity
from tests.calls import TokenCaller, pointers, problem
from tests.conversations import closing
from tests.conversations.intakes import erase
from tests.factories import NOON, VariableFactory, conversation_of

IDENTIFY = "conversations/identify"


@pytest.fixture
def caller(chatbot: Chatbot) -> TokenCaller:
    """A key that may only identify."""
    return TokenCaller(chatbot, scopes=["identities:write"])


def identity(conversation_id: Any = "c-1", value: Any = "42", **changes: Any) -> dict[str, Any]:
    return {
        "id": conversation_id,
        "unique_chatter_identifier_key": "member_id",
        "unique_chatter_identifier_value": value,
    } | changes


def identified(caller: TokenCaller, *identities: Any) -> list[dict[str, Any]]:
    response = caller.post(IDENTIFY, {"identities": list(identities)})
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == {"results"}
    results: list[dict[str, Any]] = answer["results"]
    assert all(result.keys() == {"id", "number", "outcome", "error"} for result in results)
    return results


def became(caller: TokenCaller, *identities: Any) -> list[str]:
    """Return the outcome of each identity, or its error code."""
    results = identified(caller, *identities)
    return [result["error"]["code"] if result["error"] else result["outcome"] for result in results]


def faults(result: dict[str, Any]) -> list[tuple[str, str]]:
    assert (result["outcome"], result["error"]["code"]) == ("refused", "invalid")
    return [(one["pointer"], one["code"]) for one in result["error"]["errors"]]


def stored(conversation: Conversation) -> dict[str | None, str]:
    """Return the values of a conversation, with how each came."""
    return dict(Identity.objects.filter(conversation=conversation).values_list("value", "established_by"))


def test_an_asserted_identity_is_created_and_then_confirmed(caller, chatbot):
    conversation = conversation_of(chatbot, external_id="c-1")

    [created] = identified(caller, identity())
    [confirmed] = identified(caller, identity())

    assert created == {"id": "c-1", "number": conversation.pk, "outcome": "created", "error": None}
    assert confirmed == created | {"outcome": "confirmed"}
    assert stored(conversation) == {"42": "asserted"}


@pytest.mark.parametrize(
    ("way", "after"),
    [("user_channel", "asserted"), ("custom", "asserted"), ("signed", "signed"), ("resolved", "resolved")],
)
def test_a_weaker_identity_of_the_same_value_becomes_asserted(caller, chatbot, way, after):
    conversation = conversation_of(chatbot, "42", external_id="c-1")
    Identity.objects.update(established_by=way)

    assert became(caller, identity()) == ["confirmed"]

    assert stored(conversation) == {"42": after}


def test_another_value_is_added_beside_the_first(caller, chatbot):
    conversation = conversation_of(chatbot, "43", external_id="c-1")

    assert became(caller, identity(), identity(), identity(value="43")) == ["created", "confirmed", "confirmed"]

    assert stored(conversation) == {"42": "asserted", "43": "asserted"}


def test_results_are_in_order_and_a_refused_item_affects_no_other(caller, chatbot, neighbour):
    first, second = conversation_of(chatbot, external_id="c-1"), conversation_of(chatbot, external_id="c-2")
    theirs = conversation_of(neighbour, external_id="c-3")
    gone = conversation_of(chatbot, external_id="c-4", deletion_request_id=uuid4())

    results = identified(
        caller, identity("c-2"), identity("c-3"), identity("c-4"), identity("c-5"), identity("c-1", 42), 5, identity()
    )

    assert [(result["id"], result["number"], result["outcome"]) for result in results] == [
        ("c-2", second.pk, "created"),
        ("c-3", None, "refused"),
        ("c-4", gone.pk, "refused"),
        ("c-5", None, "refused"),
        ("c-1", None, "refused"),
        (None, None, "refused"),
        ("c-1", first.pk, "created"),
    ]
    codes = [result["error"] and (result["error"]["status"], result["error"]["code"]) for result in results]
    unknown, invalid = (404, "unknown_conversation"), (400, "invalid")
    assert codes == [None, unknown, (410, "conversation_deleted"), unknown, invalid, invalid, None]
    assert faults(results[4]) == [("/identities/4/unique_chatter_identifier_value", "wrong_type")]
    assert faults(results[5]) == [("/identities/5", "wrong_type")]
    assert (stored(theirs), stored(gone)) == ({}, {})


def test_an_erased_conversation_is_deleted_while_its_id_is_known(caller, chatbot):
    conversation = conversation_of(chatbot, external_id="c-1")
    closing.erase(conversation)
    assert became(caller, identity()) == ["conversation_deleted"]

    Conversation.objects.update(external_id_digest=None)
    assert became(caller, identity()) == ["unknown_conversation"]


def test_all_refused_is_200_and_stores_nothing(caller):
    assert became(caller, identity("c-1"), {}, []) == ["unknown_conversation", "invalid", "invalid"]
    assert not Identity.objects.exists()


def test_a_bad_field_is_named_by_its_pointer_in_the_body(caller, chatbot):
    conversation_of(chatbot, external_id="c-1")
    value = "/unique_chatter_identifier_value"
    wrong = [
        *((identity(value=one), value, "invalid") for one in settings.UCI_PLACEHOLDERS),
        (identity(value="x" * 513), value, "too_long"),
        (identity(value="a\0"), value, "invalid"),
        (identity(value="\ud800"), value, "unpaired_surrogate"),
        (identity(value=None), value, "missing"),
        (identity("\udfff"), "/id", "unpaired_surrogate"),
        (identity(""), "/id", "too_short"),
        (identity(7), "/id", "wrong_type"),
        (identity(number=7), "/number", "unknown_field"),
        (identity(**{"not a name": 7}), "", "unknown_field"),
    ]

    [_, *results] = identified(caller, identity(), *(item for item, *_ in wrong))

    for place, (result, (_, pointer, code)) in enumerate(zip(results, wrong, strict=True), start=1):
        assert faults(result) == [(f"/identities/{place}{pointer}", code)]
    assert Identity.objects.count() == 1


def test_the_errors_of_an_item_are_listed_up_to_a_number(caller):
    names = {f"name_{number}": number for number in range(150)}

    [alone] = identified(caller, identity(**names))
    [first, *_] = identified(caller, *[identity(**names)] * 20)

    for result, most in ((alone, 100), (first, 10)):
        listed = faults(result)
        assert len(listed) == most
        assert listed[-1] == ("/identities/0", "too_many_errors")
        assert "150" in result["error"]["errors"][-1]["detail"]


def test_the_longest_value_and_any_text_are_stored_exactly(caller, chatbot):
    conversation = conversation_of(chatbot, external_id="c-1")
    values = ["é" * 512, " 42 ", "😀", "=1+1"]

    assert became(caller, *(identity(value=value) for value in values)) == ["created"] * 4

    assert stored(conversation).keys() == set(values)


def test_the_key_must_be_the_one_with_which_the_conversation_began(caller, chatbot):
    old = conversation_of(chatbot, external_id="c-old")
    without = conversation_of(chatbot, external_id="c-none")
    Conversation.objects.filter(pk=without.pk).update(uci_variable=None)
    Variable.objects.filter(chatbot=chatbot, is_uci=True).update(is_uci=False, was_uci=True)
    VariableFactory.create(chatbot=chatbot, name="account")
    new = conversation_of(chatbot, external_id="c-new")
    account = {"unique_chatter_identifier_key": "account"}

    results = identified(
        caller,
        identity("c-old"),
        identity("c-old", **account),
        identity("c-new"),
        identity("c-new", **account),
        identity("c-none"),
        identity("c-new", unique_chatter_identifier_key="plan"),
        identity("c-new", unique_chatter_identifier_key="nothing"),
    )

    assert [result["outcome"] for result in results] == ["created", *["refused"] * 2, "created", *["refused"] * 3]
    for place in (1, 2, 4, 5, 6):
        assert faults(results[place]) == [(f"/identities/{place}/unique_chatter_identifier_key", "invalid")]
    assert (stored(old), stored(new), stored(without)) == ({"42": "asserted"}, {"42": "asserted"}, {})


def test_a_body_that_is_malformed_as_a_whole_stores_nothing(caller, chatbot):
    conversation_of(chatbot, external_id="c-1")
    for body, expected in (
        ({}, {"/identities": "missing"}),
        ({"identities": []}, {"/identities": "too_short"}),
        ({"identities": {}}, {"/identities": "wrong_type"}),
        ({"identities": [identity()] * 1001}, {"/identities": "too_long"}),
        ({"identities": [identity()], "way": "signed"}, {"/way": "unknown_field"}),
        ([identity()], {"": "wrong_type"}),
    ):
        assert pointers(caller.post(IDENTIFY, body)) == expected
    # No JSON, or too much of it.
    for raw in (
        b"",
        b"{",
        b'{"identities": [{"id": "a", "id": "b"}]}',
        b'{"identities": [' + b"[" * 40 + b"]" * 40 + b"]}",
        b'{"identities": [[' + b"0," * 150_000 + b"0]]}",
    ):
        problem(caller.post(IDENTIFY, raw), 400, "invalid")
    assert not Identity.objects.exists()


@pytest.mark.long(reason="a thousand identities are sent")
def test_a_body_can_be_as_large_as_a_thousand_identities_are(caller):
    body = {"identities": [identity("é" * 200, "😀" * 512)] * 1000}
    assert len(json.dumps(body)) > 6_000_000

    assert caller.post(IDENTIFY, body).status_code == 200
    problem(caller.post(IDENTIFY, b" " * (settings.MAX_BODY_BYTES + 1)), 413, "too_large")


# --- Erased chatters


@pytest.mark.parametrize("by_number", [True, False], ids=["stored before the mark", "begun before it"])
def test_an_erased_chatters_value_is_refused_and_a_strangers_conversation_is_untouched(caller, chatbot, by_number):
    conversation = conversation_of(chatbot, "stranger", external_id="c-1")
    before = list(Conversation.objects.values())
    cut = {"cutoff_at": NOON - timedelta(days=1), "cutoff_number": conversation.pk} if by_number else {}
    request_id = erase(chatbot, "42", **({"cutoff_at": NOON + timedelta(seconds=1)} | cut))

    for _ in range(3):
        [result] = identified(caller, identity())
        assert (result["number"], result["outcome"]) == (conversation.pk, "refused")
        assert (result["error"]["status"], result["error"]["code"]) == (410, "chatter_erased")
    assert became(caller, identity(), identity()) == ["chatter_erased"] * 2

    assert list(Conversation.objects.values()) == before
    assert stored(conversation) == {"stranger": "custom"}
    listed = RefusedIdentity.objects.get()
    assert (listed.chatbot, listed.conversation, listed.request_id) == (chatbot, conversation, request_id)
    assert listed.way == "asserted"
    assert listed.expires_at > timezone.now() + timedelta(days=89)


def test_each_erasure_and_each_conversation_is_listed(caller, chatbot):
    for name in ("c-1", "c-2"):
        conversation_of(chatbot, "stranger", external_id=name)
    first = erase(chatbot, "42", cutoff_at=NOON + timedelta(hours=1))
    assert became(caller, identity("c-1"), identity("c-2")) == ["chatter_erased"] * 2
    second = erase(chatbot, "42", cutoff_at=NOON + timedelta(hours=2))
    other = erase(chatbot, "43", cutoff_at=NOON + timedelta(hours=2))

    assert became(caller, identity("c-1"), identity("c-1", "43")) == ["chatter_erased"] * 2

    listed = {(each.conversation.external_id, each.request_id) for each in RefusedIdentity.objects.all()}
    assert listed == {("c-1", first), ("c-2", first), ("c-1", second), ("c-1", other)}


def test_a_conversation_without_any_identity_is_marked_as_intake_does(caller, chatbot):
    conversation = conversation_of(chatbot, external_id="c-1")
    erase(chatbot, "42", cutoff_at=NOON + timedelta(hours=1))
    latest = erase(chatbot, "42", cutoff_at=NOON + timedelta(hours=2))

    assert became(caller, identity(), identity(value="43")) == ["chatter_erased", "conversation_deleted"]

    conversation.refresh_from_db()
    assert (conversation.deletion_request_id, conversation.deleted_at) == (latest, None)
    # The chatter is known by digest alone.
    assert stored(conversation) == {None: "user_channel"}


def test_an_identity_of_the_same_call_keeps_a_conversation_from_being_marked(caller, chatbot):
    conversation = conversation_of(chatbot, external_id="c-1")
    erase(chatbot, "42", cutoff_at=NOON + timedelta(hours=1))

    assert became(caller, identity(value="43"), identity()) == ["created", "chatter_erased"]

    assert stored(conversation) == {"43": "asserted"}
    assert Conversation.objects.get().deletion_request_id is None
    assert RefusedIdentity.objects.count() == 1


def test_what_began_after_the_erasure_is_stored(caller, chatbot):
    conversation = conversation_of(chatbot, external_id="c-1")
    erase(chatbot, "42", cutoff_at=NOON)

    assert became(caller, identity()) == ["created"]

    assert stored(conversation) == {"42": "asserted"}
    assert not RefusedIdentity.objects.exists()


def test_the_number_of_statements_does_not_depend_on_that_of_identities(caller, chatbot):
    def statements(names: list[str]) -> int:
        for name in names:
            conversation_of(chatbot, external_id=name, messages=0)
            conversation_of(chatbot, "stranger", external_id=f"{name} of a stranger", messages=0)
            conversation_of(chatbot, "43", external_id=f"{name} known", messages=0)
            conversation_of(chatbot, external_id=f"{name} of nobody", messages=0)
        items = [
            *(identity(name) for name in names),
            *(identity(f"{name} known", "43") for name in names),
            *(identity(f"{name} of a stranger", "erased") for name in names),
            *(identity(f"{name} of nobody", "erased") for name in names),
        ]
        with CaptureQueriesContext(connection) as captured:
            assert len(identified(caller, *items)) == len(items)
        return len(captured)

    erase(chatbot, "erased", cutoff_at=NOON + timedelta(hours=1))
    caller.post(IDENTIFY, {"identities": [identity()]})  # the key's first use in a minute

    few = statements(["a"])
    assert statements([f"b{number}" for number in range(20)]) == few
    assert few <= 18
