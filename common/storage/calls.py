"""Calls to a bucket: with a time limit, through a circuit breaker, their errors translated."""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from common import outbound
from common.logs import describe_kind
from common.outbound import AnswerTooLong
from common.storage import errors
from common.storage.breaker import Breaker
from common.storage.errors import StorageError
from common.storage.transport import AddressRefused

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# Factor for calls that complete an upload.
_COMPLETING = outbound.STORAGE_COMPLETING_SECONDS / outbound.STORAGE_SECONDS

_NO_ANSWER = (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError, ResponseParserError)


@dataclass
class Call:
    """A running call. `code` is its error if that was one of `passing`."""

    code: str = ""


class Calls:
    """A context manager for each call to a bucket, lasting `seconds` at most with all retries.

    It raises only StorageError, also for a nonsensical answer, so the block must contain nothing but the call.
    `explain` returns the error for a code of the server.
    """

    def __init__(
        self, seconds: float = outbound.STORAGE_SECONDS, *, explain: Callable[..., StorageError] = errors.from_code
    ) -> None:
        self.breaker = Breaker()
        self._seconds = seconds
        self._explain = explain

    @contextmanager
    def __call__(
        self, *, passing: Collection[str] = (), sending: int = 0, completing: bool = False
    ) -> Iterator[Call]:
        """Make a call. An error with a code in `passing` is not raised; it is in `Call.code`.

        Sending many bytes (`sending`) and `completing` an upload get additional time.
        """
        self.breaker.check()
        began = time.monotonic()
        call = Call()
        failure: StorageError | None = None
        try:
            with self._limit(sending, completing=completing):
                yield call
        except Exception as error:
            if _code(error) in passing:
                call.code = _code(error)
            else:
                failure = _translated(error, self._explain)
        if failure and failure.code == errors.UNAVAILABLE:
            self.breaker.failed(after=time.monotonic() - began)
        else:
            self.breaker.answered()
        if failure:
            # `from None`: boto's texts contain addresses and keys.
            raise failure from None

    def each(self, steps: Iterable[_T]) -> Iterator[_T]:
        """Yield boto's pages or pieces. Each step is a call; the code in between is not."""
        iterator = iter(steps)
        while True:
            with self():
                step = next(iterator, None)
            if step is None:
                return
            yield step

    @contextmanager
    def signing(self) -> Iterator[None]:
        """Sign without calling the storage or its breaker. A role's credentials may be fetched."""
        try:
            with self._limit():
                yield
        except Exception as error:
            raise _translated(error, self._explain) from None

    def _limit(self, sending: int = 0, *, completing: bool = False) -> AbstractContextManager[None]:
        seconds = self._seconds * (_COMPLETING if completing else 1) + sending / outbound.STORAGE_LEAST_RATE
        return outbound.within(seconds, answer_bytes=outbound.STORAGE_ANSWER_BYTES)


def _code(error: Exception) -> str:
    if not isinstance(error, ClientError):
        return ""
    # Some stores answer calls to IAM in the form of S3.
    told: Mapping[str, Any] = error.response.get("Error") or error.response
    return str(told.get("Code", ""))


def _translated(error: Exception, explain: Callable[..., StorageError]) -> StorageError:
    match error:
        case ClientError():
            status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
            return explain(_code(error), operation=error.operation_name, status=status)
        case AddressRefused():
            return StorageError(
                "storage_address_refused",
                "The endpoint of the client's bucket leads to a private network. Use a public one, or list the "
                "network in BUCKET_PRIVATE_NETWORKS.",
            )
        case AnswerTooLong():
            return errors.incomplete("The storage sent more than any answer to this call can have.")
        case _ if isinstance(error, _NO_ANSWER):
            return errors.unavailable()
        case BotoCoreError():
            return StorageError("storage_incomplete", "The storage's address or its settings cannot be used.")
    # boto parses answers without checking that they are complete.
    logger.warning("storage.odd_answer kind=%s", describe_kind(error))
    return errors.incomplete("The storage's answer makes no sense.")
