"""The registry of backends: which exist, which are available, and which one runs.

Backends receive planes that the public functions have already checked and made
contiguous, and do not raise errors. A CPU backend is a `Run`. A GPU backend is a
``launch`` function; see `fastnorm.kernels.triton_normalize.launch`.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastnorm import reference
from fastnorm.annulus import frames_to_caller
from fastnorm.dispatch.planes import Launch, Options, Planes, Run
from fastnorm.extras import missing_package


class BackendUnavailableError(RuntimeError):
    """A backend was requested by name and cannot run here, or no backend can.

    Examples
    --------
    >>> def load():
    ...     raise BackendUnavailableError("torch sees no CUDA device")
    >>> try:
    ...     choose("triton", "cuda", loaders={"triton": ("cuda", load)})
    ... except BackendUnavailableError as error:
    ...     print(str(error).partition(".")[0])
    backend='triton' is not available here: torch sees no CUDA device
    """


@dataclass(frozen=True)
class Backend:
    """One implementation of the definition.

    Attributes
    ----------
    name : str
        Name to pass as ``backend=``.
    device : str
        ``"cpu"`` or ``"cuda"``.
    available : bool
        Whether the backend can run here.
    reason : str
        Why the backend is not available; empty if it is.

    Examples
    --------
    >>> [backend.name for backend in backends() if backend.device == "cpu" and backend.available]
    ['numba', 'reference']
    """

    name: str
    device: str
    available: bool
    reason: str


def _run_reference(planes: Planes, options: Options) -> None:
    for i, image in enumerate(planes.images):
        mask = None if planes.masks is None else planes.masks[i]
        out, planes.median[i], planes.mad[i] = reference.normalize_plane(
            image,
            options.footprint,
            mask=mask,
            eps=options.eps,
            clip=options.clip,
            nan_to_zero=options.nan_to_zero,
        )
        if planes.out is not None:
            planes.out[i] = out


def _load_reference() -> Run:
    return _run_reference


def _load_numba() -> Run:
    run: Run = importlib.import_module("fastnorm.dispatch.numba_backend").run
    return run


def _load_triton() -> Launch:
    module = importlib.import_module("fastnorm.kernels.triton_normalize")
    if not is_interpreted("triton"):
        require_cuda()
    launch: Launch = module.launch
    return launch


def _load_numba_cuda() -> Launch:
    module = importlib.import_module("fastnorm.kernels.numba_cuda_normalize")
    if not is_interpreted("numba-cuda"):
        require_cuda()
    reason = module.reason_unavailable()
    if reason:
        raise BackendUnavailableError(reason)
    launch: Launch = module.launch
    return launch


def require_cuda() -> None:
    """Raise `BackendUnavailableError` if torch sees no CUDA device."""
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        raise BackendUnavailableError("torch sees no CUDA device")


def is_interpreted(name: str) -> bool:
    """Return whether device code runs in Python: Triton's interpreter or Numba's simulator."""
    variables = {"triton": "TRITON_INTERPRET", "numba-cuda": "NUMBA_ENABLE_CUDASIM"}
    return name in variables and os.environ.get(variables[name]) == "1"


Loader = Callable[[], Callable[..., None]]
Loaders = Mapping[str, tuple[str, Loader]]
"""Device and import function of each backend, by name, in order of preference."""

_LOADERS: dict[str, tuple[str, Loader]] = {
    "numba": ("cpu", _load_numba),
    "reference": ("cpu", _load_reference),
    "triton": ("cuda", _load_triton),
    "numba-cuda": ("cuda", _load_numba_cuda),
}


@cache
def _load(loader: Loader) -> Callable[..., None] | str:
    """Return the function of a backend, or the reason why it is not available."""
    try:
        return loader()
    except BackendUnavailableError as error:
        return str(error)
    # Whatever stops a backend, the others run; `backends` tells why.
    except Exception as error:
        for fault in (error, error.__cause__):
            missing = missing_package(fault) if isinstance(fault, ImportError) else None
            if missing is not None:
                return missing
        return f"{type(error).__name__}: {error}"


def backends() -> list[Backend]:
    """List all backends, for each device in order of preference.

    Examples
    --------
    >>> [backend.name for backend in backends()]
    ['numba', 'reference', 'triton', 'numba-cuda']
    """
    return list_backends(_LOADERS)


def list_backends(loaders: Loaders) -> list[Backend]:
    """List the backends of a table of loaders, as `backends` does for its own."""
    found = []
    for name, (device, loader) in loaders.items():
        run = _load(loader)
        reason = run if isinstance(run, str) else ""
        found.append(Backend(name, device, not reason, reason))
    return found


def device_of(name: Any) -> str | None:
    """Return the kind of device that a backend runs on, or None if it does not exist."""
    return _LOADERS[name][0] if isinstance(name, str) and name in _LOADERS else None


def takes_cpu_tensors(name: str | None) -> bool:
    """Return whether a GPU backend runs in Python here, on CPU tensors."""
    return name is not None and device_of(name) == "cuda" and is_interpreted(name)


def choose(
    name: str | None,
    device: str = "cpu",
    loaders: Loaders = _LOADERS,
    listed_by: str = "fastnorm.backends()",
) -> Callable[..., None]:
    """Return the function of a backend: the named one, or the first that is available.

    Parameters
    ----------
    name : str or None
        Name of the backend; None for the first available.
    device : str
        ``"cpu"`` or ``"cuda"``: where the images are.
    loaders : mapping
        Device and import function of each backend, by name.
    listed_by : str
        Call or command that lists these backends, for error messages.

    Returns
    -------
    function
        A `Run` for the CPU, a ``launch`` function for a GPU.

    Raises
    ------
    ValueError
        No backend has that name, or the backend is for another device.
    BackendUnavailableError
        The named backend is not available, or no backend is.
    """
    if name is not None and not (isinstance(name, str) and name in loaders):
        raise ValueError(
            f"backend={name!r} is not known; expected None (the fastest available) or one of "
            f"{', '.join(map(repr, loaders))}."
        )
    names = [known for known, (where, _) in loaders.items() if where == device]
    if name is not None and name not in names:
        raise ValueError(
            f"backend={name!r} is for the {loaders[name][0]}, but images is on the {device}; "
            f"expected None or one of {', '.join(map(repr, names))}."
        )
    for candidate in names if name is None else [name]:
        run = _load(loaders[candidate][1])
        if not isinstance(run, str):
            return run
        if name is not None:
            raise BackendUnavailableError(
                f"backend={name!r} is not available here: {run}. Choose one that "
                f"{listed_by} lists as available, or fix the installation."
            )
        warnings.warn(
            f"the backend {candidate!r} is not available ({run}); using a slower one.",
            RuntimeWarning,
            stacklevel=frames_to_caller(),
        )
    raise BackendUnavailableError(
        f"images is on the {device}, but no backend for it is available; see {listed_by}."
    )
