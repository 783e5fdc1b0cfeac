"""Which UCI values look alike: equal but for case, spaces around them and leading zeros.

`007`, ` 7` and `7` are three chatters to every request, and one mistake to whoever typed them. The folded text is
made by PostgreSQL alone, so that an index can find it.
"""

from django.db.models import CharField, F, Func

# What Unicode calls white space, and what has no width at all.
SPACES = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u2028"
    "\u2029\u202f\u205f\u2060\u3000\ufeff"
)
_SPACES = "E'" + "".join(f"\\u{ord(character):04x}" for character in SPACES) + "'"


def folded(value: str) -> str:
    """Return the SQL of a value as it is compared. Of zeros alone one is left: they look like no space."""
    bare = f"btrim({value}, {_SPACES})"
    return f"lower(coalesce(nullif(ltrim({bare}, '0'), ''), left({bare}, 1)))"


def folded_hash(value: str) -> str:
    """Return the SQL of what the index holds of it: a number, since a value can be longer than an index may hold."""
    return f"hashtextextended({folded(value)}, 0)"


def folded_name(name: str) -> str:
    """Return the SQL of a user name as it is looked up. In the order of its bytes, in which beginnings are ranges."""
    return f'(lower(btrim({name}, {_SPACES})) COLLATE "C")'


def value_hash(value: str) -> str:
    return f"hashtextextended({value}, 0)"


# The same for the index of a model.
FOLDED_HASH = Func(F("value"), template=folded_hash("%(expressions)s"), output_field=CharField())
VALUE_HASH = Func(F("value"), template=value_hash("%(expressions)s"), output_field=CharField())
FOLDED_NAME = Func(F("user_name"), template=folded_name("%(expressions)s"), output_field=CharField())
