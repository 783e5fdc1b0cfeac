"""The exceptions of this package. Those of single error codes are in `codes`."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class ComplianceError(Exception):
    """The base of all exceptions that this package raises by itself."""

    idempotency_key: str | None = None
    """The key that a filing was sent with, given or made up. With it the same call can be made again."""


class Unreachable(ComplianceError):
    """No answer of the service arrived in time, or something else answered in its place.

    The call may have been carried out. Call `delete`, `export` and `file` again with `idempotency_key` of this
    exception: nothing is filed twice.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The service could not be reached: {reason}.")


class WaitTimeout(ComplianceError):
    """The request did not end within the time. `request_id` is its id."""

    def __init__(self, request_id: str, seconds: float) -> None:
        super().__init__(f"The request {request_id} did not end within {seconds:g} seconds.")
        self.request_id = request_id


class DownloadIncomplete(ComplianceError):
    """A downloaded file is not the one that the service wrote, or not all files could be listed."""


class InvalidCallback(ComplianceError):
    """The callback is not signed with one of the secrets, or is too old."""


class APIError(ComplianceError):
    """The service refused the call, with a problem document (RFC 9457).

    Each error code has a subclass of its own in `data_compliance_client.codes`. An unknown code, of a newer service,
    is this class itself. No text quotes what was sent.
    """

    code: str = ""
    by_code: ClassVar[dict[str, type["APIError"]]] = {}

    def __init_subclass__(cls) -> None:
        cls.by_code[cls.code] = cls

    def __init__(self, problem: Mapping[str, Any], *, retry_after: float | None = None) -> None:
        self.code = str(problem.get("code", self.code))
        self.status = int(problem.get("status") or 0)
        """The HTTP status; 0 in the result of one item of a call."""
        self.title = str(problem.get("title", ""))
        self.detail = str(problem.get("detail") or "")
        self.errors: Sequence[Mapping[str, str]] = problem.get("errors") or ()
        """The fields at fault, each with `pointer` (RFC 6901), `code` and `detail`."""
        self.trace_id = str(problem.get("trace_id", ""))
        """Identifies the call in the service's log."""
        self.retry_after = retry_after
        """Seconds after which the call may succeed; None if a retry does not help by itself."""
        # A fault of the body as a whole has an empty pointer.
        faults = [": ".join(filter(None, (one.get("pointer"), one.get("detail")))) for one in self.errors[:5]]
        text = "; ".join(faults) or self.detail or self.title
        super().__init__(f"{self.code}: {text}" if text else self.code)

    @classmethod
    def of(cls, problem: Mapping[str, Any], *, retry_after: float | None = None) -> "APIError":
        """Return the exception of the problem's code."""
        return cls.by_code.get(str(problem.get("code")), cls)(problem, retry_after=retry_after)
