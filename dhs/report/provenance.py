"""The section on how every artefact was created."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dhs.audit.artefacts import Artefacts, Document
from dhs.checkpoint import Checkpoint
from dhs.preprocess.spec import PreprocessSpec
from dhs.report import commands
from dhs.report.parts import Block, Section, each, missing
from dhs.report.style import badge
from dhs.score.table import specs_of
from dhs.selection.grid_result import GridResult
from fastnorm.io import Rejected

SAYS = (
    "Every artefact with its file, its inputs, and the command that creates it again. Words in "
    "capitals stand for values that were not recorded."
)


def section(artefacts: Artefacts, rejected: list[Rejected]) -> Section:
    """Return the section with a card for every artefact, in the order of creation."""
    result = Section("made", "How everything was created", SAYS)

    def of(
        items: Iterable[Any], make: Callable[[Any], list[Block]], path_of: Callable[[Any], Path]
    ) -> None:
        result.blocks.extend(each(items, path_of, make, rejected))

    def path(item: Document | Checkpoint) -> Path:
        return item.path

    of(artefacts.packs, _pack, path)
    of(alike(artefacts.checkpoints), _checkpoints, lambda alike: alike[0].path)
    of(artefacts.scores, _scores, path)
    of(artefacts.evaluations, _evaluation, path)
    of(artefacts.grids, _grid, lambda grid: grid.folder)
    of(artefacts.comparisons, _comparison, path)
    of(artefacts.realism, _realism, path)
    of(artefacts.methods, _methods, lambda item: item)
    of(artefacts.old, _old, lambda item: item)
    if not result.blocks:
        result.blocks.append(missing("No artefact was found.", "make demo"))
    return result


def _card(
    kind: str,
    file: Path,
    entries: Mapping[str, Any],
    made_by: commands.Recreation,
    badges: Iterable[Block] = (),
) -> list[Block]:
    said = {name: value for name, value in entries.items() if value not in (None, "", {})}
    content = {"what": kind, "file": str(file), "entries": said, "badges": list(badges)}
    return [Block("card", content | {"made_by": made_by._asdict()})]


def _versions(metadata: Mapping[str, Any]) -> str:
    versions = metadata.get("versions") or {"dhs": metadata.get("package_version")}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _pack(document: Document) -> list[Block]:
    metadata = document.metadata
    drawn = metadata.get("split")
    seed = metadata.get("seed", drawn.get("seed") if isinstance(drawn, Mapping) else None)
    entries = {
        "data": metadata.get("data_origin", "unknown"),
        "cutouts": metadata.get("n"),
        "seed": seed,
        "configuration SHA-256": metadata.get("config_sha256"),
        "versions": _versions(metadata),
    }
    kind = "simulated survey" if "config_sha256" in metadata else "pack"
    return _card(kind, document.path, entries, commands.of_pack(document))


def alike(checkpoints: Iterable[Checkpoint]) -> list[list[Checkpoint]]:
    """Group checkpoints with the same weights and deprecation mark, such as best and last."""
    groups: dict[tuple[str, str | None], list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        groups.setdefault((checkpoint.fingerprint, checkpoint.deprecated), []).append(checkpoint)
    return list(groups.values())


def _checkpoints(alike: list[Checkpoint]) -> list[Block]:
    checkpoint, *others = alike
    data = checkpoint.data
    entries = {
        "identical to": ", ".join(str(other.path) for other in others),
        "architecture": checkpoint.arch,
        "status": checkpoint.status,
        "deprecated": checkpoint.deprecated,
        "data": data["data_origin"],
        "data fingerprint": data.get("fingerprint"),
        "fingerprint": checkpoint.fingerprint,
        "seed": (checkpoint.config.get("dataset") or {}).get("seed"),
        "versions": _versions({"versions": checkpoint.versions}),
        "created": checkpoint.created,
    }
    badges = [badge(checkpoint.spec, checkpoint.size)]
    return _card("checkpoint", checkpoint.path, entries, commands.of_checkpoint(checkpoint), badges)


def _scores(document: Document) -> list[Block]:
    metadata = document.metadata
    members = metadata["members"]
    entries = {
        "architecture": ", ".join(member["architecture"]["arch"] for member in members),
        "checkpoints": ", ".join(
            f"{member['checkpoint']} {member['checkpoint_fingerprint'][:12]}" for member in members
        ),
        "data": metadata.get("data_origin") or "unknown",
        "fingerprint": metadata.get("fingerprint"),
        "batch size": metadata.get("batch_size"),
        "device": metadata.get("device"),
        "versions": _versions(metadata),
    }
    badges = [badge(spec) for spec in specs_of(metadata)]
    return _card("scores", document.path, entries, commands.of_scores(document), badges)


def _evaluation(document: Document) -> list[Block]:
    metadata = document.metadata
    entries = {
        "data": metadata["data_origin"] or "unknown",
        "across annuli": metadata["across_annuli"],
        "seed": metadata["bootstrap"]["seed"],
        "versions": _versions(metadata),
    }
    specs = dict.fromkeys(spec for item in metadata["tables"] for spec in specs_of(item))
    badges = [badge(spec) for spec in specs]
    return _card("evaluation", document.path, entries, commands.of_evaluation(document), badges)


def _grid(grid: GridResult) -> list[Block]:
    metadata = grid.metadata
    entries = {
        "model": grid.model,
        "checkpoint fingerprint": metadata["checkpoint"]["fingerprint"],
        "checkpoint trained on": metadata["checkpoint"].get("data_origin"),
        "data": metadata["data_origin"],
        "fingerprint": metadata["injections_fingerprint"],
        "draws fingerprint": metadata["draws_fingerprint"],
        "seed": metadata["config"].get("seed"),
        "intervals": grid.warning or f"95 %, sampling units: {grid.interval_kind}",
        "versions": _versions(metadata.get("determining", {})),
    }
    return _card("selection grid", grid.folder, entries, commands.of_grid(grid), [badge(grid.spec)])


def _comparison(document: Document) -> list[Block]:
    metadata = document.metadata
    entries = {
        "data": metadata["data_origin"],
        "differences in preprocessing": "; ".join(metadata.get("preprocessing_differs", [])),
        "draws fingerprint": metadata.get("draws_fingerprint"),
    }
    badges = [
        badge(PreprocessSpec.from_dict(metadata[side]["spec"])) for side in ("first", "second")
    ]
    return _card(
        "comparison of grids", document.path, entries, commands.of_comparison(document), badges
    )


def _realism(document: Document) -> list[Block]:
    metadata = document.metadata
    result = metadata["checkpoint"]
    entries = {
        "architecture": result["architecture"]["arch"],
        "checkpoint": f"{result['name']} {result['fingerprint'][:12]}",
        "checkpoint trained on": result.get("data_origin"),
        "data": f"{metadata['real']['data_origin']} and {metadata['injected']['data_origin']}",
        "seed": metadata.get("seed"),
        "versions": _versions(metadata),
        "created": metadata.get("created"),
    }
    spec = PreprocessSpec.from_dict(metadata["spec"])
    badges = [badge(spec, result["architecture"]["size"])]
    return _card("realism check", document.path, entries, commands.of_realism(document), badges)


def _methods(path: Path) -> list[Block]:
    return _card("methods text", path, {}, commands.of_methods(path))


def _old(path: Path) -> list[Block]:
    entries = {"annulus": "not recorded in the file; import the file to find out"}
    return _card("old checkpoint, not imported", path, entries, commands.of_old(path))
