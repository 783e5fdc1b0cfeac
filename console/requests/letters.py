"""The letters to the person about a request, for its page, and as files."""

from dataclasses import dataclass

from django.http import HttpResponse

from compliance import letters
from compliance.letters import Letter, TemplateFault
from compliance.models import ComplianceRequest
from compliance.requests.results import Outcomes

_PURPOSES = {
    Letter.RECEIVED: "Confirms that the request has arrived, and says by when you will answer.",
    Letter.EXTENDED: "Tells the person that the answer takes longer, and why. Send it before the first deadline.",
    Letter.DONE: "Tells the person what was done.",
    Letter.PARTLY_DONE: "Tells the person what was deleted, and that the rest has to be kept.",
    Letter.HELD: "Tells the person that the request has to wait, and why.",
    Letter.REFUSED: "Tells the person that the request is not carried out, and why.",
}

# The forms of a letter -> their media types.
LETTER_FORMS = {"txt": "text/plain", "html": "text/html"}

# It needs nothing but its own style, and runs nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


@dataclass(frozen=True)
class ShownLetter:
    """A letter as the page shows it: its text, or the fault of its template."""

    letter: Letter
    purpose: str
    text: str
    fault: str
    is_answer: bool


def answered_by(letter: Letter, request: ComplianceRequest, outcomes: Outcomes) -> ComplianceRequest | None:
    """Return the request that a letter answers, if it can be recorded: of "Partly done" the one for the rest."""
    answered = request if letter in letters.ANSWERS else None
    rest = outcomes.continued_by.get(request.pk)
    if letter == Letter.PARTLY_DONE and rest:
        answered = rest if rest.status == ComplianceRequest.Status.ON_HOLD else None
    return answered if answered and not answered.answered_at else None


def shown_letters(request: ComplianceRequest, outcomes: Outcomes) -> list[ShownLetter]:
    return [_shown(letter, request, outcomes) for letter in letters.offered(request)]


def _shown(letter: Letter, request: ComplianceRequest, outcomes: Outcomes) -> ShownLetter:
    text = fault = ""
    try:
        text = letters.text_of(letters.context_of(letter, request, outcomes))
    except TemplateFault as error:
        fault = str(error)
    is_answer = answered_by(letter, request, outcomes) is not None
    return ShownLetter(letter, _PURPOSES[letter], text, fault, is_answer=is_answer)


def letter_file(request: ComplianceRequest, letter: Letter, form: str, *, outcomes: Outcomes) -> HttpResponse:
    """Return a letter as a download in one of LETTER_FORMS. Raises TemplateFault."""
    context = letters.context_of(letter, request, outcomes)
    content = letters.html_of(context) if form == "html" else letters.text_of(context)
    answer = HttpResponse(content, content_type=f"{LETTER_FORMS[form]}; charset=utf-8")
    name = f"letter-{letter.value}-{str(request.pk)[:8]}.{form}"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    answer["Content-Security-Policy"] = _POLICY
    return answer
