"""Responses and commands while this database is a restored one (`compliance.ledger.service`).

Such a database contains people again who were erased since the backup, and revoked keys are valid again. So calls and
pages are answered before any session or key is read: the API with a problem, each other address with one page.
Probes, metrics and static files are answered by earlier middleware; the pages that describe the API show no data.

A command that works on data would show, send or lose data that a replay has yet to correct. So all commands refuse,
except those below: they only read, remove access, or end this state.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from django.core.management.base import CommandError
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string

from chatbots.digest_key import DigestKeyMismatch
from common import problems
from common.database_errors import was_not_served
from common.problems import Problem
from compliance.ledger import service
from compliance.models import Service

State = Service.State
Reason = Service.Reason

_DESCRIBES_THE_API = ("/api/docs/", "/api/schema/")

_CODES = {State.RESTORED: "restored_database", State.CATCHING_UP: "catching_up"}

# Exit code of every command that refuses.
CLOSED = 7

MAY_RUN: Mapping[str, str] = {
    "replay_erasures": "it ends this state",
    "adopt": "it ends this state, for a copy",
    "qcluster": "workers take nothing, but catch up after a failover",
    "health": "it reports this state",
    "verify_erasure": "it only looks, for what a backup has brought back",
    "reconcile_storage": "it only looks: --fix refuses by itself",
    "bucket_credentials": "it only looks",
    "bucket_policy": "it prints a policy, from the settings alone",
    "revoke_api_key": "it takes access away",
    "revoke_bucket_credentials": "it takes access away, which holds in the storage at once",
    "distribute": "it moves tables to other machines, perhaps on a new server",
    "grant_roles": "it sets up the database's roles, perhaps on a new server",
    "rotate_secrets": "it changes under which key secrets are stored, and nothing else",
    "recompute_digests": "it mends what a replay finds people by",
    "data_map": "it prints what the code declares",
    "doc_tables": "it prints what the code declares",
}

_ADVICE = {
    Reason.OTHER_SERVER: "The database is on another server, or was loaded from a dump: it was restored from "
    "a backup, or copied. Nothing works on its data before `manage.py replay_erasures` has had erased again who was "
    "erased since, or `manage.py adopt --new-service` has made a copy a service of its own.",
    Reason.OBJECTS_UNKNOWN: "The database was restored from a backup. Nothing works on its data before "
    "`manage.py replay_erasures` has had erased again who was erased since.",
}
_CATCHING_UP = (
    "The database had a failover, and workers repeat what it has lost. This ends by itself, as a rule within "
    "minutes: run the command again then. `manage.py health` says how it stands."
)


class ClosedMiddleware:
    """One small query for each call: a state kept in this process would let calls through after a restore."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(_DESCRIBES_THE_API):
            return self._get_response(request)
        try:
            state = service.state()
        except (Error, DigestKeyMismatch) as error:
            if was_not_served(error):
                return problems.unserved_response(request, error)
            if problems.is_api(request):
                return problems.answer(problems.as_problem(error))
            raise
        if state == State.OPEN:
            return self._get_response(request)
        service.log_closed(state)
        response = problems.answer(Problem(_CODES[state])) if problems.is_api(request) else _page(request, state)
        # Django would log each as an error of ours, and clients retry often.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response


def _page(request: HttpRequest, state: State) -> HttpResponse:
    # Rendered without the request: all callers get the same page.
    text = render_to_string("console/closed.html", {"service": service.current()})
    response = HttpResponse(text, status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Cache-Control": "no-store"})
    if seconds := problems.RETRY_AFTER.get(_CODES[state]):
        response["Retry-After"] = str(seconds)
        # A form may be sent to an address without a page of its own.
        response["Refresh"] = str(seconds) if request.method in {"GET", "HEAD"} else f"{seconds}; url=/admin/"
    return response


def refuse_unless_open(*, name: str, **_: Any) -> None:
    """Raise CommandError unless the database is open, or this command may run (receiver of `before_command`)."""
    if name in MAY_RUN or (found := service.current()).state == State.OPEN:
        return
    advice = _CATCHING_UP if found.state == State.CATCHING_UP else _ADVICE[Reason(found.reason)]
    raise CommandError(f"{name} did nothing. {advice}", returncode=CLOSED)
