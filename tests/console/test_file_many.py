"""Filing many requests from a paste or a file, read as exact strings, after one preview and one confirmation."""

import csv
import io
from datetime import timedelta
from itertools import product
from uuid import UUID

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from chatbots.models import Bucket, Chatbot
from compliance.models import ComplianceRequest
from compliance.requests.decisions import cancel
from console.filing import pasted_values
from console.filing.pasted_values import (
    PastedValues,
    UnreadableValues,
    peculiarities,
    read_file,
    read_lines,
    read_table,
)
from tests.console.filing_pages import NOW, Answer, Filer, everything
from tests.factories import UploadedFileFactory, conversation_of, deletion_of, export_of
from tests.fuzzing import examples
from tests.people import Role, member


@pytest.fixture
def filer(chatbot: Chatbot) -> Filer:
    return Filer(member(chatbot, Role.SUPPORT), chatbot, "many/")


def file(content: str | bytes) -> SimpleUploadedFile:
    data = content.encode() if isinstance(content, str) else content
    return SimpleUploadedFile("values.csv", data, content_type="text/csv")


def values() -> list[str | None]:
    return list(ComplianceRequest.objects.order_by("seq").values_list("uci_value", flat=True))


def outcomes(answer: Answer, filer: Filer) -> list[list[str]]:
    downloaded = filer.client.post(filer.path, answer.form("outcomes"))
    assert downloaded["Content-Disposition"] == 'attachment; filename="requests_filed.csv"'
    assert "no-store" in downloaded["Cache-Control"]
    return list(csv.reader(io.StringIO(downloaded.getvalue().decode())))


def test_a_paste_is_previewed_confirmed_and_filed(chatbot, neighbour, filer):
    for value in ("M1", "M1", "M2", "m3 ", "M\uff12"):
        conversation_of(chatbot, value, messages=2)
    conversation_of(neighbour, "M1")
    open_one = deletion_of(chatbot, "M2")
    before = everything()
    preview = filer.preview_many("M1", "M2", "M3", "", "M1", "anonymous", reference="T-1")
    assert everything() == before
    text = preview.text
    assert preview.is_preview
    assert "Requests to file 3" in text
    assert "Conversations to be erased 3 6 messages" in text
    assert "Values not found 1" in text
    assert "Rows refused 1" in text
    assert "1 row repeats an earlier row and is filed once 5 (as 1)" in text
    assert "1 empty row is skipped" in text
    assert "looks like m3 (member_id, 1)" in text
    assert "looks like M\uff12 (member_id, 1)" in text
    assert str(open_one.pk) in text
    answer = filer.confirm(preview, "DELETE 3")
    assert values() == ["M2", "M1", "M2", "M3"]
    filed = list(ComplianceRequest.objects.order_by("seq"))[1:]
    assert {(one.reference, one.origin, one.chatbot) for one in filed} == {("T-1", "console", chatbot)}
    assert all(one.not_before and one.not_before - one.received_at >= timedelta(minutes=15) for one in filed)
    assert "3 requests filed, 1 refused." in answer.text
    assert "placeholder" in answer.text
    assert all(str(one.pk) in answer.html for one in filed)
    heading, *rows = outcomes(answer, filer)
    assert heading == ["row", "outcome", "request_id", "code", "reason"]
    assert {row[0]: row[1:3] for row in rows} == {
        "6": ["refused", ""],
        **{number: ["filed", str(one.pk)] for number, one in zip("123", filed, strict=True)},
    }


def test_a_request_held_for_two_reasons_is_marked_once(chatbot, filer):
    Chatbot.objects.filter(pk=chatbot.pk).update(max_conversations_per_deletion=1)
    for _ in range(2):
        conversation_of(chatbot, "M1")
    export_of(chatbot, "M1", status="failed", error_code="storage_unavailable", failed_at=timezone.now())
    preview = filer.preview_many("M1")
    assert "1 of the deletions will be on hold" in preview.text
    assert preview.html.count(">will be on hold<") == 1
    assert "An earlier export" in preview.html


def test_a_shared_conversation_counts_once(chatbot, filer):
    conversation_of(chatbot, "M1", "M2")
    preview = filer.preview_many("M1", "M2")
    assert "Several people took part in 1 of the conversations." in preview.text
    exports = filer.preview_many("M1", "M2", action="export")
    assert "1 conversation is left out because other people took part." in exports.text
    exports = filer.preview_many("M1", "M2", action="export", include_shared="on")
    assert "Other people took part in 1 of the conversations." in exports.text
    assert "2 requests filed." in filer.confirm(preview, "DELETE 1").text


def test_exports_of_many_show_how_many_files_would_be_copied(chatbot, filer):
    UploadedFileFactory.create(conversation=conversation_of(chatbot, "M1", messages=1), stored=True)
    asked = filer.preview_many("M1", action="export", include_files="on")
    assert "1 message, 1 uploaded file" in asked.text
    assert "uploaded file" not in filer.preview_many("M1", action="export").text.partition("Values not found")[0]


def test_a_file_files_exact_values_with_their_references(chatbot, filer):
    content = '\ufeffname;member;ticket\r\nAda;\'007 ;T-1\r\n;"a;""b";T-2\r\n;=1+1;not one\r\n'
    preview = filer.preview_many(
        action="export", include_shared="on", file=file(content), column="member", reference_column="ticket"
    )
    assert "starts with an apostrophe" in preview.text
    assert "ends with a space" in preview.text
    answer = filer.confirm(preview)
    filed = list(ComplianceRequest.objects.order_by("seq"))
    assert [(one.uci_value, one.reference, one.kind, one.include_shared) for one in filed] == [
        ("'007 ", "T-1", "export", True),
        ('a;"b', "T-2", "export", True),
    ]
    assert "2 requests filed, 1 refused. They start at once." in answer.text


def test_a_value_that_looks_like_a_heading_is_pointed_out(filer):
    assert "equals the UCI key: is it a heading?" in filer.preview_many("Member_id", "M1").text


@pytest.mark.long(reason="2 MB are pasted and sent twice")
def test_the_largest_paste_can_be_confirmed(filer):
    preview = filer.preview_many(*(f"{number:04}" + "😀" * 500 for number in range(1_000)))
    assert "1000 requests filed." in filer.confirm(preview, "DELETE 0").text


def test_it_files_once_however_often_it_is_sent(chatbot, filer, monkeypatch):
    conversation_of(chatbot, "M1")
    preview = filer.preview_many("M1", "M2", "null")
    first = outcomes(filer.confirm(preview, "DELETE 1"), filer)
    assert outcomes(filer.confirm(preview, "DELETE 1"), filer) == first
    later = timezone.now() + timedelta(hours=1)
    monkeypatch.setattr(NOW, lambda: later)
    again = outcomes(filer.confirm(preview, "DELETE 1"), filer)
    assert again == [row for row in first if row[1] != "refused"]
    assert values() == ["M1", "M2"]


def test_it_says_that_a_second_person_approves_each_deletion_first(chatbot, filer):
    Chatbot.objects.filter(pk=chatbot.pk).update(four_eyes=True)
    text = filer.confirm(filer.preview_many("M1"), "DELETE 0").text
    assert "In this chatbot, a second person approves each first." in text


def test_a_list_filed_before_shows_the_state_of_each_request(chatbot, filer):
    preview = filer.preview_many("M1", "M2")
    assert "They start in 15 minutes;" in filer.confirm(preview, "DELETE 0").text
    assert "They start in 15 minutes;" in filer.confirm(preview, "DELETE 0").text
    first = ComplianceRequest.objects.order_by("seq")[0]
    cancel(request_id=first.pk, actor="command")
    text = filer.confirm(preview, "DELETE 0").text
    assert "Nothing new was filed: this preview was confirmed before" in text
    assert "They start in" not in text
    assert f"1 M1 filed Cancelled {first.pk}" in text
    assert "2 M2 filed" in text
    assert ComplianceRequest.objects.count() == 2


def test_only_what_was_previewed_is_filed(chatbot, filer, monkeypatch):
    conversation_of(chatbot, "M1")
    preview = filer.preview_many("M1", "M2")
    assert "the text you typed does not match" in filer.confirm(preview, "DELETE 2").text
    conversation_of(chatbot, "M2")
    changed = filer.confirm(preview, "DELETE 1")
    assert "there is more data now than in your preview" in changed.text
    later = timezone.now() + timedelta(minutes=16)
    with monkeypatch.context() as patch:
        patch.setattr(NOW, lambda: later)
        assert "a preview is valid for 15 minutes" in filer.confirm(changed, "DELETE 2").text
    assert filer.post({**changed.form("file"), "token": "v1:k:x", "typed": "DELETE 2"}).status == 400
    one = Filer(filer.client, chatbot)
    assert filer.post({**one.preview("M1").form("file"), "typed": "DELETE 1"}).status == 400
    Chatbot.objects.filter(pk=chatbot.pk).update(compliance_enabled=False)
    assert filer.confirm(changed, "DELETE 2").status == 409
    assert "is off" in filer.preview_many("M1").text
    assert values() == []


def test_an_export_without_a_bucket_cannot_be_filed(chatbot, filer):
    preview = filer.preview_many("M1", action="export")
    Bucket.objects.filter(chatbot=chatbot).delete()
    assert "no bucket for exports" in filer.preview_many("M1", action="export").text
    assert "0 requests filed, 1 refused." in filer.confirm(preview).text
    assert values() == []


def test_errors_are_shown_at_their_field(chatbot, filer):
    for fields, words in (
        ({"pasted": ""}, "Paste the values or choose a file"),
        ({"pasted": "M1", "file": "M1"}, "not both"),
        ({"pasted": "\r\n\r\n"}, "There are no values."),
        ({"pasted": "\n".join(map(str, range(1_001)))}, "There are 1,001 different values."),
        ({"pasted": "x" * 2_000_001}, "This is more than 2 MB."),
        ({"file": "x\n" * 1_000_001}, "This is more than 2 MB."),
        ({"file": ""}, "There are no values."),
        ({"file": b"\xff\xfe"}, "not UTF-8 text"),
        ({"file": "a,b\nM1,x"}, "There are 2 columns."),
        ({"pasted": "a\tb\nM1\tx", "column": "c"}, "The first row contains: a , b"),
        ({"pasted": "M1", "key": "plan"}, "Choose one of this chatbot"),
        ({"pasted": "M1", "action": "x"}, "Choose to delete or to export."),
        ({"pasted": "M\0001"}, "Null characters"),
    ):
        given = {name: file(value) if name == "file" else value for name, value in fields.items()}
        answer = filer.preview_many(**given)
        assert answer.form("preview")
        assert words in answer.text
        assert 'class="errors"' in answer.html


def test_a_file_of_ten_megabytes_is_refused(filer):
    assert "This is more than 2 MB." in filer.preview_many(file=file(b'"' * 9_000_000)).text
    too_much = filer.client.post(filer.path, {"step": "preview", "pasted": "x" * 10_500_000})
    assert too_much.status_code == 413
    assert "A form may have" in too_much.text


@pytest.mark.long(reason="a thousand rows are previewed")
def test_a_thousand_rows_take_as_many_queries_as_ten(chatbot, filer):
    conversation_of(chatbot, "M1")
    asked: dict[str, set[int]] = {"preview": set(), "file": set()}
    for number in (10, 1_000):
        rows = [f"M{one}" for one in range(number)]
        with CaptureQueriesContext(connection) as queries:
            preview = filer.preview_many(*rows)
        asked["preview"].add(len(queries))
        with CaptureQueriesContext(connection) as queries:
            answer = filer.confirm(preview, "DELETE 1")
        asked["file"].add(len(queries))
        assert f"{number} requests filed." in answer.text
    assert [len(numbers) for numbers in asked.values()] == [1, 1], asked
    assert all(UUID(row[2]) for row in outcomes(answer, filer)[1:])


HOSTILE = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(list("\0\ufeff\r\n\t\"',;=+\u202e\ufffd"))),
    max_size=300,
)


@examples(25)
@given(
    source=st.one_of(
        st.fixed_dictionaries({"pasted": HOSTILE}),
        st.fixed_dictionaries({"file": st.one_of(st.binary(max_size=300), HOSTILE.map(str.encode)).map(file)}),
    ),
    rest=st.dictionaries(st.sampled_from(["column", "reference_column", "reference", "key", "token"]), HOSTILE),
)
def test_whatever_is_sent_is_previewed_and_filed_whole_or_refused(chatbot, filer, source, rest):
    before = ComplianceRequest.objects.count()
    answer = filer.preview_many(**source, **rest)
    assert answer.status == 200
    assert ComplianceRequest.objects.count() == before
    if answer.is_preview and [form for form in answer.forms if form["step"] == ["file"]]:
        found = filer.confirm(answer, "DELETE 0")
        filed = [row for row in outcomes(found, filer)[1:] if row[1] == "filed"]
        assert ComplianceRequest.objects.count() == before + len(filed) > before


def test_an_export_that_is_already_waiting_is_shown_as_such(chatbot, filer):
    filer.confirm(filer.preview_many("M1", action="export"))

    answer = filer.confirm(filer.preview_many("M1", "M2", action="export"))

    assert "1 of them were waiting already as equal exports." in answer.text
    assert [row[1] for row in outcomes(answer, filer)[1:]] == ["existing", "filed"]
    assert values() == ["M1", "M2"]


# --- What is pasted or in a file -------------------------------------------------------------------------


def values_of(pasted: PastedValues) -> list[str]:
    return [row.value for row in pasted.rows]


def unreadable(content: bytes, **columns: str) -> UnreadableValues:
    with pytest.raises(UnreadableValues) as raised:
        read_file(content, **columns)
    return raised.value


def test_a_paste_is_one_value_a_line_as_it_stands():
    pasted = read_lines("M1\r\n M2 \n\n'M3\rM1\n=1+1,x;\"y\u2028z\n")
    assert values_of(pasted) == ["M1", " M2 ", "'M3", '=1+1,x;"y\u2028z']
    assert [row.number for row in pasted.rows] == [1, 2, 4, 6]
    assert pasted.repeated == {5: 1}
    assert pasted.empty == [3, 7]


def test_a_file_is_read_by_its_headings() -> None:
    rows = [["name", "member", "ticket"], ["Ada", '"a, ""b"";\t"', "T-1"], ["", "'007 ", " T-2 "], ["", "x"]]
    for end, delimiter, mark in product(["\n", "\r\n", "\r"], [",", ";", "\t"], [b"", b"\xef\xbb\xbf"]):
        content = mark + end.join(delimiter.join(row) for row in rows).encode()
        pasted = read_file(content, column="member", reference_column="ticket")
        assert [(row.number, row.value, row.reference) for row in pasted.rows] == [
            (2, 'a, "b";\t', "T-1"),
            (3, "'007 ", "T-2"),
            (4, "x", ""),
        ]


def test_a_file_of_one_column_needs_no_heading():
    pasted = read_file('\ufeffM1\n"M,2"\n\n"line\nbreak"\n'.encode())
    assert values_of(pasted) == ["M1", "M,2", "line\nbreak"]
    assert [row.number for row in pasted.rows] == [1, 2, 4]


def test_an_unreadable_file_is_reported_at_its_field() -> None:
    for content, columns, where in [
        (b"", {}, ""),
        (b"\n\n", {}, ""),
        (b"\xff\xfeM\x00", {}, "file"),
        (b"caf\xe9", {}, "file"),
        (b"a,b\n1,2", {}, "column"),
        (b"a,b\n1,2", {"column": "c"}, "column"),
        (b"a,a\n1,2", {"column": "a"}, "column"),
        (b"a,b\n1,2", {"column": "a", "reference_column": "c"}, "reference_column"),
        (b"a,b\n1,2", {"reference_column": "b"}, "column"),
        (b"a\n1,2", {}, "file"),
        (b'a\n"b\nc', {}, "file"),
        (b'"a', {}, "file"),
        (b"x" * 200_000, {}, "file"),
        (b"x\n" * (pasted_values.MAX_BYTES // 2 + 1), {}, "file"),
        ("\n".join(map(str, range(1_001))).encode(), {}, ""),
    ]:
        error = unreadable(content, **columns)
        assert error.where == where
        assert error.text


def test_the_error_lists_the_existing_headings():
    error = unreadable(b"ada@example.org;7\n", column="id")
    assert error.headings == ["ada@example.org", "7"]
    assert "ada" not in str(error)


def test_a_line_break_in_a_pasted_cell_is_refused_since_browsers_change_it():
    with pytest.raises(UnreadableValues) as raised:
        read_table('id\n"a\r\nb"\n', column="id")
    assert raised.value.where == "pasted"


def test_probable_accidents_are_pointed_out() -> None:
    for value, words in [
        ("M00012", []),
        ("ada lovelace@example.org", []),
        ("Ɓéłøñ 汉字 😀", []),
        (" x", ["starts with a space"]),
        ("x\u00a0", ["ends with a space"]),
        ("'x", ["starts with an apostrophe, which spreadsheets add to text"]),
        ("a\u202eb", ["contains characters that change the text direction"]),
        ("a\u200bb", ["contains invisible characters"]),
        ("a\x07b", ["contains invisible characters"]),
        *((f"a{one}b", ["contains invisible characters"]) for one in "\u034f\u115f\u3164\ufe0f\U000e0100"),
        ("\u0410da", ["mixes Latin with Cyrillic or Greek letters"]),
        ("αβ-Ada", ["mixes Latin with Cyrillic or Greek letters"]),
        ("Ада-βγ", []),
        ("Zoe\u0308", ["is not in the usual composed form (NFC)"]),
        ("a\nb", ["contains a line break"]),
        ("a\ufffdb", ["contains �, which replaces characters lost in conversion"]),
    ]:
        assert peculiarities(value) == words


@given(cells=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True))
def test_values_from_a_spreadsheet_are_read_exactly(cells):
    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([["id"], *([cell] for cell in cells)])
    assert values_of(read_file(written.getvalue().encode(), column="id")) == cells
