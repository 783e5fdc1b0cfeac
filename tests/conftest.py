"""Real PostgreSQL and a real S3 server for every test: a database and a bucket for each process of pytest."""

import contextlib
import functools
import gc
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest
from django.conf import settings as django_settings
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from pytest_django import DjangoDbBlocker
from xdist.workermanage import WorkerController

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.storage import ObjectStorage, errors
from conversations.management.commands import import_conversations
from devservers import control
from scripts import chromium, citus_nodes
from tests import databases, factories, fuzzing, quarters, statements, under_roles
from tests.citus import suite
from tests.clients import empty
from tests.iam import iam_server, iam_storage  # noqa: F401  (fixtures)
from tests.places import shards, silence  # noqa: F401  (fixtures)
from tests.statements import statements_can_be_distributed  # noqa: F401  (a fixture)

control.start()
_NUMBER = databases.number_of_this_process()
statements.WATCH.install()
django_settings.S3_BUCKET = f"test-{_NUMBER}"
# Tests that issue credentials do so on a server of their own (`iam_storage`), which is discarded with its users.
django_settings.IAM_ACCESS_KEY_ID = django_settings.IAM_SECRET_ACCESS_KEY = ""
# Each S3 client would read botocore's service descriptions from disk again, and tests create many clients.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)
# For a process that does nothing else: it would look at all that pytest holds.
vars(import_conversations)["rare_garbage_collection"] = contextlib.nullcontext
# A hash is slow on purpose, and tests make many users. Programs that they start read the second one.
django_settings.PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    how = "run on databases that are distributed over the machines of CITUS_URL"
    parser.addoption("--citus", action="store_true", help=how)
    which = "of all long tests run a quarter, 1 to 4 (empty: by the commit), and those of what was touched last"
    parser.addoption("--quarter", help=which)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("markexpr") == "not long":
        fuzzing.shorten()
    quarters.settle(config)
    if not config.getoption("citus"):
        under_roles.install()
    elif not citus_nodes.URL:
        raise pytest.UsageError("--citus needs CITUS_URL, a database of a coordinator (docs/explanation/testing.md).")


# Tests wait for the database, the storage and other processes. Not more than the database has connections for.
_PROCESSES_PER_CORE, _MOST_PROCESSES = 2, 16


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of pytest processes for `-n auto`."""
    return min(_PROCESSES_PER_CORE * len(os.sched_getaffinity(0)), _MOST_PROCESSES)


def pytest_configure_node(node: WorkerController) -> None:
    """Tell a process of xdist which long tests run."""
    node.workerinput["quarter"] = (node.config.option.quarter, getattr(node.config.option, "touched", []))


_CASES: Counter[str] = Counter()
# Tests of these folders have the database without a mark; where it is true, with transactions that are committed.
_COMMITS = {
    "accounts": False,
    "client": True,
    "compliance": False,
    "console": False,
    "conversations": False,
    "functional": True,
}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a test the database, and take `long` from its first cases where it is long only beyond them."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    if folder in _COMMITS and not item.get_closest_marker("django_db"):
        item.add_marker(pytest.mark.django_db(transaction=_COMMITS[folder]))
    for mark in [one for one in item.iter_markers("long") if "beyond" in one.kwargs]:
        if mark not in item.own_markers:
            raise pytest.UsageError(f"{item.nodeid}: long(beyond=...) is for a test, not for a class or a module.")
        test, cases, _ = item.nodeid.partition("[")
        if not cases:
            raise pytest.UsageError(f"{item.nodeid}: it has no cases that long(beyond=...) could leave out.")
        _CASES[test] += 1
        if _CASES[test] <= mark.kwargs["beyond"]:
            item.own_markers.remove(mark)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the garbage collector from all that stays: what is loaded, and the tests themselves."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        # Tests load more that stays: to look through it all every few dozen tests takes a fortieth of their time.
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start with the long tests, so that no pytest process works alone at the end."""
    if config.getoption("citus"):
        suite.select(config, items)
    if config.option.quarter:
        quarters.select(config, items)
    long = [item for item in items if _is_long(item)]
    others = [item for item in items if not _is_long(item)]
    # xdist gives each process an equal part of the list at first: each starts with some long modules.
    processes = int(getattr(config, "workerinput", {}).get("workercount", 1))
    stretches: list[list[pytest.Item]] = [[] for _ in range(processes)]
    # Those with a time limit of their own take minutes: no process has two of them.
    slowest = [item for item in long if item.get_closest_marker("timeout")]
    for place, item in enumerate(slowest):
        stretches[place % processes].append(item)
    for _, module in itertools.groupby((item for item in long if item not in slowest), key=lambda item: item.path):
        min(stretches, key=len).extend(module)
    for stretch in stretches:
        room = max(0, len(items) // processes - len(stretch))
        stretch.extend(others[:room])
        del others[:room]
    items[:] = [*itertools.chain.from_iterable(stretches), *others]


def _is_long(item: pytest.Item) -> bool:
    """Return whether a test is marked as long. Raises UsageError where the mark gives no reason."""
    marks = list(item.iter_markers("long"))
    if any(mark.args or mark.kwargs.keys() - {"beyond", "each_quarter", "spread"} != {"reason"} for mark in marks):
        raise pytest.UsageError(f"{item.nodeid}: long(reason=...) is to say what takes the time.")
    return bool(marks)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("citus") and not citus_nodes.URL:
        pytest.skip("CITUS_URL is not set")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report in a line each which quarter ran, and what was skipped without a browser or Citus, and how to run it."""
    if quarter := terminalreporter.config.option.quarter:
        touched = ", ".join(terminalreporter.config.option.touched) or "nothing"
        terminalreporter.write_line(f"Long tests of quarter {quarter} ran, and of what was touched last: {touched}")
    reasons = [str(skipped.longrepr) for skipped in terminalreporter.stats.get("skipped", [])]
    if any("Chromium" in reason for reason in reasons):
        terminalreporter.write_line(
            f"No browser here, so the tests of pages were skipped. To run them too: {chromium.INSTALL}"
        )
    if without := sum("CITUS_URL" in reason for reason in reasons):
        how = "set CITUS_URL to a database of a coordinator (docs/explanation/testing.md)"
        terminalreporter.write_line(f"No Citus here, so {without} tests on it were skipped. To run them too: {how}")


@pytest.fixture(scope="session")
def django_db_setup(
    request: pytest.FixtureRequest,
    django_test_environment: None,
    django_db_blocker: DjangoDbBlocker,
    django_db_createdb: bool,
) -> Iterator[None]:
    """Replaces pytest-django's, which would run all migrations in each process."""
    name = f"tests_{_NUMBER}"
    if request.config.getoption("citus"):
        databases.empty_quickly()
        with django_db_blocker.unblock(), suite.database(name), django_db_blocker.block():
            yield
        return
    with django_db_blocker.unblock():
        databases.make(name, anew=django_db_createdb)
    databases.empty_quickly()
    yield
    with django_db_blocker.unblock():
        databases.drop(name)


@pytest.fixture
def refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals of storage fail at the first attempt, as if refused for minutes."""
    monkeypatch.setattr(errors, "REFUSED_ATTEMPTS", 1)


# Where a key was, SeaweedFS keeps its folders, and reads them all in each listing.
_VERSIONS_BEFORE_A_NEW_BUCKET = 500


class _Bucket:
    """The hosted bucket of this process, made anew at first and after many objects."""

    # Unknown after a test without the fixture `storage`, which may have written all the same.
    is_empty = False

    def __init__(self) -> None:
        self.storage = hosted_storage()
        self.storage.create_bucket_if_missing()
        self.removed = _VERSIONS_BEFORE_A_NEW_BUCKET

    def empty(self) -> None:
        if _Bucket.is_empty:
            return
        self.removed += empty(self.storage)
        if self.removed >= _VERSIONS_BEFORE_A_NEW_BUCKET:
            self.storage.client.delete_bucket(Bucket=self.storage.bucket_name)
            self.storage.create_bucket_if_missing()
            self.removed = 0
        _Bucket.is_empty = True


@pytest.fixture(scope="session")
def _bucket() -> _Bucket:
    return _Bucket()


def storage_rests_no_more() -> None:
    hosted_storage().calls.breaker.reset()


@pytest.fixture(autouse=True)
def _forget_storage_state(request: pytest.FixtureRequest) -> None:
    """Each test starts without knowledge of the operator's storage, like a new process."""
    storage_rests_no_more()
    if "storage" not in request.fixturenames:
        _Bucket.is_empty = False


@pytest.fixture
def storage(_bucket: _Bucket) -> Iterator[ObjectStorage]:
    """The hosted bucket, empty at the start of the test and emptied after it."""
    _bucket.empty()
    storage_rests_no_more()
    _Bucket.is_empty = False
    yield _bucket.storage
    storage_rests_no_more()
    _bucket.empty()


@pytest.fixture
def one_connection(db: None) -> Iterator[None]:
    """Calls of the handler itself keep the test's connection and transaction, as those of Django's client do."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def chatbot(db: None) -> Chatbot:
    """A chatbot ready for requests: compliance on, `member_id` its UCI, a hosted bucket."""
    return factories.ready_chatbot(slug="acme")


@pytest.fixture
def neighbour(db: None) -> Chatbot:
    """Another chatbot with the same setup, which no test of the first may change."""
    return factories.ready_chatbot(slug="neighbour")
