"""Sends conversations, files and identities, and notes in the model what of it is stored."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tests.oracle.client_state import ClientState, shown_values
from tests.oracle.model import Conversation, Request, now
from tests.oracle.words import dressed

ERASED = {"conversation_deleted", "chatter_erased"}
_CHANNELS = ("widget", "whatsapp", "messenger", "wechat", "messaging_api", "other")


class Sent(NamedTuple):
    """A document, and what it would store. `erasures` are those under way that it may meet."""

    conversation: Conversation
    value: str
    texts: dict[str, str]
    body: dict[str, Any]
    erasures: list[Request]


def begin(state: ClientState) -> None:
    """Begin conversations of a new chatter, or of one who is known; some at once, some as lines."""
    people = state.people if state.chance.random() < 0.5 and state.people else [state.new_person()]
    person = state.chance.choice(people)
    if state.open_erasures(value=person.value):
        return
    sent = [prepared(state, state.new_conversation(), person.value) for _ in range(state.chance.choice((1, 1, 2, 3)))]
    send(state, sent, as_lines=state.chance.random() < 0.2)


def go_on(state: ClientState) -> None:
    """Send more messages of a conversation, at times of the day before."""
    conversation = state.pick(state.alive)
    if conversation:
        send(state, [prepared(state, conversation, min(conversation.people))])


def share(state: ClientState) -> None:
    """Let another chatter take part in a conversation."""
    conversation, people = state.pick(state.alive), state.free_people()
    if conversation is None or not people or len(conversation.people) > 1:
        return
    person = state.chance.choice(people)
    if person.value in conversation.people or not state.may_join(person, conversation):
        return
    for request in list(state.open):
        # The file may have been read before.
        if request.kind == "export" and conversation in request.surely:
            request.surely.discard(conversation)
            request.possibly.add(conversation)
    send(state, [prepared(state, conversation, person.value)])


def repeat(state: ClientState) -> None:
    """Send a document again that is stored already: nothing may change."""
    conversation = state.pick(state.alive)
    if conversation is None:
        return
    body = state.chance.choice(conversation.documents)
    [result] = state.caller.post("resent document", "conversations", body).body["results"]
    if result["outcome"] != "unchanged" or result["number"] != conversation.number:
        state.told(
            "resent document", f"a document of {conversation.id} sent again was {_outcome(result)}, not unchanged"
        )


def come_late(state: ClientState) -> None:
    """Send more of a conversation that is erased: nothing may be stored."""
    deletion = state.pick([deletion for deletion in _completed(state) if deletion.surely])
    if deletion is None:
        return
    conversation = state.chance.choice(sorted(deletion.surely, key=lambda each: each.index))
    send_late(state, conversation, state.chance.choice(sorted(conversation.tried)), "conversation_deleted", deletion)


def _completed(state: ClientState) -> list[Request]:
    """Return the deletions that were completed last."""
    found = [request for request in state.filed.values() if request.kind == "deletion"]
    return [deletion for deletion in found if deletion.status == "completed"][-20:]


def send_late(
    state: ClientState, conversation: Conversation, value: str, code: str, request: Request | None = None
) -> None:
    """Send a document that must be refused with this code."""
    _must_be_refused(state, prepared(state, conversation, value, is_late=True), code, request)


def come_back(state: ClientState) -> None:
    """Send, of a chatter who was erased, a conversation that began before that: nothing may be stored."""
    if not state.erased_at:
        return
    value = state.chance.choice(list(state.erased_at)[-20:])
    conversation = state.new_conversation(state.erased_at[value] - timedelta(hours=1))
    conversation.is_barred = True
    late = prepared(state, conversation, value, is_late=True)
    if state.identity_key and not state.violations.outages.excuses and state.chance.random() < 0.3:
        _sign(state, late)
    _must_be_refused(state, late, "chatter_erased")


def come_back_unnamed(state: ClientState) -> None:
    """Send a conversation of nobody that began before somebody was erased, and then say that it is theirs.

    That is refused, and the conversation goes too (docs/api.md, "Saying who chatted").
    """
    deletion = state.pick([deletion for deletion in _completed(state) if deletion.value])
    if deletion is None:
        return
    conversation = state.new_conversation(state.erased_at[deletion.value] - timedelta(hours=1))
    send(state, [prepared(state, conversation, "")])
    if conversation.number is None:
        return
    # The last deletion of a chatter closes it, whichever was meant.
    for other in state.filed.values():
        if other.kind == "deletion" and other.value == deletion.value:
            other.possibly.add(conversation)
    deletion.surely.add(conversation)
    conversation.tried.add(deletion.value)
    if state.chance.random() < 0.5:
        send_late(state, conversation, deletion.value, "chatter_erased", deletion)
        return
    result = _name(state, conversation, deletion.value)
    # Sent again after a lost answer, it finds the conversation closed.
    if result["outcome"] != "refused" or result["error"]["code"] not in ERASED:
        state.told("late data", f"naming the erased chatter of {conversation.id} was {_outcome(result)}", deletion)


def _must_be_refused(state: ClientState, sent: Sent, code: str, request: Request | None = None) -> None:
    what = "late document" if code == "conversation_deleted" else "document of an erased chatter"
    [result] = state.caller.post(what, "conversations", sent.body).body["results"]
    codes = {code} if sent.conversation.number is None else {code, "conversation_deleted"}
    if result["outcome"] != "refused" or result["error"]["code"] not in codes:
        state.told("late data", f"a {what}, of {sent.conversation.id}, was {_outcome(result)}, not {code}", request)


def upload(state: ClientState, conversation: Conversation, size: int = 10) -> None:
    """Send a file of a conversation that is stored. Whether it was stored is unknown where no answer came."""
    assert conversation.number is not None
    word = state.model.words.of_conversation(conversation.index)
    content = word.encode() + b"\n" + state.chance.randbytes(size).hex().encode()
    conversation.tried_files[word] = hashlib.sha256(content).hexdigest()
    answer = state.caller.upload(conversation.number, f"{word}.txt", content)
    if answer is None:
        return
    if answer.status == 201:
        conversation.files.add(word)
    elif answer.status in {404, 410}:
        state.told(
            "wrong answer", f"a file of {conversation.id}, which nobody erases, was refused with {answer.status}"
        )


def identify(state: ClientState) -> None:
    """Begin a conversation of nobody, and say afterwards whose it is."""
    conversation = state.new_conversation()
    send(state, [prepared(state, conversation, "")])
    people = [person for person in state.people if state.may_join(person, conversation)] or [state.new_person()]
    person = state.chance.choice(people)
    conversation.tried.add(person.value)
    state.meets(conversation, person.value)
    result = _name(state, conversation, person.value)
    if result["outcome"] not in {"created", "confirmed"} or result["number"] != conversation.number:
        state.told("identity", f"naming the chatter of {conversation.id} was {_outcome(result)}")
        return
    conversation.people.add(person.value)
    state.alive[conversation] = None


def _name(state: ClientState, conversation: Conversation, value: str) -> Mapping[str, Any]:
    """Say whose a conversation is, and return the result."""
    item = {"id": conversation.id} | state.naming(value)
    answer = state.caller.post("identify", "conversations/identify", {"identities": [item]})
    result: Mapping[str, Any] = answer.body["results"][0]
    return result


def sign(state: ClientState) -> None:
    """Begin a conversation whose chatter a token names."""
    if state.identity_key is None or state.violations.outages.excuses:
        return
    conversation = state.new_conversation()
    people = [person for person in state.people if state.may_join(person, conversation)] or [state.new_person()]
    sent = prepared(state, conversation, state.chance.choice(people).value)
    _sign(state, sent)
    send(state, [sent])


def _sign(state: ClientState, sent: Sent) -> None:
    """Let a token say who the chatter is, and no variable."""
    assert state.identity_key
    del sent.body["custom_variables"][state.uci]
    sent.body["identity_token"] = state.identity_key.token(sent.conversation.id, sent.value, state.uci)


def arrive(state: ClientState) -> None:
    """Begin a conversation of a new chatter, of whom only the client's resolver knows who it is."""
    person, conversation = state.new_person(), state.new_conversation()
    conversation.session = state.model.words.of_conversation(conversation.index)
    state.sessions[conversation.session] = person.value
    sent = prepared(state, conversation, "")
    sent.body["user_channel_variables"] = {"session": conversation.session}
    conversation.facts["variables"]["session"] = conversation.session
    send(state, [sent])
    conversation.tried.add(person.value)
    if conversation.number is not None:
        state.waiting[conversation] = None


def see_who_it_is(state: ClientState) -> None:
    """Look whether a conversation has got its identity from the resolver."""
    conversation = state.pick(state.waiting)
    if conversation is None:
        return
    shown = state.caller.get("one conversation", f"conversations/{conversation.number}").body
    values = set(shown_values(shown))
    expected = state.sessions[conversation.session]
    if values - {expected}:
        state.told("identity", f"{conversation.id} has the identity of {values}, and the resolver named {expected}")
    if values:
        del state.waiting[conversation]
        conversation.people.add(expected)
        state.alive[conversation] = None


def race(state: ClientState, deletion: Request) -> None:
    """Send something of a chatter whose deletion has just been filed: before, during or after its mark."""
    conversations = sorted(deletion.surely, key=lambda each: each.index)
    is_new = not conversations or state.chance.random() < 0.5
    conversation = state.new_conversation() if is_new else state.chance.choice(conversations)
    send(state, [prepared(state, conversation, deletion.value)])


def prepared(
    state: ClientState,
    conversation: Conversation,
    value: str,
    *,
    messages: int = 0,
    sent_at: datetime | None = None,
    is_late: bool = False,
) -> Sent:
    """Return a document with new messages, some of today or yesterday by default.

    It is noted in the model that it is on its way.
    """
    texts = {}
    for _ in range(messages or state.chance.choice((1, 1, 2, 4))):
        # The id of a message outlives its text, where it is redacted.
        name, word = (state.model.words.of_conversation(conversation.index) for _ in range(2))
        texts[name] = dressed(word, state.chance)
    body = document(
        state, conversation, value, texts, sent_at or now() - timedelta(days=state.chance.choice((0, 0, 1)))
    )
    erasures = [] if is_late else state.meets(conversation, value)
    if value:
        conversation.tried.add(value)
    conversation.tried_texts |= texts
    return Sent(conversation, value, texts, body, erasures)


def document(
    state: ClientState, conversation: Conversation, value: str, texts: Mapping[str, str], sent_at: datetime
) -> dict[str, Any]:
    chance = state.chance
    # The same in each document: of two that are on their way at once, nobody knows which is the later one.
    facts = conversation.facts = conversation.facts or _facts(state, conversation)
    names = ("user_name", "language", "push", "agent_handover", "score")
    body: dict[str, Any] = {"id": conversation.id} | {name: facts[name] for name in names}
    body["csat"] = {name: facts[f"csat_{name}"] for name in ("score", "vote", "comment")}
    body["custom_variables"] = {"pass": facts["variables"]["pass"]}
    if not conversation.documents:
        body |= {"channel": facts["channel"], "started_at": conversation.began.isoformat()}
    if value:
        body["custom_variables"][state.uci] = value
    body["messages"] = []
    for place, (message, text) in enumerate(texts.items()):
        conversation.sent_at[message] = sent_at + timedelta(seconds=place)
        sender = chance.choice(("user", "bot", "agent"))
        said = {"id": message, "sender": sender, "kind": "text", "text": text}
        body["messages"].append(said | {"sent_at": conversation.sent_at[message].isoformat()})
    return body


def _facts(state: ClientState, conversation: Conversation) -> dict[str, Any]:
    """Return what is said of a conversation itself."""
    chance, words = state.chance, state.model.words
    return {
        "user_name": conversation.name,
        "language": f"en-x-{words.of_conversation(conversation.index)}",
        "channel": _CHANNELS[conversation.index % len(_CHANNELS)],
        "push": chance.random() < 0.5,
        "agent_handover": chance.random() < 0.5,
        "score": chance.randrange(2, 21) / 2,
        "csat_score": chance.randrange(11),
        "csat_vote": chance.choice(("positive", "neutral", "negative")),
        "csat_comment": dressed(words.of_conversation(conversation.index), chance),
        "variables": {"pass": dressed(words.of_conversation(conversation.index), chance)},
    }


def send(state: ClientState, sent: Sequence[Sent], *, as_lines: bool = False) -> None:
    """Send documents, and note what of them is stored."""
    bodies = [each.body for each in sent]
    if as_lines:
        answer = state.caller.lines("lines of documents", "conversations", bodies)
    else:
        answer = state.caller.post("documents", "conversations", bodies[0] if len(bodies) == 1 else bodies)
    results = answer.body["results"]
    if [result["id"] for result in results] != [body["id"] for body in bodies]:
        state.told("wrong answer", "the results of documents are not in their order")
        return
    for document, result in zip(sent, results, strict=True):
        note(state, document, result)


def note(state: ClientState, sent: Sent, result: Mapping[str, Any]) -> None:
    """Note in the model how a document was answered."""
    conversation = sent.conversation
    if result["outcome"] == "refused":
        is_explained = result["error"]["code"] in ERASED and sent.erasures
        if not is_explained and not state.violations.outages.excuses:
            state.told(
                "refused document", f"a document of {conversation.id} was {_outcome(result)}, and nothing erases it"
            )
        return
    if conversation.number is not None and result["number"] != conversation.number:
        state.told(
            "refused document", f"{conversation.id} has two numbers, {conversation.number} and {result['number']}"
        )
    conversation.number = result["number"]
    conversation.texts |= sent.texts
    conversation.documents.append(sent.body)
    if sent.value:
        conversation.people.add(sent.value)
    if conversation.people and not sent.erasures:
        state.alive[conversation] = None


def _outcome(result: Mapping[str, Any]) -> str:
    error = result["error"]
    faults = [f"{fault['pointer']} {fault['code']}" for fault in error["errors"]] if error else []
    return f"{result['outcome']} {error['code'] if error else ''} {faults or ''}".strip()
