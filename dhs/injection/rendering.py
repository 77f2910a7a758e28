"""The public function that renders lensed sources, and the choice of its backend."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhs.arguments import MOST_ID, id_array, integer, real_array
from dhs.constants import BANDS, CUTOUT_SIZE, PIXEL_SCALE
from dhs.injection.params import LensParams, SourceParams
from dhs.injection.quadrature import Plan, make_plan
from dhs.injection.source import draw_clumps
from fastnorm.dispatch import registry

if TYPE_CHECKING:
    from torch import Tensor

    from dhs.injection.stamps import GalaxyStamps

MOST_PIXELS_PER_SIDE = 4096
MOST_OVERSAMPLE = 8
_LISTED_BY = "dhs.injection.backends()"


def _load_numba() -> Any:
    return importlib.import_module("dhs.injection.numba_backend").run


def _load_reference() -> Any:
    return importlib.import_module("dhs.injection.reference").run


def _load_triton() -> Any:
    run = importlib.import_module("dhs.injection.triton_backend").run
    if not registry.is_interpreted("triton"):
        registry.require_cuda()
    return run


_LOADERS: registry.Loaders = {
    "numba": ("cpu", _load_numba),
    "reference": ("cpu", _load_reference),
    "triton": ("cuda", _load_triton),
}


def backends() -> list[registry.Backend]:
    """List the backends of `render`, for each device in order of preference.

    Examples
    --------
    >>> [backend.name for backend in backends()]
    ['numba', 'reference', 'triton']
    """
    return registry.list_backends(_LOADERS)


@overload
def render(
    lens: LensParams | None,
    source: SourceParams,
    shape: tuple[int, int] = ...,
    pixel_scale: float = ...,
    oversample: int = ...,
    *,
    bands: Sequence[str] = ...,
    stamps: GalaxyStamps | None = ...,
    seed: int = ...,
    ids: ArrayLike | None = ...,
    out: NDArray[np.float32] | None = ...,
    backend: Literal["numba", "reference"] | None = ...,
) -> NDArray[np.float32]: ...


@overload
def render(
    lens: LensParams | None,
    source: SourceParams,
    shape: tuple[int, int] = ...,
    pixel_scale: float = ...,
    oversample: int = ...,
    *,
    bands: Sequence[str] = ...,
    seed: int = ...,
    ids: ArrayLike | None = ...,
    backend: Literal["triton"],
) -> Tensor: ...


@overload
def render(
    lens: LensParams | None,
    source: SourceParams,
    shape: tuple[int, int] = ...,
    pixel_scale: float = ...,
    oversample: int = ...,
    *,
    bands: Sequence[str] = ...,
    stamps: GalaxyStamps | None = ...,
    seed: int = ...,
    ids: ArrayLike | None = ...,
    out: NDArray[np.float32] | None = ...,
    backend: str | None = ...,
) -> Any: ...


def render(
    lens: LensParams | None,
    source: SourceParams,
    shape: tuple[int, int] = (CUTOUT_SIZE, CUTOUT_SIZE),
    pixel_scale: float = PIXEL_SCALE,
    oversample: int = 4,
    *,
    bands: Sequence[str] = BANDS,
    stamps: GalaxyStamps | None = None,
    seed: int = 0,
    ids: ArrayLike | None = None,
    out: NDArray[np.float32] | None = None,
    backend: str | None = None,
) -> Any:
    """Render lensed sources, integrated over pixels, without any PSF.

    Conventions as in `dhs.injection`. The sampling is finest where the light is concentrated:
    see `dhs.injection.quadrature`. An image depends only on its own parameters, the seed and
    its id, never on the batch or the number of threads.

    Parameters
    ----------
    lens : LensParams or None
        B lenses, or one for all; None renders the unlensed sources.
    source : SourceParams
        B sources, or one for all.
    shape : (int, int)
        Rows and columns of a stamp, at most 4096 each.
    pixel_scale : float
        Arcsec per pixel, above 0.
    oversample : int
        Finest sampling of smooth light, in samples per pixel side, in [1, 8]. The tolerated
        errors fall with its square.
    bands : sequence of str
        Which of "g", "r" and "z" to render, in this order. All share one shape, which is
        computed once.
    stamps : GalaxyStamps, optional
        Images of real galaxies that replace the Sersic profiles. ``source`` then sets only
        the position, angle and fluxes.
    seed : int
        Random seed of the clump positions, in [0, 2**63 - 1].
    ids : (B,) array_like of int, optional
        Ids of the injections. By default 0, 1, 2, ...
    out : (B, bands, H, W) float32 array, optional
        C-contiguous array for the result, which saves the time to allocate new memory.
    backend : str, optional
        ``"numba"`` (CPU, all cores), ``"reference"`` (NumPy, float64), ``"triton"`` (CUDA).
        By default, the first one available on the CPU.

    Returns
    -------
    (B, bands, H, W) float32 array
        Nanomaggies per pixel. For ``"triton"``, a tensor on the current CUDA device (on the CPU
        under Triton's interpreter).

    Raises
    ------
    TypeError, ValueError
        An argument is out of its range, lengths do not broadcast, or the backend does not
        support ``stamps`` or ``out``.
    BackendUnavailableError
        The chosen backend cannot run here.
    """
    lens, source, shape = _open_batch(lens, source, shape)
    count = len(source)
    scale = float(real_array("pixel_scale", pixel_scale, 0.0, 100.0, low_is_allowed=False, ndim=0))
    oversample = integer("oversample", oversample, 1, MOST_OVERSAMPLE)
    flux = _open_bands(source, bands)
    seed, ids = integer("seed", seed, 0, MOST_ID), id_array(ids, count)
    device = _LOADERS[backend][0] if isinstance(backend, str) and backend in _LOADERS else "cpu"
    run = registry.choose(backend, device, _LOADERS, _LISTED_BY)
    if device == "cuda":
        if stamps is not None or out is not None:
            raise ValueError(
                "backend='triton' does not support stamps or out; omit them or use a CPU backend."
            )
        plan = _plan(lens, source, flux, shape, scale, oversample, seed, ids)
        return _on_gpu(run, plan)
    out = _open_output(out, (count, flux.shape[1], *shape))
    if stamps is not None:
        if backend is not None:
            raise ValueError(
                f"backend={backend!r} does not render stamps, which have a single "
                "implementation; omit backend."
            )
        stamps.render_into(out, lens, source, bands, scale, oversample)
        return out
    run(_plan(lens, source, flux, shape, scale, oversample, seed, ids), out)
    return out


def _plan(
    lens: LensParams | None,
    source: SourceParams,
    flux: NDArray[np.float64],
    shape: tuple[int, int],
    scale: float,
    oversample: int,
    seed: int,
    ids: NDArray[np.int64],
) -> Plan:
    clumps = draw_clumps(source, seed, ids)
    return make_plan(lens, source, clumps, flux, shape, scale, oversample)


def _open_batch(
    lens: Any, source: Any, shape: Any
) -> tuple[LensParams | None, SourceParams, tuple[int, int]]:
    if not isinstance(source, SourceParams):
        raise TypeError(f"source is of type {type(source).__name__}; give a SourceParams.")
    if lens is not None:
        if not isinstance(lens, LensParams):
            raise TypeError(
                f"lens is of type {type(lens).__name__}; give a LensParams, or None for no lens."
            )
        lengths = {len(lens), len(source)} - {1}
        if len(lengths) > 1:
            raise ValueError(
                f"lens has {len(lens)} injections and source has {len(source)}, which do not "
                "broadcast; give equal numbers, or one of either."
            )
        count = lengths.pop() if lengths else 1
        lens, source = lens.broadcast_to(count), source.broadcast_to(count)
    if not isinstance(shape, Sequence) or len(shape) != 2:
        raise ValueError(f"shape={shape!r} is not allowed: give (rows, columns).")
    rows, columns = (
        integer(f"shape[{i}]", side, 1, MOST_PIXELS_PER_SIDE) for i, side in enumerate(shape)
    )
    return lens, source, (rows, columns)


def _open_bands(source: SourceParams, bands: Sequence[str]) -> NDArray[np.float64]:
    """Return the flux of each injection in each requested band."""
    unknown = [band for band in bands if band not in BANDS]
    if unknown or not len(bands):
        raise ValueError(f"bands={bands!r} is not allowed: give one or more of {', '.join(BANDS)}.")
    return source.fluxes()[:, [BANDS.index(band) for band in bands]]


def _open_output(out: NDArray[np.float32] | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if out is None:
        return np.empty(shape, np.float32)
    is_good = isinstance(out, np.ndarray) and out.shape == shape and out.dtype == np.float32
    if not is_good or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"out must be a writeable C-contiguous float32 array of shape {shape}.")
    return out


def _on_gpu(run: Any, plan: Plan) -> Tensor:
    torch = importlib.import_module("torch")
    device = "cpu" if registry.is_interpreted("triton") else "cuda"
    shape = (len(plan.table), plan.flux.shape[1], *plan.shape)
    out: Tensor = torch.empty(shape, dtype=torch.float32, device=device)
    run(plan, out)
    return out
