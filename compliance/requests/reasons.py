"""Why a person decided as they did on a request: a closed list for each decision.

Codes stand in the change log and in the API and are never renamed; the words are the console's.
"""

from collections.abc import Mapping
from enum import StrEnum

from django.db.models import TextChoices

from compliance.errors import Refused


class Decision(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"
    CANCEL = "cancel"
    RETRY = "retry"


class ApproveReason(TextChoices):
    VERIFIED_WITH_CLIENT = "verified_with_client", "Verified with the client"
    IDENTITY_CONFIRMED = "identity_confirmed", "The person's identity is confirmed"
    EXPECTED_VOLUME = "expected_volume", "The number of conversations is as expected"
    EXPORT_NOT_NEEDED = "export_not_needed", "The earlier export is no longer needed"
    OTHER = "other", "Another reason"


class RejectReason(TextChoices):
    IDENTITY_NOT_CONFIRMED = "identity_not_confirmed", "The person's identity is not confirmed"
    WRONG_VALUE = "wrong_value", "The value is not one person's"
    DUPLICATE = "duplicate", "There is another request for the same"
    LEGAL_OBLIGATION = "legal_obligation", "The law demands that the data is kept"
    FILED_BY_MISTAKE = "filed_by_mistake", "It was filed by mistake"
    OTHER = "other", "Another reason"


class CancelReason(TextChoices):
    FILED_BY_MISTAKE = "filed_by_mistake", "It was filed by mistake"
    WITHDRAWN_BY_PERSON = "withdrawn_by_person", "The person has withdrawn it"
    DUPLICATE = "duplicate", "There is another request for the same"
    OTHER = "other", "Another reason"


class RetryReason(TextChoices):
    CAUSE_MENDED = "cause_mended", "What made it fail is mended"
    TRY_AGAIN = "try_again", "To see whether it passes now"
    OTHER = "other", "Another reason"


REASONS: Mapping[Decision, type[TextChoices]] = {
    Decision.APPROVE: ApproveReason,
    Decision.REJECT: RejectReason,
    Decision.CANCEL: CancelReason,
    Decision.RETRY: RetryReason,
}

# Every code's words; a code means the same in each list.
WORDS: Mapping[str, str] = {code: words for reasons in REASONS.values() for code, words in reasons.choices}


def check(decision: Decision, reason: str | None) -> None:
    """Raise Refused(`invalid`) unless the reason is one of the decision's, or none is given."""
    known = REASONS[decision].values
    if reason is not None and reason not in known:
        raise Refused("invalid", f"The reason must be one of {', '.join(known)}.", pointer="/reason")
