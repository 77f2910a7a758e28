"""Run every code block of the README and of the pages in docs (``make test-docs``)."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests import ROOT
from tests.dhs.model.model_cases import one_thread as one_thread
from tests.project.doc_blocks import (
    ENDS_WITH,
    NOT_HERE,
    ONLY_NAMED,
    SMALLER,
    Page,
    commands,
    read_blocks,
)
from tests.project.doc_files import write_files

pytestmark = pytest.mark.docs

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# It needs frameworks that only make test-clients installs, and runs there.
ELSEWHERE = ROOT / "docs" / "howto" / "frameworks.md"
WITH_CODE = [page for page in PAGES if page != ELSEWHERE and read_blocks(page)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    write_files(folder)
    return folder


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.filterwarnings("ignore::fastnorm.AnnulusWarning")
@pytest.mark.filterwarnings("ignore::dhs.train.FewForValidationWarning")
@pytest.mark.filterwarnings("ignore::dhs.checkpoint.DeprecatedCheckpointWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_page_runs(
    page: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkout"
    shutil.copytree(files, folder, copy_function=os.link)
    monkeypatch.chdir(folder)
    Page(page).run()


def shell_of_all_pages() -> str:
    blocks = [block for page in WITH_CODE for block in read_blocks(page)]
    return "\n".join(block.text for block in blocks if block.language == "sh")


@pytest.mark.parametrize("said", [*SMALLER, *ENDS_WITH, *NOT_HERE])
def test_tables_hold_nothing_that_no_page_says(said: str) -> None:
    assert said in shell_of_all_pages()


def test_commands_that_are_only_named_are_on_a_page() -> None:
    first_words = {command.split()[0] for command in commands(shell_of_all_pages())}
    parts = {part.split()[0] for part in re.split(r" && |\n", shell_of_all_pages()) if part.split()}
    assert first_words | parts >= ONLY_NAMED.keys()


def test_pages_with_code_are_found() -> None:
    assert {page.name for page in WITH_CODE} >= {"README.md", "tutorial.md", "layer.md"}
