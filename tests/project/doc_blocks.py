"""Run the code blocks of a page of the documentation, one after the other."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import typer
import yaml
from typer.main import get_command
from typer.testing import CliRunner

import dhs.cli
import fastnorm
import fastnorm.cli
from dhs.selection.config import GridConfig
from dhs.train.__main__ import main as train
from dhs.train.config import TrainConfig
from tests import ROOT

LANGUAGES = {"python", "sh", "text", "yaml", "json"}

SMALLER = {
    "--n 20000": "--n 60",
    "--n 2000 ": "--n 120 ",
    "--dask-local 4": "--dask-local 1",
    "threads=16": "threads=1",
    "epochs: 6": "epochs: 1",
    "injections_per_cell: 400": "injections_per_cell: 8",
    "--fpr 0.05": "--fpr 0.4",
    "fpr_targets: [5.0e-2]": "fpr_targets: [0.4]",
    "--least-snr 5": "--least-snr 0.1",
    # It takes minutes, and tests/fastnorm/check/test_selfcheck.py runs it.
    "fastnorm check": "fastnorm check --help",
}
"""Text in commands and in the files that they write, and the faster text that runs instead."""

ENDS_WITH = {
    # Simulated data and untrained networks do not fulfil the plan.
    "dhs audit .": 1,
    "dhs audit checkpoints/ scores/ grids/": 1,
}
"""Commands whose exit status is not 0."""

ONLY_NAMED = {
    "pip": "installs",
    "source": "needs a shell",
    "torchrun": "starts processes; tests/dhs/train/test_training.py trains with two",
    "sbatch": "needs SLURM",
    "dask": "runs until it is stopped",
    "for": "starts Dask workers",
    "pytest": "takes minutes, and runs these tests",
    "pytest-benchmark": "needs the files of the pytest command",
    "cat": "prints",
    "head": "prints",
}
"""Commands that are not run, with the reason. Files of this project that they name must exist."""

NOT_HERE = ("scheduler.json", "tcp://login1:8786", "fetch", "fetched/manifest.parquet")
"""Words that refer to a Dask cluster or the network: their commands are parsed, but not run."""


class Block(NamedTuple):
    language: str
    text: str
    follows: bool
    """Whether only white space separates it from the previous block."""


def read_blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, without Sphinx directives such as ``{toctree}``."""
    text = page.read_text()
    found, end = [], -1
    for match in re.finditer(r"^```(.*?)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        follows = end >= 0 and not text[end : match.start()].strip()
        end = match.end()
        if not match[1].startswith("{"):
            found.append(Block(match[1], match[2], follows))
    return found


class Page:
    """A page whose blocks run in the current folder; Python blocks share their names."""

    def __init__(self, page: Path) -> None:
        self.name = str(page.relative_to(ROOT))
        self.blocks = read_blocks(page)
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def run(self) -> None:
        """Run every block.

        Raises
        ------
        AssertionError
            A command has an unexpected exit status, or a block has unexpected output.
        """
        printed: str | None = None
        for block in self.blocks:
            assert block.language in LANGUAGES, f"{self.name}: ```{block.language}\n{block.text}"
            if block.language == "text" and block.follows and printed is not None:
                assert block.text.strip() == printed.strip(), self.name
            printed = None
            if block.language == "python":
                output = StringIO()
                with redirect_stdout(output):
                    exec(compile(block.text, self.name, "exec"), self.names)
                printed = output.getvalue()
            elif block.language == "yaml":
                check_configuration(block.text)
            elif block.language == "sh":
                for command in commands(smaller(block.text)):
                    self._run(command)

    def _run(self, command: str) -> None:
        fastnorm.set_num_threads(1)
        if (file := re.match(r"cat > (\S+) <<'EOF'\n", command)) is not None:
            write(Path(file[1]), command[file.end() :])
            return
        for part in command.split(" && "):
            status, output = run(part)
            assert status == ENDS_WITH.get(part, 0), f"{self.name}: {part}\n{output}"


def smaller(text: str) -> str:
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a shell block; a command that writes a file includes its content."""
    lines = iter(text.replace("\\\n", "").splitlines())
    for line in lines:
        if line.endswith("<<'EOF'"):
            content = list(iter(lambda: next(lines), "EOF"))
            yield "\n".join([line, *content, ""])
        elif said := re.sub(r"(^|\s)#.*$", "", line).strip():
            yield re.sub(r"\s+", " ", said)


def write(path: Path, text: str) -> None:
    """Write a file that a page shows, after checking that its content matches its suffix."""
    if path.suffix == ".py":
        compile(text, path, "exec")
    elif path.suffix == ".yaml":
        check_configuration(text)
    else:
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        for line in re.findall(r"^dhs .*", text, re.MULTILINE):
            parse(shlex.split(line.replace('"$(cat scheduler.txt)"', "tcp://there:1")))
    path.write_text(text)


def check_configuration(text: str) -> None:
    content = yaml.safe_load(text)
    kind = TrainConfig if "train" in content else GridConfig
    kind.model_validate(content)


def run(command: str) -> tuple[int, str]:
    """Run a command like a shell, and return its exit status and output."""
    words = [found for word in shlex.split(command) for found in sorted(glob.glob(word)) or [word]]
    match words:
        case ["dhs" | "fastnorm", *_] if any(word in NOT_HERE for word in words):
            return parse(words)
        case ["dhs", *arguments]:
            return invoke(dhs.cli.app, arguments)
        case ["fastnorm", *arguments]:
            return invoke(fastnorm.cli.app, arguments)
        case ["python", "-m", "dhs.train", *arguments]:
            return run_program("dhs.train", arguments)
        case ["python", "-m", module, *_]:
            return (0, "") if importlib.util.find_spec(module) else (1, f"no module {module}")
        case ["python", file]:
            runpy.run_path(file, run_name="__main__")
        case ["make", target, *_]:
            return check_target(target)
        case ["mkdir", "-p", folder]:
            Path(folder).mkdir(parents=True, exist_ok=True)
        case ["cd", folder]:
            os.chdir(folder)
        case [name, *rest] if name in ONLY_NAMED:
            ours = [word for word in rest if re.match(r"(configs|benchmarks)\b", word)]
            missing = [word for word in ours if not (ROOT / word).exists()]
            return len(missing), f"{missing} do not exist"
        case _:
            return 1, "unknown command: add it to tests/project/doc_blocks.py"
    return 0, ""


def invoke(app: typer.Typer, arguments: list[str]) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def run_program(name: str, arguments: list[str]) -> tuple[int, str]:
    output = StringIO()
    with patch.object(sys, "argv", [name, *arguments]), redirect_stdout(output):
        try:
            typer.run(train)
        except SystemExit as end:
            return int(end.code or 0), output.getvalue()
    return 0, output.getvalue()


def parse(words: list[str]) -> tuple[int, str]:
    """Check that a command accepts these arguments, without running it."""
    name, *rest = words
    command: Any = get_command({"dhs": dhs.cli.app, "fastnorm": fastnorm.cli.app}[name])
    context = command.make_context(name, rest)
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, context._protected_args)
        context = command.make_context(name, [*rest, *context.args], parent=context)
    return 0, ""


def check_target(target: str) -> tuple[int, str]:
    is_there = f"\n{target}:" in (ROOT / "Makefile").read_text()
    return (0, "") if is_there else (1, f"the Makefile has no target {target}")
