"""Code samples of a chatbot's API calls for deletions and exports."""

from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse

from chatbots.models import Chatbot
from config.openapi.samples import signed_samples

_KINDS = (("delete", "Delete", "data-deletion"), ("export", "Export", "data-export"))


@dataclass(frozen=True)
class CallSample:
    """The URL of a call and its samples: (label, source)."""

    action: str
    title: str
    url: str
    samples: list[tuple[str, str]]


@dataclass(frozen=True)
class CallSamples:
    """`environment` sets the variables that the samples read, in a shell."""

    environment: str
    calls: list[CallSample]


def calls_of(request: HttpRequest, *, chatbot: Chatbot, uci: str | None) -> CallSamples:
    """Return samples with this host's URLs, the chatbot's UCI key, and placeholders for the rest."""
    key = uci or "<UCI key>"
    body = {
        "unique_chatter_identifier_key": key,
        "unique_chatter_identifier_value": f"<the value of {key}>",
    }
    api, calls = "", []
    for action, title, name in _KINDS:
        url = request.build_absolute_uri(reverse(f"compliance-api:{name}", args=[chatbot.slug]))
        api = url.removesuffix(f"/{name}")
        sent = body | ({"action": action} if chatbot.require_action else {})
        samples = signed_samples(name, api=api, body=sent)
        calls.append(CallSample(action, title, url, [(one["label"], one["source"]) for one in samples]))
    return CallSamples(f"export API='{api}'\nexport SECRET='<the secret of a signing key>'", calls)
