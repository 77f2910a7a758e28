"""The page on training frameworks: it runs, and every framework refuses another annulus."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.clients import page
from tests.clients.conftest import LIGHTNING_WARNINGS, framework
from tests.clients.page import BOTH_ANNULI, Names

pytestmark = pytest.mark.clients

IN_ONE_PROCESS = {"timm": "timm", "Lightning": "lightning", "accelerate": "accelerate"}
"""Sections of the page, and the modules that they need."""

PARAMETERS = [
    pytest.param(section, marks=LIGHTNING_WARNINGS if section == "Lightning" else [])
    for section in IN_ONE_PROCESS
]


class Trained:
    """A section whose first block has run in a folder of its own."""

    def __init__(self, section: str, folder: Path, names: Names) -> None:
        self.folder, self.names = folder, names
        self.training, *self.loading = page.blocks(section)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            page.execute(self.training, names)


@pytest.fixture(scope="module", params=PARAMETERS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    framework(IN_ONE_PROCESS[request.param])
    return Trained(request.param, tmp_path_factory.mktemp("with_layer"), page.common())


def test_the_page_has_a_section_for_every_framework() -> None:
    assert all(len(page.blocks(section)) >= 2 for section in [*IN_ONE_PROCESS, "FSDP2"])


def test_it_trains_as_on_cutouts_that_numpy_normalised(
    trained: Trained, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    section = request.node.callspec.params["trained"]
    twin = Trained(section, tmp_path, page.prenormalised())
    untrained = page.weights(trained.names["finder"]())
    expected = page.weights(twin.names["model"])
    found = page.weights(trained.names["model"])
    assert found.keys() == expected.keys() == untrained.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name
        assert not torch.equal(value, untrained[name]), name


def test_it_restores_what_it_saved(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained.folder)
    images = trained.names["images"]
    for block in trained.loading:
        page.execute(block, trained.names)
        restored = trained.names["restored"]
        assert torch.equal(restored(images), trained.names["model"](images))


def test_it_refuses_another_annulus(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained.folder)
    for block in trained.loading:
        with (
            page.legacy(trained.names),
            pytest.raises((ValueError, RuntimeError), match=BOTH_ANNULI),
        ):
            page.execute(block, trained.names)
