"""The guide for clients: plain Markdown files, and the same as pages at `/api/docs/guide/`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from markdown_it import MarkdownIt

from config.openapi import guide, views
from conversations.csv_cells import CONVERSATION_COLUMNS, MESSAGE_COLUMNS
from tests.config.test_docs import anchors

DOCS = Path(settings.BASE_DIR) / "docs"
PAGES = guide.files()
NOT_RUN = re.compile(r"\n<!-- not run: .+ -->")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page or "index")


def source(page: str) -> str:
    return (DOCS / PAGES[page]).read_text()


def served(page: str, slug: str | None = None) -> str:
    answer = Client().get(guide.url(page, slug))
    assert answer.status_code == 200
    return answer.text


def test_the_index_lists_each_page_for_clients() -> None:
    assert {f"clients/{path.name}" for path in DOCS.glob("clients/*.md")} <= set(PAGES.values())
    toctree = re.findall(r"^```\{toctree\}\n:hidden:\n\n(.*?)^```", source(""), re.MULTILINE | re.DOTALL)
    assert toctree[0].split() == [name for name, path in PAGES.items() if name and path.startswith("clients/")]


@each_page
def test_a_page_has_at_most_1800_words(page: str) -> None:
    assert len(source(page).split()) <= 1800


@each_page
def test_a_page_is_commonmark_with_tables(page: str) -> None:
    html = MarkdownIt("commonmark").enable("table").render(source(page))

    title, *more = re.findall(r"<h1>(.+?)</h1>", html)
    assert title
    assert more == []
    # Nothing is left of a table, link, emphasis or code that was written wrong.
    text = re.sub(r"<pre>.*?</pre>|<code>.*?</code>", "", html, flags=re.DOTALL)
    assert not re.search(r"\| ---|\]\(|\*\*|```|`", text)


@each_page
def test_a_page_is_served_with_all_its_text(page: str) -> None:
    text = served(page)

    assert "compliance.example.com" not in text
    assert not re.search(r"href=\"[^\"]*\.md|```|\*\*|&lt;!--|<!--|toctree", text)
    headings = re.findall(
        r"^## (.+)$", re.sub(r"^```.*?^```", "", source(page), flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    assert [re.sub(r"<[^>]+>", "", one) for one in re.findall(r"<h2 id=\"[\w-]+\">(.+?)</h2>", text)] == [
        heading.replace("`", "") for heading in headings
    ]


@each_page
def test_each_link_of_a_served_page_leads_to_a_page_and_a_section(page: str) -> None:
    paths = {guide.url(name, "shop"): path for name, path in PAGES.items()}
    here = PAGES[page]
    for href in re.findall(r"<a href=\"([^\"]+)\"", served(page, "shop").partition("<article")[2]):
        address, _, anchor = href.partition("#")
        if address.startswith("https://"):
            continue
        if address in ("", *paths):
            assert not anchor or anchor in anchors(DOCS / paths.get(address, here)), href
        else:
            assert Client().get(address).status_code == 200, href


def test_code_names_the_readers_service_and_chatbot() -> None:
    assert "http://testserver/api/v1/chatbots/my_shop-2" in served("keys", "my_shop-2")
    assert "http://testserver/api/v1/chatbots/acme" in served("keys")


def test_what_is_no_slug_is_ignored() -> None:
    page = Client().get("/api/docs/guide/keys/", {"chatbot": '"><script>'}).text

    assert "http://testserver/api/v1/chatbots/acme" in page
    assert "script>" not in page.partition("<article")[2]


def test_a_page_that_is_not_there_is_not_found() -> None:
    for path in ("nothing/", "index/", "error-codes/"):
        assert Client().get(f"/api/docs/guide/{path}").json()["code"] == "not_found"


@each_page
def test_a_shell_block_is_a_script_or_says_why_it_is_not_run(page: str) -> None:
    for block in re.findall(r"^```sh\n(.*?)^```", source(page), re.MULTILINE | re.DOTALL):
        done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    markers = re.findall(r"<!-- not run.*", source(page))
    assert len(NOT_RUN.findall(source(page))) == len(markers)


def test_the_code_that_reads_the_csv_knows_its_columns() -> None:
    columns = CONVERSATION_COLUMNS + MESSAGE_COLUMNS
    page = source("read-the-csv")

    [guarded] = re.findall(r'GUARDED = "(.+)"\.split', page)
    assert guarded.split() == [column.name for column in columns if column.guarded]
    listed = page.split("## The columns")[1].split("\n\n")[1]
    assert re.findall(r"`(\w+)`", listed) == [column.name for column in columns]


def test_the_code_that_reads_the_csv_gives_back_each_text(tmp_path: Path) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", source("read-the-csv"), re.MULTILINE | re.DOTALL)
    cells = {column.name: "" for column in CONVERSATION_COLUMNS + MESSAGE_COLUMNS}
    cells |= {"conversation_id": "c-1", "sent_at": "2026-11-23", "sender": "user", "text": "'=1;'-2\n''3 a'b"}
    (tmp_path / "export.csv").write_text(
        "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in (cells, cells.values()))
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True, check=True)

    assert done.stdout == "c-1 2026-11-23 user =1;-2\n'3 a'b\n"


def test_the_first_page_lists_every_call_with_its_place_in_the_reference() -> None:
    start = Client().get("/api/docs/").text
    listed = re.findall(r'<li><a href="/api/docs/reference/(\w+)/">', start)

    def calls_of(**part: str) -> list[str]:
        paths = Client().get("/api/schema/", part).json()["paths"]
        return [call["operationId"] for methods in paths.values() for call in methods.values()]

    assert sorted(listed) == sorted(calls_of())
    assert listed == [call for tag in views.TAG_SLUGS for call in calls_of(part=tag)]
    assert calls_of(part=listed[3]) == [listed[3]]
    assert Client().get(f"/api/docs/reference/{listed[3]}/").status_code == 200
    assert Client().get("/api/docs/reference/nothing/").json()["code"] == "not_found"


def test_the_root_leads_to_the_documentation_or_for_staff_to_the_console(admin_client, client) -> None:
    assert client.get("/").headers["Location"] == "/api/docs/"
    assert admin_client.get("/").headers["Location"] == "/admin/"
