"""The data map (`docs/reference/data-map.md`), printed from the inventory."""

from collections.abc import Iterable, Iterator

from compliance.inventory import STORES, Store
from compliance.outside import EXCEPTIONS, OUTSIDE
from compliance.retention.expiry import rules_of

_DATA_MAP = """\
# Data map

The personal data in the database, and what a deletion does to each field. Printed from `compliance/inventory.py`
by `manage.py data_map`; erasure and its verification work from the same declarations.

What is kept is **pseudonymous, not anonymous**. Each conversation that a deletion leaves bears the deletion's id, so
with the id of a person's request, that person's kept rows can be linked. As long as the client's `reference` is
kept, it leads to the id.
"""


def data_map() -> str:
    """Return the data map as Markdown."""
    return "\n".join([_DATA_MAP, *(line for store in STORES for line in _section(store)), *_outside()]) + "\n"


def table(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    for cells in (header, ("---",) * len(header), *rows):
        yield f"| {' | '.join(map(str, cells))} |".replace("|  |", "| |")


def _section(store: Store) -> Iterator[str]:
    yield from (f"## {store.model._meta.label}", "", f"Reached: {store.way}.{_expiry(store)}", "")
    dispositions = set(store.fields.values())
    if len(dispositions) == 1:
        disposition, reason = dispositions.pop()
        names = ", ".join(f"`{name}`" for name in store.fields)
        yield f"Each field is {disposition}{f' ({reason})' if reason else ''}: {names}."
    else:
        rows = ((f"`{name}`", disposition, reason) for name, (disposition, reason) in store.fields.items())
        yield from table(("field", "after a deletion", "why"), rows)
    yield ""


def _expiry(store: Store) -> str:
    rules = ", ".join(f"`{rule}`" for rule in rules_of(store.model))
    return f" Ends by age: {rules} of `purge_expired`." if rules else ""


def _outside() -> Iterator[str]:
    rows = ((label, of.columns and f"`{of.columns.replace(' ', '`, `')}`", of.why) for label, of in OUTSIDE.items())
    yield from ("## Holding nothing of a chatter", "", "Free columns are those that no type or list limits.", "")
    yield from table(("model", "free columns", "why"), rows)
    yield from ("", "Exceptions, of which no columns are declared:", "", *table(("model", "why"), EXCEPTIONS.items()))
