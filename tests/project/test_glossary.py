"""Check the glossary: it has every term, briefly, and the links to it lead to a term."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import ROOT

GLOSSARY = ROOT / "docs" / "explanation" / "glossary.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TERMS = [
    "AUC", "ECE", "FPR", "recall", "logit", "epoch", "shard", "pack", "fingerprint", "HEALPix",
    "raw_robust", "HDU", "annulus", "MAD", "completeness", "selection function", "host",
    "injection", "dihedral element", "tier", "member", "provenance", "fold",
]  # fmt: skip
LONGEST = 3


def entries() -> dict[str, str]:
    """Return the text of every term, by its lower-case name."""
    parts = re.split(r"^### (.+)$", GLOSSARY.read_text("utf-8"), flags=re.MULTILINE)[1:]
    names = [name.strip("`").lower() for name in parts[::2]]
    return dict(zip(names, (text.split("\n## ")[0].strip() for text in parts[1::2]), strict=True))


@pytest.mark.parametrize("term", TERMS)
def test_every_term_is_explained_briefly(term: str) -> None:
    text = entries()[term.lower()]
    assert text.endswith(".")
    assert 1 <= len(re.findall(r"[.?!](?=\s|$)", text)) <= LONGEST


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_term(page: Path) -> None:
    anchors = {name.replace(" ", "-") for name in entries()}
    for link, anchor in re.findall(
        r"\]\(([^)#\s]*glossary\.md)#?([^)]*)\)", page.read_text("utf-8")
    ):
        assert (page.parent / link).resolve() == GLOSSARY
        assert not anchor or anchor in anchors, f"{page}: {anchor}"


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/tutorial.md"])
def test_the_first_pages_link_to_it(page: str) -> None:
    assert "glossary.md" in (ROOT / page).read_text("utf-8")
