"""The section of how everything was made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dhs.artefacts import Artefacts, Document
from dhs.checkpoint import Checkpoint
from dhs.report import commands
from dhs.report.parts import Block, Section, each, missing
from dhs.report.style import badge
from dhs.score_table import specs_of
from dhs.selection.grid_result import GridResult
from dhs.spec import PreprocessSpec
from fastnorm.io import Rejected

SAYS = (
    "Every artefact with its file, what it was made from, and the command that makes it again; "
    "what was not recorded is in capitals."
)


def section(artefacts: Artefacts, rejected: list[Rejected]) -> Section:
    """A card for every artefact, in the order in which they are made."""
    made = Section("made", "How everything was made", SAYS)

    def of(
        items: Iterable[Any], make: Callable[[Any], list[Block]], path_of: Callable[[Any], Path]
    ) -> None:
        made.blocks.extend(each(items, path_of, make, rejected))

    def path(item: Document | Checkpoint) -> Path:
        return item.path

    of(artefacts.packs, _pack, path)
    of(_alike(artefacts.checkpoints), _checkpoints, lambda alike: alike[0].path)
    of(artefacts.scores, _scores, path)
    of(artefacts.evaluations, _evaluation, path)
    of(artefacts.grids, _grid, lambda grid: grid.folder)
    of(artefacts.comparisons, _comparison, path)
    of(artefacts.realism, _realism, path)
    of(artefacts.methods, _methods, lambda item: item)
    of(artefacts.old, _old, lambda item: item)
    if not made.blocks:
        made.blocks.append(missing("No artefact was found.", "make demo"))
    return made


def _card(
    kind: str,
    file: Path,
    entries: Mapping[str, Any],
    command: str,
    badges: Iterable[Block] = (),
) -> list[Block]:
    said = {name: value for name, value in entries.items() if value not in (None, "", {})}
    about = {"what": kind, "file": str(file), "entries": said, "command": command}
    return [Block("card", about | {"badges": list(badges)})]


def _versions(about: Mapping[str, Any]) -> str:
    versions = about.get("versions") or {"dhs": about.get("package_version")}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _pack(document: Document) -> list[Block]:
    about = document.about
    drawn = about.get("split")
    seed = about.get("seed", drawn.get("seed") if isinstance(drawn, Mapping) else None)
    entries = {
        "data": about.get("data_origin", "not known"),
        "cutouts": about.get("n"),
        "seed": seed,
        "configuration, sha256": about.get("config_sha256"),
        "versions": _versions(about),
    }
    kind = "simulated survey" if "config_sha256" in about else "pack"
    return _card(kind, document.path, entries, commands.of_pack(document))


def _alike(checkpoints: Iterable[Checkpoint]) -> list[list[Checkpoint]]:
    """Checkpoints of the same weights and mark together, as best and last often are."""
    groups: dict[tuple[str, str | None], list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        groups.setdefault((checkpoint.fingerprint, checkpoint.deprecated), []).append(checkpoint)
    return list(groups.values())


def _checkpoints(alike: list[Checkpoint]) -> list[Block]:
    checkpoint, *others = alike
    data = checkpoint.data
    entries = {
        "the same as": ", ".join(str(other.path) for other in others),
        "architecture": checkpoint.arch,
        "status": checkpoint.status,
        "deprecated": checkpoint.deprecated,
        "data": data["data_origin"],
        "data, fingerprint": data.get("fingerprint"),
        "fingerprint": checkpoint.fingerprint,
        "seed": (checkpoint.config.get("dataset") or {}).get("seed"),
        "versions": _versions({"versions": checkpoint.versions}),
        "created": checkpoint.created,
    }
    badges = [badge(checkpoint.spec, checkpoint.size)]
    return _card("checkpoint", checkpoint.path, entries, commands.of_checkpoint(checkpoint), badges)


def _scores(document: Document) -> list[Block]:
    about = document.about
    members = about["members"]
    entries = {
        "architecture": ", ".join(member["architecture"]["arch"] for member in members),
        "checkpoints": ", ".join(
            f"{member['checkpoint']} {member['checkpoint_fingerprint'][:12]}" for member in members
        ),
        "data": about.get("data_origin") or "not known",
        "fingerprint": about.get("fingerprint"),
        "batch size": about.get("batch_size"),
        "device": about.get("device"),
        "versions": _versions(about),
    }
    badges = [badge(spec) for spec in specs_of(about)]
    return _card("scores", document.path, entries, commands.of_scores(document), badges)


def _evaluation(document: Document) -> list[Block]:
    about = document.about
    entries = {
        "data": about["data_origin"] or "not known",
        "across annuli": about["across_annuli"],
        "seed": about["bootstrap"]["seed"],
        "versions": _versions(about),
    }
    specs = dict.fromkeys(spec for item in about["tables"] for spec in specs_of(item))
    badges = [badge(spec) for spec in specs]
    return _card("evaluation", document.path, entries, commands.of_evaluation(document), badges)


def _grid(grid: GridResult) -> list[Block]:
    about = grid.about
    entries = {
        "model": grid.model,
        "checkpoint, fingerprint": about["checkpoint"]["fingerprint"],
        "checkpoint trained on": about["checkpoint"].get("data_origin"),
        "data": about["data_origin"],
        "fingerprint": about["injections_fingerprint"],
        "draws, fingerprint": about["draws_fingerprint"],
        "seed": about["config"].get("seed"),
        "versions": _versions(about.get("determining", {})),
    }
    return _card("selection grid", grid.folder, entries, commands.of_grid(grid), [badge(grid.spec)])


def _comparison(document: Document) -> list[Block]:
    about = document.about
    entries = {
        "data": about["data_origin"],
        "preprocessing differs": "; ".join(about.get("preprocessing_differs", [])),
        "draws, fingerprint": about.get("draws_fingerprint"),
    }
    badges = [badge(PreprocessSpec.from_dict(about[side]["spec"])) for side in ("first", "second")]
    return _card(
        "comparison of grids", document.path, entries, commands.of_comparison(document), badges
    )


def _realism(document: Document) -> list[Block]:
    about = document.about
    made = about["checkpoint"]
    entries = {
        "architecture": made["architecture"]["arch"],
        "checkpoint": f"{made['name']} {made['fingerprint'][:12]}",
        "checkpoint trained on": made.get("data_origin"),
        "data": f"{about['real']['data_origin']} and {about['injected']['data_origin']}",
        "seed": about.get("seed"),
        "versions": _versions(about),
        "created": about.get("created"),
    }
    spec = PreprocessSpec.from_dict(about["spec"])
    badges = [badge(spec, made["architecture"]["size"])]
    return _card("realism check", document.path, entries, commands.of_realism(document), badges)


def _methods(path: Path) -> list[Block]:
    return _card("methods text", path, {}, f"dhs methods CHECKPOINT --out {path.name}")


def _old(path: Path) -> list[Block]:
    entries = {"annulus": "not in the file; import it to see"}
    line = commands.command(
        *("dhs", "checkpoint", "import", path, "--out"),
        f"{path.stem}.safetensors",
    )
    return _card("old checkpoint, not imported", path, entries, line)
