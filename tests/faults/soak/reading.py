"""Reads what clients read, while everything goes on: lists, single entries, previews, usage."""

from tests.oracle.client_state import ClientState, shown_values
from tests.oracle.filing import see
from tests.oracle.following import look_at_whole_ones


def read_log(state: ClientState) -> None:
    """Read a page of the log: only this chatbot's conversations, each with its number once."""
    deleted = state.chance.choice(("", "&deleted=false", "&deleted=true"))
    page = state.caller.get("log", f"conversations?limit=100{deleted}").body["results"]
    numbers = [one["number"] for one in page if not one["deleted"]]
    if len(numbers) != len(set(numbers)):
        state.told("log", "a conversation stands on one page twice")
    for one in page:
        if one["deleted"] and (one["id"] or one["user_name"] or any(shown_values(one)) or one["message_count"]):
            state.told("not deleted", f"the log shows something of the deleted conversation {one['number']}")
    ours = {
        conversation.number: conversation
        for conversation in state.conversations.values()
        if conversation.number is not None
    }
    for one in page:
        conversation = ours.get(one["number"])
        if conversation and not one["deleted"] and one["id"] != conversation.id:
            state.told("log", f"conversation {one['number']} has the id {one['id']}, and not {conversation.id}")


def read_requests(state: ClientState) -> None:
    """Read a page of requests."""
    query = state.chance.choice(("", "&status=completed", "&kind=export", "&kind=deletion"))
    state.caller.get("requests", f"requests?limit=50{query}")


def read_one_request(state: ClientState) -> None:
    """Read a request that is over: it must stay as it was."""
    over = [one for one in state.filed.values() if one.is_final]
    if over:
        one = state.chance.choice(over)
        see(state, one, state.caller.get("one request", f"requests/{one.id}").body)


def look_up(state: ClientState) -> None:
    """Find the requests about a chatter: all that were answered must be there."""
    named = [one for one in state.filed.values() if one.value]
    if not named:
        return
    value = state.chance.choice(named).value
    known = {one.id for one in named if one.value == value}
    body = {"unique_chatter_identifier_key": state.uci, "unique_chatter_identifier_value": value}
    found = state.caller.post("lookup of requests", "requests/lookup", body).body
    missing = known - {one["request_id"] for one in found["results"]}
    if missing and not found["left_out"]:
        state.told("forgotten request", f"a look-up of its chatter does not find {min(missing)}")


def preview(state: ClientState) -> None:
    people = state.free_people()
    if not people:
        return
    value = state.chance.choice(people).value
    body = {"unique_chatter_identifier_key": state.uci, "unique_chatter_identifier_value": value, "action": "delete"}
    shown = state.caller.post("preview", "preview", body).body["deletion"]
    least = len(state.alive_of(value))
    if shown["erased"]["conversations"] < least:
        state.told("preview", f"it finds {shown['erased']['conversations']} conversations, and {least} are stored")


def find_conversations(state: ClientState) -> None:
    """Find conversations by their ids: those that are stored must be found."""
    conversations = state.chance.sample(list(state.alive), min(len(state.alive), 10))
    if not conversations:
        return
    body = {"ids": [conversation.id for conversation in conversations]}
    results = state.caller.post("lookup of conversations", "conversations/lookup", body).body["results"]
    for conversation, one in zip(conversations, results, strict=True):
        if one["conversation"] is None or one["conversation"]["number"] != conversation.number:
            state.told("neighbour", f"{conversation.id}, which nobody erases, is not found by its id")


def read_usage(state: ClientState) -> None:
    state.caller.get("usage", "usage")


def read_some(state: ClientState) -> None:
    look_at_whole_ones(state, 2)
