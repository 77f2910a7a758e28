"""The distribution can be built from a checkout without symbolic links, as on Windows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

from tests import ROOT

PARTS = ("fastnorm", "dhs", "kernels", "configs")
FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in", "CHANGELOG.md")
UNWANTED = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
HOOK = (
    "import sys; from setuptools import build_meta;"
    "print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
)


def build(hook: str, source: Path, out: Path) -> Path:
    """Call a hook of the build backend (PEP 517 and 660), as pip does."""
    out.mkdir()
    command = [sys.executable, "-c", HOOK, hook, str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return out / done.stdout.splitlines()[-1]


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith("/METADATA"))
        return message_from_string(opened.read(name).decode("utf-8"))


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as opened:
        return {name for name in opened.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def without_links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what is built; the links are text files, as git and zip files leave them."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, symlinks=True, ignore=UNWANTED)
    for name in FILES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    assert len(links) == 2
    for link in links:
        target = link.readlink()
        link.unlink()
        link.write_text(str(target))
    return folder


@pytest.mark.slow
def test_wheels_hold_every_file(without_links: Path, tmp_path: Path) -> None:
    wheel = build("build_wheel", without_links, tmp_path / "wheel")
    suffixes = {".py", ".yaml", ".md", ".typed", ".j2", ".css", ".js"}
    expected = {
        path.relative_to(ROOT).as_posix()
        for layer in ("dhs", "fastnorm")
        for path in [*(ROOT / layer).rglob("*"), *(ROOT / layer).glob("*/*")]
        if path.suffix in suffixes
    }
    assert "fastnorm/kernels/numba_cpu.py" in expected
    assert "dhs/configs/demo_grid.yaml" in expected
    assert names(wheel) == expected
    sdist = build("build_sdist", without_links, tmp_path / "sdist")
    with tarfile.open(sdist) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert names(build("build_wheel", source, tmp_path / "again")) == expected


@pytest.mark.slow
def test_links_of_the_readme_are_absolute_where_the_address_is_known(
    without_links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROJECT_URL", raising=False)
    bare = metadata_of(build("build_wheel", without_links, tmp_path / "bare"))
    assert bare.get_all("Project-URL") is None
    assert str(bare.get_payload()).strip() == (ROOT / "README.md").read_text("utf-8").strip()
    address = "https://example.org/lenses/finder"
    monkeypatch.setenv("PROJECT_URL", f"{address}/")
    addressed = metadata_of(build("build_wheel", without_links, tmp_path / "addressed"))
    assert f"Repository, {address}" in addressed.get_all("Project-URL", [])
    assert addressed["Description-Content-Type"] == "text/markdown"
    text = str(addressed.get_payload())
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) > 10
    assert [target for target in targets if not target.startswith("https://")] == []
    assert sum(target.startswith(address) for target in targets) > 10
    assert f"]({address}/raw/HEAD/docs/annulus.png)" in text
    assert f"]({address}/blob/HEAD/docs/tutorial.md)" in text


@pytest.mark.slow
def test_an_editable_installation_finds_kernels_and_configurations(
    without_links: Path, tmp_path: Path
) -> None:
    wheel = build("build_editable", without_links, tmp_path / "editable")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path / "site")
    code = (
        "import site, sys; site.addsitedir(sys.argv[1]); sys.path.append(sys.argv[2]);"
        "import fastnorm.kernels.numba_cpu as kernels; from importlib import resources;"
        "print(kernels.__file__, resources.files('dhs.configs') / 'demo_grid.yaml')"
    )
    packages = sysconfig.get_path("purelib")
    # Without -S, this checkout's own installation would be found.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(tmp_path / "site"), packages],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kernels, grid = map(Path, done.stdout.split())
    assert kernels == without_links / "kernels" / "numba_cpu.py"
    assert grid.read_text() == (ROOT / "configs" / "demo_grid.yaml").read_text()
