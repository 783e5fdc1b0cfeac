"""The decisions on requests, and the closed lists of their reasons."""

from collections.abc import Mapping
from enum import StrEnum

from django.db.models import TextChoices

from compliance.models import ComplianceRequest


class Decision(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"
    CANCEL = "cancel"
    RETRY = "retry"
    EXTEND = "extend"
    LIMIT = "erase_unheld"


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
    UNFOUNDED_OR_EXCESSIVE = "unfounded_or_excessive", "It is manifestly unfounded or excessive"
    LEGAL_OBLIGATION = "legal_obligation", "The law demands that the data is kept"
    LEGAL_CLAIMS = "legal_claims", "The data is needed for legal claims"
    RIGHTS_OF_OTHERS = "rights_of_others", "It would harm the rights of other people"
    NOT_OUR_DATA = "not_our_data", "Another company is responsible for the data"
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


class Letter(TextChoices):
    """A letter that answers the person, though the request is not carried out, or not yet."""

    HELD = "held", "The request is held"
    REFUSED = "refused", "The request is refused"


class LimitReason(TextChoices):
    ANSWER_DUE = "answer_due", "The person's request is due before the hold can be released"
    OUTSIDE_THE_MATTER = "outside_the_matter", "The rest has no bearing on the matter"
    OTHER = "other", "Another reason"


REASONS: Mapping[Decision, type[TextChoices]] = {
    Decision.APPROVE: ApproveReason,
    Decision.REJECT: RejectReason,
    Decision.CANCEL: CancelReason,
    Decision.RETRY: RetryReason,
    Decision.EXTEND: ComplianceRequest.ExtensionReason,
    Decision.LIMIT: LimitReason,
}

# The text of every code. A code means the same in each list.
WORDS: Mapping[str, str] = {code: words for reasons in REASONS.values() for code, words in reasons.choices}
