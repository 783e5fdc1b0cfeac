"""Links between the documents lead somewhere, and the list of decisions is complete."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(settings.BASE_DIR)
DOCUMENTS = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> Iterator[str]:
    for target in _LINK.findall(_FENCE.sub("", (ROOT / document).read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        leads_to = (ROOT / document.parent / path).resolve() if path else ROOT / document
        if not leads_to.exists() or (anchor and leads_to.suffix == ".md" and anchor not in anchors(leads_to)):
            yield target


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_each_link_of_a_document_leads_somewhere(document: Path) -> None:
    assert list(broken_links(document)) == []


def test_the_list_of_decisions_has_each_of_them() -> None:
    listed = re.findall(r"^- \[(\d{4})\]\((\1-.+?)\): .+$", (ROOT / "docs/adr/README.md").read_text(), re.MULTILINE)

    assert [name for _, name in listed] == sorted(path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md"))
