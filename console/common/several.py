"""Which chatbots a page of several is about: all that the user may see, or the one that the address names."""

from dataclasses import dataclass

from django.http import Http404, HttpRequest, QueryDict

from chatbots.models import Chatbot
from console.common.scope import visible_chatbots


@dataclass(frozen=True)
class Scope:
    """`chosen` is the one that was asked for, or the only one that the user may see."""

    visible: list[Chatbot]
    chosen: Chatbot | None

    @property
    def ids(self) -> list[int]:
        return [self.chosen.pk] if self.chosen else [chatbot.pk for chatbot in self.visible]

    @property
    def zone(self) -> str:
        """The time zone of the page: the chatbot's, or UTC where it shows several."""
        return self.chosen.timezone if self.chosen else "UTC"

    @property
    def slug(self) -> str:
        return self.chosen.slug if self.chosen else ""


def scope_of(request: HttpRequest) -> Scope:
    """Return the chatbots that `?chatbot=` asks for. Raises Http404 for one that the user may not see."""
    visible = visible_chatbots(request)
    wanted = request.GET.get("chatbot", "")
    if not wanted:
        return Scope(visible, visible[0] if len(visible) == 1 else None)
    return Scope(visible, _named(visible, wanted))


def one_of(visible: list[Chatbot], given: QueryDict) -> Chatbot | None:
    """Return the chatbot that the parameters name, else the first; None where the user sees none.

    Raises Http404 for one that the user may not see.
    """
    slug = given.get("chatbot")
    if slug is None:
        return visible[0] if visible else None
    return _named(visible, slug)


def _named(visible: list[Chatbot], slug: str) -> Chatbot:
    # Among those that were read already: what was sent is no slug to ask the database for.
    for chatbot in visible:
        if chatbot.slug == slug:
            return chatbot
    raise Http404
