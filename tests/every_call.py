"""Every call below /api/v1/chatbots/{slug}/, from the resolver, so that a new one cannot be forgotten."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from django.urls import URLPattern, URLResolver, get_resolver

from chatbots.api.views import ChatbotView

# For each path parameter a value without a row.
ANYTHING: Mapping[str, Any] = {
    "request_id": UUID("018f0000-0000-7000-8000-000000000000"),
    "hold_id": UUID("018f0000-0000-7000-8000-000000000000"),
    "number": 999_999_999,
    "file_id": 999_999_999,
    "day": "2026-11-23",
}

_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
_BASE = "api/v1/chatbots/<slug:slug>/"


class AnyCall(NamedTuple):
    """One method of one path. `path` is below the slug, with its converters; `view` is the view's class."""

    method: str
    path: str
    view: type[ChatbotView]

    def below_slug(self, **values: Any) -> str:
        """Return the path with a value for each of its parameters; of ANYTHING for those that are not given."""
        values = {**ANYTHING, **values}
        unknown = set(self.parameters) - values.keys()
        assert not unknown, f"Give {sorted(unknown)} a value in ANYTHING."
        return _PARAMETER.sub(lambda found: str(values[found[1]]), self.path)

    @property
    def parameters(self) -> list[str]:
        return _PARAMETER.findall(self.path)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def every_call() -> list[AnyCall]:
    """Return each path with each method that it allows."""
    found = []
    for path, pattern in _patterns():
        view = getattr(pattern.callback, "cls", object)
        assert issubclass(view, ChatbotView), f"{path} is served by no ChatbotView"
        found += [AnyCall(method, path, view) for method in view().allowed_methods]
    assert found
    return found


def _patterns() -> Iterator[tuple[str, URLPattern]]:
    for one in get_resolver().url_patterns:
        if isinstance(one, URLResolver) and str(one.pattern) == _BASE:
            yield from leaves(one, "")


def leaves(resolver: URLResolver, prefix: str) -> Iterator[tuple[str, URLPattern]]:
    """Yield each path that leads to a view, with its converters, after a prefix."""
    for one in resolver.url_patterns:
        path = f"{prefix}{one.pattern}"
        if isinstance(one, URLResolver):
            yield from leaves(one, path)
        else:
            yield path, one
