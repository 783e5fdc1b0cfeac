"""Any document is stored exactly as it was sent, or refused with the place of each error and without a row."""

import json
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatbots.models import Chatbot
from conversations.models import Conversation, Identity, Message, VariableValue
from tests.calls import TokenCaller
from tests.conversations.documents import document, message
from tests.conversations.reading import lines, restored
from tests.fuzzing import examples, texts
from tests.wrong_json import SECRET, WRONG, Path, changed, places, value_at, written

pytestmark = pytest.mark.fuzz

_numbers = count(1)

_MOMENTS = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2026, 1, 1))  # noqa: DTZ001
_OFFSETS = st.integers(-15 * 60 - 59, 15 * 60 + 59)


@st.composite
def times(draw: st.DrawFn) -> str:
    at = draw(_MOMENTS).replace(tzinfo=timezone(timedelta(minutes=draw(_OFFSETS))))
    text = at.isoformat(timespec=draw(st.sampled_from(["seconds", "milliseconds", "microseconds"])))
    return text.replace("T", draw(st.sampled_from("Tt ")))


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "id": texts(least=1, most=200),
            "sender": st.sampled_from(["user", "bot", "agent"]),
            "kind": st.sampled_from(["text", "quick_reply", "push", "file", "event"]),
            "text": texts(most=100_000),
            "sent_at": times(),
        }
    ),
    max_size=4,
    unique_by=lambda one: one["id"],
)
# With the number of the example, which makes a chatter or a conversation of its own.
DOCUMENTS = st.fixed_dictionaries(
    {
        "id": texts(most=180),
        "channel": st.sampled_from(["widget", "whatsapp", "messenger", "wechat", "messaging_api", "other"]),
        "started_at": times(),
        "custom_variables": st.fixed_dictionaries({"member_id": texts(most=490)}),
    },
    optional={
        "language": texts(most=35),
        "user_name": texts(most=200),
        "user_channel_variables": st.fixed_dictionaries({"plan": texts(most=10_000)}),
        "agent_handover": st.booleans(),
        "push": st.booleans(),
        "score": st.integers(10, 100).map(lambda tenths: tenths / 10),
        "csat": st.fixed_dictionaries(
            {},
            optional={
                "score": st.integers(0, 10),
                "vote": st.sampled_from(["positive", "neutral", "negative"]),
                "comment": texts(most=100_000),
            },
        ),
        "messages": MESSAGES,
    },
)


def in_utc(text: str) -> str:
    at = datetime.fromisoformat(text.replace("t", "T").replace(" ", "T", 1)).astimezone(UTC)
    return f"{at:%m-%dT%H:%M:%S.%fZ}" if at.year < 1000 else at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@examples(8)
@given(sent=DOCUMENTS)
def test_what_is_accepted_is_read_back_exactly(chatbot: Chatbot, sent: dict[str, Any]) -> None:
    number = next(_numbers)
    sent["id"] += f" {number}"
    value = sent["custom_variables"]["member_id"] + f" {number}"
    sent["custom_variables"]["member_id"] = value
    caller = TokenCaller(chatbot)

    [stored] = caller.post("conversations", sent).json()["results"]

    assert (stored["id"], stored["outcome"], stored["error"]) == (sent["id"], "created", None)
    shown = caller.get(f"conversations/{stored['number']}").json()
    csat = sent.get("csat", {})
    assert shown["id"] == sent["id"]
    assert shown["started_at"] == in_utc(sent["started_at"])
    assert (shown["language"], shown["user_name"]) == (sent.get("language"), sent.get("user_name"))
    assert shown["score"] == sent.get("score")
    rating = {name: csat.get(name) for name in ("score", "vote", "comment")}
    assert shown["csat"] == rating | {"comment_redacted": False}
    assert [(one["key"], one["value"]) for one in shown["unique_chatter_identifiers"]] == [("member_id", value)]
    said = sorted(sent.get("messages", []), key=lambda one: in_utc(one["sent_at"]))
    read = caller.get(f"conversations/{stored['number']}/messages").json()["results"]
    assert {one["id"]: (one["text"], one["sent_at"]) for one in read} == {
        one["id"]: (one["text"], in_utc(one["sent_at"])) for one in said
    }
    kept = list(VariableValue.objects.filter(conversation=stored["number"]).values_list("value", flat=True))
    plan = sent.get("user_channel_variables", {}).get("plan")
    assert kept == ([plan] if plan not in (None, "") else kept and [""])
    in_the_file = lines(chatbot, value)
    assert {restored(line["text"]) for line in in_the_file} == {one["text"] for one in said} or not said
    for line in in_the_file:
        assert (restored(line["conversation_id"]), restored(line["uci_value"])) == (sent["id"], value)
        assert restored(line["user_name"]) == (sent.get("user_name") or "")
        assert restored(line["csat_comment"]) == (csat.get("comment") or "")


# --- One thing wrong --------------------------------------------------------------------------------------

WHOLE = document(
    language="en",
    user_name="Ada",
    user_channel_variables={"plan": "gold"},
    agent_handover=False,
    push=False,
    score=7.5,
    csat={"score": 4, "vote": "positive", "comment": "quick"},
)

# Where a text may be anything, these are right.
ODD_TIMES_AND_WORDS = (  # digits of another script among them
    *(
        "",
        " ",
        SECRET,
        "\u0662\u0660\u0662\u0666-11-01T09:00:00Z",
        "2026-11-01T09:00:00",
        "2026-11-01T24:00:00Z",
        "2026-11-01T09:00:60Z",
    ),
    *("2026-11-01T09:00:00z\n", "2026-13-01T09:00:00Z", "2026-02-30T09:00:00Z", "2026-11-01T09:00:00+24:00"),
    *("2026-11-01T09:00:00+01:60", "1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z", "+12026-11-01T09:00:00Z"),
    *("2026-11-01T09:00:00 Z", "2026-11-01 09:00:00 Europe/Paris", "20261101T090000Z", "2026-W44-7T09:00:00Z"),
    *("1762000000", "0000-00-00T00:00:00Z", "widget ", "Widget", "WIDGET", "user\u200b", "true", "1", "7,5"),
)
_CLOSED = {"channel", "started_at", "sent_at", "sender", "kind", "vote", "push", "agent_handover", "score"}
_FREE_PLACES = [path for path in places(WHOLE) if path[-1] not in _CLOSED]
_CLOSED_PLACES = [path for path in places(WHOLE) if path[-1] in _CLOSED]
_MORE_NAMES = st.sampled_from([SECRET, "", "Id", "id ", "ID", "__proto__", "constructor", "$ref", "\0", "\ud800"])
_OBJECTS: list[Path] = [(), ("csat",), ("messages", 0), ("messages", 1)]


@st.composite
def with_one_thing_wrong(draw: st.DrawFn) -> bytes:
    match draw(st.sampled_from(["wrong", "closed", "more", "missing", "twice", "again"])):
        case "closed":
            path = draw(st.sampled_from(_CLOSED_PLACES))
            new: Any = draw(st.sampled_from(ODD_TIMES_AND_WORDS))
        case "more":
            path = (*draw(st.sampled_from(_OBJECTS)), draw(_MORE_NAMES))
            new = draw(st.sampled_from([1, None, SECRET, {}]))
        case "missing":
            path = draw(st.sampled_from([("id",), ("channel",), ("started_at",), ("messages", 0, "id")]))
            new = None
        case "twice":
            path = draw(st.sampled_from([path for path in places(WHOLE) if isinstance(path[-1], str)]))
            return written_twice(path)
        case "again":
            path, new = ("messages", 1, "id"), "m0"
        case _:
            path = draw(st.sampled_from(_FREE_PLACES + _CLOSED_PLACES))
            new = draw(st.sampled_from(WRONG))
    return written(changed(WHOLE, path, new))


def written_twice(path: Path) -> bytes:
    """Return a document that has the name at a path twice, with the same value."""
    again = changed(WHOLE, (*path[:-1], f"{path[-1]} again"), value_at(WHOLE, path))
    return json.dumps(again).replace(" again", "").encode()


def rows() -> int:
    return sum(model.objects.count() for model in (Conversation, Identity, Message, VariableValue))


@examples(25)
@given(raw=with_one_thing_wrong(), is_list=st.booleans())
@example(raw=written_twice(("custom_variables", "member_id")), is_list=False)
@example(raw=written(changed(WHOLE, ("custom_variables", SECRET), "x")), is_list=True)
def test_one_thing_wrong_is_refused_with_its_place_and_without_a_row(chatbot, raw, is_list) -> None:
    response = TokenCaller(chatbot).post("conversations", b"[%s]" % raw if is_list else raw)

    assert response.status_code in {200, 400}, raw
    problem = response.json()
    if response.status_code == 200:
        [refused] = problem["results"]
        assert refused["outcome"] == "refused", raw
        problem = refused["error"]
        assert problem["errors"], raw
        assert all(error["pointer"].startswith("/") or not error["pointer"] for error in problem["errors"])
    assert problem["code"] == "invalid"
    assert SECRET not in response.text
    assert rows() == 0


def test_a_name_that_stands_twice_is_refused(chatbot: Chatbot) -> None:
    """Of two parsers in a row each could read another value: another chatter's."""
    caller = TokenCaller(chatbot)
    sent = [written_twice(path) for path in places(WHOLE) if isinstance(path[-1], str)]
    # As many quotes within a text, written as numbers, as the name and its value have around them.
    raw = written_twice(("custom_variables", "member_id")).decode()
    for quote in ('\\"', "\\u0022", '\\"\\u0022'):
        sent += [raw.replace('"Ada"', f'"{number * quote}"').encode() for number in range(6)]
    for one in sent:
        [refused] = caller.post("conversations", one).json()["results"]
        assert [error["code"] for error in refused["error"]["errors"]] == ["repeated_name"], one
    assert rows() == 0


def test_names_and_texts_that_look_like_repeats_are_taken(chatbot: Chatbot) -> None:
    sent = document(
        user_name='{"id": 1, "id": 2}',
        messages=[message(text='\\", "a": 1, "a": {":": ":"}'), message("m1", text='"::"')],
        csat=None,
        score=None,
    )
    [stored] = TokenCaller(chatbot).post("conversations", sent).json()["results"]
    assert stored["outcome"] == "created"
