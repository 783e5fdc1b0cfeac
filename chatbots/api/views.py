"""Base of every view below `/api/v1/chatbots/{slug}/`."""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.views import APIView

from chatbots.api.long_calls import LONG_CALLS
from chatbots.authentication import Caller, SignatureAuthentication, TokenAuthentication, body_of, caller_of
from chatbots.rate_limits import LIMITER
from common.bodies import SMALL_BODY_BYTES, require_json
from common.problems import Problem


class ChatbotView(APIView):
    """Checks method, authentication, rate limits and scope, in this order, before the checks of the view.

    The caller's key needs `scope`, or `post_scope` for POST if set. If the path does not determine the scope, the
    key needs one of `either_scope`, and the view checks the right one. A view that accepts signatures lists both
    authenticators. A method that can take seconds is one of `takes_long`: see `chatbots.api.long_calls`.
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
