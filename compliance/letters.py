"""Letters to the person about a request, as text and as HTML.

The templates are in `templates/letters/`; a file of the same name in the folder LETTER_TEMPLATES replaces one. They
get only what `context_of` returns: no UCI value, no code of a hold, no name of staff.

In a template, lines are joined to paragraphs, which empty lines separate. A line that ends with a backslash keeps its
end. The first paragraph is the subject.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import TextChoices
from django.template import Context, Engine, TemplateDoesNotExist, TemplateSyntaxError
from django.utils import timezone

from chatbots.models import CCPA, GDPR, Bucket, ChangeLogEntry
from common.texts import counted
from compliance.models import ComplianceRequest, Export
from compliance.requests import reasons
from compliance.requests.reasons import RejectReason
from compliance.requests.results import Outcomes, conversations_done, unverified_left_out

HoldReason = ComplianceRequest.HoldReason
Kind = ComplianceRequest.Kind
Status = ComplianceRequest.Status

_OURS = settings.BASE_DIR / "templates" / "letters"
_LAWS = (GDPR, CCPA)


class Letter(TextChoices):
    RECEIVED = "received", "Received"
    EXTENDED = "extended", "Extended"
    DONE = "done", "Done"
    PARTLY_DONE = "partly_done", "Partly done"
    HELD = "held", "Held"
    REFUSED = "refused", "Refused"


# The letters that `decisions.record_answer` records.
ANSWERS: Sequence[str] = reasons.Letter.values

# What a letter says about a hold. Any other hold is a check, so that a letter reveals no more.
_HOLDS = {HoldReason.EXPORT_PENDING.value: "copy", HoldReason.LEGAL_HOLD.value: "law"}


class TemplateFault(Exception):
    """A template that does not render: its file, the line and the reason. It quotes nothing of a request."""


def offered(request: ComplianceRequest) -> list[Letter]:
    """Return the letters that fit the state of a request. There are none about a retention run."""
    if request.kind == Kind.RETENTION:
        return []
    is_partial = request.result == ComplianceRequest.Result.PARTIAL
    fits = {
        Letter.RECEIVED: True,
        Letter.EXTENDED: request.extended_at is not None,
        Letter.DONE: request.status == Status.COMPLETED and not is_partial,
        Letter.PARTLY_DONE: is_partial,
        Letter.HELD: request.status == Status.ON_HOLD,
        Letter.REFUSED: request.status == Status.REJECTED,
    }
    return [letter for letter, is_offered in fits.items() if is_offered]


def context_of(letter: Letter, request: ComplianceRequest, outcomes: Outcomes) -> dict[str, Any]:
    """Return the variables of a letter's template. Days are in the chatbot's time zone; an absent text is empty."""
    zone = ZoneInfo(request.chatbot.timezone)

    def day(at: datetime | None) -> date | None:
        return at and timezone.localtime(at, zone).date()

    kept = [one for one in outcomes.kept.get(request.pk, ()) if one.removed_at is None]
    own = _own_exports(request, kept)
    of_client = [one for one in kept if one.hosting == Bucket.Hosting.CLIENT]
    hosted = [one for one in kept if one not in of_client]
    leaves_out = request.kind == Kind.EXPORT and not request.include_shared
    return {
        "letter": letter.value,
        "kind": request.kind,
        "law": request.deadline if request.deadline in _LAWS else "",
        "chatbot": request.chatbot.name,
        "reference": request.reference,
        "today": day(timezone.now()),
        "requested": day(request.requested_at or request.received_at),
        "due": day(request.due_at),
        "ended": day(request.completed_at or request.rejected_at),
        "extension_reason": request.extension_reason,
        "hold": _HOLDS.get(str(request.hold_reason), "check"),
        "reason": _reason_of(request) if letter == Letter.REFUSED else "",
        "nothing_found": request.result == ComplianceRequest.Result.NOTHING_FOUND,
        "amount": _amount(request),
        "formats": request.formats.split(),
        "archive": bool(request.archive),
        "withheld": _chats(request.withheld),
        "not_sure": _chats(unverified_left_out(request) or 0),
        "of_others": _chats(request.shared_conversations if leaves_out else 0),
        "continues": request.continues_id is not None,
        "copy_until": day(max((one.expires_at for one in hosted if one.expires_at and one in own), default=None)),
        "own_copies": bool(of_client or outcomes.delivered.get(request.pk)),
        "backup_days": settings.BACKUP_HORIZON_DAYS.days,
    }


def text_of(context: Mapping[str, Any]) -> str:
    """Return a letter as text, with a paragraph on each line. Raises TemplateFault."""
    return "\n\n".join(_paragraphs(context, _engine(settings.LETTER_TEMPLATES))) + "\n"


def html_of(context: Mapping[str, Any]) -> str:
    """Return a letter as an HTML file that needs no other one. Raises TemplateFault."""
    return _as_html(context, _engine(settings.LETTER_TEMPLATES))


def faults() -> list[str]:
    """Return what keeps letters from being written: each template that does not render, with its first fault.

    Other than for a person, a variable that no template is given is a fault.
    """
    engine = _engine(settings.LETTER_TEMPLATES, is_strict=True)
    found: dict[str, str] = {}
    for context in _samples():
        try:
            _as_html(context, engine)
        except TemplateFault as fault:
            found.setdefault(str(fault).partition(",")[0], str(fault))
    return list(found.values())


def _samples() -> Iterator[dict[str, Any]]:
    kinds, laws = (Kind.DELETION, Kind.EXPORT, Kind.REDACTION), (*_LAWS, "")
    today = timezone.now().date()
    for letter, kind, law, nothing_found in product(Letter, kinds, laws, (False, True)):
        for reason in (*RejectReason.values, "") if letter == Letter.REFUSED else ("",):
            yield {
                **dict.fromkeys(("chatbot", "reference", "amount", "withheld", "not_sure", "of_others"), "text"),
                **dict.fromkeys(("today", "requested", "due", "ended", "copy_until"), today),
                "letter": letter.value,
                "kind": kind.value,
                "law": law,
                "nothing_found": nothing_found,
                "reason": reason,
                "hold": "law",
                "extension_reason": "complexity",
                "continues": nothing_found,
                "formats": ["csv", "html"],
                "archive": nothing_found,
                "own_copies": True,
                "backup_days": 30,
            }


class _Unknown(str):
    """What a strict engine shows for a variable that does not exist, to name it with its line."""

    __slots__ = ()

    def __mod__(self, variable: object) -> str:
        raise TemplateSyntaxError(f"There is no variable {variable}.")


@cache
def _engine(folder: str, *, is_strict: bool = False) -> Engine:
    # `debug` adds the line to an error.
    invalid = _Unknown("%s") if is_strict else ""
    return Engine(dirs=[*filter(None, [folder]), str(_OURS)], debug=True, string_if_invalid=invalid)


def _as_html(context: Mapping[str, Any], engine: Engine) -> str:
    subject, *paragraphs = _paragraphs(context, engine)
    return _render("letter.html", {"subject": subject, "paragraphs": paragraphs}, engine)


def _paragraphs(context: Mapping[str, Any], engine: Engine) -> list[str]:
    text = _render(f"{context['letter']}.txt", context, engine)
    return [
        "\n".join(" ".join(line.split()) for line in paragraph.split("\\\n"))
        for paragraph in re.split(r"\n\s*\n", text.strip())
    ]


def _render(name: str, values: Mapping[str, Any], engine: Engine) -> str:
    try:
        return engine.get_template(name).render(Context({**values}, autoescape=name.endswith(".html")))
    except Exception as error:
        fault = _fault_of(error, name)
    # Raised outside the except block: its context would contain the letter.
    raise TemplateFault(fault)


def _fault_of(error: Exception, name: str) -> str:
    """Return the file, line and reason of an error in a template. Texts of other errors can quote the letter."""
    where = getattr(error, "template_debug", {})
    if isinstance(error, TemplateDoesNotExist):
        reason = f"There is no template {error}."
    else:
        reason = str(error) if isinstance(error, TemplateSyntaxError) else type(error).__name__
    return f"{Path(where.get('name') or name).name}, line {where.get('line', 1)}: {reason}"


def _reason_of(request: ComplianceRequest) -> str:
    """Return the code of the reason for a rejection. One that a replay has repeated has none."""
    entries = ChangeLogEntry.objects.filter(request_id=request.pk, event="request.rejected")
    data = entries.order_by("-pk").values_list("data", flat=True).first()
    return str((data or {}).get("reason", ""))


def _own_exports(request: ComplianceRequest, exports: Sequence[Export]) -> list[Export]:
    """Return the exports of the person's own data: another person's can hold a conversation of both."""
    chatter = ComplianceRequest.objects.filter(pk=request.pk)
    own = ComplianceRequest.objects.filter(
        pk__in=[one.request_id for one in exports],
        variable__in=chatter.values("variable"),
        uci_digest__in=chatter.values("uci_digest"),
    )
    asked = set(own.values_list("pk", flat=True))
    return [one for one in exports if one.request_id in asked]


def _amount(request: ComplianceRequest) -> str:
    chats = counted(conversations_done(request), "chat")
    if conversations_done(request) != request.conversations:
        # Another deletion erased some of them, and has counted their messages.
        return chats
    files = f" and {counted(request.files, 'file')}" if request.files else ""
    return f"{chats} with {counted(request.messages, 'message')}{files}"


def _chats(number: int) -> str:
    return counted(number, "chat") if number else ""
