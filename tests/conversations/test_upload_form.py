"""The form parser: any bytes in any pieces are parsed exactly or refused."""

import io

import pytest
from django.conf import settings as django_settings
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from common.problems import Problem
from conversations.api.upload_form import UploadForm, read_upload_form
from tests.conversations.forms import BOUNDARY, FORM, field, file, form
from tests.fuzzing import examples


class InPieces(io.RawIOBase):
    """A body as it comes from the network: at most the next size at once."""

    def __init__(self, body: bytes, sizes: list[int]) -> None:
        super().__init__()
        self._body, self._sizes, self.most_asked = io.BytesIO(body), sizes or [1], 0

    def read(self, size: int = -1) -> bytes:
        self.most_asked = max(self.most_asked, size)
        self._sizes = [*self._sizes[1:], self._sizes[0]]
        return self._body.read(min(size, self._sizes[0]))


def read(body: bytes, sizes: list[int] | None = None) -> tuple[UploadForm, bytes]:
    """Read a form to its end. Raises Problem."""
    request = RequestFactory().post("/api/", content_type=FORM)
    request.META.update({"wsgi.input": InPieces(body, sizes or [len(body) or 1]), "wsgi.input_terminated": True})
    del request.META["CONTENT_LENGTH"]
    read_form = read_upload_form(request)
    return read_form, b"".join(read_form.content)


# Bytes among which those of the boundary are frequent.
CONTENT = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"-", BOUNDARY.encode()[:-1], b"\r\n--" + BOUNDARY.encode()[:-1]])
    | st.binary(max_size=60),
    max_size=8,
).map(b"".join)
SIZES = st.lists(st.integers(1, 100), min_size=1, max_size=8)
THOROUGH = examples(200)


@THOROUGH
@given(content=CONTENT, sizes=SIZES, message_id=st.none() | st.text(max_size=200))
def test_it_gives_the_bytes_of_the_file_however_they_arrive(content, sizes, message_id):
    if f"\r\n--{BOUNDARY}".encode() in content or content.startswith(f"--{BOUNDARY}".encode()):
        return
    before = [] if message_id is None else [field("message_id", message_id.encode())]

    found, read_content = read(form(*before, file(content)), sizes)

    assert (found.name, found.content_type, found.message_id) == ("photo.jpg", "image/jpeg", message_id)
    assert read_content == content


WHOLE = form(field("message_id", b"m1"), file(b"\r\n--x" * 20))
EDITS = st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 30), st.binary(max_size=30)), max_size=4)


@THOROUGH
@given(edits=EDITS, sizes=SIZES)
def test_an_unparsable_form_raises_our_own_error(edits, sizes):
    body = WHOLE
    for at, length, replacement in edits:
        body = body[:at] + replacement + body[at + length :]

    try:
        found, content = read(body, sizes)
    except Problem as problem:
        code = problem.code
    else:
        # Every parsed value occurs in the body exactly.
        code = "invalid" if found.name.encode() in body and content in body else "misread"
    assert code in {"invalid", "unsupported_media_type"}


def test_it_reads_on_only_as_far_as_the_file_is_asked_for():
    request = RequestFactory().post("/api/", content_type=FORM)
    stream = InPieces(form(file(b"x" * 1_000_000)), [10_000_000])
    request.META.update({"wsgi.input": stream, "wsgi.input_terminated": True})
    del request.META["CONTENT_LENGTH"]

    found = read_upload_form(request)
    next(found.content)

    assert stream._body.tell() == stream.most_asked == 64 * 1024


def test_reading_stops_at_the_limit_when_no_length_is_declared(settings):
    settings.UPLOAD_MAX_BYTES = 1000
    request = RequestFactory().post("/api/", content_type=FORM)
    stream = InPieces(form(file(b"x" * 10_000_000)), [10_000_000])
    request.META.update({"wsgi.input": stream, "wsgi.input_terminated": True})
    del request.META["CONTENT_LENGTH"]

    with pytest.raises(Problem) as caught:
        list(read_upload_form(request).content)

    assert caught.value.code == "too_large"
    assert stream._body.tell() == 64 * 1024


def test_it_counts_the_bytes_around_the_file_too(settings):
    settings.UPLOAD_MAX_BYTES = 1000

    with pytest.raises(Problem) as caught:
        read(b"\r\n" * 100_000 + WHOLE)

    assert caught.value.code == "too_large"
    assert django_settings.UPLOAD_MAX_BYTES == 1000


def test_a_body_shorter_than_declared_is_refused():
    request = RequestFactory().generic("POST", "/api/", WHOLE, FORM, CONTENT_LENGTH=str(len(WHOLE) + 10))

    with pytest.raises(Problem) as caught:
        list(read_upload_form(request).content)

    assert caught.value.code == "invalid"


def test_a_broken_connection_raises_our_own_error():
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise ConnectionResetError("by Ada")

    request = RequestFactory().post("/api/", content_type=FORM)
    request.META.update({"wsgi.input": Broken(), "wsgi.input_terminated": True})
    del request.META["CONTENT_LENGTH"]

    with pytest.raises(Problem) as caught:
        read_upload_form(request)

    assert caught.value.code == "invalid"
    assert caught.value.__suppress_context__
