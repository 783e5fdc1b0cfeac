"""A refused download in a browser is a page that anyone can read."""

from django.utils import timezone

from chatbots.models import Chatbot
from compliance.models import Export
from tests.browser import browser, is_easy_to_use, needs_chromium, open_page, stays_at_home
from tests.calls import TokenCaller
from tests.compliance.exporting import committed, exported


@needs_chromium
@committed
def test_the_page_is_accessible_and_needs_nothing_else(chatbot: Chatbot, storage, live_server) -> None:
    export = exported(chatbot)
    link = TokenCaller(chatbot).get(f"requests/{export.request_id}/download").headers["Location"]
    Export.objects.update(expires_at=timezone.now())

    with browser() as chromium:
        for path in (link.removeprefix("http://testserver"), "/api/downloads/unknown"):
            watched = open_page(chromium, f"{live_server.url}{path}")
            assert watched.page.get_by_role("heading", level=1).count() == 1
            # The answer's status is all that a browser calls an error.
            watched.errors = [error for error in watched.errors if not ("404" in error or "410" in error)]
            is_easy_to_use(watched.page)
            stays_at_home(watched, live_server.url)
