"""Sends conversations, files and identities, and notes in the model what of it is stored."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from tests.faults.soak.circle import Circle, shown_values
from tests.faults.soak.model import Filed, Person, Talk, now
from tests.faults.soak.words import dressed

ERASED = {"conversation_deleted", "chatter_erased"}
_CHANNELS = ("widget", "whatsapp", "messenger", "wechat", "messaging_api", "other")


class Sent(NamedTuple):
    """A document, and what it would store. `erasures` are those under way that it may meet."""

    talk: Talk
    value: str
    texts: dict[str, str]
    body: dict[str, Any]
    erasures: list[Filed]


def begin(circle: Circle) -> None:
    """Begin conversations of a new chatter, or of one who is known; some at once, some as lines."""
    people = circle.people if circle.chance.random() < 0.5 and circle.people else [circle.new_person()]
    person = circle.chance.choice(people)
    if circle.open_erasures(value=person.value):
        return
    sent = [prepared(circle, circle.new_talk(), person.value) for _ in range(circle.chance.choice((1, 1, 2, 3)))]
    send(circle, sent, as_lines=circle.chance.random() < 0.2)


def go_on(circle: Circle) -> None:
    """Send more messages of a conversation, at times of the day before."""
    talk = circle.pick(circle.alive)
    if talk:
        send(circle, [prepared(circle, talk, _one_of(talk))])


def share(circle: Circle) -> None:
    """Let another chatter take part in a conversation."""
    talk, people = circle.pick(circle.alive), circle.free_people()
    if talk is None or not people or len(talk.people) > 1:
        return
    person = circle.chance.choice(people)
    if person.value in talk.people or not circle.may_join(person, talk):
        return
    for one in circle.open:
        # The file may have been read before.
        if one.kind == "export" and talk in one.surely:
            one.surely.discard(talk)
            one.possibly.add(talk)
    send(circle, [prepared(circle, talk, person.value)])


def repeat(circle: Circle) -> None:
    """Send a document again that is stored already: nothing may change."""
    talk = circle.pick(circle.alive)
    if talk is None:
        return
    body = circle.chance.choice(talk.documents)
    [result] = circle.caller.post("resent document", "conversations", body).body["results"]
    if result["outcome"] != "unchanged" or result["number"] != talk.number:
        circle.told("resent document", f"a document of {talk.id} sent again was {_outcome(result)}, not unchanged")


def come_late(circle: Circle) -> None:
    """Send more of a conversation that is erased: nothing may be stored."""
    over = [
        one for one in circle.filed.values() if one.kind == "deletion" and one.status == "completed" and one.surely
    ]
    if not over:
        return
    deletion = circle.chance.choice(over[-20:])
    talk = circle.chance.choice(sorted(deletion.surely, key=lambda one: one.index))
    send_late(circle, talk, circle.chance.choice(sorted(talk.tried)), "conversation_deleted", deletion)


def send_late(circle: Circle, talk: Talk, value: str, code: str, request: Filed | None = None) -> None:
    """Send a document that must be refused with this code."""
    _must_be_refused(circle, prepared(circle, talk, value, is_late=True), code, request)


def come_back(circle: Circle) -> None:
    """Send, of a chatter who was erased, a conversation that began before that: nothing may be stored."""
    if not circle.erased_at:
        return
    value = circle.chance.choice(list(circle.erased_at)[-20:])
    talk = circle.new_talk(circle.erased_at[value] - timedelta(hours=1))
    talk.is_barred = True
    late = prepared(circle, talk, value, is_late=True)
    if circle.identity_key and not circle.caller.excused() and circle.chance.random() < 0.3:
        _sign(circle, late)
    _must_be_refused(circle, late, "chatter_erased")


def come_back_unnamed(circle: Circle) -> None:
    """Send a conversation of nobody that began before somebody was erased, and then say that it is theirs.

    That is refused, and the conversation goes too (docs/api.md, "Saying who chatted").
    """
    over = [one for one in circle.filed.values() if one.value in circle.erased_at and one.kind == "deletion"]
    completed = [one for one in over if one.status == "completed"]
    if not completed:
        return
    deletion = circle.chance.choice(completed[-20:])
    talk = circle.new_talk(circle.erased_at[deletion.value] - timedelta(hours=1))
    send(circle, [prepared(circle, talk, "")])
    if talk.number is None:
        return
    deletion.surely.add(talk)
    talk.tried.add(deletion.value)
    if circle.chance.random() < 0.5:
        send_late(circle, talk, deletion.value, "chatter_erased", deletion)
        return
    result = _name(circle, talk, deletion.value)
    # Sent again after a lost answer, it finds the conversation closed.
    if result["outcome"] != "refused" or result["error"]["code"] not in ERASED:
        circle.told("late data", f"naming the erased chatter of {talk.id} was {_outcome(result)}", deletion)


def _must_be_refused(circle: Circle, sent: Sent, code: str, request: Filed | None = None) -> None:
    what = "late document" if code == "conversation_deleted" else "document of an erased chatter"
    [result] = circle.caller.post(what, "conversations", sent.body).body["results"]
    codes = {code} if sent.talk.number is None else {code, "conversation_deleted"}
    if result["outcome"] != "refused" or result["error"]["code"] not in codes:
        circle.told("late data", f"a {what}, of {sent.talk.id}, was {_outcome(result)}, not {code}", request)


def upload(circle: Circle) -> None:
    talk = circle.pick(circle.alive)
    if talk is None or talk.number is None:
        return
    word = circle.model.words.of_conversation(talk.index)
    content = word.encode() + b"\n" + circle.chance.randbytes(circle.chance.choice((10, 1000, 60_000))).hex().encode()
    talk.tried_files[word] = hashlib.sha256(content).hexdigest()
    answer = circle.caller.upload(talk.number, f"{word}.txt", content)
    if answer is None:
        return
    if answer.status == 201:
        talk.files.add(word)
    elif answer.status in {404, 410}:
        circle.told("wrong answer", f"a file of {talk.id}, which nobody erases, was refused with {answer.status}")


def identify(circle: Circle) -> None:
    """Begin a conversation of nobody, and say afterwards whose it is."""
    talk = circle.new_talk()
    send(circle, [prepared(circle, talk, "")])
    people = [one for one in circle.people if circle.may_join(one, talk)] or [circle.new_person()]
    person = circle.chance.choice(people)
    talk.tried.add(person.value)
    circle.meets(talk, person.value)
    result = _name(circle, talk, person.value)
    if result["outcome"] not in {"created", "confirmed"} or result["number"] != talk.number:
        circle.told("identity", f"naming the chatter of {talk.id} was {_outcome(result)}")
        return
    talk.people.add(person.value)
    circle.alive[talk] = None


def _name(circle: Circle, talk: Talk, value: str) -> Mapping[str, Any]:
    """Say whose a conversation is, and return the result."""
    item = {
        "id": talk.id,
        "unique_chatter_identifier_key": circle.uci,
        "unique_chatter_identifier_value": value,
    }
    answer = circle.caller.post("identify", "conversations/identify", {"identities": [item]})
    result: Mapping[str, Any] = answer.body["results"][0]
    return result


def sign(circle: Circle) -> None:
    """Begin a conversation whose chatter a token names."""
    if circle.identity_key is None or circle.caller.excused():
        return
    talk = circle.new_talk()
    people = [one for one in circle.people if circle.may_join(one, talk)] or [circle.new_person()]
    sent = prepared(circle, talk, circle.chance.choice(people).value)
    _sign(circle, sent)
    send(circle, [sent])


def _sign(circle: Circle, sent: Sent) -> None:
    """Let a token say who the chatter is, and no variable."""
    assert circle.identity_key
    del sent.body["custom_variables"][circle.uci]
    sent.body["identity_token"] = circle.identity_key.token(sent.talk.id, sent.value, circle.uci)


def arrive(circle: Circle) -> None:
    """Begin a conversation of a new chatter, of whom only the client's resolver knows who it is."""
    person, talk = circle.new_person(), circle.new_talk()
    talk.session = circle.model.words.of_conversation(talk.index)
    circle.receivers.sessions[talk.session] = person.value
    sent = prepared(circle, talk, "")
    sent.body["user_channel_variables"] = {"session": talk.session}
    talk.facts["variables"]["session"] = talk.session
    send(circle, [sent])
    talk.tried.add(person.value)
    if talk.number is not None:
        circle.waiting[talk] = None


def see_who_it_is(circle: Circle) -> None:
    """Look whether a conversation has got its identity from the resolver."""
    talk = circle.pick(circle.waiting)
    if talk is None:
        return
    shown = circle.caller.get("one conversation", f"conversations/{talk.number}").body
    values = set(shown_values(shown))
    expected = circle.receivers.sessions[talk.session]
    if values - {expected}:
        circle.told("identity", f"{talk.id} has the identity of {values}, and the resolver named {expected}")
    if values:
        del circle.waiting[talk]
        talk.people.add(expected)
        circle.alive[talk] = None


def race(circle: Circle, deletion: Filed) -> None:
    """Send something of a chatter whose deletion has just been filed: before, during or after its mark."""
    talks = sorted(deletion.surely, key=lambda one: one.index)
    is_new = not talks or circle.chance.random() < 0.5
    talk = circle.new_talk() if is_new else circle.chance.choice(talks)
    send(circle, [prepared(circle, talk, deletion.value)])


def prepared(circle: Circle, talk: Talk, value: str, *, is_late: bool = False) -> Sent:
    """Return a document with new messages, and note in the model that it is on its way."""
    texts = {}
    for _ in range(circle.chance.choice((1, 1, 2, 4))):
        # The id of a message outlives its text, where it is redacted.
        name, word = (circle.model.words.of_conversation(talk.index) for _ in range(2))
        texts[name] = dressed(word, circle.chance)
    body = document(circle, talk, value, texts)
    erasures = [] if is_late else circle.meets(talk, value)
    if value:
        talk.tried.add(value)
    talk.tried_texts |= texts
    return Sent(talk, value, texts, body, erasures)


def document(circle: Circle, talk: Talk, value: str, texts: Mapping[str, str]) -> dict[str, Any]:
    chance = circle.chance
    # The same in each document: of two that are on their way at once, nobody knows which is the later one.
    facts = talk.facts = talk.facts or _facts(circle, talk)
    names = ("user_name", "language", "push", "agent_handover", "score")
    body: dict[str, Any] = {"id": talk.id} | {name: facts[name] for name in names}
    body["csat"] = {name: facts[f"csat_{name}"] for name in ("score", "vote", "comment")}
    body["custom_variables"] = {"pass": facts["variables"]["pass"]}
    if not talk.documents:
        body |= {"channel": facts["channel"], "started_at": talk.began.isoformat()}
    if value:
        body["custom_variables"][circle.uci] = value
    sent_at = now() - timedelta(days=chance.choice((0, 0, 1)))
    body["messages"] = []
    for place, (message, text) in enumerate(texts.items()):
        talk.sent_at[message] = sent_at + timedelta(seconds=place)
        sender = chance.choice(("user", "bot", "agent"))
        said = {"id": message, "sender": sender, "kind": "text", "text": text}
        body["messages"].append(said | {"sent_at": talk.sent_at[message].isoformat()})
    return body


def _facts(circle: Circle, talk: Talk) -> dict[str, Any]:
    """Return what is said of a conversation itself."""
    chance, words = circle.chance, circle.model.words
    return {
        "user_name": talk.name,
        "language": f"en-x-{words.of_conversation(talk.index)}",
        "channel": _CHANNELS[talk.index % len(_CHANNELS)],
        "push": chance.random() < 0.5,
        "agent_handover": chance.random() < 0.5,
        "score": chance.randrange(2, 21) / 2,
        "csat_score": chance.randrange(11),
        "csat_vote": chance.choice(("positive", "neutral", "negative")),
        "csat_comment": dressed(words.of_conversation(talk.index), chance),
        "variables": {"pass": dressed(words.of_conversation(talk.index), chance)},
    }


def send(circle: Circle, sent: Sequence[Sent], *, as_lines: bool = False) -> None:
    """Send documents, and note what of them is stored."""
    bodies = [one.body for one in sent]
    if as_lines:
        answer = circle.caller.lines("lines of documents", "conversations", bodies)
    else:
        answer = circle.caller.post("documents", "conversations", bodies[0] if len(bodies) == 1 else bodies)
    results = answer.body["results"]
    if [one["id"] for one in results] != [body["id"] for body in bodies]:
        circle.told("wrong answer", "the results of documents are not in their order")
        return
    for one, result in zip(sent, results, strict=True):
        _note(circle, one, result)


def _note(circle: Circle, sent: Sent, result: Mapping[str, Any]) -> None:
    talk = sent.talk
    if result["outcome"] == "refused":
        is_explained = result["error"]["code"] in ERASED and sent.erasures
        if not is_explained and not circle.caller.excused():
            circle.told("refused document", f"a document of {talk.id} was {_outcome(result)}, and nothing erases it")
        return
    if talk.number is not None and result["number"] != talk.number:
        circle.told("refused document", f"{talk.id} has two numbers, {talk.number} and {result['number']}")
    talk.number = result["number"]
    talk.texts |= sent.texts
    talk.documents.append(sent.body)
    if sent.value:
        talk.people.add(sent.value)
    if talk.people and not sent.erasures:
        circle.alive[talk] = None


def _one_of(talk: Talk) -> str:
    return min(talk.people)


def _outcome(result: Mapping[str, Any]) -> str:
    error = result["error"]
    faults = [f"{one['pointer']} {one['code']}" for one in error["errors"]] if error else []
    return f"{result['outcome']} {error['code'] if error else ''} {faults or ''}".strip()


def a_person(circle: Circle) -> Person | None:
    people = circle.free_people()
    return circle.chance.choice(people) if people else None
