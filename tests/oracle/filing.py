"""Files requests of all kinds, repeats and withdraws them, and records the expected results in the model."""

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any

from tests.oracle.caller import new_key
from tests.oracle.client_state import ClientState
from tests.oracle.model import COMMENT, Conversation, Expected, Request, is_allowed, now, options_of

_TICKETS = count(1)
_PATHS = {"deletion": "data-deletion", "export": "data-export"}


# --- What may be filed: `flags` are options of the call, by `options_of` ---------------------------------


def deletion_of(state: ClientState, value: str, *flags: str) -> Request:
    """Return the deletion of a chatter, which is not filed yet."""
    request = Request(state.bot, "deletion", new_key(), value=value, flags=frozenset(flags))
    for conversation in state.conversations_of(value):
        expected = state.model.expected(conversation, list(state.filed.values()))
        is_sure = conversation.number is not None and value in conversation.people and expected is Expected.WHOLE
        (request.surely if is_sure else request.possibly).add(conversation)
    return request


def deletion_by_ids(state: ClientState, conversations: Collection[Conversation], *flags: str) -> Request:
    """Return the deletion of some conversations that are alive."""
    request = _by_ids(state, "deletion", conversations, flags)
    request.surely = set(conversations)
    return request


def export_of(state: ClientState, value: str, *flags: str) -> Request:
    """Return the export of a chatter."""
    request = Request(state.bot, "export", new_key(), value=value, flags=frozenset(flags))
    for conversation in state.conversations_of(value):
        is_left_out = "include_shared" not in flags
        if is_left_out and conversation.people - {value}:
            continue
        if state.model.expected(conversation, list(state.filed.values())) is Expected.GONE:
            continue
        request.possibly.add(conversation)
        is_sure = (
            conversation in state.alive
            and value in conversation.people
            and not (is_left_out and conversation.tried != {value})
        )
        if is_sure and not state.open_erasures(conversation=conversation):
            request.surely.add(conversation)
            request.texts[conversation.id] = dict(conversation.texts)
    return request


def export_by_ids(state: ClientState, conversations: Collection[Conversation], *flags: str) -> Request:
    """Return the export of some conversations that are alive."""
    request = _by_ids(state, "export", conversations, flags)
    request.possibly = set(conversations)
    request.surely = {each for each in conversations if not state.open_erasures(conversation=each)}
    request.texts = {conversation.id: dict(conversation.texts) for conversation in request.surely}
    return request


def _by_ids(state: ClientState, kind: str, conversations: Collection[Conversation], flags: Sequence[str]) -> Request:
    ids = tuple(conversation.id for conversation in conversations)
    return Request(state.bot, kind, new_key(), ids=ids, flags=frozenset(flags))


# --- Calls -----------------------------------------------------------------------------------------------


def file(state: ClientState, request: Request, *, called: str = "", **options: Any) -> Request:
    """File a request, with these options of the call beside its flags. A refused request has no id."""
    _begin(state, request)
    request.body = _body(state, request) | options
    shown = state.caller.file(called or request.kind, _PATHS[request.kind], request.body, request.key).body
    if "request_id" in shown:
        _took(state, request, shown)
    return request


def filed_elsewhere(state: ClientState, request: Request, request_id: str) -> Request:
    """Note a request that an operator has filed."""
    _begin(state, request)
    _took(state, request, {"request_id": request_id, "status": "accepted", "finished_at": None})
    return request


def file_all(state: ClientState, requests: Sequence[Request]) -> None:
    """File several requests in one call."""
    for request in requests:
        _begin(state, request)
    actions = {"deletion": "delete", "export": "export"}
    bodies = [{"action": actions[request.kind], **_body(state, request)} for request in requests]
    results = state.caller.batch("batch", bodies, new_key()).body["results"]
    for request, result in zip(requests, results, strict=True):
        if "request_id" not in result:
            state.report("wrong answer", f"an item of a batch was refused: {result['error']['code']}", request)
        else:
            _took(state, request, result)


def file_again(state: ClientState, request: Request) -> None:
    """Send a filing again with its key: it must be answered with the same request."""
    answer = state.caller.file(f"{request.kind} again", _PATHS[request.kind], request.body, request.key).body
    if answer.get("request_id") != request.id:
        state.report("doubled filing", f"the same filing became {answer.get('request_id')}", request)


def withdraw(state: ClientState, request: Request) -> None:
    """Cancel a request that may have begun."""
    request.may_be_cancelled = True
    answer = state.caller.post("cancel", f"requests/{request.id}/cancel", {"reason": "duplicate"}, ok=(200, 409))
    if answer.status == 409:
        if answer.body["code"] != "not_cancellable":
            state.report("wrong answer", f"a withdrawal was refused with {answer.body['code']}", request)
        return
    if answer.status != 200:
        return
    see(state, request, answer.body)
    if request.status != "cancelled":
        state.report("wrong answer", f"a withdrawn request is {request.status}", request)


def redact(state: ClientState, conversation: Conversation, *what: str) -> None:
    """File the redaction of messages, by their ids, and of the COMMENT."""
    request = Request(state.bot, "redaction", new_key(), ids=what, possibly={conversation})
    state.model.file(request)
    conversation.redacted |= dict.fromkeys(what, request)
    body = selected(what) | {"reason": "payment_data", "reference": _reference()}
    path = f"conversations/{conversation.number}/messages/redact"
    # It has no Idempotency-Key: sent again it is another request, which finds nothing.
    _took(state, request, state.caller.post("redaction", path, body).body)


def selected(what: Collection[str]) -> dict[str, Any]:
    """Return the part of a redaction's call that selects messages and the COMMENT."""
    return {"ids": [one for one in what if one != COMMENT], "csat_comment": COMMENT in what}


def see(state: ClientState, request: Request, shown: Mapping[str, Any]) -> None:
    """Note the status of a request as it is shown, and check that it may have come to that."""
    status = str(shown["status"])
    if not is_allowed(request, status):
        state.report("wrong transition", f"after {request.status} it is {status}", request)
    if request.is_final and (shown["finished_at"] != request.finished_at or shown["status"] != request.status):
        told = f"it ended at {request.finished_at}, and then at {shown['finished_at']}"
        state.report("ended twice", told, request)
    if request.hold and not request.is_released and status in {"processing", "completed"}:
        state.report("hold", f"it is {status} under a legal hold", request)
    if status != request.status:
        request.statuses.append(status)
    was_open = not request.is_final
    request.status, request.finished_at = status, shown["finished_at"]
    if was_open and request.is_final:
        _over(state, request)


def _over(state: ClientState, request: Request) -> None:
    request.ended_at = now()
    state.open.pop(request, None)
    if request.status == "completed":
        state.unsettled[request] = None
    if request.is_withdrawn:
        state.reopen(sorted(request.surely | request.possibly, key=lambda conversation: conversation.index))
    elif request.kind == "deletion" and request.value:
        state.erased_at[request.value] = now()


def _body(state: ClientState, request: Request) -> dict[str, Any]:
    about = state.naming(request.value) if request.value else {"conversation_ids": list(request.ids)}
    return {**options_of(request.flags), **about, "reference": _reference()}


def _reference() -> str:
    return f"CASE-{next(_TICKETS)}"


def _begin(state: ClientState, request: Request) -> None:
    """Record that a request is about to be filed.

    It may remove a shared conversation before other chatters' waiting exports read it: their order is not promised.
    This includes a conversation that another deletion will erase after such an export: this one may come first.
    """
    state.model.file(request)
    erased = request.surely | request.possibly if request.kind == "deletion" else set()
    for other in list(state.open) if erased else ():
        if other.kind == "export":
            shared = {conversation for conversation in erased & other.surely if len(conversation.people) > 1}
            other.surely -= shared
            other.possibly |= shared


def _took(state: ClientState, request: Request, shown: Mapping[str, Any]) -> None:
    """Note the answer to a filing."""
    known = state.filed.get(str(shown["request_id"]))
    if known is not None:
        if not shown.get("existing") or known.kind != "export" or known.value != request.value:
            state.report("doubled filing", f"a new filing was answered with {known}", request)
        _merge(state, request, known)
        return
    request.id = str(shown["request_id"])
    state.filed[request.id] = request
    state.open[request] = None
    if request.kind == "deletion":
        for conversation in (*request.surely, *request.possibly):
            state.alive.pop(conversation, None)
    see(state, request, shown)


def _merge(state: ClientState, request: Request, known: Request) -> None:
    """Record that an equal waiting export is the answer to this one too: it has the data sent before either."""
    state.model.forget(request)
    known.possibly |= request.possibly | request.surely
    known.surely |= request.surely
    for name, texts in request.texts.items():
        known.texts.setdefault(name, {}).update(texts)
