"""Query parameters are parsed or refused by name, and never quoted."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from rest_framework.request import Request

from common.problems import Problem
from common.query import Day, Flag, Query, Whole, read_query
from common.times import Instant

SECRET = "Lovelace"


class Filters(Query):
    since: Instant | None = None
    day: Day | None = Field(None, alias="from")
    deleted: Flag | None = None
    kind: Literal["deletion", "export"] | None = None
    limit: Annotated[Whole, Field(ge=1, le=200)] = 50
    reference: Annotated[str, Field(pattern=r"^[a-z]{1,5}$")] | None = None


def read(query: str) -> Filters:
    return read_query(Request(RequestFactory().get(f"/?{query}")), Filters)


def faults(query: str) -> dict[str, str]:
    with pytest.raises(Problem) as caught:
        read(query)
    assert caught.value.code == "invalid"
    assert SECRET not in str(caught.value.as_dict())
    assert caught.value.__cause__ is caught.value.__context__ is None
    return {error.pointer: error.code for error in caught.value.errors}


def test_parameters_are_read_as_what_they_are() -> None:
    query = read("since=2026-11-24T09:00:00%2B01:00&from=2026-11-24&deleted=false&kind=export&limit=7&reference=abc")
    assert query.since == datetime(2026, 11, 24, 8, tzinfo=UTC)
    assert (query.day, query.deleted, query.kind) == (date(2026, 11, 24), False, "export")
    assert (query.limit, query.reference) == (7, "abc")
    assert (read("").since, read("").limit) == (None, 50)


@pytest.mark.parametrize(
    ("query", "at_fault"),
    [
        ("sinse=2026-11-24T09:00:00Z", {"/sinse": "unknown_field"}),
        ("Ada%20Lovelace=1", {"": "unknown_field"}),
        ("day=2026-11-24", {"/day": "unknown_field"}),
        ("limit=1&limit=1", {"/limit": "repeated_field"}),
        ("limit=0", {"/limit": "out_of_range"}),
        ("limit=201", {"/limit": "out_of_range"}),
        *((f"limit={limit}", {"/limit": "invalid"}) for limit in ("", "x", "-1", "1.0", "1_0", "%D9%A3", "9" * 19)),
        ("since=", {"/since": "invalid_time"}),
        ("since=1575215418", {"/since": "invalid_time"}),
        ("since=2026-02-30T00:00:00Z", {"/since": "invalid_time"}),
        ("since=2026-11-24T09:00:00%2B16:00", {"/since": "invalid_time"}),
        ("since=2026-11-24T09:00:00", {"/since": "time_zone_missing"}),
        ("since=1969-11-24T09:00:00Z", {"/since": "out_of_range"}),
        ("since=2026-11-24T09:00:00+01:00", {"/since": "invalid_time"}),
        ("from=20261124", {"/from": "invalid"}),
        ("from=2026-W48-2", {"/from": "invalid"}),
        ("from=2026-11-31", {"/from": "invalid"}),
        ("deleted=1", {"/deleted": "unknown_value"}),
        ("deleted=True", {"/deleted": "unknown_value"}),
        ("kind=Lovelace", {"/kind": "unknown_value"}),
        ("reference=Lovelace", {"/reference": "wrong_pattern"}),
        ("reference=a%00", {"/reference": "wrong_pattern"}),
        ("kind=Lovelace&limit=Lovelace", {"/kind": "unknown_value", "/limit": "invalid"}),
    ],
)
def test_invalid_parameters_are_refused_by_pointer(query: str, at_fault: dict[str, str]) -> None:
    assert faults(query) == at_fault


NAMES = st.sampled_from(["since", "from", "deleted", "kind", "limit", "reference"]) | st.text()


@given(st.lists(st.tuples(NAMES, st.text(st.characters(exclude_categories=["Cs"])) | st.integers().map(str))))
def test_any_bad_query_is_refused_as_invalid(pairs: list[tuple[str, Any]]) -> None:
    assert read_or_refused(urlencode([(name.encode(errors="surrogatepass"), value) for name, value in pairs]))


@given(st.binary())
def test_any_bad_bytes_are_refused_as_invalid(raw: bytes) -> None:
    assert read_or_refused(raw.decode("latin-1"))


def read_or_refused(query_string: str) -> bool:
    try:
        read_query(Request(RequestFactory().get("/", QUERY_STRING=query_string)), Filters)
    except Problem as problem:
        return problem.code == "invalid" and bool(problem.errors)
    return True
