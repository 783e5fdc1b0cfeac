"""Names of the actors in the change log, which has their kind and id."""

from collections.abc import Iterable

from django.contrib.auth.models import User

from chatbots.models import ApiKey

_OTHERS = {"command": "Operator (command)", "worker": "Worker"}


def names_of(actors: Iterable[str]) -> dict[str, str]:
    """Return a name for each actor, with two queries at most."""
    known = set(actors)
    users, prefixes = _ids(known, "user"), _ids(known, "api")
    names: dict[str, str] = {}
    if numbers := [int(one) for one in users if one.isdecimal()]:
        found = User.objects.filter(pk__in=numbers).values_list("pk", "username")
        names |= {f"user:{pk}": username for pk, username in found}
    if prefixes:
        keys = ApiKey.objects.filter(prefix__in=prefixes).values_list("prefix", "label")
        names |= {f"api:{prefix}": f"API key {label} ({prefix})" for prefix, label in keys}
    return {actor: names.get(actor) or _OTHERS.get(actor, actor) for actor in known}


def _ids(actors: Iterable[str], kind: str) -> list[str]:
    return [actor.partition(":")[2] for actor in actors if actor.startswith(f"{kind}:")]
