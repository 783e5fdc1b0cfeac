"""The state of the workers and what they are running."""

from datetime import timedelta

from django.http import HttpRequest, HttpResponse

from compliance.work import health, notify
from compliance.work.heartbeats import Condition
from console.common.pages import page, render
from console.common.scope import is_superuser, visible_chatbots

_TONES = {Condition.ALIVE: "ok", Condition.STALLED: "warn", Condition.GONE: "bad", Condition.STOPPED: "mute"}


@page
def workers(request: HttpRequest) -> HttpResponse:
    sees_all = is_superuser(request)
    chatbots = None if sees_all else [chatbot.pk for chatbot in visible_chatbots(request)]
    found = health.check(chatbots=chatbots)
    return render(
        request,
        "console/monitoring/workers.html",
        title="Workers",
        health=found,
        problems=found.problems,
        clusters=[(cluster, _TONES[cluster.condition], found.at - cluster.seen_at) for cluster in found.clusters],
        claims=[(claim, found.at - claim.since, claim.expires_at < found.at) for claim in found.claims],
        sweep_age=found.last_sweep and max(timedelta(0), found.at - found.last_sweep),
        failed_tasks=notify.failed_tasks() if sees_all else None,
        sees_all=sees_all,
    )
