"""Base of every view below `/api/v1/chatbots/{slug}/`."""

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import Condition
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.views import APIView

from chatbots.authentication import Caller, SignatureAuthentication, TokenAuthentication, body_of, caller_of
from chatbots.rate_limits import LIMITER
from common.bodies import SMALL_BODY_BYTES, require_json
from common.problems import Problem

# Not all but one: long calls compete for the interpreter, so that with a single thread left, others' calls and the
# refusals wait for seconds.
MOST_LONG_CALLS = max(1, settings.WEB_THREADS // 2)
# The longest wait of a call for one that has just begun, which may be short: clients send single documents in
# parallel. The waiting call occupies another thread.
PATIENCE_SECONDS = 0.1

_TOO_MANY = "Too many long calls of this chatbot at a time. Wait for Retry-After, and send fewer in parallel."


class LongCalls:
    """The long calls of this process, by chatbot: MOST_LONG_CALLS of each. Threads are left for others.

    They are counted in memory: a query for each call would cost more than the bound is worth.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._began: defaultdict[int, list[float]] = defaultdict(list)

    @contextmanager
    def limit(self, chatbot_id: int) -> Iterator[None]:
        """Count a call until it ends. Raises Problem(`rate_limited`), after PATIENCE_SECONDS at most."""
        with self._changed:
            began, now = self._began[chatbot_id], time.monotonic()
            patience = max(began, default=now) + PATIENCE_SECONDS - now
            if not self._changed.wait_for(lambda: len(began) < MOST_LONG_CALLS, timeout=max(0.0, patience)):
                raise Problem("rate_limited", _TOO_MANY)
            began.append(now := time.monotonic())
        try:
            yield
        finally:
            with self._changed:
                began.remove(now)
                self._changed.notify_all()


LONG_CALLS = LongCalls()


class ChatbotView(APIView):
    """Checks method, authentication, rate limits and scope, in this order, before the checks of the view.

    The caller's key needs `scope`, or `post_scope` for POST if set. If the path does not determine the scope, the
    key needs one of `either_scope`, and the view checks the right one. A view that accepts signatures lists both
    authenticators. A method that can take seconds is one of `takes_long`: see `LongCalls`.
    """

    http_method_names = ["get", "head", "post"]
    authentication_classes: Sequence[type[TokenAuthentication | SignatureAuthentication]] = [TokenAuthentication]
    permission_classes = []  # `initial` checks the scope
    scope: str
    either_scope: Sequence[str] = ()
    post_scope: str | None = None
    takes_long: Collection[str] = ()

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {**super().default_response_headers, "Cache-Control": "no-store"}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        # No view streams its response, so only rendering follows.
        with ExitStack() as self._call_contexts:
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method not in self.allowed_methods:
            self.http_method_not_allowed(request, *args, **kwargs)
        super().initial(request, *args, **kwargs)
        if request.auth is None:
            raise Problem("not_authenticated", self._authentication_advice())
        self._count_call(caller_of(request))
        caller_of(request).require_scope(*self.scopes_of(request.method))
        if caller_of(request).chatbot.closed_at:
            raise Problem("restored_database", "Something that was erased may be here again: the operator decides.")
        if request.method in self.takes_long:
            self._call_contexts.enter_context(LONG_CALLS.limit(caller_of(request).chatbot.pk))

    def max_body_bytes(self) -> int:
        return min(SMALL_BODY_BYTES, settings.MAX_BODY_BYTES)

    def scopes_of(self, method: str | None) -> Sequence[str]:
        """Return the scopes that permit this method; a key needs one of them."""
        return self.either_scope or [self.post_scope if method == "POST" and self.post_scope else self.scope]

    def _count_call(self, caller: Caller) -> None:
        """Count the call and set the RateLimit headers of the response. Raises Problem(`rate_limited`)."""
        allowance = LIMITER.take(caller.api_key)
        if allowance is None:
            return
        self.headers.update(allowance.headers())
        if not allowance.allowed:
            raise Problem(
                "rate_limited", f"This key may make {allowance.limit:,} calls a minute. Wait for Retry-After."
            )

    def _authentication_advice(self) -> str:
        how = "Send the header Authorization: Bearer with a token"
        if self.authentication_classes == [TokenAuthentication]:
            return f"{how}."
        return f"{how}, or sign the body (X-Mindsay-Timestamp, X-Mindsay-Signature)."


def json_body(request: Request) -> bytes:
    """Return the exact bytes of a JSON body. Raises Problem."""
    require_json(request._request)
    return body_of(request)
