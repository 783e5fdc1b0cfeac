"""File many requests: one preview of all pasted or uploaded values, one confirmation, one page of results."""

import csv
import io
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.debug import sensitive_post_parameters

from common.crypto import SecretUnreadable, decrypt, encrypt
from compliance.errors import Refused
from compliance.requests.preview import PreviewOfMany
from compliance.requests.submit import MAX_BATCH
from console.common.pages import chatbot_or_404, form, render
from console.common.scope import MANAGE_REQUESTS
from console.filing import presenters
from console.filing.drafts import Draft, Outcomes, PreviewToken, minutes_left
from console.filing.flow import FILED_BEFORE, FilingFlow
from console.filing.forms import ManyForm


@form
@sensitive_post_parameters()
def file_many(request: HttpRequest, slug: str) -> HttpResponse:
    return FileMany(request, chatbot_or_404(request, slug, roles=MANAGE_REQUESTS)).respond()


@dataclass(frozen=True)
class RowResult:
    """The result of a row: a request, its state and how long it can be cancelled, or an error."""

    row: int
    value: str
    request_id: UUID | None
    code: str = ""
    error: str = ""
    state: str = ""
    minutes: int = 0
    existing: bool = False

    @property
    def outcome(self) -> str:
        if self.existing:
            return "existing"
        return "filed" if self.request_id else "refused"


class FileMany(FilingFlow[ManyForm]):
    form_class = ManyForm
    form_template = "console/filing/many.html"
    preview_template = "console/filing/many_preview.html"
    title = "File many requests"
    is_many = True

    def respond(self) -> HttpResponse:
        if self.request.POST.get("step") == "outcomes":
            return self._download()
        return super().respond()

    def ask(self, form: ManyForm, **context: Any) -> HttpResponse:
        return super().ask(form, most=MAX_BATCH, **context)

    def preview_context(self, draft: Draft, found: PreviewOfMany, form: ManyForm | None) -> dict[str, Any]:
        pasted = form.pasted_rows if form else None
        lines = presenters.lines(draft, found)
        return {
            "lines": lines,
            "has_references": any(draft.references),
            "tally": presenters.tally(lines, pasted),
            "repeated": sorted(pasted.repeated.items()) if pasted else [],
        }

    def filed(self, token: PreviewToken, outcomes: Outcomes) -> HttpResponse:
        results = [
            RowResult(row, value, None, outcome.code, outcome.detail)
            if isinstance(outcome, Refused)
            else RowResult(
                row,
                value,
                outcome.pk,
                state=outcome.get_status_display(),
                minutes=minutes_left(outcome),
                existing=outcome.existing,
            )
            for place, (row, value) in enumerate(zip(token.draft.rows, token.draft.values, strict=True))
            if (outcome := outcomes.get(place)) is not None
        ]
        filed = [one for one in results if one.request_id]
        return render(
            self.request,
            "console/filing/many_filed.html",
            title="Requests filed",
            chatbot=self.chatbot,
            results=sorted(results, key=lambda one: (one.request_id is not None, one.row)),
            filed=len(filed),
            refused=len(results) - len(filed),
            existing=sum(one.existing for one in filed),
            filed_before="" if all(one.minutes for one in filed) else FILED_BEFORE,
            grace=min((one.minutes for one in filed), default=0),
            token=self._dump_results(results),
        )

    def _dump_results(self, results: list[RowResult]) -> str:
        """Return rows for the CSV, without values: a downloaded file would outlive the erasure."""
        rows = [[one.row, one.outcome, str(one.request_id or ""), one.code, one.error] for one in results]
        return encrypt(json.dumps(rows), bound_to=self._bound_to)

    def _download(self) -> HttpResponse:
        try:
            rows = json.loads(decrypt(self.request.POST.get("token", ""), bound_to=self._bound_to))
        except SecretUnreadable:
            return self.invalid_token()
        written = io.StringIO(newline="")
        writer = csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(["row", "outcome", "request_id", "code", "reason"])
        writer.writerows(rows)
        answer = HttpResponse(written.getvalue(), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = 'attachment; filename="requests_filed.csv"'
        return answer

    @property
    def _bound_to(self) -> str:
        return f"console:outcomes:{self.chatbot.pk}:{self.actor}"
