"""Preview the effects of a request before it is filed."""

from dataclasses import replace
from typing import Literal, Self
from uuid import UUID

from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from chatbots.api.views import json_body
from chatbots.authentication import Caller, caller_of
from chatbots.models import ApiKey
from common.bodies import parse_json
from compliance.api.base import WRITE_SCOPES, WritingView
from compliance.api.bodies import BODIES, DeletionBody, ExportBody, PreviewBody, validate
from compliance.api.examples import CHATTER, assurance
from compliance.api.schemas import AssuranceCounts, Counts
from compliance.models import ComplianceRequest
from compliance.requests.finds import MOST_NAMED
from compliance.requests.preview import Preview, preview
from config.openapi.document import REQUESTS
from config.openapi.operations import ResponseModel, answer, describe, takes

Kind = ComplianceRequest.Kind

_PREVIEW = {
    "deletion": {
        "erased": {
            "conversations": 3,
            "messages": 41,
            "identities": 4,
            "variable_values": 2,
            "files": 1,
            "exports": 1,
            "extracts": 2,
        },
        "shared_conversations": 1,
        "assurance": assurance(user_channel=1, platform=2),
        "exports_that_go": ["01a20e4f-2ccd-727b-ad28-e544e31ea60e"],
        "kept": {"conversations": 3, "exports": 0, "delivered_exports": 0, "delivered_extracts": 0},
        "held_by": [],
        "under_legal_hold": None,
    },
    "export": {
        "conversations": 1,
        "messages": 18,
        "files": 0,
        "shared_left_out": 1,
        "assurance": assurance(user_channel=1, platform=2),
        "unverified_left_out": 1,
        "refused": None,
    },
    "at_least": False,
    "open_requests": [],
    "similar": [
        {
            "unique_chatter_identifier_key": "member_id",
            "unique_chatter_identifier_value": "0042",
            "conversations": 1,
            "differs_in": ["padding"],
        }
    ],
}


class KeptByDeletion(ResponseModel):
    """What a deletion would leave."""

    conversations: int
    """Entries "Deleted conversation", with what may be kept."""
    exports: int = Field(validation_alias="kept_exports")
    """Hosted exports within their grace: they go when it is over."""
    delivered_exports: int
    """Exports in your own bucket, which are yours."""
    delivered_extracts: int
    """Daily extracts in your own bucket, which are yours."""


class PreviewedDeletion(ResponseModel):
    """What a deletion would do."""

    erased: Counts
    """The numbers that a deletion would count. `messages` is the sum of the conversations' own counts."""
    shared_conversations: int
    """Of the conversations, those in which another chatter took part too."""
    assurance: AssuranceCounts | None
    """Of the conversations; all are erased. Null for conversations by their ids."""
    exports_that_go: list[UUID]
    """The requests whose hosted files would be removed, the newest 100."""
    kept: KeptByDeletion
    held_by: list[ComplianceRequest.HoldReason]
    """What would put it on hold."""
    under_legal_hold: int | None
    """Of the conversations, those that a legal hold covers. Null for keys without `holds:read`."""


class PreviewedExport(ResponseModel):
    """What an export would hold."""

    conversations: int
    messages: int
    files: int
    """Copies of uploaded files; 0 without `include_files`."""
    shared_left_out: int
    """Conversations with another chatter in them; 0 with `include_shared`."""
    assurance: AssuranceCounts | None
    """Of the conversations that are found, also those that are left out. Null for conversations by their ids."""
    unverified_left_out: int
    """Conversations in which the chatter's identity is weaker than the chatbot's setting for exports demands, or a
    changed session was not looked up yet, also shared ones."""
    refused: Literal["export_destination_missing"] | None
    """The code by which the export would be refused."""


class SimilarChatter(ResponseModel):
    """Another chatter of the chatbot whose value looks like yours."""

    unique_chatter_identifier_key: str = Field(validation_alias="key")
    unique_chatter_identifier_value: str = Field(validation_alias="value")
    conversations: int
    """Those that are not being deleted; 1,000 means that many or more."""
    differs_in: list[Literal["key", "case", "padding", "look"]]
    """`padding`: spaces around it, or leading zeros. `look`: characters that look the same or cannot be seen, such as
    a Cyrillic letter in a Latin word, full width, a no-break space, or an accent that is a character of its own."""


class PreviewResponse(ResponseModel):
    """What requests would do if they were carried out now."""

    deletion: PreviewedDeletion | None
    export: PreviewedExport | None
    at_least: bool
    """There are more conversations than were read (10,000): the numbers are lower bounds."""
    open_requests: list[UUID]
    """Open requests about the chatter, which are processed first. The oldest 100."""
    similar: list[SimilarChatter]
    """At most 20."""

    @classmethod
    def of(cls, preview: Preview, *, shows_holds: bool) -> Self:
        """Return the preview of one subject. `shows_holds`: the caller may read legal holds."""
        finds, deletion, export = preview.only, preview.deletion, preview.export
        return cls.model_validate(
            {
                "deletion": deletion
                and vars(deletion)
                | {
                    "shared_conversations": deletion.found.shared,
                    "kept": vars(deletion) | {"conversations": deletion.found.conversations},
                    "held_by": finds.held_by,
                    "under_legal_hold": len(finds.under_hold) if shows_holds else None,
                },
                "export": export and vars(export) | export.found._asdict(),
                "at_least": finds.at_least,
                "open_requests": finds.open_requests[:MOST_NAMED],
                "similar": finds.similar,
            }
        )


class PreviewView(WritingView):
    takes_long = ["POST"]

    @describe(
        operation_id="previewRequest",
        summary="See what a request would do",
        description="""
            Takes the body of a deletion or an export and returns what it would do if it were carried out now. Nothing
            is written. With `action` one kind is shown, without it each kind that the key may file; the other is
            null. Look at `similar` too: values that differ from yours in the key, in case, in padding or in
            characters that look the same belong to other chatters, and one of them is often the one that was meant.
            """,
        tag=REQUESTS,
        request=takes(
            PreviewBody,
            ("chatter", CHATTER, "Both kinds"),
            ("deletion", CHATTER | {"action": "delete", "erase_exports": True}, "A deletion"),
        ),
        responses={200: answer(PreviewResponse, "What would be done.", ("both", _PREVIEW, "Both kinds"))},
        refuses=["unknown_uci_key", "compliance_disabled", "uci_not_designated", "signing_key_missing"],
    )
    def post(self, request: Request, **_path: str) -> Response:
        body = _parse(json_body(request))
        caller = caller_of(request)
        # Whatever is shown, the finds have what would hold a deletion.
        asked = replace(body.as_input(), kind=Kind.DELETION)
        found = preview(chatbot=caller.chatbot, asked=asked, kinds=_kinds(caller, body.action))
        return Response(PreviewResponse.of(found, shows_holds=caller.has_scope(ApiKey.Scope.HOLDS_READ)))


def _parse(raw: bytes) -> DeletionBody | ExportBody | PreviewBody:
    """Read the body: with `action` the body of that kind, without it the one with the options of both kinds."""
    value = parse_json(raw)
    action = value.get("action") if isinstance(value, dict) else None
    if isinstance(action, str) and action in BODIES:
        return validate(BODIES[action], value)
    return validate(PreviewBody, value)


def _kinds(caller: Caller, action: str | None) -> list[Kind]:
    """Return the kinds to show: the kind of the action, or else those that the key may file. Raises Problem."""
    if action is None:
        return [kind for kind, scope in WRITE_SCOPES.items() if caller.has_scope(scope)]
    kind = Kind.DELETION if action == "delete" else Kind.EXPORT
    caller.require_scope(WRITE_SCOPES[kind])
    return [kind]
