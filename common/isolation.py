"""Runs parts of a task independently: an error of one part is raised only after all others were tried."""

import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Self, TypeVar

from common.database_errors import is_connection_lost, was_refused_temporarily
from common.logs import describe_kind

logger = logging.getLogger(__name__)

_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")

# The time for chatbots that fail. After it no other chatbot is tried: each may run into the same timeout.
_PATIENCE_SECONDS = 10.0


def in_any_order(things: Collection[_Thing]) -> list[_Thing]:
    """Return the things in random order, so that slow failures do not delay the same others each time."""
    return random.sample(list(things), len(things))


def _is_of_all(error: Exception) -> bool:
    return is_connection_lost(error) or was_refused_temporarily(error)


class PartsFailed(Exception):
    """Parts have failed. Names the kinds of their errors, which may be stored; the log has the frames."""


class Isolation:
    """A context that ends by raising PartsFailed if a part of it has failed.

    A lost database, or one that refuses work, ends it at once.
    """

    def __init__(self) -> None:
        self._failures: list[str] = []
        self._lost_seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._failures:
            raise PartsFailed(", ".join(dict.fromkeys(self._failures)))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Log an error of this part by `name`, and go on."""
        try:
            yield
        except PartsFailed as error:
            self._failures.append(str(error))
        except Exception as error:
            if _is_of_all(error):
                raise
            logger.error("part.failed part=%s", name, exc_info=error)  # noqa: TRY400  as other events
            self._failures.append(describe_kind(error))

    @contextmanager
    def chatbot(self, chatbot_id: int) -> Iterator[None]:
        """As `part`. Raises PartsFailed once chatbots have failed for too long."""
        began, before = time.monotonic(), len(self._failures)
        with self.part(f"chatbot:{chatbot_id}"):
            yield
        if len(self._failures) > before:
            self._lost_seconds += time.monotonic() - began
            if self._lost_seconds > _PATIENCE_SECONDS:
                self.__exit__(None)

    def by_chatbot(
        self, chatbot_of: Mapping[_Thing, int], do: Callable[[list[_Thing]], _Result]
    ) -> Iterator[_Result]:
        """Yield the result of `do` for all things, or if it fails, for the things of each chatbot."""
        chatbots = set(chatbot_of.values())
        if len(chatbots) > 1:
            try:
                yield do(list(chatbot_of))
            except Exception as error:
                if _is_of_all(error):
                    raise
            else:
                return
        for chatbot_id in in_any_order(chatbots):
            with self.chatbot(chatbot_id):
                yield do([thing for thing, owner in chatbot_of.items() if owner == chatbot_id])
