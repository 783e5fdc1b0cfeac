"""The three ways of running a statement."""

import pytest

from common.db import execute, fetch, fetch_one

pytestmark = pytest.mark.django_db


def test_rows_come_as_tuples() -> None:
    assert fetch("SELECT i, i * 2 FROM generate_series(1, %s) AS i", [2]) == [(1, 2), (2, 4)]


def test_one_row_or_none() -> None:
    assert fetch_one("SELECT %(word)s::text", {"word": "yes"}) == ("yes",)
    assert fetch_one("SELECT 1 WHERE false") is None


def test_execute_counts_the_rows() -> None:
    assert execute("UPDATE chatbots_chatbot SET name = name WHERE false") == 0
    assert execute("SELECT generate_series(1, 3)") == 3
