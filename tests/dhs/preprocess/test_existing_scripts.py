"""Names and habits of existing scripts: dtypes, boxes, arrays in memory, settings that change."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dhs.preprocess import preprocess_stack
from dhs.transforms import AugmentConfig, azimuthal_shuffle, random_augment
from dhs.utils import center_slices, decode_npz_blob

DTYPES = [np.float16, np.float64, ">f4", ">f8", np.int32, np.float32]


def image(dtype: Any = np.float32, side: int = 41) -> NDArray[Any]:
    values = np.arange(3 * side * side).reshape(3, side, side) % 997
    cutout: NDArray[Any] = values.astype(dtype)
    return cutout


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(),
        AugmentConfig(False, False, False),
        AugmentConfig(core_dropout_prob=1.0, az_shuffle_prob=1.0, az_shuffle_rmax=9),
    ],
)
def test_augmented_cutouts_are_float32(dtype: Any, config: AugmentConfig) -> None:
    given = image(dtype)
    before = given.tobytes()
    out = random_augment(given, 5, config)
    assert out.dtype == np.float32
    assert out.dtype.isnative
    assert torch.from_numpy(out).dtype == torch.float32
    assert not np.shares_memory(out, given)
    assert given.tobytes() == before
    np.testing.assert_array_equal(out, random_augment(image(), 5, config))


@pytest.mark.parametrize("dtype", DTYPES)
def test_shuffled_rings_are_float32_and_alike_in_all_bands(dtype: Any) -> None:
    given = image(dtype)
    out = azimuthal_shuffle(given, 7, rmax=9)
    assert out.dtype == np.float32
    rows, columns = np.indices((41, 41))
    radius = np.hypot(rows - 20, columns - 20)
    np.testing.assert_array_equal(out[:, radius >= 9], given[:, radius >= 9])
    for k in range(9):
        ring = (radius >= k) & (radius < k + 1)
        pairs = [sorted(zip(*stack[:, ring], strict=True)) for stack in (given, out)]
        assert pairs[0] == pairs[1]
    assert (out != given).any()
    np.testing.assert_array_equal(out, azimuthal_shuffle(given, 7, rmax=9))
    assert not np.array_equal(out, azimuthal_shuffle(given, 8, rmax=9))


def test_shuffled_rings_are_those_of_the_augmentation() -> None:
    config = AugmentConfig(False, False, False, az_shuffle_prob=1.0)
    rng = np.random.default_rng(11)
    assert rng.random() < 1.0
    seed = int(rng.integers(0, 2**31 - 1))
    expected = azimuthal_shuffle(image(side=101), seed)
    np.testing.assert_array_equal(random_augment(image(side=101), 11, config), expected)


@pytest.mark.parametrize(("box", "pixels"), [(10, 10), (5, 4), (1, 0), (2, 2), (64, 64), (63, 62)])
@pytest.mark.parametrize("shape", [(101, 101), (64, 80)])
def test_a_box_takes_half_its_side_to_both_sides(
    box: int, pixels: int, shape: tuple[int, int]
) -> None:
    for part, length in zip(center_slices(*shape, box), shape, strict=True):
        assert (part.start, part.stop) == (length // 2 - box // 2, length // 2 + box // 2)
        assert part.stop - part.start == pixels


def test_arrays_of_an_npz_in_memory() -> None:
    arrays = {
        "cutout": np.random.default_rng(0).random((5, 4, 3), np.float32),
        "swapped": np.arange(4, dtype=">f4"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "meta_galaxy_id": np.array("0001m060_2396"),
        "empty": np.zeros((0, 3)),
    }
    found = decode_npz_blob(npz(**arrays))
    assert list(found) == list(arrays)
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    found["cutout"][0] = 1


@pytest.mark.parametrize(
    ("blob", "named"),
    [
        (b"", "does not begin with PK"),
        (b"nothing of the kind", "does not begin with PK"),
        (npz(a=np.zeros(9))[:-40], "damaged"),
        (npz(a=np.array([{}, None], object)), "Python objects"),
    ],
)
def test_bytes_that_are_not_an_npz_are_refused(blob: bytes, named: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)blob.*{named}"):
        decode_npz_blob(blob)


def test_a_name_of_a_file_is_not_its_content() -> None:
    blob: Any = "cutout.npz"
    with pytest.raises(TypeError, match=r"blob is a str; give the bytes"):
        decode_npz_blob(blob)


def test_settings_of_the_augmentation_can_be_changed() -> None:
    config = AugmentConfig()
    config.hflip = config.vflip = config.rot90 = False
    config.core_dropout_prob = 1.0
    out = random_augment(image(), 0, config)
    assert (out[:, 20, 20] == 0).all()


@pytest.mark.parametrize("radii", [(0.0, 0.0), (0, 0)])
def test_radii_of_0_name_what_the_legacy_annulus_is_called_here(radii: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"annulus_r_in=.* None for both means .*\(20, 32\)"):
        preprocess_stack(
            image(side=101), "raw_robust", annulus_r_in=radii[0], annulus_r_out=radii[1]
        )
