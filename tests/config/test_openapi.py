"""The API document describes every call correctly."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from django.test import Client
from django.urls import path
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.plumbing import ComponentRegistry
from pydantic import Field, create_model
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from common.problems import CODES
from common.query import Query
from config.openapi.document import TAGS
from config.openapi.operations import describe, parameters_of
from config.openapi.schema import component_of
from tests.commands import run
from tests.document import Operation, dereferenced, document, errors_of, operations, paths_of_the_api


def _named(operation: Operation) -> str:
    return str(operation.document["operationId"])


def _contents(operation: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the location and description of each body, of the call and of its responses."""
    body = operation.document.get("requestBody", {})
    yield from ((_named(operation), content) for content in body.get("content", {}).values())
    for status, answer in operation.document["responses"].items():
        yield from ((f"{_named(operation)} {status}", content) for content in answer.get("content", {}).values())


def _examples(operation: Operation) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Return the location of each example, the example, and the schema it must match."""
    for where, content in _contents(operation):
        for name, example in content["examples"].items():
            yield f"{where} {name}", dereferenced(example)["value"], content["schema"]
    headers = [header for answer in operation.document["responses"].values() for header in answer["headers"].values()]
    for one in (*operation.document["parameters"], *headers):
        described = dereferenced(one)
        yield f"{_named(operation)} {described['description']}", described["example"], described["schema"]


def _complaints_about(view: type[APIView]) -> str:
    """Return the warnings for an API document of this view only."""
    with GENERATOR_STATS.silence():
        SchemaGenerator(patterns=[path("api/v1/one", view.as_view())]).get_schema(request=None, public=True)
    complaints = "".join(GENERATOR_STATS._error_cache)
    GENERATOR_STATS.reset()
    return complaints


@pytest.mark.long(reason="the whole description is validated")
def test_passes_its_own_validation_without_a_warning():
    assert yaml.safe_load(run("spectacular", "--validate", "--fail-on-warn").out) == document()


def test_contains_every_path_of_the_api():
    assert sorted(document()["paths"]) == sorted(set(paths_of_the_api()))


def test_describes_every_call_in_words_and_examples():
    ids = [_named(operation) for operation in operations()]
    assert len(ids) == len(set(ids)) > 0
    for operation in operations():
        described = operation.document
        assert described["summary"], _named(operation)
        assert described["description"], _named(operation)
        assert described["tags"][0] in {tag["name"] for tag in TAGS}
        assert described["security"], _named(operation)
        assert described["responses"].keys() >= {"401", "403", "404", "429", "503"}
        for where, content in _contents(operation):
            assert content["examples"], where
        for parameter in described["parameters"]:
            assert dereferenced(parameter)["description"], _named(operation)


def test_has_only_valid_examples():
    wrong = [
        f"{where}: {error}"
        for operation in operations()
        for where, value, schema in _examples(operation)
        for error in errors_of(value, schema)
    ]
    assert wrong == []


def test_leads_from_call_to_call_by_links_that_exist():
    parameters = {
        _named(operation): {dereferenced(one)["name"] for one in operation.document["parameters"]}
        for operation in operations()
    }
    for operation in operations():
        for answer in operation.document["responses"].values():
            for link in answer.get("links", {}).values():
                assert set(link["parameters"]) <= parameters[link["operationId"]], _named(operation)


def test_explains_each_error_code_of_an_answer_by_its_status():
    for operation in operations():
        for status, answer in operation.document["responses"].items():
            for code in answer.get("content", {}).get("application/problem+json", {}).get("examples", {}):
                assert CODES[code][0] == int(status), _named(operation)


def test_names_both_ways_of_authenticating():
    schemes = document()["components"]["securitySchemes"]
    assert {name: one["type"] for name, one in schemes.items()} == {
        "token": "http",
        "signature": "apiKey",
        "signatureTimestamp": "apiKey",
    }
    security = {_named(operation): operation.document["security"] for operation in operations()}
    assert security["fileDeletion"] == [
        {"signature": ["deletions:write"], "signatureTimestamp": ["deletions:write"]},
        {"token": ["deletions:write"]},
    ]
    assert security["getRequest"] == [{"token": ["requests:read"]}]


@pytest.mark.long(reason="the description is written for each way to ask for it", beyond=1)
@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ("", "*/*", "application/json"),
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("", "application/vnd.oai.openapi+json", "application/json"),
        ("", "application/yaml", "application/yaml"),
        ("", "application/vnd.oai.openapi", "application/yaml"),
        ("?format=yaml", "*/*", "application/yaml"),
        ("?format=json", "application/yaml", "application/json"),
        ("?format=other", "text/html", "application/json"),
    ],
)
def test_is_public_as_json_or_yaml(query, accept, media_type):
    answer = Client().get(f"/api/schema/{query}", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == f"{media_type}; charset=utf-8"
    read = json.loads if media_type == "application/json" else yaml.safe_load
    assert read(answer.content) == document()
    assert document()["openapi"] == "3.1.0"
    assert all(server["url"].startswith("/") for server in document()["servers"])


def test_may_be_cached_and_is_not_sent_twice():
    answer = Client().get("/api/schema/", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert answer.headers["Content-Encoding"] == "gzip"
    again = Client().get("/api/schema/", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert Client().post("/api/schema/").status_code == 405


def test_has_the_fields_of_a_parameter_in_the_same_order_in_each_process():
    """Else each process of the web server would give it another ETag."""
    day = Field(min_length=1, max_length=9, pattern="x", title="T", description="A day.", examples=["x"])
    [parameter] = parameters_of(create_model("Days", __base__=Query, day=(str, day)))
    assert list(parameter.type) == ["maxLength", "minLength", "pattern", "type"]


def test_fails_where_a_call_is_not_described():
    class Undescribed(APIView):
        def get(self, request: Request) -> Response:  # it is not called
            return Response()

    assert "is not described" in _complaints_about(Undescribed)


def test_fails_where_two_models_share_a_name():
    registry = ComponentRegistry()
    component_of(create_model("Twice", one=(str, ...)), registry, mode="serialization")
    GENERATOR_STATS.reset()
    with GENERATOR_STATS.silence():
        component_of(create_model("Twice", other=(str, ...)), registry, mode="serialization")
    assert "share the name Twice" in "".join(GENERATOR_STATS._error_cache)
    GENERATOR_STATS.reset()


def test_takes_no_unknown_error_code():
    with pytest.raises(ValueError, match="made_up"):
        describe(operation_id="x", summary="x", description="x", tag="x", responses={}, refuses=["made_up"])


PAGES = ("/api/docs/", "/api/docs/try/", "/api/docs/errors", "/api/docs/guide/")
MORE_PAGES = ("/api/docs/reference/requests/", "/api/docs/guide/keys/")


@pytest.mark.parametrize("path", [*PAGES, *MORE_PAGES])
def test_the_pages_are_public_and_load_nothing_from_elsewhere(path):
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


def test_the_pages_link_to_each_other():
    for page in [*PAGES, *MORE_PAGES]:
        links = re.findall(r"href=\"(/api[^\"]+)\"", Client().get(page).content.decode())
        assert {*PAGES, "/api/schema/"} <= set(links)


def test_the_pages_explain_each_error_code_where_its_type_leads():
    text = Client().get("/api/docs/errors").content.decode()
    assert re.findall(r"<div id=\"([a-z_]+)\">", text) == sorted(CODES, key=lambda code: CODES[code][0])
    assert "<code>Accept: application/json</code>" in text
