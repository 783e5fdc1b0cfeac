"""An overview of the chatbots: the setup of each, and its missing settings."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Exists, OuterRef, QuerySet, Subquery

from chatbots.authentication import active_keys
from chatbots.models import ApiKey, Bucket, CallbackSecret, Chatbot, Resolver, Variable


@dataclass(frozen=True)
class Gap:
    """A missing setting: the `section` of the settings that fixes it, and the consequence."""

    section: str
    text: str


@dataclass(frozen=True)
class Overview:
    chatbot: Chatbot
    uci: str | None
    bucket: Bucket | None
    gaps: Sequence[Gap]


_NO_UCI = Gap("uci", "No UCI designated: requests cannot name a chatter")
_NO_BUCKET = Gap("bucket", "No bucket: exports cannot be filed")
_BUCKET_FAILED = Gap("bucket", "The bucket's last check failed")
_NO_KEY = Gap("keys", "No key for the API: neither a signing key nor a token")
_RESOLVER_OFF = Gap("resolver", "The resolver is off, since another variable has become the UCI")
_NOTHING_SIGNS = Gap("callbacks", "Neither a callback secret nor a signing key: callbacks and look-ups wait")


def with_setup(chatbots: QuerySet[Chatbot]) -> QuerySet[Chatbot]:
    """Return the chatbots with everything that `overview_of` needs, in one query."""
    uci = Variable.objects.filter(chatbot=OuterRef("pk"), is_uci=True).values("name")
    return (
        chatbots.select_related("bucket", "resolver")
        .defer("bucket__secret_encrypted")
        .annotate(
            uci_name=Subquery(uci),
            has_signing_key=Exists(active_keys(ApiKey.Type.SIGNING).filter(chatbot=OuterRef("pk"))),
            has_token=Exists(active_keys(ApiKey.Type.TOKEN).filter(chatbot=OuterRef("pk"))),
            has_callback_secret=Exists(CallbackSecret.objects.filter(chatbot=OuterRef("pk"))),
        )
    )


def overview_of(chatbot: Chatbot) -> Overview:
    """Return the overview of a chatbot read by `with_setup`."""
    uci: str | None = chatbot.uci_name  # type: ignore[attr-defined]
    bucket: Bucket | None = getattr(chatbot, "bucket", None)
    resolver: Resolver | None = getattr(chatbot, "resolver", None)
    has_key: bool = chatbot.has_signing_key  # type: ignore[attr-defined]
    signs: bool = has_key or chatbot.has_callback_secret  # type: ignore[attr-defined]
    found = {
        _NO_UCI: uci is None,
        _NO_BUCKET: bucket is None,
        _BUCKET_FAILED: bucket is not None and bool(bucket.last_error),
        _NO_KEY: not (has_key or chatbot.has_token),  # type: ignore[attr-defined]
        _NOTHING_SIGNS: (bool(chatbot.callback_url) or resolver is not None) and not signs,
        _RESOLVER_OFF: resolver is not None and not resolver.is_on,
    }
    return Overview(chatbot, uci, bucket, [gap for gap, lacks in found.items() if lacks])
