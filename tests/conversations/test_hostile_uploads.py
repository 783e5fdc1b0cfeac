"""Files with any name: kept exactly, and harmless where the name is used."""

import re

import pytest
from hypothesis import assume, example, given

from chatbots.models import Chatbot
from common.storage import ObjectStorage
from conversations.models import UploadedFile
from conversations.uploads import download_name
from tests.calls import TokenCaller, problem
from tests.conversations.forms import file, form, send
from tests.factories import conversation_of
from tests.fuzzing import examples, texts

pytestmark = pytest.mark.fuzz

# As browsers write them (WHATWG): these three are escaped, and nothing else.
_ESCAPES = {'"': "%22", "\r": "%0D", "\n": "%0A"}
_MISLEADING = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069/\\]")


def as_browsers_write(name: str) -> str:
    return "".join(_ESCAPES.get(one, one) for one in name)


@examples(8)
@given(name=texts(least=1, most=255))
@example(name="../../../etc/passwd")
@example(name='photo.jpg"; filename="other.exe')
@example(name="photo\u202egpj.exe")
@example(name="a\r\nContent-Type: text/html\r\n\r\n<script>")
def test_any_name_is_kept_and_leads_nobody_astray(chatbot: Chatbot, storage: ObjectStorage, name: str) -> None:
    # A legacy client would have meant other names by these: `multipart` guesses.
    assume("%" not in name and "\\" not in name)
    conversation = conversation_of(chatbot, "42")

    answer = send(TokenCaller(chatbot), conversation.pk, form(file(b"a photo", name=as_browsers_write(name))))

    kept = name.rpartition("/")[2]
    if answer.status_code != 201:
        assert problem(answer, 400, "invalid")["errors"] or any(one < " " for one in name)
        assert not UploadedFile.objects.filter(conversation=conversation, state="stored").exists()
        return
    stored = UploadedFile.objects.get(conversation=conversation)
    assert answer.json()["name"] == stored.name == kept
    assert re.fullmatch(rf"uploads/{chatbot.pk}/[0-9a-f]{{32}}", stored.object_key)
    head = storage.client.head_object(Bucket=storage.bucket_name, Key=stored.object_key)
    disposition = head["ContentDisposition"]
    assert disposition.startswith("attachment")
    assert disposition.isascii()
    assert disposition.isprintable()


@examples(100)
@given(name=texts(least=1, most=255))
@example(name="." * 255)
@example(name="x" * 200 + "." + "y" * 50)
@example(name="\u202e" * 255)
def test_the_name_of_a_download_is_short_and_says_what_it_is(name: str) -> None:
    shown = download_name(name)
    assert 0 < len(shown) <= 121
    assert not _MISLEADING.search(shown)
    kept = [one for one in name if not _MISLEADING.match(one)]
    assert len(kept) < len(name) or shown[:10] == name[:10]
