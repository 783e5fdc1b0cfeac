"""Sends conversations, files and identities, and records in the model which of them are stored."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tests.oracle.client_state import UCI, ClientState, shown_values
from tests.oracle.model import Conversation, Person, Request, now
from tests.oracle.words import dressed

ERASED = {"conversation_deleted", "chatter_erased"}
_CHANNELS = ("widget", "whatsapp", "messenger", "wechat", "messaging_api", "other")


class Sent(NamedTuple):
    """A document, and the data that it would store. `erasures` are those under way that it may meet."""

    conversation: Conversation
    value: str
    texts: dict[str, str]
    body: dict[str, Any]
    erasures: list[Request]


def store(state: ClientState, value: str, began: datetime | None = None, **options: Any) -> Conversation:
    """Send a new conversation of this chatter, and return it. `options` are those of `prepared`."""
    conversation = state.new_conversation(began)
    send(state, [prepared(state, conversation, value, **options)])
    return conversation


def begin(state: ClientState) -> None:
    """Begin conversations of a new chatter, or of a known one; some at once, some as lines."""
    person = state.pick(state.people) if state.chance.random() < 0.5 else None
    person = person or state.new_person()
    if not state.open_erasures(value=person.value):
        new = [state.new_conversation() for _ in range(state.chance.choice((1, 1, 2, 3)))]
        sent = [prepared(state, conversation, person.value) for conversation in new]
        send(state, sent, as_lines=state.chance.random() < 0.2)


def extend(state: ClientState) -> None:
    """Send more messages of a conversation, at times of the day before."""
    if conversation := state.pick(state.alive):
        send(state, [prepared(state, conversation, min(conversation.people))])


def share(state: ClientState) -> None:
    """Let another chatter take part in a conversation."""
    conversation, person = state.pick(state.alive), state.pick(state.free_people())
    if conversation is None or person is None or len(conversation.people) > 1:
        return
    if person.value in conversation.people or not state.may_join(person, conversation):
        return
    for request in list(state.open):
        # The file may have been read before.
        if request.kind == "export" and conversation in request.surely:
            request.surely.discard(conversation)
            request.possibly.add(conversation)
    send(state, [prepared(state, conversation, person.value)])


def repeat(state: ClientState) -> None:
    if conversation := state.pick(state.alive):
        body = state.chance.choice(conversation.documents)
        [result] = state.caller.post("resent document", "conversations", body).body["results"]
        if result["outcome"] != "unchanged" or result["number"] != conversation.number:
            told = f"a document of {conversation.id} sent again was {_outcome(result)}, not unchanged"
            state.report("resent document", told)


def send_after_deletion(state: ClientState) -> None:
    """Send more of a conversation that is erased: nothing may be stored."""
    if deletion := state.pick([deletion for deletion in _completed(state) if deletion.surely]):
        conversation = state.chance.choice(deletion.in_order)
        value = state.chance.choice(sorted(conversation.tried))
        send_late(state, conversation, value, "conversation_deleted", deletion)


def _completed(state: ClientState) -> list[Request]:
    found = [request for request in state.filed.values() if request.kind == "deletion"]
    return [deletion for deletion in found if deletion.status == "completed"][-20:]


def send_late(
    state: ClientState, conversation: Conversation, value: str, code: str, request: Request | None = None
) -> None:
    """Send a document that must be refused with this code."""
    _must_be_refused(state, prepared(state, conversation, value, is_late=True), code, request)


def send_for_erased_chatter(state: ClientState) -> None:
    """Send a conversation of an erased chatter that began before the erasure: nothing may be stored."""
    value = state.pick(list(state.erased_at)[-20:])
    if value is None:
        return
    conversation = state.new_conversation(state.erased_at[value] - timedelta(hours=1))
    conversation.is_barred = True
    late = prepared(state, conversation, value, is_late=True)
    if state.identity_key and not state.violations.outages.excuses and state.chance.random() < 0.3:
        _sign(state, late)
    _must_be_refused(state, late, "chatter_erased")


def assert_erased_chatter(state: ClientState) -> None:
    """Send a conversation without a chatter that began before an erasure, and then assert the erased chatter.

    That is refused, and the conversation is erased too (docs/clients/assert-who-chatted.md).
    """
    deletion = state.pick([deletion for deletion in _completed(state) if deletion.value])
    if deletion is None:
        return
    conversation = store(state, "", state.erased_at[deletion.value] - timedelta(hours=1))
    if conversation.number is None:
        return
    # The last deletion of a chatter closes it, whichever `deletion` is.
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
        state.report("late data", f"naming the erased chatter of {conversation.id} was {_outcome(result)}", deletion)


def _must_be_refused(state: ClientState, sent: Sent, code: str, request: Request | None = None) -> None:
    what = "late document" if code == "conversation_deleted" else "document of an erased chatter"
    [result] = state.caller.post(what, "conversations", sent.body).body["results"]
    codes = {code} if sent.conversation.number is None else {code, "conversation_deleted"}
    if result["outcome"] != "refused" or result["error"]["code"] not in codes:
        state.report("late data", f"a {what}, of {sent.conversation.id}, was {_outcome(result)}, not {code}", request)


def upload(state: ClientState, conversation: Conversation, size: int = 10) -> None:
    """Send a file of a stored conversation. Without an answer it is unknown whether the file was stored."""
    assert conversation.number is not None
    word = state.word(conversation)
    content = word.encode() + b"\n" + state.chance.randbytes(size).hex().encode()
    conversation.tried_files[word] = hashlib.sha256(content).hexdigest()
    answer = state.caller.upload(conversation.number, f"{word}.txt", content)
    if answer and answer.status == 201:
        conversation.files.add(word)
    elif answer and answer.status in {404, 410}:
        told = f"a file of {conversation.id}, which must stay, was refused with {answer.status}"
        state.report("wrong answer", told)


def _joining_chatter(state: ClientState, conversation: Conversation) -> Person:
    """Return a chatter who may be identified in a new conversation."""
    return state.pick([one for one in state.people if state.may_join(one, conversation)]) or state.new_person()


def identify(state: ClientState) -> None:
    """Begin a conversation without a chatter, and identify the chatter afterwards."""
    conversation = store(state, "")
    value = _joining_chatter(state, conversation).value
    conversation.tried.add(value)
    state.meets(conversation, value)
    result = _name(state, conversation, value)
    if result["outcome"] not in {"created", "confirmed"} or result["number"] != conversation.number:
        state.report("identity", f"naming the chatter of {conversation.id} was {_outcome(result)}")
        return
    conversation.people.add(value)
    state.alive[conversation] = None


def _name(state: ClientState, conversation: Conversation, value: str) -> Mapping[str, Any]:
    body = {"identities": [{"id": conversation.id} | state.naming(value)]}
    [result] = state.caller.post("identify", "conversations/identify", body).body["results"]
    found: Mapping[str, Any] = result
    return found


def sign(state: ClientState) -> None:
    """Begin a conversation whose chatter is identified by a token."""
    if state.identity_key and not state.violations.outages.excuses:
        conversation = state.new_conversation()
        sent = prepared(state, conversation, _joining_chatter(state, conversation).value)
        _sign(state, sent)
        send(state, [sent])


def _sign(state: ClientState, sent: Sent) -> None:
    """Identify the chatter by a token instead of a variable."""
    assert state.identity_key
    del sent.body["custom_variables"][UCI]
    sent.body["identity_token"] = state.identity_key.token(sent.conversation.id, sent.value)


def arrive(state: ClientState) -> None:
    """Begin a conversation of a new chatter who is known only to the client's resolver."""
    person, conversation = state.new_person(), state.new_conversation()
    conversation.session = state.word(conversation)
    state.sessions[conversation.session] = person.value
    sent = prepared(state, conversation, "")
    sent.body["user_channel_variables"] = {"session": conversation.session}
    conversation.facts["variables"]["session"] = conversation.session
    send(state, [sent])
    conversation.tried.add(person.value)
    if conversation.number is not None:
        state.waiting[conversation] = None


def check_resolved_identity(state: ClientState) -> None:
    """Check whether a conversation has got its identity from the resolver."""
    conversation = state.pick(state.waiting)
    if conversation is None:
        return
    values = set(shown_values(state.shown(conversation)))
    expected = state.sessions[conversation.session]
    if values - {expected}:
        state.report("identity", f"{conversation.id} has the identity of {values}, and the resolver named {expected}")
    if values:
        del state.waiting[conversation]
        conversation.people.add(expected)
        state.alive[conversation] = None


def race(state: ClientState, deletion: Request) -> None:
    """Send a document of a chatter whose deletion has just been filed: before, during or after its mark."""
    known = state.pick(deletion.in_order) if state.chance.random() < 0.5 else None
    send(state, [prepared(state, known or state.new_conversation(), deletion.value)])


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

    The model records that it is being sent.
    """
    chance = state.chance
    # The id of a message outlives its text, where it is redacted.
    ids = [state.word(conversation) for _ in range(messages or chance.choice((1, 1, 2, 4)))]
    texts = {name: dressed(state.word(conversation), chance) for name in ids}
    body = _document(state, conversation, value, texts, sent_at or now() - timedelta(days=chance.choice((0, 0, 1))))
    erasures = [] if is_late else state.meets(conversation, value)
    if value:
        conversation.tried.add(value)
    conversation.tried_texts |= texts
    return Sent(conversation, value, texts, body, erasures)


def _document(
    state: ClientState, conversation: Conversation, value: str, texts: Mapping[str, str], sent_at: datetime
) -> dict[str, Any]:
    # The same in each document: if two are sent at once, their order is unknown.
    facts = conversation.facts = conversation.facts or _facts(state, conversation)
    body: dict[str, Any] = {"id": conversation.id}
    body |= {name: facts[name] for name in ("user_name", "language", "push", "agent_handover", "score")}
    body["csat"] = {name: facts[f"csat_{name}"] for name in ("score", "vote", "comment")}
    body["custom_variables"] = {"pass": facts["variables"]["pass"]} | ({UCI: value} if value else {})
    if not conversation.documents:
        body |= {"channel": facts["channel"], "started_at": conversation.began.isoformat()}
    body["messages"] = []
    for place, (message, text) in enumerate(texts.items()):
        at = conversation.sent_at[message] = sent_at + timedelta(seconds=place)
        said = {"sender": state.chance.choice(("user", "bot", "agent")), "sent_at": at.isoformat()}
        body["messages"].append({"id": message, "kind": "text", "text": text} | said)
    return body


def _facts(state: ClientState, conversation: Conversation) -> dict[str, Any]:
    chance = state.chance
    return {
        "user_name": conversation.name,
        "language": f"en-x-{state.word(conversation)}",
        "channel": _CHANNELS[conversation.index % len(_CHANNELS)],
        "push": chance.random() < 0.5,
        "agent_handover": chance.random() < 0.5,
        "score": chance.randrange(2, 21) / 2,
        "csat_score": chance.randrange(11),
        "csat_vote": chance.choice(("positive", "neutral", "negative")),
        "csat_comment": dressed(state.word(conversation), chance),
        "variables": {"pass": dressed(state.word(conversation), chance)},
    }


def send(state: ClientState, sent: Sequence[Sent], *, as_lines: bool = False) -> None:
    """Send documents, and record which of them are stored."""
    bodies = [each.body for each in sent]
    if as_lines:
        answer = state.caller.lines("lines of documents", "conversations", bodies)
    else:
        answer = state.caller.post("documents", "conversations", bodies[0] if len(bodies) == 1 else bodies)
    results = answer.body["results"]
    if [result["id"] for result in results] != [body["id"] for body in bodies]:
        state.report("wrong answer", "the results of documents are not in their order")
        return
    for document, result in zip(sent, results, strict=True):
        note(state, document, result)


def note(state: ClientState, sent: Sent, result: Mapping[str, Any]) -> None:
    """Record the answer to a document in the model."""
    conversation = sent.conversation
    if result["outcome"] == "refused":
        is_explained = result["error"]["code"] in ERASED and sent.erasures
        if not is_explained and not state.violations.outages.excuses:
            told = f"a document of {conversation.id} was {_outcome(result)}, and nothing erases it"
            state.report("refused document", told)
        return
    if conversation.number not in {None, result["number"]}:
        told = f"{conversation.id} has two numbers, {conversation.number} and {result['number']}"
        state.report("refused document", told)
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
