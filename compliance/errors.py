"""Errors of the compliance operations, and of the workers.

Codes are stable and documented; details are our own words and never contain a chatter's value or a library's text.
"""

from typing import Self

from common.database_errors import REFUSED, describe_refusal
from common.problems import read_help
from common.storage import StorageError
from conversations.placement import machines

# The codes that a request can fail with, what each means and what to do about it.
FAILURES = read_help("failure-codes.md")


class Refused(Exception):
    """A call that cannot be carried out. `code` is one of the API's error codes.

    `pointer` is the JSON pointer of the field at fault, if there is one.
    """

    def __init__(self, code: str, detail: str, *, pointer: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.pointer = pointer


class StepFailed(Exception):
    """One request's work failed in a worker. `code` and `detail` go to the request; `retryable` says whether
    trying again later can help."""

    def __init__(self, code: str, detail: str, *, retryable: bool = True) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.retryable = retryable

    @classmethod
    def of(cls, error: StorageError) -> Self:
        return cls(error.code, error.detail, retryable=error.retryable)

    @classmethod
    def by_machine(cls) -> Self:
        return cls(machines.SILENT, machines.LOST)

    @classmethod
    def by_refusal(cls, error: BaseException) -> Self:
        return cls(REFUSED, describe_refusal(error))


class ClaimLost(Exception):
    """The claim expired and another worker took it: stop, and write nothing more."""
