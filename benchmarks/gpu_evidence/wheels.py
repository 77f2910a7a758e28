"""Take the dependencies of the evidence to a GPU machine that has no package index.

``python -m benchmarks.gpu_evidence.wheels fill FOLDER`` downloads wheels, as ``make wheels`` does.
``... install FOLDER VENV`` makes an environment that sees the packages of this Python, and installs
from the folder the packages that it lacks. A package that the machine has stays as it is: torch,
Triton and NVIDIA's packages belong together, and are never in the folder.
"""

from __future__ import annotations

import argparse
import re
import site
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PROJECT, EXTRAS = "dhs-fastnorm", ("dhs", "cuda")
MODEL = "networkx"  # what the model of cost needs beside them
# torchvision works with one version of torch only; the others are of the machine's CUDA.
LEFT_OUT = re.compile(r"(torch|torchvision|triton|cuda-toolkit|nvidia-.*)$")


def fill(folder: Path, python: str) -> None:
    """Download the wheels of all dependencies, in the versions of this environment.

    Parameters
    ----------
    folder : Path
        Folder for the wheels; it is made if it does not exist.
    python : str
        Version of Python on the GPU machine, such as ``3.12``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = sorted(f"{name}=={metadata.version(name)}" for name in dependencies())
    # Without dependencies: the list is complete, and pip would add torch to it.
    only = ["--no-deps", "--only-binary=:all:", "--python-version", python]
    _pip("download", *only, "--dest", str(folder), *wanted)
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), ".")


def dependencies() -> set[str]:
    """Return the names of all installed packages that the evidence needs, but for torch's own."""
    found = {MODEL}
    waiting: list[tuple[str, tuple[str, ...]]] = [(PROJECT, EXTRAS), (MODEL, ())]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for needed, of_extras in _requirements(name, extras):
            if not LEFT_OUT.match(needed):
                found.add(needed)
                waiting.append((needed, of_extras))
    return found - {PROJECT}


def _requirements(name: str, extras: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield name and extras of every installed package that a package requires here."""
    # Not at the top: a machine that only installs may lack it.
    from packaging.requirements import Requirement

    for line in metadata.requires(name) or ():
        wanted = Requirement(line)
        marker = wanted.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            continue
        yield canonical(wanted.name), tuple(sorted(wanted.extras))


def install(folder: Path, environment: Path) -> None:
    """Make an environment that sees this Python's packages, and add those that it lacks.

    Parameters
    ----------
    folder : Path
        Folder of wheels.
    environment : Path
        Folder of the environment; an old one is replaced.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        sys.exit(f"{folder} has no wheels; fill it with make wheels on a machine with an index.")
    venv.EnvBuilder(system_site_packages=True, clear=True, with_pip=True).create(environment)
    python = environment / "bin" / "python"
    if sys.prefix != sys.base_prefix:
        # An environment of an environment sees the packages of the innermost Python only.
        _see_packages_of_this_python(environment)
    missing = [wheel for wheel in wheels if is_missing(wheel)]
    kept = len(wheels) - len(missing)
    print(f"{len(missing)} of {len(wheels)} wheels are installed; {kept} packages are here.")
    if missing:
        command = [str(python), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([*command, "--find-links", str(folder), *map(str, missing)], check=True)


def _see_packages_of_this_python(environment: Path) -> None:
    paths = {"base": str(environment), "platbase": str(environment)}
    purelib = Path(sysconfig.get_path("purelib", "venv", paths))
    (purelib / "parent.pth").write_text("\n".join(site.getsitepackages()) + "\n", "utf-8")


def is_missing(wheel: Path) -> bool:
    """Return whether this Python lacks the package of a wheel, in any version."""
    try:
        metadata.version(canonical(wheel.name.partition("-")[0]))
    except metadata.PackageNotFoundError:
        return True
    return False


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    filling = commands.add_parser("fill", help="download wheels")
    filling.add_argument("folder", type=Path)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    filling.add_argument("--python", default=here, help=f"Python of the GPU machine ({here})")
    installing = commands.add_parser("install", help="make an environment from wheels")
    installing.add_argument("folder", type=Path)
    installing.add_argument("environment", type=Path)
    options = parser.parse_args()
    if options.command == "fill":
        fill(options.folder, options.python)
    else:
        install(options.folder, options.environment)


if __name__ == "__main__":
    main()
