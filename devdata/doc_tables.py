"""The tables in `docs/` that are printed from code.

A page has such a table between `<!-- table: name -->` and `<!-- end of table -->`.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from django.conf import settings
from django.db.models import Choices

from chatbots.authentication import MOST_SIGNED_BYTES
from common.bodies import MAX_BODY_DEPTH, MAX_BODY_VALUES, SMALL_BODY_BYTES
from common.problems import MOST_ERRORS
from compliance.callbacks.trial import MOST_A_MINUTE
from compliance.data_map import table
from compliance.models import Callback, ComplianceRequest
from compliance.requests.queries import MAX_CHATTER_REQUESTS
from compliance.requests.reasons import REASONS, Decision
from compliance.requests.results import MOST_FILES
from compliance.requests.selectors import MOST_CONVERSATIONS
from compliance.requests.submit import MAX_BATCH
from config.openapi import views as openapi
from config.openapi.document import TAGS
from conversations.documents import MAX_MESSAGES, MAX_VARIABLES
from conversations.identification import MAX_IDENTITIES
from conversations.intake import MAX_DOCUMENTS
from conversations.log import MAX_IDS

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


def pages() -> list[str]:
    """Return the pages that have such a table."""
    found = (path for path in sorted(settings.BASE_DIR.glob("docs/**/*.md")) if _TABLE.search(path.read_text()))
    return [str(path.relative_to(settings.BASE_DIR)) for path in found]


def with_tables(page: str) -> str:
    """Return a page with its tables as they are now."""
    return _TABLE.sub(lambda found: found[1] + "".join(f"{line}\n" for line in _TABLES[found[2]]()), page)


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
    return table(("call", "", "key needs", "answer"), rows)


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
    return table(("field", "value", "meaning"), rows)


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
    by_call = (Decision.CANCEL, Decision.APPROVE, Decision.REJECT, Decision.EXTEND)
    rows = (
        (f"`{decision}`", f"`{code}`", f"{label}.")
        for decision in by_call
        for code, label in REASONS[decision].choices
    )
    return table(("call", "`reason`", "meaning"), rows)


def _limits() -> Iterator[str]:
    sizes = {
        "Body of `POST conversations`, `conversations/identify` and `requests/batch`": settings.MAX_BODY_BYTES,
        "Signed body of `requests/batch`": MOST_SIGNED_BYTES,
        "Body of other calls": SMALL_BODY_BYTES,
        "Uploaded file": settings.UPLOAD_MAX_BYTES,
    }
    counts = {
        "Calls of a key in a minute": settings.RATE_LIMIT_PER_MINUTE,
        "Test callbacks of a chatbot in a minute": MOST_A_MINUTE,
        "Levels of lists and objects in a body": MAX_BODY_DEPTH,
        "Values in a body; well-formed messages are not counted": MAX_BODY_VALUES,
        "Requests in a batch": MAX_BATCH,
        "Conversations named by one request": MOST_CONVERSATIONS,
        "Requests in a response of `requests/lookup`": MAX_CHATTER_REQUESTS,
        "Copied files in a request object": MOST_FILES,
        "Documents in `POST conversations`": MAX_DOCUMENTS,
        "Messages in a document": MAX_MESSAGES,
        "Names in each object of variables": MAX_VARIABLES,
        "Ids in `conversations/lookup`": MAX_IDS,
        "Identities in `conversations/identify`": MAX_IDENTITIES,
        "Errors in a response": MOST_ERRORS,
    }
    rows = [(what, f"{size // 1024:,} KiB") for what, size in sizes.items()]
    return table(("limit", ""), [*((what, f"{most:,}") for what, most in counts.items()), *rows])


_TABLES: Mapping[str, Callable[[], Iterator[str]]] = {
    "calls": _calls,
    "request-values": _request_values,
    "callback-values": _callback_values,
    "reasons": _reasons,
    "limits": _limits,
}
