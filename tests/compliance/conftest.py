from collections.abc import Callable, Iterator

import pytest
from django.utils import timezone
from django_q.models import OrmQ
from pytest_django import Settings

from chatbots.buckets import hosted_storage
from chatbots.models import Chatbot
from common.storage import ObjectStorage
from compliance import worker
from compliance.ledger import objects as ledger
from compliance.models import ExportFile
from tests.calls import TokenCaller
from tests.clients import CLIENT, empty, use_client_bucket
from tests.compliance.reconciling import COPY, EXPORT, EXTRACT, export_with, extract_with, file_of, put
from tests.factories import ready_chatbot
from tests.s3_server import S3Server, running

Drain = Callable[[], None]


@pytest.fixture
def caller(chatbot: Chatbot) -> TokenCaller:
    return TokenCaller(chatbot)


@pytest.fixture
def bot(transactional_db: None) -> Chatbot:
    """A chatbot that other connections see."""
    return ready_chatbot(slug="acme")


@pytest.fixture
def drain(storage: ObjectStorage) -> Drain:
    """Run all waiting requests in this process, as a worker does."""

    def run() -> None:
        assert not worker.drain(seconds=60)

    return run


@pytest.fixture
def no_tasks(db: None) -> None:
    """No task waits. A process that a test killed can insert one after that test's tables were emptied."""
    OrmQ.objects.all().delete()


@pytest.fixture
def versioned(storage: ObjectStorage, settings: Settings) -> Iterator[ObjectStorage]:
    """The hosted bucket with versioning, empty at the start of the test and emptied after it."""
    settings.S3_BUCKET = f"{settings.S3_BUCKET}-versioned"
    bucket = hosted_storage()
    bucket.create_bucket_if_missing()
    client = bucket.client
    client.put_bucket_versioning(Bucket=bucket.bucket_name, VersioningConfiguration={"Status": "Enabled"})
    empty(bucket)
    yield bucket
    empty(bucket)


@pytest.fixture
def whole(chatbot: Chatbot, storage: ObjectStorage) -> list[str]:
    """One of each store, the object and its row; returns the keys."""
    file = file_of(chatbot)
    export = export_with(chatbot, EXPORT)
    ExportFile.objects.create(chatbot=chatbot, export=export, file_id=7, key=COPY, bytes=5, sha256="0" * 64)
    extract_with(chatbot, EXTRACT)
    today = f"{ledger.PREFIX}{timezone.now():%Y-%m-%d}/0af3.json"
    put(storage, EXPORT, COPY, EXTRACT, today)
    return sorted([file.object_key, EXPORT, COPY, EXTRACT, today])


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    with running(CLIENT) as server:
        yield server


@pytest.fixture
def clients(server: S3Server, chatbot: Chatbot) -> Iterator[ObjectStorage]:
    """The client's bucket, which receives the chatbot's exports."""
    use_client_bucket(chatbot, server, identity=CLIENT)
    clients = server.storage()
    empty(clients)
    yield clients
    empty(clients)
