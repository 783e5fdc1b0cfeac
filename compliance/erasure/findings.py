"""What a verification has found left of a request's data."""

from collections import Counter
from dataclasses import dataclass, field

from compliance.errors import StepFailed
from compliance.inventory import CONVERSATION
from compliance.models import Export
from conversations.models import DailyExtract, UploadedFile

EXPORTS, EXTRACTS, FILES = Export._meta.db_table, DailyExtract._meta.db_table, UploadedFile._meta.db_table
_COUNTS = {"erased_before", "extracts_clean", "copies_kept", "at_clients", "digests_left"}


@dataclass
class VerificationResult:
    """What is left of one deletion's data. `rows` are counted by table, daily extracts included.

    `erased_before`: conversations that another deletion had erased before this one's mark. `extracts_clean`: rebuilt
    extracts. `copies_kept`: copies left where they are. `at_clients`: exports to remove from a client's bucket.
    `digests_left`: digests of people in erased conversations. `failure`: why an extract could not be rebuilt.
    """

    rows: Counter[str] = field(default_factory=Counter)
    erased_before: int = 0
    extracts_clean: int = 0
    copies_kept: int = 0
    at_clients: int = 0
    digests_left: int = 0
    failure: StepFailed | None = None

    @property
    def is_nothing(self) -> bool:
        return not self.rows

    @property
    def has_our_objects(self) -> bool:
        """Return whether files or exports are left in the hosted bucket."""
        return self.rows[FILES] + self.rows[EXPORTS] > self.at_clients

    @property
    def is_stuck(self) -> bool:
        """Return whether rows are left of erased conversations: no step removes them."""
        return bool(self.rows.keys() - {FILES, EXPORTS, EXTRACTS}) and not self.rows[CONVERSATION.table]

    @property
    def only_extracts_left(self) -> bool:
        """Return whether only daily extracts are left, which other workers rebuild."""
        return self.rows.keys() == {EXTRACTS}

    def add(self, what: str, count: int, error: str | None) -> None:
        """Add a row of a search: a count of ours, or a table with what is left in it."""
        if what in _COUNTS:
            setattr(self, what, count)
            return
        self.rows[what] = count
        if error is not None:
            code, _, detail = error.partition("\n")
            # The extract has used up its attempts; more of the deletion's would not help.
            detail = f"A daily extract could not be rebuilt. {detail}"
            self.failure = StepFailed(code, detail, retryable=False)

    def __str__(self) -> str:
        return ", ".join(f"{count} in {table}" for table, count in sorted(self.rows.items()))
