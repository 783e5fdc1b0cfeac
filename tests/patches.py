"""What tests patch in: code that fails, and something that happens just before or after a call."""

from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from common.storage import StorageError


class Killed(BaseException):
    """As if the process had been killed: nothing catches it."""


def failing(error: BaseException | type[BaseException] | None = None) -> Callable[..., NoReturn]:
    """Return a function that raises this, whatever it is called with; by default what a silent storage raises."""
    raised = error or StorageError("storage_unavailable", "The storage does not answer.", retryable=True)

    def fail(*_args: object, **_options: object) -> NoReturn:
        raise raised

    return fail


def once(act: Callable[..., object]) -> Callable[..., None]:
    """Return a function that does this when it is first called, and then nothing."""
    left = [act]

    def first(*args: Any, **options: Any) -> None:
        if left:
            left.pop()(*args, **options)

    return first


def before(patch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[..., object]) -> None:
    """Have `act` called before each call of a function or method, with the same arguments."""
    original = getattr(owner, name)

    def both(*args: Any, **options: Any) -> Any:
        act(*args, **options)
        return original(*args, **options)

    patch.setattr(owner, name, both)


def after(patch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[..., object]) -> None:
    """Have `act` called after each call of a function or method, with the same arguments."""
    original = getattr(owner, name)

    def both(*args: Any, **options: Any) -> Any:
        returned = original(*args, **options)
        act(*args, **options)
        return returned

    patch.setattr(owner, name, both)
