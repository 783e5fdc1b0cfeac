"""`/metrics`: who may ask, and what is answered when the database does not."""

import logging
import secrets
import threading

from django.conf import settings
from django.db import Error, connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from chatbots.digest_key import AnotherDigestKey
from chatbots.models import Chatbot
from common.db import execute
from common.logs import describe_kind
from compliance.metrics.families import OneChatbot, Service

logger = logging.getLogger(__name__)

# Less than Prometheus waits, so that it hears 503.
_STATEMENT_SECONDS = 3
# Two that ask at once both get an answer, if the first is quick.
_PATIENCE_SECONDS = 1.0

_one_at_a_time = threading.Lock()


class _NoSuchChatbot(Exception):
    """The slug that was asked for is no chatbot's."""


def answer(request: HttpRequest) -> HttpResponse:
    """Tell the metrics of the service, or with `?chatbot=slug` those of one chatbot.

    404 where no token is set or there is no such chatbot, 401 without the token, 503 where the database does not
    answer in time or another scrape is at work: Prometheus then takes the service for down.
    """
    response = _refusal(request) or _metrics(request.GET.get("chatbot"))
    response["Cache-Control"] = "no-store"
    return response


def _refusal(request: HttpRequest) -> HttpResponse | None:
    if not settings.METRICS_TOKEN:
        return _plain("not found\n", 404)
    if not _knows_the_token(request):
        refused = _plain("unauthorized\n", 401)
        refused["WWW-Authenticate"] = "Bearer"
        return refused
    return None if request.method == "GET" else HttpResponseNotAllowed(["GET"])


def _metrics(slug: str | None) -> HttpResponse:
    if not _one_at_a_time.acquire(timeout=_PATIENCE_SECONDS):
        return _plain("unavailable\n", 503)
    try:
        return HttpResponse(_scrape(slug), content_type=CONTENT_TYPE_PLAIN_0_0_4)
    except _NoSuchChatbot:
        return _plain("not found\n", 404)
    except (Error, AnotherDigestKey) as error:
        logger.warning("metrics.failed kind=%s", describe_kind(error))
        # What is broken is not asked again.
        connection.close()
        return _plain("unavailable\n", 503)
    finally:
        _one_at_a_time.release()


def _knows_the_token(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and secrets.compare_digest(token.encode(), settings.METRICS_TOKEN.encode())


def _scrape(slug: str | None) -> bytes:
    with transaction.atomic():
        execute(f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'")
        return generate_latest(_asked_for(slug))


def _asked_for(slug: str | None) -> Collector:
    if slug is None:
        return Service()
    chatbot = Chatbot.objects.filter(slug=slug).first()
    if chatbot is None:
        raise _NoSuchChatbot
    return OneChatbot(chatbot)


def _plain(text: str, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain")
