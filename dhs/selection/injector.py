"""Create injections from their ids: parameters, images on the device, and table columns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow
import torch
from numpy.typing import NDArray
from torch import Tensor

from dhs.constants import AB_ZEROPOINT_MAG, BANDS
from dhs.injection.noise import Noise
from dhs.injection.params import LensParams, SourceParams
from dhs.injection.psf import FWHM_OF_R
from dhs.injection.tensors import inject_tensors
from dhs.model.transfer import Stack, sent_ahead
from dhs.selection.config import GridConfig
from dhs.selection.draws import Drawer, Draws
from dhs.selection.host_noises import LEAST_USES, MOST_HOSTS, HostNoises
from dhs.selection.hosts import Hosts

_REAL, _NARROW = pyarrow.float64(), pyarrow.float32()
_LENS = list(LensParams.ranges)
_SOURCE = list(SourceParams.ranges)
MEASURED = (
    "magnification",
    *(f"arc_snr_{band}" for band in BANDS),
    *(f"arc_snr_matched_{band}" for band in BANDS),
)

SCHEMA = pyarrow.schema(
    {"injection_id": pyarrow.int64(), "seed": pyarrow.int64(), "cell": pyarrow.int32()}
    | dict.fromkeys(("theta_e", "psf_fwhm", "depth_5sig"), _REAL)
    | {"host_id": pyarrow.string(), "host_row": pyarrow.int64()}
    | dict.fromkeys(("host_psf_fwhm", "host_depth_5sig"), _REAL)
    | dict.fromkeys(_LENS, _REAL)
    | {"source_r_mag": _REAL}
    | {f"source_{name}": _REAL for name in _SOURCE}
    | {"lensed_r_mag": _REAL}
    | dict.fromkeys(MEASURED, _REAL)
    | {"logit": _NARROW, "score": _REAL, "failure": pyarrow.string()}
)
"""Columns of ``injections.parquet``. ``theta_e``, ``psf_fwhm`` and ``depth_5sig`` are the centre
of the cell; ``host_psf_fwhm`` and ``host_depth_5sig`` belong to the host. ``host_row`` is the
position of the host in the split. ``source_r_mag`` is the unlensed magnitude, ``lensed_r_mag``
that of all arc light in the stamp. ``arc_snr_BAND``, ``arc_snr_matched_BAND`` and
``magnification`` are described in `dhs.injection.inject`. If the host has a pixel that is not
finite, ``logit`` and ``score`` are NaN and ``failure`` gives the reason.
"""


class InjectedBatch(NamedTuple):
    """A batch of injections.

    ``images`` and ``hosts`` (B, 3, H, W) float32 on the device, nanomaggies; hosts with a pixel
    that is not finite are 0. ``mask``: bad pixels of the hosts, or None. ``columns``: columns of
    the table, without ``logit`` and ``score``. ``is_good`` (B,) bool: whether the host is usable.
    """

    images: Tensor
    hosts: Tensor
    mask: Tensor | None
    columns: dict[str, Any]
    is_good: NDArray[np.bool_]


class _Opened(NamedTuple):
    """Injections whose hosts are read.

    ``rows`` (B,) int64: positions of the hosts in the split. ``is_good``: see `InjectedBatch`.
    """

    ids: NDArray[np.int64]
    drawn: Draws
    rows: NDArray[np.int64]
    is_good: NDArray[np.bool_]


class Injector:
    """Creates injections of a grid in batches on one device.

    Parameters
    ----------
    config : GridConfig
    hosts : Hosts
    device : torch.device
    """

    def __init__(self, config: GridConfig, hosts: Hosts, device: torch.device) -> None:
        self.config, self.hosts, self.device = config, hosts, device
        self.backend = config.backend or ("triton" if device.type == "cuda" else None)
        self._drawer = Drawer(config, hosts)
        injections = config.injections_per_cell * len(hosts.pools)
        # A GPU measures them with the rest of a batch.
        is_worth_it = device.type == "cpu" and injections >= LEAST_USES * len(hosts)
        self._noises = HostNoises(hosts) if is_worth_it and len(hosts) <= MOST_HOSTS else None
        self._cells = np.array(config.cells())

    def make(self, ids: NDArray[np.int64]) -> InjectedBatch:
        """Create the injections with these ids; their cells must have hosts."""
        return next(self.batches([ids]))

    def batches(self, ids: Iterable[NDArray[np.int64]]) -> Iterator[InjectedBatch]:
        """Create injections batch by batch, given the ids of each batch.

        On a GPU, the hosts of a batch are copied while the device works on the batch before.
        """
        opened: deque[_Opened] = deque()

        def stacks() -> Iterator[Stack]:
            for some in ids:
                batch, stack = self._open(some)
                opened.append(batch)
                yield stack

        for hosts, mask in sent_ahead(stacks(), self.device):
            yield self._inject(opened.popleft(), hosts, mask)

    def _open(self, ids: NDArray[np.int64]) -> tuple[_Opened, Stack]:
        """Draw injections, and read their hosts and masks into host memory."""
        drawn = self._drawer.draw(ids)
        pixels, mask, is_good = self.hosts.read(drawn.host, self.device)
        return _Opened(ids, drawn, self.hosts.rows[drawn.host], is_good), (pixels, mask)

    def _inject(self, opened: _Opened, hosts: Tensor, mask: Tensor | None) -> InjectedBatch:
        """Inject into hosts that are on the device."""
        ids, drawn, rows, is_good = opened
        width = self.hosts.fwhm[drawn.host]
        injected = inject_tensors(
            hosts,
            drawn.lens,
            drawn.source,
            _in_all_bands(width),
            self._noise(),
            self.config.seed,
            ids,
            mask=mask,
            of_hosts=None if self._noises is None else self._noises.of(drawn.host),
            backend=self.backend,
        )
        places = self._cells[drawn.cell]
        flux_in, flux_out = drawn.source.flux_nmgy_r, injected.measured["flux_out_r"]
        columns: dict[str, Any] = {
            "injection_id": ids,
            "seed": np.full(len(ids), self.config.seed),
            "cell": drawn.cell.astype(np.int32),
            "theta_e": places[:, 0],
            "psf_fwhm": places[:, 1],
            "depth_5sig": places[:, 2],
            "host_id": self.hosts.data.ids[rows].tolist(),
            "host_row": rows,
            "host_psf_fwhm": width[:, BANDS.index("r")],
            "host_depth_5sig": self.hosts.depth[drawn.host],
            "source_r_mag": _magnitude(flux_in),
            "lensed_r_mag": _magnitude(flux_out),
        }
        columns |= drawn.lens.arrays()
        columns |= {f"source_{name}": column for name, column in drawn.source.arrays().items()}
        columns |= {name: injected.measured[name] for name in MEASURED}
        reason = "a pixel of the host is not finite"
        columns["failure"] = np.where(is_good, "", reason).tolist()
        return InjectedBatch(injected.stamps, hosts, mask, columns, is_good)

    def _noise(self) -> Noise:
        noise = self.config.noise
        gain = noise.gain_e_per_nmgy if noise.poisson else None
        return Noise(gain, noise.texture or None)


def _in_all_bands(width: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return PSF widths (B, 3), arcsec; unknown widths in g and z follow from r."""
    in_r = width[:, BANDS.index("r"), None]
    return np.where(np.isnan(width), in_r * [FWHM_OF_R[band] for band in BANDS], width)


def _magnitude(flux: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        magnitude: NDArray[np.float64] = AB_ZEROPOINT_MAG - 2.5 * np.log10(flux)
    return magnitude
