"""`make demo`: the main job from end to end on real parts, in numbered lines, each a fact that was checked.

Exit code 0 if every fact holds; 1 with the first that does not, and with the place of the logs.
"""

import fcntl
import json
import logging
import re
import secrets
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
VAR_DIR = ROOT / "var" / "demo"

sys.path.insert(0, str(ROOT))

from scripts import own_copy  # noqa: E402

# The client's server of the demo is on this machine.
ENVIRONMENT = own_copy.begin(VAR_DIR) | {"CALLBACK_PRIVATE_NETWORKS": "127.0.0.0/8"}

import httpx  # noqa: E402
from django.core.management import call_command  # noqa: E402

import data_compliance_client as package  # noqa: E402
from devservers import control  # noqa: E402
from scripts import demo_conversations as sample  # noqa: E402
from scripts.demo_conversations import SLUG, UCI  # noqa: E402
from scripts.demo_story import CheckFailed, Story, require  # noqa: E402
from scripts.processes import Processes, exit_on_sigterm  # noqa: E402

if TYPE_CHECKING:
    from scripts.demo_chapters import Scene


def main() -> int:
    """Run all chapters and return the exit code. Everything that was started is stopped in any case."""
    exit_on_sigterm()
    # httpx logs each call. The demo's output is a story.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    story = Story()
    began = time.monotonic()
    story.title(
        "Data Compliance API: the main job, on real parts",
        "A web server, two workers, PostgreSQL and an S3 server, with data of their own under var/demo. "
        "Tern Ferries and its passengers are invented.",
    )
    try:
        _refuse_foreign_settings()
        with _lock(), own_copy.servers(VAR_DIR), Processes() as processes:
            _run_chapters(story, processes, began)
    except (CheckFailed, TimeoutError, control.EmbeddedError) as error:
        story.error(str(error))
    except Exception as error:
        VAR_DIR.mkdir(parents=True, exist_ok=True)
        (VAR_DIR / "demo.log").write_text(traceback.format_exc())
        story.error(f"The demo itself broke with {type(error).__name__}: see demo.log.")
    else:
        print(f"\n Every line was checked. {time.monotonic() - began:.0f} s in all.\n")
        return 0
    print(f"   Logs: web.log, worker.log, postgres/log and s3/log in {VAR_DIR.relative_to(ROOT)}/", file=sys.stderr)
    return 1


def _run_chapters(story: Story, processes: Processes, began: float) -> None:
    from scripts import demo_chapters as chapters  # noqa: PLC0415  needs django.setup()
    from scripts import demo_identities as identities  # noqa: PLC0415  as above

    story.chapter("Set up")
    scene = _set_up(story, processes, began)
    chapters.send_document(scene, sample.api_document(datetime.now(UTC)))
    chapters.add_file(scene)
    story.chapter("Identify")
    with identities.answering(_manage("create_callback_secret", SLUG)["secret"]) as clients:
        address = ["--url", f"http://127.0.0.1:{clients.port}/who"]
        _manage("set_resolver", SLUG, *address, "--send", "session", "--session-token", "session")
        identities.look_up(scene, clients, sample.session_document(datetime.now(UTC)))
    story.chapter("Export")
    chapters.refuse_bad_signature(scene)
    chapters.export(scene)
    story.chapter("Delete")
    chapters.delete(scene)
    story.chapter("Verify")
    chapters.search_traces(scene)
    chapters.show_the_log(scene)
    chapters.send_late_documents(scene)
    chapters.count_tasks(scene)


def _set_up(story: Story, processes: Processes, began: float) -> "Scene":
    from scripts.demo_chapters import Scene  # noqa: PLC0415  as above

    call_command("migrate", verbosity=0)
    address = own_copy.start_web_and_worker(processes, ENVIRONMENT, VAR_DIR)
    story.fact(
        f"PostgreSQL, S3, web server and workers are up, the tables are created ({time.monotonic() - began:.0f} s)"
    )

    words = ["--name", "Tern Ferries", "--timezone", "Europe/Lisbon", "--variable", f"custom:{UCI}"]
    words += ["--variable", "user_channel:session"]
    words += ["--variable", "custom:pass", "--uci", UCI, "--enable-compliance", "--hosted-bucket"]
    chatbot = _manage("create_chatbot", SLUG, *words)
    require(chatbot["uci"] == UCI, f"The chatbot does not know its chatters by {UCI}.")
    signing = _manage("create_api_key", SLUG, "--type", "signing", "--label", "Demo CRM")
    scopes = ("--scope", "requests:read", "--scope", "conversations:write", "--scope", "conversations:read")
    token = _manage("create_api_key", SLUG, "--type", "token", "--label", "Demo backend", *scopes)
    story.fact(f"Chatbot {SLUG} is created, with {UCI} as its Unique Chatter Identifier, a signing key and a token")

    scene = Scene(
        story=story,
        address=address,
        client=package.Client(address, SLUG, signing_secret=signing["secret"], token=token["secret"]),
        browser=_staff_browser(address),
        documents=sample.file_documents(datetime.now(UTC)),
        pages=VAR_DIR / "pages",
    )
    file = VAR_DIR / "conversations.jsonl"
    lines = [json.dumps(document, ensure_ascii=False) + "\n" for document in scene.documents]
    file.write_text("".join(lines), encoding="utf-8")
    done = _manage("import_conversations", SLUG, str(file))
    # The file was the client's copy, not ours.
    file.unlink()
    require(done["created"] == len(scene.documents), f"The import created {done['created']} conversations.")
    story.fact(f"{done['created']} conversations with {done['messages']} messages are imported from a file")
    return scene


def _staff_browser(address: str) -> httpx.Client:
    """Return a browser in which a staff user is logged in to the admin."""
    from django.contrib.auth.models import User  # noqa: PLC0415  as above

    password = secrets.token_urlsafe(12)
    User.objects.create_superuser("demo", password=password)
    browser = httpx.Client(base_url=address, follow_redirects=True, timeout=30)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get("/admin/login/").text)
    form = {"username": "demo", "password": password, "csrfmiddlewaretoken": token[1] if token else ""}
    browser.post("/admin/login/", data=form)
    return browser


def _manage(command: str, *words: str) -> dict[str, Any]:
    """Run a command as an operator does, and return the JSON that it prints. It can contain a secret: not shown."""
    argv = [sys.executable, "manage.py", command, *words, "--json"]
    done = subprocess.run(argv, env=ENVIRONMENT, cwd=ROOT, check=False, capture_output=True, text=True)
    require(
        done.returncode == 0, f"manage.py {command} ended with code {done.returncode}: {done.stderr.strip()[-300:]}"
    )
    output: dict[str, Any] = json.loads(done.stdout)
    return output


def _refuse_foreign_settings() -> None:
    foreign = own_copy.foreign_settings()
    require(
        not foreign,
        f"The demo runs servers of its own, but .env sets {', '.join(foreign)}. Move .env away while it runs.",
    )


@contextmanager
def _lock() -> Iterator[None]:
    """Keep a second demo out: it would empty the folder of the first."""
    VAR_DIR.parent.mkdir(exist_ok=True)
    with (VAR_DIR.parent / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckFailed("Another demo runs in this folder. Wait until it has ended.") from None
        yield


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)
