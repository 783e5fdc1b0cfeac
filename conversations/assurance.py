"""How far the chatters of conversations can be relied on: which identities are enough for a chatbot's exports."""

from chatbots.models import Chatbot
from conversations.models import Assurance, Identity

# Of each way in which an identity comes, by its value; and the ways of each level.
ASSURANCE_OF: dict[str, Assurance] = {way.value: way.assurance for way in Identity.EstablishedBy}
WAYS = {level: [way for way, its_level in ASSURANCE_OF.items() if its_level == level] for level in Assurance}

_ANY = Chatbot.ExportAssurance.ANY


def is_enough(assurance: Assurance | None, least: str) -> bool:
    """Return whether it meets a chatbot's `export_assurance`. None always does: nobody's claim is relied on."""
    return assurance is None or least == _ANY or assurance.rank >= Assurance(least).rank


def is_enough_sql(way: str, least: str) -> str:
    """Return the SQL of the same: `way` is an identity's `established_by`, or null; never null itself."""
    cases = " ".join(
        f"WHEN '{setting}' THEN {way} IN ({', '.join(_ways_of(setting))})"
        for setting in Chatbot.ExportAssurance
        if setting != _ANY
    )
    return f"({way} IS NULL OR CASE {least} {cases} ELSE TRUE END)"


def counts_sql(way: str) -> str:
    """Return the SQL of an array of how many rows there are of each level, in their order."""
    counts = (f"count(*) FILTER (WHERE {way} IN ({', '.join(map(_quoted, ways))}))" for ways in WAYS.values())
    return f"ARRAY[{', '.join(counts)}]"


def _ways_of(least: str) -> list[str]:
    return [_quoted(way) for level, ways in WAYS.items() if is_enough(level, least) for way in ways]


def _quoted(way: str) -> str:
    return f"'{way}'"
