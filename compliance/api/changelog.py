"""The change log, one entry a line, for a program that follows it."""

import json
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiParameter
from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from rest_framework.pagination import Cursor
from rest_framework.request import Request

from chatbots import changelog
from chatbots.authentication import caller_of
from chatbots.changelog import VOCABULARY
from chatbots.models import ApiKey, ChangeLogEntry
from common.pagination import CursorPages, PageQuery
from common.query import Whole, read_query
from common.times import Instant, UtcInstant
from compliance.api.base import ComplianceView
from compliance.ledger import service
from config.openapi.document import CHANGE_LOG
from config.openapi.operations import ModelRenderer, ResponseModel, answer, describe, parameters_of
from conversations.api.shapes import JSON_LINES


def _known(event: Any) -> Any:
    if event not in VOCABULARY:
        raise PydanticCustomError("enum", "Unknown event.", {"expected": "an event of the change log"})
    return event


Event = Annotated[str, BeforeValidator(_known), WithJsonSchema({"type": "string", "enum": list(VOCABULARY)})]


class ChangeLogQuery(PageQuery):
    """`since` is included, `until` is not, so consecutive windows do not overlap."""

    limit: Whole = Field(200, ge=1, le=1_000, examples=[200])
    """The most lines of a page."""
    since: Instant | None = Field(None, examples=["2026-11-01T00:00:00Z"])
    """Entries of this instant or later."""
    until: Instant | None = Field(None, examples=["2026-12-01T00:00:00Z"])
    """Entries from before this instant."""
    event: Event | None = Field(None, examples=["request.completed"])
    """Entries of this event."""
    request_id: UUID | None = Field(None, examples=["01a20e4f-2ccd-727b-ad28-e544e31ea60e"])
    """Entries about this request."""


class LoggedChange(ResponseModel):
    """A line: one entry of the change log."""

    id: int
    """Grows from line to line, with gaps."""
    at: UtcInstant
    event: str
    """What happened, such as `request.completed`. New events can be added."""
    actor: str
    """`api:` and the prefix of a key, `user:` and the number of a staff user, `command`, `worker` or `replay`."""
    request_id: UUID | None
    """The request that the entry is about."""
    data: dict[str, Any]
    """Codes, counts, ids and names of settings, by event. It contains nothing personal."""


class ChangeLogPages(CursorPages):
    """Pages forwards only. The last one leads on, too: to what is logged later.

    A replay after a restore draws ids again that readers have seen, so a cursor ends with the life of its database.
    It fits the filters of its page alone: with others it would skip entries.
    """

    ordering = ("id",)
    in_index_order = True

    def __init__(self, query: PageQuery) -> None:
        super().__init__(query)
        self._life = service.current().incarnation

    def next_url(self, page: list[ChangeLogEntry], *, upto: int) -> str:
        """Return the address of the page after this one, whose entries were read up to an id."""
        begun_after = json.loads(str(self.cursor.position))[0] if self.cursor else 0
        last = page[-1].pk if len(page) == self.query.limit else max(upto, int(begun_after))
        return self.encode_cursor(Cursor(offset=0, reverse=False, position=json.dumps([str(last)])))  # type: ignore[arg-type]

    def _binding(self, request: Request) -> str:
        given = {name: request.query_params.getlist(name) for name in ("since", "until", "event", "request_id")}
        return f"{super()._binding(request)}:{self._life}:{json.dumps(given)}"


class JsonLinesRenderer(ModelRenderer):
    """Lets a client ask for JSON Lines. Only errors are rendered."""

    media_type = JSON_LINES


class ChangeLogView(ComplianceView):
    scope = ApiKey.Scope.CHANGELOG_READ
    renderer_classes = [ModelRenderer, JsonLinesRenderer]

    @describe(
        operation_id="listChanges",
        summary="Follow the change log",
        description="""
            The entries of the chatbot, the oldest first, as JSON Lines: one object a line. Filters are combined.

            The header `Link` has the address of the next page (`rel="next"`), always. A page with fewer lines than
            `limit` was the last one for now: ask for its next page again later, to get what was logged meanwhile.
            Whoever follows it gets each entry once, in the order of the ids. An entry is given as soon as no
            earlier one can be added, mostly at once.
            """,
        tag=CHANGE_LOG,
        parameters=[
            *parameters_of(ChangeLogQuery),
            OpenApiParameter(
                "Link",
                {"type": "string"},
                OpenApiParameter.HEADER,
                required=True,
                description="The address of the next page.",
                examples=[
                    OpenApiExample(
                        "link",
                        "<https://compliance.example.com/api/v1/chatbots/acme/changelog?cursor=v1%3Ak1%3A...>; "
                        'rel="next"',
                    )
                ],
                response=[200],
            ),
        ],
        responses={
            (200, JSON_LINES): answer(
                LoggedChange,
                "The entries, one a line. The schema is that of a line.",
                (
                    "line",
                    {
                        "id": 1207,
                        "at": "2026-11-24T16:10:02.100200Z",
                        "event": "request.completed",
                        "actor": "worker",
                        "request_id": "01a20e4f-2ccd-727b-ad28-e544e31ea60e",
                        "data": {"result": "done", "conversations": 2, "messages": 31, "files": 0, "exports": 0},
                    },
                    "A line",
                ),
            )
        },
        refuses=["invalid"],
    )
    def get(self, request: Request, **_path: str) -> HttpResponse:
        query = read_query(request, ChangeLogQuery)
        pages = ChangeLogPages(query)
        upto = changelog.settled()
        found = changelog.read(
            caller_of(request).chatbot,
            upto=upto,
            **query.model_dump(exclude=set(PageQuery.model_fields)),
        )
        page = pages.paginate_queryset(found, request)
        link = {"Link": f'<{pages.next_url(page, upto=upto)}>; rel="next"'}
        return HttpResponse("".join(map(_line, page)), content_type=JSON_LINES, headers=link)


def _line(entry: ChangeLogEntry) -> str:
    return json.dumps(LoggedChange.model_validate(entry).as_json()) + "\n"
