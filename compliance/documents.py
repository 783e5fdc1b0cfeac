"""The parts of `docs/` that are printed from code: `docs/data-map.md`, and tables in other pages.

A page has such a table between `<!-- table: name -->` and `<!-- end of table -->`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from django.conf import settings
from django.db.models import Choices

from common.bodies import MAX_BODY_DEPTH, MAX_BODY_VALUES
from common.problems import CODES, HELP, MOST_ERRORS, Help
from compliance.failure_docs import FAILURES
from compliance.inventory import OUTSIDE, STORES, Store
from compliance.models import Callback, ComplianceRequest
from compliance.requests.decisions import REASONS, Decision
from compliance.requests.queries import MOST_OF_CHATTER
from compliance.requests.results import MOST_FILES
from compliance.requests.selectors import MOST_CONVERSATIONS
from compliance.requests.submit import MAX_BATCH
from config.openapi import views as openapi
from config.openapi.document import TAGS
from config.web.limits import SMALL_BODY_BYTES
from conversations.documents import MAX_MESSAGES, MAX_VARIABLES
from conversations.intake import MAX_DOCUMENTS
from conversations.log import MAX_IDS

PAGES = ("docs/api.md", "docs/operating.md")

_DATA_MAP = """\
# Data map

The personal data in the database, and what a deletion does to each field. Printed from `compliance/inventory.py`
by `manage.py data_map`; erasure and its verification work from the same declarations.
"""

_TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
_BASE = "/api/v1/chatbots/{slug}/"

_FINAL = "Final."
_STATUSES: Mapping[Choices, str] = {
    ComplianceRequest.Status.ACCEPTED: "Waits for a worker.",
    ComplianceRequest.Status.ON_HOLD: "Waits for a decision, see `hold_reason`.",
    ComplianceRequest.Status.PROCESSING: "A worker has it.",
    ComplianceRequest.Status.COMPLETED: _FINAL,
    ComplianceRequest.Status.FAILED: "Not final: an operator can retry it.",
    ComplianceRequest.Status.CANCELLED: _FINAL,
    ComplianceRequest.Status.REJECTED: _FINAL,
}


def data_map() -> str:
    """Return the data map as Markdown."""
    return "\n".join([_DATA_MAP, *(line for store in STORES for line in _section(store)), *_outside()]) + "\n"


def with_tables(page: str) -> str:
    """Return a page with its tables as they are now."""
    return _TABLE.sub(lambda found: found[1] + "".join(f"{line}\n" for line in _TABLES[found[2]]()), page)


def _table(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    for cells in (header, ("---",) * len(header), *rows):
        yield f"| {' | '.join(map(str, cells))} |".replace("|  |", "| |")


def _section(store: Store) -> Iterator[str]:
    yield from (f"## {store.model._meta.label}", "", f"Reached: {store.way}.", "")
    dispositions = set(store.fields.values())
    if len(dispositions) == 1:
        disposition, reason = dispositions.pop()
        names = ", ".join(f"`{name}`" for name in store.fields)
        yield f"Each field is {disposition}{f' ({reason})' if reason else ''}: {names}."
    else:
        rows = ((f"`{name}`", disposition, reason) for name, (disposition, reason) in store.fields.items())
        yield from _table(("field", "after a deletion", "why"), rows)
    yield ""


def _outside() -> Iterator[str]:
    yield from ("## Holding nothing of a chatter", "", *_table(("model", "why"), OUTSIDE.items()))


def _calls() -> Iterator[str]:
    order = [tag["name"] for tag in TAGS]
    calls = [
        (order.index(operation["tags"][0]), f"`{method.upper()} {path.removeprefix(_BASE)}`", operation)
        for path, operations in openapi.document()["paths"].items()
        for method, operation in operations.items()
    ]
    rows = (
        (call, operation["summary"], _key_of(operation["security"]), next(iter(operation["responses"])))
        for _, call, operation in sorted(calls, key=lambda each: each[0])
    )
    return _table(("call", "", "key needs", "answer"), rows)


def _key_of(security: list[dict[str, list[str]]]) -> str:
    scopes = dict.fromkeys(scope for way in security for needed in way.values() for scope in needed)
    ways = "signature or token" if any("signature" in way for way in security) else "token"
    return f"{' or '.join(f'`{scope}`' for scope in scopes)}; {ways}"


def _values(fields: Mapping[str, type[Choices]]) -> Iterator[str]:
    rows = (
        (f"`{field}`", f"`{value.value}`", _STATUSES.get(value) or f"{value.label}.")
        for field, choices in fields.items()
        for value in choices
    )
    return _table(("field", "value", "meaning"), rows)


def _request_values() -> Iterator[str]:
    return _values(
        {
            "status": ComplianceRequest.Status,
            "hold_reason": ComplianceRequest.HoldReason,
            "result": ComplianceRequest.Result,
            "selector": ComplianceRequest.Selector,
            "waiting_for": ComplianceRequest.WaitingFor,
        }
    )


def _callback_values() -> Iterator[str]:
    return _values({"state": Callback.State, "last_error": Callback.Failure})


def _reasons() -> Iterator[str]:
    by_call = (Decision.CANCEL, Decision.APPROVE, Decision.REJECT)
    rows = (
        (f"`{decision}`", f"`{code}`", f"{label}.")
        for decision in by_call
        for code, label in REASONS[decision].choices
    )
    return _table(("call", "`reason`", "meaning"), rows)


def _limits() -> Iterator[str]:
    sizes = {
        "Body of `POST conversations` and `requests/batch`": settings.MAX_BODY_BYTES,
        "Body of other calls": SMALL_BODY_BYTES,
        "Uploaded file": settings.UPLOAD_MAX_BYTES,
    }
    counts = {
        "Calls of a key in a minute": settings.RATE_LIMIT_PER_MINUTE,
        "Levels of lists and objects in a body": MAX_BODY_DEPTH,
        "Values in a body; well-formed messages are not counted": MAX_BODY_VALUES,
        "Requests in a batch": MAX_BATCH,
        "Conversations named by one request": MOST_CONVERSATIONS,
        "Requests in a response of `requests/lookup`": MOST_OF_CHATTER,
        "Copied files in a request object": MOST_FILES,
        "Documents in `POST conversations`": MAX_DOCUMENTS,
        "Messages in a document": MAX_MESSAGES,
        "Names in each object of variables": MAX_VARIABLES,
        "Ids in `conversations/lookup`": MAX_IDS,
        "Errors in a response": MOST_ERRORS,
    }
    rows = [(what, f"{size // 1024:,} KiB") for what, size in sizes.items()]
    return _table(("limit", ""), [*((what, f"{most:,}") for what, most in counts.items()), *rows])


def _help(texts: Mapping[str, Help], code: str) -> tuple[str, ...]:
    return f"`{code}`", *texts[code]


def _errors() -> Iterator[str]:
    rows = ((status, *_help(HELP, code)) for code, (status, _) in CODES.items())
    return _table(("status", "code", "meaning", "what to do"), rows)


def _failures() -> Iterator[str]:
    return _table(("code", "means", "what to do"), (_help(FAILURES, code) for code in FAILURES))


_TABLES: Mapping[str, Callable[[], Iterator[str]]] = {
    "calls": _calls,
    "request-values": _request_values,
    "callback-values": _callback_values,
    "reasons": _reasons,
    "limits": _limits,
    "errors": _errors,
    "failures": _failures,
}
