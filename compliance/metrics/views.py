"""`/metrics`: access, limits and errors."""

import logging
import secrets
import threading

from django.conf import settings
from django.db import Error, connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from chatbots.digest_key import DigestKeyMismatch
from chatbots.models import Chatbot
from common.db import execute
from common.logs import describe_kind
from compliance.metrics.families import OneChatbot, Service
from conversations.placement import machines

logger = logging.getLogger(__name__)

# Less than Prometheus waits, so that it gets the 503.
_STATEMENT_SECONDS = 3
# How long a second scrape waits for the first.
_PATIENCE_SECONDS = 1.0

_one_at_a_time = threading.Lock()


def answer(request: HttpRequest) -> HttpResponse:
    """Return the metrics of the service, or with `?chatbot=slug` those of one chatbot.

    Returns 404 if no token is set or there is no such chatbot, 401 without the token, 503 if the database does not
    answer in time or another scrape is running: Prometheus then takes the service for down.
    """
    response = _refusal(request) or _metrics(request.GET.get("chatbot"))
    response["Cache-Control"] = "no-store"
    return response


def _refusal(request: HttpRequest) -> HttpResponse | None:
    if not settings.METRICS_TOKEN:
        return _plain("not found\n", 404)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secrets.compare_digest(token.encode(), settings.METRICS_TOKEN.encode()):
        refused = _plain("unauthorized\n", 401)
        refused["WWW-Authenticate"] = "Bearer"
        return refused
    return None if request.method == "GET" else HttpResponseNotAllowed(["GET"])


def _metrics(slug: str | None) -> HttpResponse:
    if not _one_at_a_time.acquire(timeout=_PATIENCE_SECONDS):
        return _plain("unavailable\n", 503)
    try:
        machines.ask_if_due()
        with transaction.atomic():
            execute(f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'")
            collector = Service() if slug is None else OneChatbot(Chatbot.objects.get(slug=slug))
            return HttpResponse(generate_latest(collector), content_type=CONTENT_TYPE_PLAIN_0_0_4)
    except Chatbot.DoesNotExist:
        return _plain("not found\n", 404)
    except (Error, DigestKeyMismatch) as error:
        logger.warning("metrics.failed kind=%s", describe_kind(error))
        connection.close()  # it may be broken
        return _plain("unavailable\n", 503)
    finally:
        _one_at_a_time.release()


def _plain(text: str, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain")
