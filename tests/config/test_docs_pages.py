"""The pages at /api/docs/ over HTTP; tests/functional/test_docs_pages.py looks at them in a browser."""

import re

import pytest
from django.test import Client

from common.problems import CODES

PAGES = ("/api/docs/", "/api/docs/try/", "/api/docs/errors")


@pytest.mark.parametrize("path", PAGES)
def test_is_public_and_loads_nothing_from_elsewhere(path):
    answer = Client().get(path)
    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    text = answer.content.decode()
    assert '<html lang="en">' in text
    assert re.search(r"<title>[A-Z].+ · Data Compliance API</title>", text)
    # No inline script or style, and nothing from another host.
    assert not re.search(r"<style|<script(?![^>]* src=)|\sstyle=|\son\w+=", text)
    assert all(link.startswith(("/", "#")) for link in re.findall(r"(?:src|href)=\"([^\"]+)\"", text))
    assert Client().post(path).status_code == 405


def test_link_to_each_other():
    for path in PAGES:
        links = re.findall(r"href=\"(/api[^\"]+)\"", Client().get(path).content.decode())
        assert {*PAGES, "/api/schema/"} <= set(links)


def test_explain_each_error_code_where_its_type_leads():
    text = Client().get("/api/docs/errors").content.decode()
    assert re.findall(r"<div id=\"([a-z_]+)\">", text) == sorted(CODES, key=lambda code: CODES[code][0])
    assert "<code>Accept: application/json</code>" in text
