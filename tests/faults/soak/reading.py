"""Reads what clients read, while everything goes on: lists, single entries, previews, usage."""

from tests.faults.soak.circle import Circle, shown_values
from tests.faults.soak.filing import see
from tests.faults.soak.following import look_at_whole_ones


def read_log(circle: Circle) -> None:
    """Read a page of the log: only this chatbot's conversations, each with its number once."""
    deleted = circle.chance.choice(("", "&deleted=false", "&deleted=true"))
    page = circle.caller.get("log", f"conversations?limit=100{deleted}").body["results"]
    numbers = [one["number"] for one in page if not one["deleted"]]
    if len(numbers) != len(set(numbers)):
        circle.told("log", "a conversation stands on one page twice")
    for one in page:
        if one["deleted"] and (one["id"] or one["user_name"] or any(shown_values(one)) or one["message_count"]):
            circle.told("not deleted", f"the log shows something of the deleted conversation {one['number']}")
    ours = {talk.number: talk for talk in circle.talks.values() if talk.number is not None}
    for one in page:
        talk = ours.get(one["number"])
        if talk and not one["deleted"] and one["id"] != talk.id:
            circle.told("log", f"conversation {one['number']} has the id {one['id']}, and not {talk.id}")


def read_requests(circle: Circle) -> None:
    """Read a page of requests."""
    query = circle.chance.choice(("", "&status=completed", "&kind=export", "&kind=deletion"))
    circle.caller.get("requests", f"requests?limit=50{query}")


def read_one_request(circle: Circle) -> None:
    """Read a request that is over: it must stay as it was."""
    over = [one for one in circle.filed.values() if one.is_final]
    if over:
        one = circle.chance.choice(over)
        see(circle, one, circle.caller.get("one request", f"requests/{one.id}").body)


def look_up(circle: Circle) -> None:
    """Find the requests about a chatter: all that were answered must be there."""
    named = [one for one in circle.filed.values() if one.value]
    if not named:
        return
    value = circle.chance.choice(named).value
    known = {one.id for one in named if one.value == value}
    body = {"unique_chatter_identifier_key": circle.uci, "unique_chatter_identifier_value": value}
    found = circle.caller.post("lookup of requests", "requests/lookup", body).body
    missing = known - {one["request_id"] for one in found["results"]}
    if missing and not found["left_out"]:
        circle.told("forgotten request", f"a look-up of its chatter does not find {min(missing)}")


def preview(circle: Circle) -> None:
    people = circle.free_people()
    if not people:
        return
    value = circle.chance.choice(people).value
    body = {"unique_chatter_identifier_key": circle.uci, "unique_chatter_identifier_value": value, "action": "delete"}
    shown = circle.caller.post("preview", "preview", body).body["deletion"]
    least = len(circle.alive_of(value))
    if shown["erased"]["conversations"] < least:
        circle.told("preview", f"it finds {shown['erased']['conversations']} conversations, and {least} are stored")


def find_conversations(circle: Circle) -> None:
    """Find conversations by their ids: those that are stored must be found."""
    talks = circle.chance.sample(list(circle.alive), min(len(circle.alive), 10))
    if not talks:
        return
    body = {"ids": [talk.id for talk in talks]}
    results = circle.caller.post("lookup of conversations", "conversations/lookup", body).body["results"]
    for talk, one in zip(talks, results, strict=True):
        if one["conversation"] is None or one["conversation"]["number"] != talk.number:
            circle.told("neighbour", f"{talk.id}, which nobody erases, is not found by its id")


def read_usage(circle: Circle) -> None:
    circle.caller.get("usage", "usage")


def read_some(circle: Circle) -> None:
    look_at_whole_ones(circle, 2)
