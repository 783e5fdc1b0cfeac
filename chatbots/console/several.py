"""Which chatbots a page of several is about: all that the user may see, or the one that the address names."""

from dataclasses import dataclass

from django.http import Http404, HttpRequest

from chatbots.console.scope import visible_chatbots
from chatbots.models import Chatbot


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
    for chatbot in visible:
        if chatbot.slug == wanted:
            return Scope(visible, chatbot)
    raise Http404
