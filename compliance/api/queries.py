"""The parameters of the calls about requests."""

from pydantic import Field

from common.pagination import PageQuery
from common.times import Instant
from compliance.models import ComplianceRequest


class RequestsQuery(PageQuery):
    """`received_after` is included, `received_before` is not: windows that follow each other share nothing."""

    status: ComplianceRequest.Status | None = Field(None, examples=["on_hold"])
    """Requests that are in this state now."""
    kind: ComplianceRequest.Kind | None = Field(None, examples=["deletion"])
    """Deletions or exports."""
    reference: str | None = Field(None, pattern=r"^[A-Za-z0-9._:-]{1,64}$", examples=["TICKET-7"])
    """Requests with exactly this reference of yours."""
    received_after: Instant | None = Field(None, examples=["2026-11-01T00:00:00Z"])
    """Requests received at this instant or later."""
    received_before: Instant | None = Field(None, examples=["2026-12-01T00:00:00Z"])
    """Requests received before this instant."""
