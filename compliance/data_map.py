"""Print the inventory as a document for people: `docs/data-map.md` is made from it."""

from collections.abc import Iterator

from compliance.inventory import OUTSIDE, STORES
from compliance.inventory_terms import Store

_INTRODUCTION = """\
# Data map

What the database holds of a person, and what a deletion does to each field. Made from `compliance/inventory.py`
by `manage.py data_map`; the erasure engine and its second look work from the same declarations.
"""


def render() -> str:
    """Return the data map as Markdown."""
    return "\n".join([_INTRODUCTION, *(line for store in STORES for line in _section(store)), *_outside()]) + "\n"


def _section(store: Store) -> Iterator[str]:
    yield f"## {store.model._meta.label}"
    yield ""
    yield f"Reached: {store.way}."
    yield ""
    dispositions = set(store.fields.values())
    if len(dispositions) == 1:
        disposition, reason = dispositions.pop()
        names = ", ".join(f"`{name}`" for name in store.fields)
        yield f"Each field is {disposition}{f' ({reason})' if reason else ''}: {names}."
    else:
        yield "| field | after a deletion | why |"
        yield "| --- | --- | --- |"
        for name, (disposition, reason) in store.fields.items():
            yield f"| `{name}` | {disposition} | {reason} |"
    yield ""


def _outside() -> Iterator[str]:
    yield "## Holding nothing of a chatter"
    yield ""
    yield "| model | why |"
    yield "| --- | --- |"
    for label, reason in OUTSIDE.items():
        yield f"| {label} | {reason} |"
