"""The result of a verification: the remaining data of a request."""

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
    """The remaining data of one deletion. `rows` are counted by table, daily extracts included.

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
        """Return whether rows of erased conversations are left, which no step removes."""
        return bool(self.rows.keys() - {FILES, EXPORTS, EXTRACTS}) and not self.rows[CONVERSATION.table]

    @property
    def only_extracts_left(self) -> bool:
        """Return whether only daily extracts are left, which other workers rebuild."""
        return self.rows.keys() == {EXTRACTS}

    def add(self, what: str, count: int, error: str | None) -> None:
        """Add a row of a search: one of our counts, or the number of rows in a table."""
        if what in _COUNTS:
            setattr(self, what, count)
            return
        self.rows[what] = count
        if error is not None:
            code, _, detail = error.partition("\n")
            # The extract has used up its attempts; further attempts of the deletion would not help.
            detail = f"A daily extract could not be rebuilt. {detail}"
            self.failure = StepFailed(code, detail, retryable=False)

    def __str__(self) -> str:
        return ", ".join(f"{count} in {table}" for table, count in sorted(self.rows.items()))
