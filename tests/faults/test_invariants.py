"""Each look reports what it looks for: one that sees nothing would let every fault pass."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from tests.faults.company import Company
from tests.faults.people import Person, words_in
from tests.faults.site import Site

pytestmark = pytest.mark.long(reason="a site of its own")

Planted = AbstractContextManager[None]


@pytest.fixture(scope="module")
def erased(company: Company) -> Person:
    company.begin_round("looks", to_erase=3, to_export=1).run(lambda: None)
    assert company.wrong() == []
    return next(person for person in company.people if person.is_erased)


def whole(company: Company) -> Person:
    return next(person for person in company.people if person.exports)


def named(company: Company, name: str) -> Person:
    return next(person for person in company.people if person.name.endswith(name))


def word_of(person: Person) -> str:
    return min(person.words())


@contextmanager
def object_at(site: Site, key: str, *bodies: bytes) -> Iterator[None]:
    """Put an object, once with each body, and remove all versions of it."""
    bucket = site.s3.s3.bucket
    with site.s3_client() as client:
        versions = [client.put_object(Bucket=bucket, Key=key, Body=body)["VersionId"] for body in bodies]
        try:
            yield
        finally:
            for version in versions:
                client.delete_object(Bucket=bucket, Key=key, VersionId=version)


@contextmanager
def open_upload(site: Site) -> Iterator[None]:
    bucket, key = site.s3.s3.bucket, "uploads/left"
    with site.s3_client() as client:
        upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"a part")
        try:
            yield
        finally:
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)


@contextmanager
def changed(
    site: Site, change: str, back: str, values: tuple[object, ...], back_values: tuple[object, ...]
) -> Iterator[None]:
    """Change rows past all constraints and triggers, and change them back."""
    _past_all_rules(site, change, values)
    try:
        yield
    finally:
        _past_all_rules(site, back, back_values)


def _past_all_rules(site: Site, statement: str, values: tuple[object, ...]) -> None:
    with site.database.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(statement, values)


def row_left(site: Site, company: Company, erased: Person) -> Planted:
    [number] = erased.numbers.values()
    insert = (
        "INSERT INTO conversations_message (chatbot_id, conversation_id, external_id, sender, kind, text, sent_at)"
        " SELECT chatbot_id, id, 'left', 'user', 'text', %s, now() FROM conversations_conversation WHERE id = %s"
    )
    delete = "DELETE FROM conversations_message WHERE conversation_id = %s AND external_id = 'left'"
    return changed(site, insert, delete, (word_of(erased), number), (number,))


def doubled_completion(site: Site, company: Company, erased: Person) -> Planted:
    insert = (
        "INSERT INTO chatbots_changelogentry (chatbot_id, request_id, event, actor, at, data)"
        " SELECT chatbot_id, id, 'request.completed', 'doubled', now(), '{}' FROM compliance_compliancerequest"
        "  WHERE id = %s"
    )
    delete = "DELETE FROM chatbots_changelogentry WHERE actor = 'doubled' AND request_id = %s"
    return changed(site, insert, delete, (erased.deletions[0],), (erased.deletions[0],))


def request_undone(site: Site, company: Company, erased: Person) -> Planted:
    update = "UPDATE compliance_compliancerequest SET messages = messages + %s WHERE id = %s"
    return changed(site, update, update, (1, erased.deletions[0]), (-1, erased.deletions[0]))


def message_changed(site: Site, company: Company, erased: Person) -> Planted:
    number = min(whole(company).numbers.values())
    update = "UPDATE conversations_message SET external_id = {} WHERE conversation_id = %s"
    return changed(
        site, update.format("'x' || external_id"), update.format("substr(external_id, 2)"), (number,), (number,)
    )


def field_lost(site: Site, company: Company, erased: Person) -> Planted:
    """Of what a deletion keeps."""
    [number] = erased.numbers.values()
    update = "UPDATE conversations_conversation SET csat_score = csat_score - %s WHERE id = %s"
    return changed(site, update, update, (1, number), (-1, number))


def language_changed(site: Site, company: Company, erased: Person) -> Planted:
    [number] = named(company, "namesake").numbers.values()
    update = "UPDATE conversations_conversation SET language = %s WHERE id = %s"
    return changed(site, update, update, ("fr", number), ("en", number))


def conversation_lost(site: Site, company: Company, erased: Person) -> Planted:
    [number] = named(company, "kept").numbers.values()
    update = "UPDATE conversations_conversation SET chatbot_id = -chatbot_id WHERE id = %s"
    return changed(site, update, update, (number,), (number,))


def orphan(site: Site, company: Company, erased: Person) -> Planted:
    return object_at(site, "uploads/9/left", b"nothing personal")


def words_in_an_object(site: Site, company: Company, erased: Person) -> Planted:
    return object_at(site, "elsewhere/left", word_of(erased).encode())


def words_in_an_older_version(site: Site, company: Company, erased: Person) -> Planted:
    return object_at(site, "older/left", word_of(erased).encode(), b"nothing personal")


def upload(site: Site, company: Company, erased: Person) -> Planted:
    return open_upload(site)


@contextmanager
def words_in_a_log(site: Site, company: Company, erased: Person) -> Iterator[None]:
    path = site.folder / "planted.log"
    path.write_text(f"somebody said {word_of(whole(company))}")
    yield
    path.unlink()


@contextmanager
def export_of_another(site: Site, company: Company, erased: Person) -> Iterator[None]:
    request = whole(company).exports[0]
    [(key,)] = site.sql("SELECT key FROM compliance_export WHERE request_id = %s", [request])
    with site.s3_client() as client:
        body = client.get_object(Bucket=site.s3.s3.bucket, Key=key)["Body"].read()
    with object_at(site, key, body + body.splitlines(keepends=True)[-1]):
        yield


PLANTED: dict[str, tuple[Callable[[Site, Company, Person], Planted], str]] = {
    "a row of somebody erased is left": (row_left, "table conversations_message has words of"),
    "a request is completed twice": (doubled_completion, "and the change log has"),
    "a count is wrong": (request_undone, "instead of"),
    "a message of somebody else is changed": (message_changed, "is not as it was sent: messages"),
    "a field of somebody else is changed": (language_changed, "is not as it was sent: language"),
    "a field that a deletion keeps is changed": (field_lost, "is not as a deletion leaves it: csat"),
    "a conversation is lost": (conversation_lost, "usage of"),
    "an object has no row": (orphan, "reconcile_storage reports"),
    "an object has words of somebody erased": (words_in_an_object, "an object in elsewhere has words of"),
    "an older version has words of somebody erased": (
        words_in_an_older_version,
        "an object in older has words of",
    ),
    "an upload is open": (upload, "multipart uploads are open"),
    "a log has words": (words_in_a_log, "the log planted.log has words of"),
    "an export has another line": (export_of_another, "messages, and not the"),
}


def test_each_is_reported_and_nothing_else(site: Site, company: Company, erased: Person) -> None:
    with ExitStack() as planted:
        for plant, _ in PLANTED.values():
            planted.enter_context(plant(site, company, erased))
        wrong = company.wrong()
    assert [what for what, (_, told) in PLANTED.items() if not any(told in line for line in wrong)] == [], wrong
    # People are named by their name in the test.
    assert not {word for person in company.people for word in person.words()} & words_in(" ".join(wrong))
    assert company.wrong() == []


def test_what_does_not_run_is_missing(site: Site) -> None:
    first, second = site.clusters
    assert site.missing() == []
    site.freeze(site.pid(first), alone=True)
    site.freeze(site.process(second, "worker"))
    assert site.missing() == [f"{first} does not run", f"{second} lacks a process"]
    site.resume()
    site.wait_for_all()
    site.sql("UPDATE compliance_heartbeat SET pid = -pid")
    assert site.missing() == [f"{name} has no fresh heartbeat" for name in site.clusters]
    site.sql("UPDATE compliance_heartbeat SET pid = -pid")
    site.kill("web")
    assert site.missing() == ["web does not run"]
    site.start("web")
    site.wait_for_all()
