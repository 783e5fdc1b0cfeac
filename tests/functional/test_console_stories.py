"""A whole story of the console: a real browser, a real web server, a real cluster, PostgreSQL and S3.

The states of each page are tested with the pages. Here users do a task from its beginning to its
end.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from compliance.cluster import notify
from compliance.models import ComplianceRequest
from conversations.models import Message
from scripts.processes import Processes
from tests.browser import Watched, browser, needs_chromium, open_page, stays_at_home
from tests.functional.support import manage, worker_environment
from tests.functional.web import web_server

pytestmark = [needs_chromium, pytest.mark.long(reason="whole stories in a browser, with a web server and a cluster")]

REQUEST = re.compile(r"/admin/requests/([0-9a-f-]{36})/")
MEMBER = "hopper-42"
PASSWORD = "correct horse battery staple"


@contextmanager
def service() -> Iterator[tuple[str, Browser]]:
    """A web server and a cluster at work, and a browser: the server's address, and the browser."""
    with web_server(DEBUG="true") as server, Processes() as processes, browser() as chromium:
        processes.start("worker", manage("qcluster"), env=worker_environment())
        yield f"http://127.0.0.1:{server.port}", chromium


def logged_in(chromium: Browser, server: str, user: User, path: str) -> Watched:
    """Open a page as a user who has to log in first."""
    # As the server hashes it, not as these tests do.
    user.password = make_password(PASSWORD, hasher="pbkdf2_sha256")
    user.save()
    watched = open_page(chromium, server + path)
    watched.page.get_by_label("Username").fill(user.username)
    watched.page.get_by_label("Password").fill(PASSWORD)
    watched.page.get_by_role("button", name="Log in").click()
    watched.page.wait_for_url(server + path)
    return watched


def filed_on(page: Page) -> str:
    """The id of the request whose page is shown."""
    page.wait_for_url(REQUEST)
    found = REQUEST.search(page.url)
    assert found
    return found[1]


def let_the_grace_pass(request_id: str) -> None:
    """End the grace of a quarter of an hour of requests filed in the console."""
    ComplianceRequest.objects.filter(pk=request_id).update(not_before=None, queued_at=Now())
    notify.notify_workers()


def expect_state(page: Page, state: str) -> None:
    """Wait until the page shows a text without a reload."""
    expect(page.locator(".now")).to_contain_text(state)


def document(number: int, member: str, name: str) -> dict[str, object]:
    began = timezone.now() - timedelta(hours=number)
    message = {"id": "m1", "sender": "user", "kind": "text", "text": f"{name} was here", "sent_at": began.isoformat()}
    return {
        "id": f"c-{number}",
        "channel": "widget",
        "user_name": name,
        "started_at": began.isoformat(),
        "custom_variables": {"member_id": member},
        "messages": [message, {**message, "id": "m2", "sender": "bot", "text": "How can I help?"}],
    }


def test_a_chatbot_is_set_up_and_one_chatter_is_deleted_and_another_exported(storage, tmp_path, admin_user) -> None:
    with service() as (server, chromium):
        watched = logged_in(chromium, server, admin_user, "/admin/chatbots/")
        page = watched.page
        _set_up(page)
        _import(tmp_path)
        _delete_ada(page)
        stays_at_home(watched, server)
        _export_grace(page)
    assert set(Message.objects.values_list("text", flat=True)) == {"Grace was here", "How can I help?"}


def _set_up(page: Page) -> None:
    page.get_by_role("link", name="New chatbot").first.click()
    page.get_by_label("Slug").fill("tern-ferries")
    page.get_by_label("Name", exact=True).fill("Tern Ferries")
    page.get_by_label("Time zone").fill("Europe/Lisbon")
    page.get_by_role("button", name="Create chatbot").click()

    page.get_by_role("link", name="No UCI designated").click()
    page.get_by_role("button", name="Create variable").click()
    dialog = page.get_by_role("dialog", name="Create variable")
    dialog.get_by_label("Custom").check()
    dialog.get_by_label("Name").fill("member_id")
    dialog.get_by_role("button", name="Create").click()
    page.get_by_role("radio", name="member_id").check()
    page.get_by_role("button", name="Save UCI").click()
    expect(page.get_by_text("Current UCI")).to_be_visible()

    page.get_by_role("navigation", name="Settings").get_by_role("link", name="Bucket and extracts").click()
    page.get_by_role("button", name="Check access").click()
    expect(page.locator("#bucket")).to_contain_text("The bucket can be used")


def _import(tmp_path: Path) -> None:
    file = tmp_path / "conversations.jsonl"
    documents = [document(1, MEMBER, "Ada"), document(2, MEMBER, "Ada"), document(3, "43", "Grace")]
    file.write_text("".join(json.dumps(one) + "\n" for one in documents))
    argv = manage("import_conversations", "tern-ferries", str(file))
    subprocess.run(argv, env=worker_environment(role="web"), check=True, capture_output=True)


def _delete_ada(page: Page) -> None:
    page.get_by_role("link", name="Conversations", exact=True).first.click()
    page.get_by_role("link", name="Ada").first.click()
    expect(page.get_by_text("Ada was here")).to_be_visible()
    opened = page.url
    page.get_by_role("button", name="Export or delete this chatter").click()
    page.get_by_label("Delete: erase their data").check()
    page.get_by_role("button", name="Preview").click()
    page.get_by_label("To confirm, type").fill("DELETE 2")
    page.get_by_role("button", name="File the deletion").click()

    request_id = filed_on(page)
    expect_state(page, "Accepted")
    let_the_grace_pass(request_id)
    expect_state(page, "Completed")
    assert MEMBER not in page.content()

    page.get_by_role("link", name="Conversations", exact=True).first.click()
    gone = page.get_by_role("row").filter(has_text="Deleted conversation")
    expect(gone).to_have_count(2)
    expect(gone.first.get_by_role("link", name=request_id)).to_be_visible()
    expect(page.get_by_role("link", name="Ada")).to_have_count(0)
    answer = page.request.get(opened)
    assert answer.status == 410
    assert "was deleted" in answer.text()


def _export_grace(page: Page) -> None:
    page.get_by_role("link", name="Grace").click()
    page.get_by_role("button", name="Export or delete this chatter").click()
    page.get_by_label("Export: create a file of their data").check()
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="File the export").click()
    let_the_grace_pass(filed_on(page))
    expect_state(page, "Completed")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download", exact=True).click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 3
    assert '"Grace was here"' in lines[1]
    # The page shows what the worker has done; what it offers now comes with the next look.
