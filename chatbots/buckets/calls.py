"""Calls to a bucket, as `ObjectStorage` makes them: through a breaker, their errors in our words."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from chatbots.buckets import errors
from chatbots.buckets.breaker import Breaker
from chatbots.buckets.errors import StorageError
from chatbots.buckets.guard import AddressRefused

_ERRORS = (boto.BotoCoreError, ClientError, ResponseParserError)
_NO_ANSWER = (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError, ResponseParserError)


@dataclass
class Call:
    """A call under way. `code` is the error that it ended in, if that was among those to be let pass."""

    code: str = ""


class Calls:
    """A context for each call to one bucket. Of what boto raises, only StorageError leaves it."""

    def __init__(self) -> None:
        self.breaker = Breaker()

    @contextmanager
    def __call__(self, *, passing: Collection[str] = ()) -> Iterator[Call]:
        """Make a call. An error whose code is in `passing` is no error; the Call tells it."""
        self.breaker.check()
        call = Call()
        failure: StorageError | None = None
        try:
            yield call
        except _ERRORS as error:
            if _code(error) in passing:
                call.code = _code(error)
            else:
                failure = _translated(error)
        if failure and failure.code == errors.UNAVAILABLE:
            self.breaker.failed()
        else:
            self.breaker.answered()
        if failure:
            # `from None`: boto's texts hold addresses and keys.
            raise failure from None


def _code(error: BaseException) -> str:
    return error.response["Error"].get("Code", "") if isinstance(error, ClientError) else ""


def _translated(error: BaseException) -> StorageError:
    if isinstance(error, ClientError):
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
        return errors.from_code(_code(error), operation=error.operation_name, status=status)
    if isinstance(error, AddressRefused):
        return errors.address_refused()
    return errors.unavailable() if isinstance(error, _NO_ANSWER) else errors.unusable()
