"""Links between documents lead to a file and a heading that exist."""

from __future__ import annotations

import re

import pytest

from tests.docs.documents import DOCUMENTS, TOP, anchors, prose

LINK = re.compile(r"\[(?:[^][]|\[[^]]*\])*\]\(([^()\s]+)\)")


def links(document: str) -> list[str]:
    """The document's links into this repository."""
    text = re.sub(r"`[^`]*`", "", "\n".join(prose(document)))
    return [target for target in LINK.findall(text) if not re.match(r"https?:|mailto:", target)]


def leads_somewhere(document: str, target: str) -> bool:
    """Whether the file exists and has the heading."""
    path, _, anchor = target.partition("#")
    found = ((TOP / document).parent / path).resolve() if path else TOP / document
    if not found.exists() or not found.is_relative_to(TOP):
        return False
    return not anchor or anchor in anchors(found.relative_to(TOP).as_posix())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_and_anchor_of_a_document_resolves(document: str) -> None:
    assert [] == [target for target in links(document) if not leads_somewhere(document, target)]


def test_links_are_found_at_all() -> None:
    assert 10 < len(links("README.md"))


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if document.startswith("docs/")])
def test_every_document_can_be_reached_from_the_readme(document: str) -> None:
    assert document in {target.partition("#")[0] for target in links("README.md")}
