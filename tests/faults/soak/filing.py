"""Files requests of all kinds, repeats and withdraws them, and notes in the model what must follow."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from tests.faults.soak.caller import new_key
from tests.faults.soak.circle import Circle
from tests.faults.soak.model import Fate, Filed, is_allowed, now
from tests.faults.soak.sending import a_person, race

_TICKETS = count(1)
_PATHS = {"deletion": "data-deletion", "export": "data-export"}
# More are not filed before some are over: a service that is down is not to be buried.
MOST_OPEN = 25


def delete(circle: Circle) -> None:
    """File the deletion of a chatter. Some are withdrawn at once, some meet what is sent meanwhile."""
    person = a_person(circle)
    if person is None:
        return
    one = _deletion_of(circle, person.value)
    _file(circle, one)
    if circle.chance.random() < 0.2:
        withdraw(circle, one)
    elif circle.chance.random() < 0.4:
        race(circle, one)


def delete_conversations(circle: Circle) -> None:
    """File the deletion of one to three conversations by their ids."""
    talks = circle.chance.sample(list(circle.alive), min(len(circle.alive), circle.chance.choice((1, 2, 3))))
    if not talks:
        return
    one = _new(circle, "deletion", ids=tuple(talk.id for talk in talks), flags=_flags(circle, erase_exports=0.6))
    one.surely = set(talks)
    _file(circle, one)
    if circle.chance.random() < 0.15:
        withdraw(circle, one)


def export(circle: Circle) -> None:
    """File the export of a chatter."""
    person = a_person(circle)
    if person:
        _file(circle, _export_of(circle, person.value))


def export_conversations(circle: Circle) -> None:
    """File the export of some conversations by their ids."""
    talks = circle.chance.sample(list(circle.alive), min(len(circle.alive), 3))
    if not talks:
        return
    one = _new(circle, "export", ids=tuple(talk.id for talk in talks), flags=_flags(circle, include_files=0.4))
    one.surely = {talk for talk in talks if not circle.open_erasures(talk=talk)}
    one.possibly = set(talks)
    one.texts = {talk.id: dict(talk.texts) for talk in one.surely}
    _file(circle, one)


def batch(circle: Circle) -> None:
    """File several requests in one call: of one chatter the export and then the deletion, of another an export."""
    person = a_person(circle)
    if person is None:
        return
    wanted = [_export_of(circle, person.value)]
    circle.model.file(wanted[0])
    wanted.append(_deletion_of(circle, person.value))
    circle.model.file(wanted[1])
    _loosen(circle, wanted[1])
    bodies = [{"action": "delete" if one.kind == "deletion" else "export", **_body(circle, one)} for one in wanted]
    results = circle.caller.batch("batch", bodies, new_key()).body["results"]
    for one, result in zip(wanted, results, strict=True):
        if "request_id" not in result:
            circle.told("wrong answer", f"an item of a batch was refused: {result['error']['code']}", one)
        else:
            _took(circle, one, result)


def file_again(circle: Circle) -> None:
    """Send a filing again with its key: it must be answered with the same request."""
    ours = [one for one in circle.filed.values() if one.body]
    if not ours:
        return
    one = circle.chance.choice(ours[-30:])
    answer = circle.caller.file(f"{one.kind} again", _PATHS[one.kind], one.body, one.key).body
    if answer.get("request_id") != one.id:
        circle.told("doubled filing", f"the same filing became {answer.get('request_id')}", one)


def withdraw(circle: Circle, one: Filed) -> None:
    """Cancel a request that may have begun."""
    answer = circle.caller.post("cancel", f"requests/{one.id}/cancel", {"reason": "duplicate"}, ok=(200, 409))
    if answer.status == 409:
        if answer.body["code"] != "not_cancellable":
            circle.told("wrong answer", f"a withdrawal was refused with {answer.body['code']}", one)
        return
    if answer.status != 200:
        return
    see(circle, one, answer.body)
    if one.status != "cancelled":
        circle.told("wrong answer", f"a withdrawn request is {one.status}", one)


def redact(circle: Circle) -> None:
    """Redact a message."""
    talk = circle.pick(circle.alive)
    if talk is None or not talk.texts:
        return
    message = circle.chance.choice(sorted(talk.texts))
    if message in talk.redacted:
        return
    one = _new(circle, "redaction", ids=(message,))
    one.possibly = {talk}
    circle.model.file(one)
    talk.redacted[message] = one
    body = {"ids": [message], "reason": "payment_data", "reference": _reference()}
    path = f"conversations/{talk.number}/messages/redact"
    # It has no Idempotency-Key: sent again it is another request, which finds nothing.
    _took(circle, one, circle.caller.post("redaction", path, body).body)


def see(circle: Circle, one: Filed, shown: Mapping[str, Any]) -> None:
    """Note the status of a request as it is shown, and check that it may have come to that."""
    status = str(shown["status"])
    if not is_allowed(one, status):
        circle.told("wrong transition", f"after {one.status} it is {status}", one)
    if one.is_final and (shown["finished_at"] != one.finished_at or shown["status"] != one.status):
        circle.told("ended twice", f"it ended at {one.finished_at}, and then at {shown['finished_at']}", one)
    if status != one.status:
        one.statuses.append(status)
    was_open = not one.is_final
    one.status, one.finished_at = status, shown["finished_at"]
    one.counts = dict(shown["counts"])
    if was_open and one.is_final:
        _over(circle, one)


def _over(circle: Circle, one: Filed) -> None:
    one.ended = circle.model.tick()
    circle.open.pop(one, None)
    if one.status == "completed":
        circle.unsettled[one] = None
    if one.status in {"cancelled", "rejected"}:
        circle.reopen(sorted(one.surely | one.possibly, key=lambda talk: talk.index))
    elif one.kind == "deletion" and one.value:
        circle.erased_at[one.value] = now()


def _deletion_of(circle: Circle, value: str) -> Filed:
    one = _new(circle, "deletion", value=value, flags=_flags(circle, erase_exports=0.6))
    for talk in circle.talks_of(value):
        fate = circle.model.fate(talk, circle.filed.values())
        is_sure = talk.number is not None and value in talk.people and fate is Fate.WHOLE
        (one.surely if is_sure else one.possibly).add(talk)
    return one


def _export_of(circle: Circle, value: str) -> Filed:
    one = _new(circle, "export", value=value, flags=_flags(circle, include_shared=0.4, include_files=0.3))
    for talk in circle.talks_of(value):
        is_left_out = "include_shared" not in one.flags
        if is_left_out and talk.people - {value}:
            continue
        if circle.model.fate(talk, circle.filed.values()) is Fate.GONE:
            continue
        one.possibly.add(talk)
        is_sure = talk in circle.alive and value in talk.people and not (is_left_out and talk.tried != {value})
        if is_sure and not circle.open_erasures(talk=talk):
            one.surely.add(talk)
            one.texts[talk.id] = dict(talk.texts)
    return one


def _new(circle: Circle, kind: str, **options: Any) -> Filed:
    return Filed(circle.bot, kind, new_key(), **options)


def _flags(circle: Circle, **chances: float) -> frozenset[str]:
    return frozenset(name for name, chance in chances.items() if circle.chance.random() < chance)


def _body(circle: Circle, one: Filed) -> dict[str, Any]:
    body: dict[str, Any] = dict.fromkeys(sorted(one.flags), True)
    if one.value:
        body |= {"unique_chatter_identifier_key": circle.uci, "unique_chatter_identifier_value": one.value}
    else:
        body["conversation_ids"] = list(one.ids)
    return body | {"reference": _reference()}


def _reference() -> str:
    return f"SOAK-{next(_TICKETS)}"


def _file(circle: Circle, one: Filed) -> None:
    circle.model.file(one)
    one.body = _body(circle, one)
    if one.kind == "deletion":
        _loosen(circle, one)
    _took(circle, one, circle.caller.file(one.kind, _PATHS[one.kind], one.body, one.key).body)


def _loosen(circle: Circle, deletion: Filed) -> None:
    """Note that others' waiting exports may find a shared conversation gone: nothing is promised of their order.

    Also one that is on its way to be erased, by a deletion that waits for such an export: this one may come first.
    """
    erased = deletion.surely | deletion.possibly
    for other in circle.open:
        if other.kind == "export":
            shared = {talk for talk in erased & other.surely if len(talk.people) > 1}
            other.surely -= shared
            other.possibly |= shared


def _took(circle: Circle, one: Filed, shown: Mapping[str, Any]) -> None:
    """Note the answer to a filing."""
    known = circle.filed.get(str(shown["request_id"]))
    if known is not None:
        if not shown.get("existing") or known.kind != "export" or known.value != one.value:
            circle.told("doubled filing", f"a new filing was answered with {known}", one)
        _merge(circle, one, known)
        return
    one.id = str(shown["request_id"])
    circle.filed[one.id] = one
    circle.open[one] = None
    if one.kind == "deletion":
        circle.close([*one.surely, *one.possibly])
    see(circle, one, shown)


def _merge(circle: Circle, one: Filed, known: Filed) -> None:
    """Note that an equal export that waits is the answer to this one, too: it holds what was sent before either."""
    circle.model.forget(one)
    known.possibly |= one.possibly | one.surely
    known.surely |= one.surely
    for name, texts in one.texts.items():
        known.texts.setdefault(name, {}).update(texts)
