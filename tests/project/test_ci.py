"""The jobs of GitHub Actions are the commands of ``.ci/run``."""

from __future__ import annotations

import re

import yaml

from tests import ROOT


def test_both_run_the_same_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    targets = set(re.findall(r"^(?:\w+=\S+ )*make (.+)$", script, re.MULTILINE))
    settings = dict(re.findall(r"(\w+)=(\S+) ", script))
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["commands"]
    commands = [
        target
        for command in job["strategy"]["matrix"]["command"]
        for target in command.removeprefix("make ").split()
    ]
    assert sorted(commands) == sorted(targets)
    assert job["env"] == settings
