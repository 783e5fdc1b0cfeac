"""Files requests of all kinds, repeats and withdraws them, and notes in the model what must follow."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from tests.oracle.caller import new_key
from tests.oracle.client_state import ClientState
from tests.oracle.model import Expected, Request, is_allowed, now
from tests.oracle.sending import a_person, race

_TICKETS = count(1)
_PATHS = {"deletion": "data-deletion", "export": "data-export"}
# More are not filed before some are over: a service that is down is not to be buried.
MOST_OPEN = 25


def delete(state: ClientState) -> None:
    """File the deletion of a chatter. Some are withdrawn at once, some meet what is sent meanwhile."""
    person = a_person(state)
    if person is None:
        return
    one = _deletion_of(state, person.value)
    _file(state, one)
    if state.chance.random() < 0.2:
        withdraw(state, one)
    elif state.chance.random() < 0.4:
        race(state, one)


def delete_conversations(state: ClientState) -> None:
    """File the deletion of one to three conversations by their ids."""
    conversations = state.chance.sample(list(state.alive), min(len(state.alive), state.chance.choice((1, 2, 3))))
    if not conversations:
        return
    one = _new(
        state,
        "deletion",
        ids=tuple(conversation.id for conversation in conversations),
        flags=_flags(state, erase_exports=0.6),
    )
    one.surely = set(conversations)
    _file(state, one)
    if state.chance.random() < 0.15:
        withdraw(state, one)


def export(state: ClientState) -> None:
    """File the export of a chatter."""
    person = a_person(state)
    if person:
        _file(state, _export_of(state, person.value))


def export_conversations(state: ClientState) -> None:
    """File the export of some conversations by their ids."""
    conversations = state.chance.sample(list(state.alive), min(len(state.alive), 3))
    if not conversations:
        return
    one = _new(
        state,
        "export",
        ids=tuple(conversation.id for conversation in conversations),
        flags=_flags(state, include_files=0.4),
    )
    one.surely = {
        conversation for conversation in conversations if not state.open_erasures(conversation=conversation)
    }
    one.possibly = set(conversations)
    one.texts = {conversation.id: dict(conversation.texts) for conversation in one.surely}
    _file(state, one)


def batch(state: ClientState) -> None:
    """File several requests in one call: of one chatter the export and then the deletion, of another an export."""
    person = a_person(state)
    if person is None:
        return
    wanted = [_export_of(state, person.value)]
    state.model.file(wanted[0])
    wanted.append(_deletion_of(state, person.value))
    state.model.file(wanted[1])
    _loosen(state, wanted[1])
    bodies = [{"action": "delete" if one.kind == "deletion" else "export", **_body(state, one)} for one in wanted]
    results = state.caller.batch("batch", bodies, new_key()).body["results"]
    for one, result in zip(wanted, results, strict=True):
        if "request_id" not in result:
            state.told("wrong answer", f"an item of a batch was refused: {result['error']['code']}", one)
        else:
            _took(state, one, result)


def file_again(state: ClientState) -> None:
    """Send a filing again with its key: it must be answered with the same request."""
    ours = [one for one in state.filed.values() if one.body]
    if not ours:
        return
    one = state.chance.choice(ours[-30:])
    answer = state.caller.file(f"{one.kind} again", _PATHS[one.kind], one.body, one.key).body
    if answer.get("request_id") != one.id:
        state.told("doubled filing", f"the same filing became {answer.get('request_id')}", one)


def withdraw(state: ClientState, one: Request) -> None:
    """Cancel a request that may have begun."""
    answer = state.caller.post("cancel", f"requests/{one.id}/cancel", {"reason": "duplicate"}, ok=(200, 409))
    if answer.status == 409:
        if answer.body["code"] != "not_cancellable":
            state.told("wrong answer", f"a withdrawal was refused with {answer.body['code']}", one)
        return
    if answer.status != 200:
        return
    see(state, one, answer.body)
    if one.status != "cancelled":
        state.told("wrong answer", f"a withdrawn request is {one.status}", one)


def redact(state: ClientState) -> None:
    """Redact a message."""
    conversation = state.pick(state.alive)
    if conversation is None or not conversation.texts:
        return
    message = state.chance.choice(sorted(conversation.texts))
    if message in conversation.redacted:
        return
    one = _new(state, "redaction", ids=(message,))
    one.possibly = {conversation}
    state.model.file(one)
    conversation.redacted[message] = one
    body = {"ids": [message], "reason": "payment_data", "reference": _reference()}
    path = f"conversations/{conversation.number}/messages/redact"
    # It has no Idempotency-Key: sent again it is another request, which finds nothing.
    _took(state, one, state.caller.post("redaction", path, body).body)


def see(state: ClientState, one: Request, shown: Mapping[str, Any]) -> None:
    """Note the status of a request as it is shown, and check that it may have come to that."""
    status = str(shown["status"])
    if not is_allowed(one, status):
        state.told("wrong transition", f"after {one.status} it is {status}", one)
    if one.is_final and (shown["finished_at"] != one.finished_at or shown["status"] != one.status):
        state.told("ended twice", f"it ended at {one.finished_at}, and then at {shown['finished_at']}", one)
    if status != one.status:
        one.statuses.append(status)
    was_open = not one.is_final
    one.status, one.finished_at = status, shown["finished_at"]
    one.counts = dict(shown["counts"])
    if was_open and one.is_final:
        _over(state, one)


def _over(state: ClientState, one: Request) -> None:
    one.ended = state.model.tick()
    state.open.pop(one, None)
    if one.status == "completed":
        state.unsettled[one] = None
    if one.status in {"cancelled", "rejected"}:
        state.reopen(sorted(one.surely | one.possibly, key=lambda conversation: conversation.index))
    elif one.kind == "deletion" and one.value:
        state.erased_at[one.value] = now()


def _deletion_of(state: ClientState, value: str) -> Request:
    one = _new(state, "deletion", value=value, flags=_flags(state, erase_exports=0.6))
    for conversation in state.conversations_of(value):
        expected = state.model.expected(conversation, state.filed.values())
        is_sure = conversation.number is not None and value in conversation.people and expected is Expected.WHOLE
        (one.surely if is_sure else one.possibly).add(conversation)
    return one


def _export_of(state: ClientState, value: str) -> Request:
    one = _new(state, "export", value=value, flags=_flags(state, include_shared=0.4, include_files=0.3))
    for conversation in state.conversations_of(value):
        is_left_out = "include_shared" not in one.flags
        if is_left_out and conversation.people - {value}:
            continue
        if state.model.expected(conversation, state.filed.values()) is Expected.GONE:
            continue
        one.possibly.add(conversation)
        is_sure = (
            conversation in state.alive
            and value in conversation.people
            and not (is_left_out and conversation.tried != {value})
        )
        if is_sure and not state.open_erasures(conversation=conversation):
            one.surely.add(conversation)
            one.texts[conversation.id] = dict(conversation.texts)
    return one


def _new(state: ClientState, kind: str, **options: Any) -> Request:
    return Request(state.bot, kind, new_key(), **options)


def _flags(state: ClientState, **chances: float) -> frozenset[str]:
    return frozenset(name for name, chance in chances.items() if state.chance.random() < chance)


def _body(state: ClientState, one: Request) -> dict[str, Any]:
    body: dict[str, Any] = dict.fromkeys(sorted(one.flags), True)
    if one.value:
        body |= {"unique_chatter_identifier_key": state.uci, "unique_chatter_identifier_value": one.value}
    else:
        body["conversation_ids"] = list(one.ids)
    return body | {"reference": _reference()}


def _reference() -> str:
    return f"SOAK-{next(_TICKETS)}"


def _file(state: ClientState, one: Request) -> None:
    state.model.file(one)
    one.body = _body(state, one)
    if one.kind == "deletion":
        _loosen(state, one)
    _took(state, one, state.caller.file(one.kind, _PATHS[one.kind], one.body, one.key).body)


def _loosen(state: ClientState, deletion: Request) -> None:
    """Note that others' waiting exports may find a shared conversation gone: nothing is promised of their order.

    Also one that is on its way to be erased, by a deletion that waits for such an export: this one may come first.
    """
    erased = deletion.surely | deletion.possibly
    for other in state.open:
        if other.kind == "export":
            shared = {conversation for conversation in erased & other.surely if len(conversation.people) > 1}
            other.surely -= shared
            other.possibly |= shared


def _took(state: ClientState, one: Request, shown: Mapping[str, Any]) -> None:
    """Note the answer to a filing."""
    known = state.filed.get(str(shown["request_id"]))
    if known is not None:
        if not shown.get("existing") or known.kind != "export" or known.value != one.value:
            state.told("doubled filing", f"a new filing was answered with {known}", one)
        _merge(state, one, known)
        return
    one.id = str(shown["request_id"])
    state.filed[one.id] = one
    state.open[one] = None
    if one.kind == "deletion":
        state.close([*one.surely, *one.possibly])
    see(state, one, shown)


def _merge(state: ClientState, one: Request, known: Request) -> None:
    """Note that an equal export that waits is the answer to this one, too: it holds what was sent before either."""
    state.model.forget(one)
    known.possibly |= one.possibly | one.surely
    known.surely |= one.surely
    for name, texts in one.texts.items():
        known.texts.setdefault(name, {}).update(texts)
