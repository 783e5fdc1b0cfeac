"""A preview of many chatters shows for each the same as its own preview."""

from dataclasses import replace

import pytest

from chatbots.models import Chatbot, Variable
from compliance.errors import Refused
from compliance.models import ComplianceRequest
from compliance.requests import finds
from compliance.requests.inputs import RequestInput
from compliance.requests.preview import Preview, preview, preview_many
from compliance.requests.selectors import ByUci
from conversations.models import Identity
from tests.compliance.api.test_preview import exported, filled
from tests.compliance.exporting import committed
from tests.factories import conversation_by, conversation_of, deletion_of, export_of, of_conversations

Kind = ComplianceRequest.Kind
Way = Identity.EstablishedBy


def many(
    chatbot: Chatbot, *values: str, kind: Kind = Kind.DELETION, key: str = "member_id", **options: bool
) -> Preview:
    asked = [RequestInput(kind, ByUci(key, value), **options) for value in values]
    return preview_many(chatbot=chatbot, key=key, asked=asked)


def alone(chatbot: Chatbot, value: str, kind: Kind = Kind.DELETION, **options: bool) -> Preview:
    return preview(chatbot=chatbot, asked=RequestInput(kind, ByUci("member_id", value), **options), kinds=[kind])


@committed
def test_each_line_shows_the_same_as_its_own_preview(chatbot, neighbour, drain, storage):
    filled(chatbot)
    filled(neighbour)
    exported(chatbot, "alice", drain, days_ago=30)
    exported(chatbot, "bob", drain, days_ago=1)
    for value in ("gone", "held", "Alice", "owed", "many", "many", "many"):
        conversation_of(chatbot, value)
    owed = conversation_of(chatbot, "owed", external_id="owed-1")
    deletion_of(chatbot, "gone")
    drain()
    export_of(chatbot, "held", status="failed", failed_at=owed.started_at, error_code="x")
    of_conversations(chatbot, "owed-1", kind="export", status="failed", failed_at=owed.started_at, error_code="x")
    deletion_of(chatbot, "alice")
    conversation_by(chatbot, {"many": Way.USER_CHANNEL, "held": Way.SIGNED})
    conversation_by(chatbot, {"many": Way.USER_CHANNEL})
    changes = {"max_conversations_per_deletion": 2, "four_eyes": True, "export_assurance": "platform"}
    Chatbot.objects.filter(pk=chatbot.pk).update(**changes)
    chatbot.refresh_from_db()
    values = ["alice", "bob", "gone", "held", "owed", "many", "nobody"]
    for kind in (Kind.DELETION, Kind.EXPORT):
        found = many(chatbot, *values, kind=kind, include_files=True)
        for value, shown in zip(values, found.each, strict=True):
            one = alone(chatbot, value, kind, include_files=True)
            part = one.deletion or one.export
            assert part is not None
            assert shown.total == part.found, value
            shown.request = one.only.request
            assert shown == replace(one.only, similar=one.only.similar[:3]), value
    reasons = {value: one.held_by for value, one in zip(values, many(chatbot, *values).each, strict=True)}
    assert "export_pending" in reasons["held"]
    assert "export_pending" in reasons["owed"]
    assert "too_many_conversations" in reasons["many"]
    left_out = {value: one.unverified_left_out for value, one in zip(values, found.each, strict=True)}
    assert {value for value, number in left_out.items() if number} == {"many"}
    assert reasons["nobody"] == ["awaiting_approval"]


@committed
def test_totals_add_up_the_previews_and_count_shared_conversations_once(chatbot, drain, storage):
    filled(chatbot)
    exported(chatbot, "alice", drain, days_ago=30)
    exported(chatbot, "alice", drain, days_ago=1)
    for erase_exports in (False, True):
        result = many(chatbot, "alice", "nobody", erase_exports=erase_exports)
        assert result.deletion == alone(chatbot, "alice", erase_exports=erase_exports).deletion
    result = many(chatbot, "alice", kind=Kind.EXPORT, include_files=True)
    assert result.export == alone(chatbot, "alice", Kind.EXPORT, include_files=True).export
    both = many(chatbot, "alice", "bob")
    assert [one.total.conversations for one in both.each] == [3, 2]
    assert both.deletion is not None
    assert both.deletion.found.conversations == 4
    assert both.deletion.assurance == {"user_channel": 0, "platform": 3, "verified": 1}
    exports = many(chatbot, "alice", "bob", kind=Kind.EXPORT).export
    assert exports is not None
    assert exports.shared_left_out == 1


def test_together_a_conversation_of_two_people_counts_by_its_strongest_identity(chatbot):
    conversation_by(chatbot, {"alice": Way.USER_CHANNEL, "bob": Way.SIGNED})
    conversation_by(chatbot, {"alice": Way.USER_CHANNEL})
    Chatbot.objects.update(export_assurance="platform")
    chatbot.refresh_from_db()
    found = many(chatbot, "alice", "bob", kind=Kind.EXPORT, include_shared=True)
    assert [(one.total.conversations, one.unverified_left_out) for one in found.each] == [(0, 2), (1, 0)]
    assert found.export is not None
    assert found.export.assurance == {"user_channel": 1, "platform": 0, "verified": 1}
    assert (found.export.found.conversations, found.export.unverified_left_out) == (1, 1)
    erased = many(chatbot, "alice", "bob")
    assert [one.total.claimed for one in erased.each] == [2, 0]
    assert erased.deletion is not None
    assert erased.deletion.assurance == found.export.assurance


def test_values_that_cannot_be_filed_are_reported_line_by_line(chatbot, neighbour):
    conversation_of(chatbot, "42")
    chatters = [
        ("42", ""),
        ("anonymous", ""),
        ("", ""),
        ("a\0b", ""),
        ("\ud800", ""),
        ("x" * 513, ""),
        ("77", "T-77"),
        ("78", "not one"),
    ]
    asked = [RequestInput(Kind.DELETION, ByUci("member_id", value), reference) for value, reference in chatters]
    result = preview_many(chatbot=chatbot, key="member_id", asked=asked)
    assert [one.refused.pointer if one.refused else None for one in result.each] == [
        None,
        *["/unique_chatter_identifier_value"] * 5,
        *["/reference"] * 2,
    ]
    assert [one.total.conversations for one in result.each] == [1, *[0] * 7]


def test_an_invalid_preview_is_refused(chatbot, monkeypatch):
    conversation_of(chatbot, "42")
    conversation_of(chatbot, "43")

    def code(key: str = "member_id") -> str:
        with pytest.raises(Refused) as refused:
            many(chatbot, "42", "43", key=key)
        return refused.value.code

    assert code("plan") == "unknown_uci_key"
    monkeypatch.setattr(finds, "MOST_IN_ALL", 1)
    assert code() == "invalid"
    monkeypatch.undo()
    Variable.objects.filter(chatbot=chatbot).update(is_uci=False)
    assert code() == "uci_not_designated"
    chatbot.compliance_enabled = False
    assert code() == "compliance_disabled"
