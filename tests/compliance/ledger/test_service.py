"""This service's identity: the server that its database is on, and what a trip closes."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import DataError, connection, transaction
from django.test import Client
from django.utils import timezone

from accounts.models import StaffLogin
from chatbots.models import Chatbot
from common.leases import LeaseLost
from compliance.errors import ClaimLost
from compliance.ledger import service
from compliance.ledger.service import Reason, State
from compliance.models import ComplianceRequest, Service
from compliance.work import claims
from conversations.extracts import leases
from conversations.models import DailyExtract
from tests import under_roles
from tests.factories import conversation_of, deletion_of
from tests.functional.elsewhere import Elsewhere, wait_until_blocked

Kind = ComplianceRequest.Kind


def state() -> tuple[str, str]:
    return Service.objects.values_list("state", "reason").get()


@pytest.fixture
def identity(transactional_db: None) -> Service:
    """The identity of this database, committed."""
    return service.current()


def move(server: str = "another/1/1") -> None:
    """Have the database believe that it was on another server, as a dump does that was loaded."""
    Service.objects.update(server=server)
    connection.close()


def test_a_migrated_database_knows_its_server_and_timeline() -> None:
    found = service.current()
    assert (found.server, found.timeline) == service.database_position()
    assert found.server.count("/") == 2
    assert found.timeline
    assert state() == ("open", "")

    call_command("migrate", verbosity=0)
    assert service.current().service_id == found.service_id


@pytest.mark.parametrize("role", ["web", "worker", "owner"])
def test_a_connection_to_a_loaded_dump_trips_before_it_is_used(identity: Service, role: str) -> None:
    Session.objects.create(session_key="s" * 32, session_data="", expire_date=timezone.now() + timedelta(days=1))
    move()

    with under_roles.role(role):
        with connection.cursor() as cursor:  # of any kind
            cursor.execute("SELECT state, reason FROM compliance_service")
            assert cursor.fetchone() == ("restored", "other_server")
        assert service.state() is State.RESTORED
    assert not Session.objects.exists()


@contextmanager
def loaded_again() -> Iterator[None]:
    """The table is another one meanwhile, as after pg_restore with --clean."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE loaded (LIKE compliance_service INCLUDING ALL)")
        cursor.execute("INSERT INTO loaded SELECT * FROM compliance_service")
        cursor.execute("ALTER TABLE compliance_service RENAME TO kept")
        cursor.execute("ALTER TABLE loaded RENAME TO compliance_service")
        cursor.execute("GRANT ALL ON compliance_service TO PUBLIC")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE compliance_service")
            cursor.execute("ALTER TABLE kept RENAME TO compliance_service")


def test_a_table_that_was_loaded_into_the_same_server_is_another(identity: Service) -> None:
    before = service.database_position()
    with loaded_again():
        assert service.database_position() != before
        connection.close()
        assert service.state() is State.RESTORED
    connection.close()
    assert service.is_open()


def test_a_connection_from_before_it_was_loaded_serves_nothing(identity: Service) -> None:
    """No worker has noticed, and no other connection was made."""
    assert Client().get("/admin/login/").status_code == 200
    open_since = connection.connection
    with loaded_again():
        assert Client().get("/admin/login/").status_code == 503
        assert state() == ("restored", "other_server")
        assert connection.connection is open_since


def test_the_first_connection_fills_in_a_server_that_is_unknown(identity: Service) -> None:
    Service.objects.update(server="", timeline=None)
    connection.close()
    found = service.current()
    assert (found.server, found.timeline) == service.database_position()
    assert service.is_open()


@pytest.mark.parametrize("where", [{"user": under_roles.STRANGER}, {"dbname": "postgres"}], ids=["role", "database"])
def test_a_role_without_rights_and_a_database_without_tables_pass(identity: Service, where: dict[str, str]) -> None:
    move()
    other = connection.copy()
    with psycopg.connect(**(connection.get_connection_params() | where)) as other.connection:
        service.compare(connection=other)
        assert not other.connection.closed
    Service.objects.all().delete()  # unseen


def test_a_connection_costs_one_statement(identity: Service) -> None:
    other = connection.copy()
    other.connection = Counting(connection.connection)
    service.compare(connection=other)
    assert len(other.connection.statements) == 1


class Counting:
    def __init__(self, real: psycopg.Connection[Any]) -> None:
        self._real = real
        self.statements: list[str] = []

    def execute(self, statement: str) -> Any:
        self.statements.append(statement)
        return self._real.execute(statement)


def test_a_connection_that_cannot_be_compared_is_not_used(identity: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    move()
    monkeypatch.setattr(service, "_TRIP", "SELECT 1 / 0")
    for _ in range(2):
        with pytest.raises(DataError), connection.cursor():
            pass
    monkeypatch.undo()
    assert not service.is_open()


def test_a_trip_ends_claims_leases_and_sessions(identity: Service, chatbot: Chatbot) -> None:
    request = deletion_of(chatbot, "member-1")
    highest = conversation_of(chatbot, "member-1").pk
    held = claims.take(Kind.DELETION)
    assert held is not None
    day = DailyExtract.objects.create(**extract(chatbot))
    lease = leases.take_one(day.pk)
    assert lease is not None
    Session.objects.create(session_key="s" * 32, session_data="", expire_date=timezone.now() + timedelta(days=1))
    staff = StaffLogin.objects.count()

    assert service.trip(State.RESTORED, Reason.OBJECTS_UNKNOWN)

    with pytest.raises(ClaimLost), held.transaction():
        pytest.fail("it was let in")
    with pytest.raises(LeaseLost):
        lease.write()
    assert not Session.objects.exists()
    assert StaffLogin.objects.count() == staff
    request.refresh_from_db()
    assert (request.status, request.claim_id, request.attempts) == ("accepted", None, 0)
    assert claims.take(Kind.DELETION) is None
    assert claims.take_for_bucket() is None
    row = service.current()
    assert (row.highest_number, row.reason) == (highest, "objects_unknown")
    assert row.tripped_at is not None


def test_it_waits_for_a_transaction_of_a_claim_and_lets_no_other_begin(identity: Service, chatbot: Chatbot) -> None:
    deletion_of(chatbot, "member-1")
    held = claims.take(Kind.DELETION)
    assert held is not None
    with held.transaction():
        tripping = Elsewhere(partial(service.trip, State.RESTORED, Reason.OBJECTS_UNKNOWN))
        wait_until_blocked()
    assert tripping.end()
    with pytest.raises(ClaimLost):
        held.renew()


def test_a_claim_that_is_being_taken_meanwhile_is_ended_too(identity: Service, chatbot: Chatbot) -> None:
    deletion_of(chatbot, "member-1")
    with transaction.atomic():
        held = claims.take(Kind.DELETION)
        tripping = Elsewhere(partial(service.trip, State.RESTORED, Reason.OBJECTS_UNKNOWN))
        wait_until_blocked()
    assert tripping.end()
    assert held is not None
    with pytest.raises(ClaimLost):
        held.renew()


def test_one_of_many_processes_trips_it(identity: Service) -> None:
    move()
    seen = [Elsewhere(service.state) for _ in range(8)]
    assert {each.end() for each in seen} == {State.RESTORED}
    again = [Elsewhere(partial(service.trip, State.RESTORED, Reason.OTHER_SERVER)) for _ in range(8)]
    assert not any(each.end() for each in again)


def test_catching_up_can_become_restored_and_never_the_other_way_round(identity: Service) -> None:
    assert service.trip(State.CATCHING_UP, Reason.OBJECTS_UNKNOWN)
    first = service.current()
    assert service.trip(State.RESTORED, Reason.OTHER_SERVER)
    assert not service.trip(State.CATCHING_UP, Reason.OBJECTS_UNKNOWN)
    second = service.current()
    assert (second.state, second.tripped_at) == ("restored", first.tripped_at)


def test_a_process_that_slept_does_not_close_what_was_replayed_meanwhile(identity: Service) -> None:
    service.trip(State.RESTORED, Reason.OTHER_SERVER, life=identity.incarnation)
    service.begin_incarnation()
    assert not service.trip(State.RESTORED, Reason.OTHER_SERVER, life=identity.incarnation)
    assert service.is_open()


def test_a_new_incarnation_opens_it(identity: Service) -> None:
    move()
    assert not service.is_open()
    with transaction.atomic():
        service.begin_incarnation()
    found = service.current()
    assert found.incarnation != identity.incarnation
    assert found.service_id == identity.service_id
    assert (found.server, found.timeline) == service.database_position()
    assert (found.state, found.reason, found.highest_number) == ("open", "", None)
    connection.close()
    assert service.is_open()


def extract(chatbot: Chatbot) -> dict[str, Any]:
    start = timezone.now() - timedelta(days=1)
    return {"chatbot": chatbot, "day": start.date(), "starts_at": start, "ends_at": timezone.now()}
