"""Hosts of a grid: the cell of each host, and refused input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from pyarrow import parquet

from dhs import checkpoint
from dhs.data import DatasetConfig, LensDataset, SplitConfig
from dhs.selection.config import Axis, GridConfig, HostsSection
from dhs.selection.engine import Engine
from dhs.selection.hosts import Hosts, depth_of_inverse_variance
from tests.dhs.selection.grid_runs import HOSTS, INVERSE_VARIANCE, grid, write_hosts, write_model


def opened(folder: Path, unit: bytes | None = None, **columns: Any) -> Hosts:
    return Hosts(config(write_hosts(folder, unit, **columns)))


def config(pack: Path, **changes: Any) -> GridConfig:
    return grid(pack, Path("no-model"), Path("no-out"), **changes)


def test_depth_is_that_of_five_sigma() -> None:
    variance = np.array([INVERSE_VARIANCE, 1.0, 2000.0])
    five_sigma = 5 / np.sqrt(variance) * 3.631e-6 * units.Jy
    np.testing.assert_allclose(
        depth_of_inverse_variance(variance), five_sigma.to_value(units.ABmag), atol=1e-4
    )


@pytest.mark.filterwarnings("error")
def test_depth_of_what_was_not_observed_is_nan() -> None:
    depth = depth_of_inverse_variance(np.array([0.0, np.nan, 25.0]))
    np.testing.assert_array_equal(depth, [np.nan, np.nan, 22.5])
    assert np.isnan(depth_of_inverse_variance(0.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"psfdepth\[1, 0\]=-3 is not allowed"):
        depth_of_inverse_variance(np.array([[1.0, 2.0], [-3.0, -1.0]]))


def test_every_host_is_in_the_cell_of_its_seeing_and_depth(tmp_path: Path) -> None:
    hosts = opened(tmp_path / "pack")
    assert len(hosts) == HOSTS
    assert sorted(hosts.pools) == [0, 1, 2, 3]  # two radii, two widths
    for cell, width in enumerate((1.2, 1.5, 1.2, 1.5)):
        pool = hosts.pools[cell]
        assert len(pool) == HOSTS // 2
        np.testing.assert_array_equal(hosts.fwhm[pool, 1], width)
    assert (hosts.used, hosts.outside, hosts.without_seeing) == (HOSTS, 0, 0)
    assert (hosts.data.labels[hosts.rows] == 0).all()


def test_nothing_is_snapped_into_a_cell(tmp_path: Path) -> None:
    widths = np.full(2 * HOSTS, 1.2)
    widths[0], widths[2], widths[4] = 1.66, np.nan, 1.0499  # the cells reach from 1.05 to 1.65
    widths[6] = 1.0501
    hosts = opened(tmp_path / "pack", psfsize_r=widths)
    assert (hosts.used, hosts.outside, hosts.without_seeing) == (HOSTS - 3, 2, 1)
    assert sorted(hosts.pools) == [0, 2]
    assert [count["hosts"] for count in hosts.counts] == [HOSTS - 3, 0]


def test_centres_of_the_default_axes() -> None:
    given = GridConfig(checkpoint="a", out_dir="b", hosts={"parquet_path": "c"})  # type: ignore[arg-type]
    assert given.theta_e.centres() == [0.5 + 0.25 * k for k in range(11)]
    assert given.psf_fwhm.centres() == [0.9, 1.05, 1.2, 1.35, 1.5, 1.65, 1.8]
    assert given.depth_5sig.centres() == [22.5, 23.0, 23.5, 24.0, 24.5]
    assert len(given.cells()) == 385
    with pytest.raises(ValueError, match="not a whole multiple of step"):
        Axis(start=0.5, stop=3.0, step=0.4)
    with pytest.raises(ValueError, match=r"2\.5e\+09 steps; at most 1000"):
        Axis(start=0.5, stop=3.0, step=1e-9)


def test_widths_in_other_bands_are_used_where_they_are_known(tmp_path: Path) -> None:
    hosts = opened(tmp_path / "pack", psfsize_g=1.4)
    assert (hosts.fwhm[:, 0] == 1.4).all()
    assert np.isnan(hosts.fwhm[:, 2]).all()


@pytest.mark.parametrize("unit", [b"mag", b"nanomaggy^-2"])
def test_the_unit_is_that_of_the_column(tmp_path: Path, unit: bytes) -> None:
    value = 24.0 if unit == b"mag" else INVERSE_VARIANCE
    hosts = opened(tmp_path / "pack", unit, psfdepth_r=value)
    np.testing.assert_allclose(hosts.depth, 24.0, atol=1e-5)


def test_an_undeclared_unit_that_may_be_either_is_an_error(tmp_path: Path) -> None:
    with_placeholder = np.r_[99.0, np.full(2 * HOSTS - 1, 24.0)]
    for name, values in (("some", with_placeholder), ("pack", 24.0)):
        with pytest.raises(ValueError, match=r"psfdepth_r lies between 20 and 28.*--psfdepth-unit"):
            opened(tmp_path / name, psfdepth_r=values)
    hosts = Hosts(config(tmp_path / "pack", hosts={"psfdepth_unit": "mag"}))
    assert (hosts.depth == 24.0).all()


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"psfdepth_r": 1e-3}, r"no cell has hosts.fewest_per_cell=5.*40 lie outside.*depth 17.00"),
        ({"psfsize_r": np.nan}, "40 have no seeing or depth"),
        ({"psfdepth_r": 0.0}, "40 have no seeing or depth"),
        ({"label": 1}, "has no non-lens in split 'all'.*label=0"),
        ({"psfsize_r": "wide"}, r"psfsize_r \(hosts.psfsize_col\) is not numeric"),
    ],
)
def test_hosts_that_do_not_do(tmp_path: Path, columns: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        opened(tmp_path / "pack", **columns)


def test_a_missing_column_is_named_and_so_is_a_foreign_unit(tmp_path: Path) -> None:
    hosts = write_hosts(tmp_path / "pack")
    with pytest.raises(ValueError, match=r"no column 'psfdpth_r'.*did you mean psfdepth_r"):
        Hosts(config(hosts, hosts={"psfdepth_col": "psfdpth_r"}))
    with pytest.raises(ValueError, match="declares the unit 'Jy'"):
        opened(tmp_path / "other", b"Jy")


def without(pack: Path, *names: str) -> Path:
    """Remove columns from the manifest of a pack."""
    table = parquet.read_table(pack / "manifest.parquet").drop_columns(list(names))
    parquet.write_table(table, pack / "manifest.parquet")
    return pack


def test_a_table_without_seeing_or_depth_takes_a_constant(tmp_path: Path) -> None:
    pack = without(write_hosts(tmp_path / "pack"), "psfsize_r", "psfdepth_r")
    hosts = Hosts(config(pack, hosts={"psf_fwhm": 1.2, "depth_5sig": 24.1}))
    assert (hosts.fwhm[:, 1] == 1.2).all()
    assert np.isnan(hosts.fwhm[:, [0, 2]]).all()
    assert (hosts.depth == 24.1).all()
    assert [count["hosts"] for count in hosts.counts] == [HOSTS, 0]
    other = Hosts(config(pack, hosts={"psf_fwhm": 1.3, "depth_5sig": 24.1}))
    assert other.fingerprint != hosts.fingerprint
    pack = without(write_hosts(tmp_path / "other"), "psfdepth_r")
    assert (Hosts(config(pack, hosts={"depth_5sig": 24.1})).depth == 24.1).all()


@pytest.mark.parametrize(
    ("column", "key", "constant"),
    [("psfsize_r", "psf_fwhm", 1.2), ("psfdepth_r", "depth_5sig", 24.0)],
)
def test_a_constant_neither_hides_a_column_nor_is_it_guessed(
    tmp_path: Path, column: str, key: str, constant: float
) -> None:
    pack = write_hosts(tmp_path / "pack")
    with pytest.raises(
        ValueError, match=rf"has a column {column}.*remove hosts.{key}={constant:g},"
    ):
        Hosts(config(pack, hosts={key: constant}))
    missing = rf"no column '{column}' .*hosts.{key}.*docs/howto/seeing_and_depth.md"
    with pytest.raises(ValueError, match=missing):
        Hosts(config(without(pack, column)))
    with pytest.raises(ValueError, match=rf"(?s)hosts.{key}.*greater than 0"):
        config(pack, hosts={key: -constant})


def test_the_host_s_light_is_read_where_the_mass_follows_it(tmp_path: Path) -> None:
    pack = write_hosts(tmp_path / "pack")
    assert Hosts(config(pack)).q is None
    hosts = Hosts(config(pack, q_lens="host"))
    assert hosts.q is not None
    assert hosts.phi is None
    assert 0.55 <= hosts.q.min() < hosts.q.max() <= 0.95


@pytest.mark.parametrize(
    "twice", [{"thresholds": [0.5, 0.5]}, {"fpr_targets": [0.01, 0.0102]}], ids=["score", "rate"]
)
def test_a_threshold_is_asked_for_once(twice: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has a duplicate"):
        config(Path("pack"), **twice)


def test_a_split_value_of_the_hosts_is_refused(tmp_path: Path) -> None:
    said = r"split_by\.split_value='train' is for LensDataset; remove it and write split: train"
    with pytest.raises(ValueError, match=said):
        HostsSection(parquet_path=str(tmp_path), split_by=SplitConfig(split_value="train"))


def test_a_text_column_or_another_band_is_not_offered_as_the_seeing(tmp_path: Path) -> None:
    pack = write_hosts(tmp_path / "pack", psfsize_r_from="header SEEING", psfsize_g=1.3)
    with pytest.raises(ValueError, match="no column 'psfsize_r'") as caught:
        Hosts(config(without(pack, "psfsize_r")))
    said = str(caught.value)
    assert "did you mean" not in said
    assert "dhs depth measures it" not in said
    for part in ("hosts.psf_fwhm", "typical of DR10", "at two values", "seeing_and_depth.md"):
        assert part in said
    upper = write_hosts(tmp_path / "upper", PSFSIZE_R=1.2)
    with pytest.raises(ValueError, match=r"did you mean PSFSIZE_R\?"):
        Hosts(config(without(upper, "psfsize_r")))


def test_too_few_hosts_in_a_split_say_when_all_may_be_used(home: Path) -> None:
    def said(trained_on: dict[str, Any] | None, **section: Any) -> str:
        few = config(home, hosts={"fewest_per_cell": 35, **section})
        with pytest.raises(ValueError, match=r"no cell has hosts\.fewest_per_cell=35") as caught:
            Hosts(few, trained_on)
        return str(caught.value)

    assert "Split" not in said({"fingerprint": "ab"}, split="all")
    unknown: tuple[dict[str, Any] | None, ...] = (None, {})
    for trained_on in unknown:
        text = said(trained_on, split="val")
        assert "Split 'val' has 20 of the 40 non-lenses of" in text
        assert "hosts.split: all is right if the checkpoint was trained on other data." in text
    other = said({"fingerprint": "ab" * 32}, split="val")
    assert "records other training data (fingerprint abababababab)" in other
    for weights in ("", "sample_weight"):
        data = DatasetConfig(parquet_path=str(home), sample_weight_col=weights)
        same = said({"fingerprint": LensDataset(data, "train").fingerprint}, split="val")
        assert "trained on the rest of it" in same
        assert "is right" not in same


def test_the_checkpoint_of_a_grid_is_compared_with_its_hosts(home: Path, tmp_path: Path) -> None:
    finder, _ = checkpoint.load(write_model(tmp_path / "first.safetensors"))
    model, data = tmp_path / "model.safetensors", {"data_origin": "a", "fingerprint": "cd" * 32}
    checkpoint.save(model, finder, config={}, metrics={}, data=data)
    few = grid(home, model, tmp_path / "out", hosts={"split": "val", "fewest_per_cell": 35})
    with pytest.raises(ValueError, match=r"other training data \(fingerprint cdcdcdcdcdcd\)"):
        Engine(few)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return write_hosts(tmp_path / "home")
