"""Which conversations the file of a chatter has, by how the identities came and what the chatbot demands."""

from typing import NamedTuple

from django.db import connection, transaction
from hypothesis import example, given
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from chatbots.models import Chatbot
from conversations.models import Assurance, Identity
from conversations.transcripts import TranscriptCounts
from tests import factories
from tests.conversations.reading import counted, lines
from tests.fuzzing import examples

Way = Identity.EstablishedBy
Least = Chatbot.ExportAssurance

# What each setting lets into an export.
ENOUGH = {
    Least.ANY: set(Way),
    Least.PLATFORM: {Way.CUSTOM, Way.ASSERTED, Way.SIGNED, Way.RESOLVED},
    Least.VERIFIED: {Way.ASSERTED, Way.SIGNED, Way.RESOLVED},
}
LEVELS = {
    Assurance.USER_CHANNEL: {Way.USER_CHANNEL},
    Assurance.PLATFORM: {Way.CUSTOM},
    Assurance.VERIFIED: ENOUGH[Least.VERIFIED],
}


class Talk(NamedTuple):
    """A conversation in which these people took part, by how their identities came."""

    people: dict[str, Way]
    is_marked: bool


TALKS = st.lists(
    st.builds(
        Talk,
        st.dictionaries(st.sampled_from(["42", "43", "44"]), st.sampled_from(Way), min_size=1),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=6,
)


def expected(talks: list[Talk], least: Least, *, include_shared: bool) -> tuple[set[int], TranscriptCounts]:
    """Return the places of the conversations in the file of `42`, and its counts."""
    found = {place: talk.people for place, talk in enumerate(talks) if "42" in talk.people and not talk.is_marked}
    reliable = {place for place, people in found.items() if people["42"] in ENOUGH[least]}
    held = {place for place in reliable if include_shared or len(found[place]) == 1}
    counts = TranscriptCounts(
        conversations=len(held),
        messages=len(held),
        shared_left_out=len(reliable - held),
        unverified_left_out=len(found.keys() - reliable),
        assurances=[sum(people["42"] in ways for people in found.values()) for ways in LEVELS.values()],
    )
    return held, counts


BOTH_WAYS = [
    Talk({"42": Way.USER_CHANNEL, "43": Way.SIGNED}, is_marked=False),
    Talk({"42": Way.CUSTOM, "43": Way.USER_CHANNEL}, is_marked=False),
]


@examples(40)
@example(talks=BOTH_WAYS, least=Least.PLATFORM, include_shared=False)
@example(talks=BOTH_WAYS, least=Least.VERIFIED, include_shared=True)
@given(talks=TALKS, least=st.sampled_from(Least), include_shared=st.booleans())
def test_any_mix_is_in_the_file_as_in_the_model(chatbot, talks, least, include_shared) -> None:
    with transaction.atomic():
        for place, talk in enumerate(talks):
            mark = {"deletion_request_id": uuid7()} if talk.is_marked else {}
            factories.conversation_by(chatbot, talk.people, messages=1, text=str(place), **mark)
        held, counts = expected(talks, least, include_shared=include_shared)
        assert {int(line["text"]) for line in lines(chatbot, least=least, include_shared=include_shared)} == held
        assert counted(chatbot, least=least, include_shared=include_shared) == counts
        transaction.set_rollback(True)
    assert not connection.needs_rollback
    assert Assurance.USER_CHANNEL.rank < Assurance.PLATFORM.rank < Assurance.VERIFIED.rank
