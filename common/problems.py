"""The errors of the API: `application/problem+json` (RFC 9457).

Raise `Problem` with a code of `CODES`; any other exception of a view becomes one here. Codes are stable, and so is
their `type`, `/api/docs/errors#<code>`, where the code is explained. All members are always present; `errors` is
empty unless single fields are at fault.

Texts of exceptions are never quoted: they may contain a chatter's data.
"""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from pydantic import ValidationError
from rest_framework import exceptions

from common.database_errors import describe_database_error, was_not_served
from common.logs import current_request_id, safe_traceback
from common.texts import ERRORS

if TYPE_CHECKING:
    from rest_framework.response import Response

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
# Seconds by code. For any other code a retry does not help before a person has acted. The view sets the end of a
# minute.
RETRY_AFTER = {"rate_limited": 1, "unavailable": RETRY_AFTER_SECONDS, "catching_up": 10}
# The maximum number of listed field errors: a body can have 150,000.
MOST_ERRORS = 100
# Above this, building the list of errors would itself cost more memory than the body.
_MOST_READ = 10_000

CODES: Mapping[str, tuple[int, str]] = {
    "invalid": (400, "The call is not valid"),
    "unknown_uci_key": (400, "The key is not a Unique Chatter Identifier of this chatbot"),
    "not_authenticated": (401, "The call is not authenticated"),
    "invalid_signature": (401, "The signature is invalid"),
    "stale_timestamp": (401, "The timestamp is not current"),
    "scope_missing": (403, "The key lacks the scope for this call"),
    "own_request": (403, "The request must be approved by another person"),
    "officers_only": (403, "Only officers decide this, in the console"),
    "conversation_restricted": (403, "Only officers read the conversation for now"),
    "not_found": (404, "Not found"),
    "unknown_conversation": (404, "There is no such conversation"),
    "method_not_allowed": (405, "The method is not allowed"),
    "not_acceptable": (406, "Responses are JSON only"),
    "compliance_disabled": (409, "Data compliance is switched off for this chatbot"),
    "uci_not_designated": (409, "The chatbot has no Unique Chatter Identifier"),
    "export_destination_missing": (409, "The chatbot has no bucket for exports"),
    "signing_key_missing": (409, "The chatbot has no key to sign callbacks"),
    "callback_url_forgotten": (409, "No callback URL is stored any more"),
    "callback_url_missing": (409, "The chatbot has no callback URL"),
    "idempotency_conflict": (409, "The Idempotency-Key was used with another body"),
    "already_extended": (409, "The deadline was extended before"),
    "deadline_passed": (409, "The deadline has passed"),
    "not_extendable": (409, "The deadline cannot be extended"),
    "not_answerable": (409, "The request has no such answer"),
    "not_cancellable": (409, "The request can no longer be cancelled"),
    "not_held": (409, "The request is not on hold"),
    "legal_hold": (409, "A legal hold covers some of the data"),
    "own_hold": (409, "The legal hold must be released by another person"),
    "released": (409, "The legal hold was released"),
    "not_waiting": (409, "The request does not wait for the console"),
    "in_client_bucket": (409, "The file is in the client's own bucket"),
    "not_ready": (409, "The file is not finished"),
    "export_expired": (409, "The export no longer exists"),
    "extract_expired": (409, "The daily extract is no longer stored"),
    "not_retryable": (409, "The request cannot be retried"),
    "conversation_deleted": (410, "The conversation was deleted"),
    "chatter_erased": (410, "The chatter was erased"),
    "message_redacted": (410, "The message was redacted"),
    "download_expired": (410, "This download has expired"),
    "download_removed": (410, "This file was removed"),
    "too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The media type is not supported"),
    "rate_limited": (429, "Too many calls"),
    "internal": (500, "The service failed; quote trace_id when you report it"),
    "unavailable": (503, "The service is unavailable for now"),
    "restored_database": (503, "The service is closed: its database was restored from a backup"),
    "catching_up": (503, "The service is catching up after a failover of its database"),
}


class Help(NamedTuple):
    """Two sentences, with code in backticks."""

    meaning: str
    remedy: str


_REFERENCE = settings.BASE_DIR / "docs" / "reference"
_ROW = re.compile(r"^\| (?:[0-9]{3} \| )?`(\w+)` \| (.+) \| (.+) \|$", re.MULTILINE)


def read_help(page: str = "error-codes.md") -> dict[str, Help]:
    """Return what each code means, and what to do, from the table of a page of docs/reference/."""
    return {code: Help(*texts) for code, *texts in _ROW.findall((_REFERENCE / page).read_text(encoding="utf-8"))}


_CODE_OF_STATUS = {
    400: "invalid",
    401: "not_authenticated",
    403: "scope_missing",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
}


class FieldError(NamedTuple):
    """An invalid field: its JSON pointer in the body ("" is the body itself), a code and a sentence."""

    pointer: str
    code: str
    detail: str


# Letters, digits, `_`, `.` and `-`, not beginning with a digit: no spaces, no `@`, no telephone numbers, and
# neither `~` nor `/`, which RFC 6901 would want escaped.
_PLAIN_NAME = re.compile(r"[^\W\d][\w.-]{0,127}")


def error_at(path: Sequence[str | int], code: str, detail: str) -> FieldError:
    """Return an error whose pointer is the JSON Pointer (RFC 6901) of `path`.

    The pointer ends before a name that no field or variable would have: in broken integrations, names of persons and
    addresses become keys, and pointers are written to files.
    """
    pointer = ""
    for step in path:
        if isinstance(step, str) and not _PLAIN_NAME.fullmatch(step):
            return FieldError(pointer, code, f"{detail} (In a field whose name is not shown.)")
        pointer += f"/{step}"
    return FieldError(pointer, code, detail)


def field_errors(
    error: ValidationError, texts: Mapping[str, tuple[str, str]] = ERRORS, *, null_is_absent: bool = False
) -> list[FieldError]:
    """Return pydantic's errors with the codes and sentences of `texts`."""
    if error.error_count() > _MOST_READ:
        return [too_many_errors(error.error_count())]
    found = []
    for one in error.errors(include_url=False):
        kind, context = one["type"], one.get("ctx", {})
        if null_is_absent and one["input"] is None and one["loc"] and isinstance(one["loc"][-1], str):
            kind = "missing"
        code, text = texts.get(context.get("pattern", "")) or texts.get(kind, ("invalid", "Is not valid."))
        # The text of a validator of ours.
        detail = str(context["error"]) if kind == "value_error" else text.format(**context)
        found.append(error_at(one["loc"], code, detail))
    return found


def too_many_errors(count: int) -> FieldError:
    """Return the last entry of a list that was cut: it contains the number `count` of all errors."""
    return FieldError(pointer="", code="too_many_errors", detail=f"There are {count:,} faults; not all are listed.")


def truncate_errors(errors: Sequence[FieldError], most: int) -> list[FieldError]:
    """Return at most `most` errors. If some are left out, the last entry says how many there are."""
    if len(errors) <= most:
        return list(errors)
    is_cut = errors[-1].code == "too_many_errors"
    return [*errors[: most - 1], errors[-1] if is_cut else too_many_errors(len(errors))]


class Problem(exceptions.APIException):
    """An error of the API. `code` is one of CODES, `detail` a sentence that says what to do.

    Keeps at most MOST_ERRORS of `errors`.
    """

    def __init__(self, code: str, detail: str = "", *, errors: Sequence[FieldError] = ()) -> None:
        status, title = CODES[code]
        super().__init__(detail or f"{title}.", code)
        self.status_code = status
        self.code = code
        self.errors = truncate_errors(errors, MOST_ERRORS)

    def as_dict(self, *, most_errors: int = MOST_ERRORS) -> dict[str, Any]:
        """Return the members of the problem, with at most `most_errors` of its errors."""
        return {
            "type": f"/api/docs/errors#{self.code}",
            "title": CODES[self.code][1],
            "status": self.status_code,
            "detail": str(self.detail),
            "code": self.code,
            "trace_id": current_request_id.get(),
            "request_id": current_request_id.get(),  # its former name, which is also that of a ComplianceRequest's id
            "errors": [one._asdict() for one in truncate_errors(self.errors, most_errors)],
        }

    def headers(self) -> dict[str, str]:
        headers = {"Cache-Control": "no-store"}
        if self.status_code == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="data-compliance"'
        if seconds := RETRY_AFTER.get(self.code):
            headers["Retry-After"] = str(seconds)
        return headers


def invalid_field(pointer: str, code: str, detail: str) -> Problem:
    return Problem("invalid", detail, errors=[FieldError(pointer=pointer, code=code, detail=detail)])


def exception_handler(error: Exception, context: Mapping[str, Any]) -> "Response":  # noqa: ARG001  DRF's signature
    """Return the response to an exception of a view (DRF's EXCEPTION_HANDLER)."""
    problem = as_problem(error)
    from rest_framework.response import Response  # noqa: PLC0415  (slow to load, and each worker loads this module)

    return Response(problem.as_dict(), problem.status_code, headers=problem.headers(), content_type=CONTENT_TYPE)


def as_problem(error: Exception) -> Problem:
    """Convert any exception; log internal errors as `safe_traceback` describes them."""
    match error:
        case Problem():
            return error
        case _ if was_not_served(error):
            logger.error("The database did not serve a call: %s", describe_database_error(error))
            return Problem("unavailable", "The database did not serve the call. Send it again later.")
        case Http404():
            code = "not_found"
        case PermissionDenied():
            code = "scope_missing"
        case SuspiciousOperation():
            code = "invalid"
        case exceptions.APIException():
            code = _CODE_OF_STATUS.get(error.status_code, "internal")
        case _:
            code = "internal"
    if code == "internal":
        logger.error("A call failed unexpectedly.\n%s", safe_traceback(error))
    return Problem(code)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """handler400: a request that Django refuses, such as one for an unknown host.

    Django also refuses a request whose session could not be stored, as if another request had removed it.
    """
    if isinstance(exception, SessionInterrupted) and exception.__context__:
        cause = exception.__context__.__context__
        if isinstance(cause, Exception) and was_not_served(cause):
            return unserved_response(request, cause)
    if is_api(request):
        return answer(Problem("invalid"))
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """handler500: a failure outside of the API's views, such as of a log-in that the database does not store."""
    error = sys.exc_info()[1]
    if isinstance(error, Exception) and was_not_served(error):
        return unserved_response(request, error)
    if is_api(request):
        return answer(Problem("internal"))
    return defaults.server_error(request)


def unserved_response(request: HttpRequest, error: Exception) -> HttpResponse:
    """Return the response to a call, or to a page of the console, that the database did not serve."""
    problem = as_problem(error)
    response: HttpResponse
    if is_api(request):
        response = answer(problem)
    else:
        text = render_to_string("console/unreachable.html")
        response = HttpResponse(text, status=problem.status_code, headers=problem.headers())
    # Logged without Django's additions.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


# The error of a path, by the first pattern that matches.
_HINTS = {
    r"/$": "A call has no slash at the end of its path.",
    r"/v1/chatbots/[^/]+/requests/(?![0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/|$))": "A request's id is a UUID in "
    "lower case with hyphens, as in the response to its filing.",
    r"/v1/chatbots/[^/]+/conversations/(?![0-9]+(/|$))": "A conversation is named by its number, not by "
    "the platform's id.",
}


@csrf_exempt
def unknown_path(request: HttpRequest) -> HttpResponseBase:
    """Answer for unknown paths under /api/, also where DEBUG would show its own page."""
    hints = (hint for pattern, hint in _HINTS.items() if re.search(pattern, request.path_info))
    return answer(Problem("not_found", f"There is nothing at this path. {next(hints, '')}".rstrip()))


def is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith("/api/")


def answer(problem: Problem) -> JsonResponse:
    return JsonResponse(
        problem.as_dict(), status=problem.status_code, headers=problem.headers(), content_type=CONTENT_TYPE
    )


def with_code(text: str) -> SafeString:
    """Return a text as HTML, with code in place of backticks."""
    parts = re.split(r"`([^`]*)`", text)
    pairs = zip(parts[::2], [*parts[1::2], ""], strict=True)
    return format_html_join(
        "", "{}{}", ((plain, format_html("<code>{}</code>", code) if code else "") for plain, code in pairs)
    )
