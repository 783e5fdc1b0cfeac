"""The client's package behind a wire that loses, cuts, slows and refuses, before a service with faults of its own.

The oracle makes its calls with the package, and judges: no request is filed twice, and none is lost.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

import data_compliance_client as package
from tests.faults import company as companies
from tests.faults.company import Company
from tests.faults.site import Site
from tests.faults.wire import Wire
from tests.oracle import caller, filing
from tests.oracle.caller import Answer
from tests.oracle.client_state import Known

_NUMBERS = itertools.count(1)

# `make faults` runs all. These are one of each kind.
_ALL = os.environ.get("FAULTS") == "all"

pytestmark = pytest.mark.long(reason="a site of its own, and calls that are repeated for a minute")


class WithPackage(caller.Client):
    """Makes the calls of the oracle's client with the package, which repeats them by itself."""

    def __init__(self, of: caller.Client, address: str) -> None:
        super().__init__(address, of.slug, secret=of.secret, token=of.token)
        self.package = package.Client(
            address, of.slug, token=of.token, signing_secret=of.secret, timeout=3, patience=150
        )

    def file(self, path: str, body: Mapping[str, Any], *, key: str = "") -> Answer:
        long = "unique_chatter_identifier_"
        options = {name.removeprefix(long): value for name, value in body.items()}
        method = self.package.delete if path == "data-deletion" else self.package.export
        return _answer(lambda: method(idempotency_key=key or None, **options).data)

    def post(self, path: str, body: Any, *, key: str = "") -> Answer:
        if path == "requests/batch":
            return _answer(lambda: {"results": [_filed(one) for one in self.package.file(body["requests"])]})
        if path == "conversations":
            documents = body if isinstance(body, list) else [body]
            return _answer(lambda: {"results": [_stored(one) for one in self.package.send(documents)]})
        return _answer(lambda: self.package.call("POST", path, body))

    def get(self, path: str) -> Answer:
        if path.endswith("/download"):
            return super().get(path)  # its answer is a link
        return _answer(lambda: self.package.call("GET", path))


def _answer(call: Callable[[], Any]) -> Answer:
    try:
        return Answer(200, call(), b"", {})
    except package.APIError as error:
        return Answer(error.status, {"code": error.code, "errors": error.errors}, b"", {})
    except package.Unreachable as error:
        raise caller.NoAnswer(str(error)) from None


def _filed(one: package.Request | package.APIError) -> Mapping[str, Any]:
    return one.data if isinstance(one, package.Request) else {"error": {"code": one.code}}


def _stored(one: package.Stored) -> Mapping[str, Any]:
    error = one.error and {"code": one.error.code}
    return {"id": one.id, "number": one.number, "outcome": one.outcome, "error": error}


def lose_answers(wire: Wire) -> None:
    """Lose the answers to all calls: each was carried out."""
    wire.lose_answers()


def refuse(wire: Wire) -> None:
    wire.refuse()


def slow(wire: Wire) -> None:
    wire.slow(20_000)


def be_silent(wire: Wire) -> None:
    """Pass nothing on: calls time out, and arrive all the same afterwards."""
    wire.hang()


@pytest.fixture
def wire(site: Site) -> Iterator[Wire]:
    parts = urlsplit(site.address)
    with Wire((str(parts.hostname), int(parts.port or 0))) as wire:
        yield wire


@pytest.fixture
def customer(site: Site, wire: Wire, known: Known) -> Iterator[Company]:
    """A company whose own calls go through the package and the wire."""
    company = companies.found(site, known, seed=1, slug=f"package-{next(_NUMBERS)}")
    state = company.ours
    caller_of_package = WithPackage(state.caller.client, wire.address)
    state.caller.client = caller_of_package
    yield company
    caller_of_package.package.close()


WEATHER = [lose_answers, refuse, slow, be_silent] if _ALL else [lose_answers]
TROUBLE = ["web server killed, started again", "all its backends ended", "its connections refused"]


@pytest.mark.parametrize("happens", WEATHER, ids=lambda one: one.__name__)
def test_a_bad_line_files_nothing_twice_and_loses_nothing(site, customer, wire, happens) -> None:
    requests = customer.begin_round(to_erase=8, to_export=6)

    def weather() -> None:
        with customer.fault(happens.__name__):
            for _ in range(2):
                happens(wire)
                time.sleep(4)
                wire.restore()
                time.sleep(1)

    requests.run(weather)
    _file_a_batch(customer)
    assert customer.wrong() == []


@pytest.mark.parametrize("name", TROUBLE if _ALL else TROUBLE[:1])
def test_a_service_in_trouble_gets_each_request_once(site: Site, customer: Company, name: str) -> None:
    requests = customer.begin_round(to_erase=8, to_export=6)
    requests.run(lambda: customer.suffer(name))
    _file_a_batch(customer)
    assert customer.wrong() == []


def test_a_rate_limit_is_waited_for(site: Site, customer: Company) -> None:
    requests = customer.begin_round(to_erase=4, to_export=4)
    site.sql("UPDATE chatbots_apikey SET rate_limit = %s", [5])
    requests.run()
    site.sql("UPDATE chatbots_apikey SET rate_limit = NULL")
    assert customer.wrong() == []


def _file_a_batch(customer: Company) -> None:
    people = [customer.person() for _ in range(3)]
    filing.file_all(customer.ours, [filing.deletion_of(customer.ours, one.value) for one in people])
