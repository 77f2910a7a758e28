"""Backends: list them and choose one."""

from __future__ import annotations

from fastnorm.dispatch.registry import Backend, BackendUnavailableError, backends, choose
from fastnorm.dispatch.threads import set_num_threads

__all__ = ["Backend", "BackendUnavailableError", "backends", "choose", "set_num_threads"]
