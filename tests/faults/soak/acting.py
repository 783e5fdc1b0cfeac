"""The random acts of a client, one after another: it sends, files, withdraws and reads."""

import threading
from collections.abc import Callable

from tests.oracle import filing, holding, sending
from tests.oracle.caller import Silent
from tests.oracle.client_state import ClientState, shown_values
from tests.oracle.filing import see
from tests.oracle.following import follow, follow_to_end, look_at_whole_ones
from tests.oracle.model import COMMENT, Conversation, Request

Action = Callable[[ClientState], None]

# The number of open requests: more are not filed before some are over, so that a stopped service is not overloaded.
_MOST_OPEN = 25
# The time for the remaining work at the end: a resting storage may still be down.
_LAST_SECONDS = 120.0


# --- Sending and filing ----------------------------------------------------------------------------------


def upload(state: ClientState) -> None:
    if conversation := state.pick(state.alive):
        sending.upload(state, conversation, state.chance.choice((10, 1000, 60_000)))


def delete(state: ClientState) -> None:
    """File the deletion of a chatter. Some are withdrawn at once, some run while documents are sent."""
    if person := state.pick(state.free_people()):
        request = filing.file(state, filing.deletion_of(state, person.value, *_flags(state, erase_exports=0.6)))
        if state.chance.random() < 0.2:
            filing.withdraw(state, request)
        elif state.chance.random() < 0.4:
            sending.race(state, request)


def delete_under_hold(state: ClientState) -> None:
    """File the deletion of a chatter under a legal hold, which the operator releases later."""
    if person := state.pick(state.free_people()):
        holding.delete_under_hold(state, person.value)


def delete_conversations(state: ClientState) -> None:
    if conversations := _some(state, state.chance.choice((1, 2, 3))):
        request = filing.deletion_by_ids(state, conversations, *_flags(state, erase_exports=0.6))
        filing.file(state, request)
        if state.chance.random() < 0.15:
            filing.withdraw(state, request)


def export(state: ClientState) -> None:
    if person := state.pick(state.free_people()):
        filing.file(state, _export_of(state, person.value))


def export_conversations(state: ClientState) -> None:
    if conversations := _some(state, 3):
        flags = _flags(state, include_files=0.4, excel_comma=0.3, pages=0.2)
        filing.file(state, filing.export_by_ids(state, conversations, *flags))


def batch(state: ClientState) -> None:
    """File several requests in one call: of a chatter the export, and then the deletion."""
    if person := state.pick(state.free_people()):
        export = _export_of(state, person.value)
        deletion = filing.deletion_of(state, person.value, *_flags(state, erase_exports=0.6))
        filing.file_all(state, [export, deletion])


def file_again(state: ClientState) -> None:
    if request := state.pick([request for request in state.filed.values() if request.body][-30:]):
        filing.file_again(state, request)


def redact(state: ClientState) -> None:
    conversation = state.pick(state.alive)
    message = state.pick(sorted(conversation.texts)) if conversation else None
    what = {message: 0.75, COMMENT: 0.5} if conversation and message else {}
    chosen = [
        one for one, chance in what.items() if state.chance.random() < chance and one not in conversation.redacted
    ]
    if conversation and chosen:
        filing.redact(state, conversation, *chosen)


def _export_of(state: ClientState, value: str) -> Request:
    return filing.export_of(
        state, value, *_flags(state, include_shared=0.4, include_files=0.3, excel_semicolon=0.3, zip=0.2)
    )


def _some(state: ClientState, most: int) -> list[Conversation]:
    return state.chance.sample(list(state.alive), min(len(state.alive), most))


def _flags(state: ClientState, **chances: float) -> list[str]:
    return [name for name, chance in chances.items() if state.chance.random() < chance]


# --- Reading ---------------------------------------------------------------------------------------------


def read_log(state: ClientState) -> None:
    """Read a page of the log: only this chatbot's conversations, each with its number once."""
    deleted = state.chance.choice(("", "&deleted=false", "&deleted=true"))
    page = state.caller.get("log", f"conversations?limit=100{deleted}").body["results"]
    numbers = [shown["number"] for shown in page if not shown["deleted"]]
    if len(numbers) != len(set(numbers)):
        state.report("log", "a conversation stands on one page twice")
    ours = {conversation.number: conversation.id for conversation in state.conversations.values()}
    for shown in page:
        number = shown["number"]
        if shown["deleted"]:
            if shown["id"] or shown["user_name"] or any(shown_values(shown)) or shown["message_count"]:
                state.report("not deleted", f"the log shows something of the deleted conversation {number}")
        elif shown["id"] != ours.get(number, shown["id"]):
            state.report("log", f"conversation {number} has the id {shown['id']}, and not {ours[number]}")


def read_requests(state: ClientState) -> None:
    query = state.chance.choice(("", "&status=completed", "&kind=export", "&kind=deletion"))
    state.caller.get("requests", f"requests?limit=50{query}")


def read_one_request(state: ClientState) -> None:
    """Read a request that is over: it must stay as it was."""
    if request := state.pick([request for request in state.filed.values() if request.is_final]):
        see(state, request, state.shown(request))


def look_up(state: ClientState) -> None:
    """Find the requests about a chatter: all answered ones must be found."""
    named = [request for request in state.filed.values() if request.value]
    if not named:
        return
    value = state.chance.choice(named).value
    known = {request.id for request in named if request.value == value}
    found = state.caller.post("lookup of requests", "requests/lookup", state.naming(value)).body
    missing = known - {shown["request_id"] for shown in found["results"]}
    if missing and not found["left_out"]:
        state.report("forgotten request", f"a look-up of its chatter does not find {min(missing)}")


def preview(state: ClientState) -> None:
    person = state.pick(state.free_people())
    if person is None:
        return
    body = state.naming(person.value) | {"action": "delete"}
    shown = state.caller.post("preview", "preview", body).body["deletion"]
    least = sum(person.value in conversation.people for conversation in state.alive)
    if shown["erased"]["conversations"] < least:
        state.report("preview", f"it finds {shown['erased']['conversations']} conversations, and {least} are stored")


def find_conversations(state: ClientState) -> None:
    """Find conversations by their ids: those that are stored must be found."""
    conversations = _some(state, 10)
    if not conversations:
        return
    body = {"ids": [conversation.id for conversation in conversations]}
    results = state.caller.post("lookup of conversations", "conversations/lookup", body).body["results"]
    for conversation, found in zip(conversations, results, strict=True):
        if found["conversation"] is None or found["conversation"]["number"] != conversation.number:
            state.report("neighbour", f"{conversation.id}, which must stay, is not found by its id")


def read_usage(state: ClientState) -> None:
    state.caller.get("usage", "usage")


def read_some(state: ClientState) -> None:
    look_at_whole_ones(state, 2)


# --- Threads ---------------------------------------------------------------------------------------------

# How often each is done, compared with the others.
_SENDING: dict[int, list[Action]] = {
    16: [sending.begin, sending.extend],
    6: [sending.repeat, upload],
    5: [sending.send_after_deletion],
    4: [
        sending.share,
        sending.send_for_erased_chatter,
        sending.identify,
        sending.sign,
        sending.check_resolved_identity,
    ],
    3: [sending.arrive, sending.assert_erased_chatter],
}
_FILING: dict[int, list[Action]] = {
    8: [delete, export],
    4: [delete_conversations, delete_under_hold],
    3: [export_conversations, redact, batch],
}
_READING: dict[int, list[Action]] = {
    3: [file_again, read_log, read_one_request, find_conversations, read_some],
    2: [read_requests, look_up, preview, read_usage],
}
# Acts that need a resolver and an identity key.
_IDENTIFYING: set[Action] = {sending.sign, sending.arrive, sending.check_resolved_identity}


class Actor(threading.Thread):
    """Does 1.5 things in a second, if each takes no time."""

    def __init__(self, state: ClientState, over: threading.Event) -> None:
        super().__init__(name=f"client of {state.bot}", daemon=True)
        self.state = state
        self._over = over

    def run(self) -> None:
        while not self._over.wait(self.state.chance.expovariate(1.5)):
            self.attempt(self._act)

    def attempt(self, act: Callable[[], None]) -> None:
        """Perform an act; an error of the soak itself is recorded as such."""
        try:
            act()
        except Silent:
            pass  # recorded already
        except Exception as error:
            self.state.violations.at_fault(f"a client of {self.state.bot}", error)

    def follow_all(self) -> None:
        self.attempt(lambda: follow_to_end(self.state, seconds=_LAST_SECONDS))

    def _act(self) -> None:
        state = self.state
        tables = [_SENDING, _READING] + [_FILING] * (len(state.open) < _MOST_OPEN)
        actions = [action for table in tables for weight, some in table.items() for action in some * weight]
        if state.identity_key is None:
            actions = [action for action in actions if action not in _IDENTIFYING]
        action = state.chance.choice(actions)
        action(state)
        follow(state, most=2)
