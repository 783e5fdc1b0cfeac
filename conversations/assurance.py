"""The reliability of conversations' identities: which ones are enough for a chatbot's exports.

If values that the resolver gets change, an identity proves nothing about later messages until the new values were
looked up (`lookups`). Meanwhile no export by UCI includes the conversation. Without an answer, it is left out if the
chatbot has any demands on identities.
"""

from chatbots.models import Chatbot
from conversations.models import Assurance, Identity

# The level of each source of an identity, and the sources of each level.
ASSURANCE_OF: dict[str, Assurance] = {way.value: way.assurance for way in Identity.EstablishedBy}
WAYS = {level: [way for way, its_level in ASSURANCE_OF.items() if its_level == level] for level in Assurance}

_ANY = Chatbot.ExportAssurance.ANY


def is_enough_sql(way: str, least: str, *, conversation: str, chatbots: str, for_good: bool = False) -> str:
    """Return the SQL of whether an export includes a conversation at the time of the transaction; never null.

    `way` is the source of its chatter's identity (`established_by`), or null if it is selected by its id. With
    `for_good`, a conversation that is left out only until a look-up ends counts as included.
    """
    cases = " ".join(
        f"WHEN '{setting}' THEN {way} IN ({', '.join(_ways_of(setting))})"
        for setting in Chatbot.ExportAssurance
        if setting != _ANY
    )
    waits = "doubt.state = 'pending' AND doubt.give_up_at > now()"
    is_left_out = f"{least} <> '{_ANY}' AND NOT ({waits})" if for_good else f"{least} <> '{_ANY}' OR ({waits})"
    # OFFSET 0: the look-up is found by the conversation, not among all that do not expire.
    return f"""({way} IS NULL OR (CASE {least} {cases} ELSE TRUE END AND NOT EXISTS (
        SELECT FROM (SELECT state, give_up_at, expires_at FROM conversations_identitylookup
                      WHERE conversation_id = {conversation} AND chatbot_id = ANY({chatbots}) OFFSET 0) AS doubt
         WHERE doubt.expires_at IS NULL AND ({is_left_out}))))"""  # noqa: S608  (texts of ours)


def counts_sql(way: str) -> str:
    """Return the SQL of an array with the number of rows of each level, in the order of the levels."""
    counts = (f"count(*) FILTER (WHERE {way} IN ({', '.join(map(_quoted, ways))}))" for ways in WAYS.values())
    return f"ARRAY[{', '.join(counts)}]"


def _ways_of(least: str) -> list[str]:
    return [_quoted(way) for level, ways in WAYS.items() if level.rank >= Assurance(least).rank for way in ways]


def _quoted(way: str) -> str:
    return f"'{way}'"
