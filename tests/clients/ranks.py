"""Run one case in a process that ``torchrun`` started, and save the result of every process.

``torchrun --nproc-per-node 2 -m tests.clients.ranks CASE FOLDER``
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

import fastnorm
from tests.clients import page

Result = dict[str, Any]
dcp: Any = torch.distributed.checkpoint
WHOLE = StateDictOptions(full_state_dict=True)
FROM_FIRST = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


def main(case: str, folder: Path) -> None:
    os.chdir(folder)
    result = CASES[case]()
    torch.save(result, folder / f"{case}-{dist.get_rank()}.pt")
    dist.barrier()
    dist.destroy_process_group()


def whole(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights, gathered from all processes."""
    found: dict[str, Any] = get_model_state_dict(network, options=WHOLE)
    return {name: value.clone() for name, value in found.items() if "_extra_state" not in name}


@contextmanager
def refusal(result: Result, name: str) -> Iterator[None]:
    """Put the message of the error that must come under this name."""
    result[name] = "loaded"
    try:
        yield
    except (ValueError, RuntimeError) as error:
        result[name] = str(error)


def fsdp() -> Result:
    """Run the page's section, then load its weights in all other ways."""
    names = page.common()
    training, *loading = page.blocks("FSDP2")
    page.execute(training, names)
    model, images, mesh = names["model"], names["images"], names["mesh"]
    result: Result = {"trained": whole(model), "logits": model(images).detach()}
    for block in loading:
        page.execute(block, names)
    result["restored"] = names["restored"](images).detach()
    with page.legacy(names), refusal(result, "the page's load"):
        for block in loading:
            page.execute(block, names)

    def sharded(*radii: float) -> Any:
        network = names["finder"](*radii)
        return fully_shard(network, mesh=mesh)

    with refusal(result, "load of the module"):
        dcp.load({"model": sharded(20.0, 32.0)}, checkpoint_id="fsdp_run")

    saved = get_model_state_dict(model, options=WHOLE)
    with torch.device("meta"):
        empty, legacy = sharded(), sharded(20.0, 32.0)
    empty.to_empty(device="cpu")
    legacy.to_empty(device="cpu")
    # The function replaces what it is given by shards.
    set_model_state_dict(empty, dict(saved), options=FROM_FIRST)
    result["built without memory"] = empty(images).detach()
    with refusal(result, "weights of the first process"):
        set_model_state_dict(legacy, dict(saved), options=FROM_FIRST)
    plain = names["finder"]()
    plain.load_state_dict(saved)
    result["in one process"] = plain(images).detach()

    forgetful = sharded(20.0, 32.0)
    dcp.load({"model": forgetful.state_dict()}, checkpoint_id="fsdp_run")
    result["without the last line"] = whole(forgetful)
    return result | mixed_precision(names)


def mixed_precision(names: page.Names) -> Result:
    """Return what the convolution sees under a policy of bfloat16, and its loss."""
    result: Result = {}
    for name, cast, dtype in (("kept", False, torch.bfloat16), ("rounded", True, None)):
        network = names["finder"]()
        network[0] = fastnorm.OuterAnnulusNorm(32.5, 45.0, dtype=dtype)
        seen: list[Tensor] = []
        network[1].register_forward_pre_hook(lambda layer, inputs, seen=seen: seen.append(*inputs))
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, cast_forward_inputs=cast)
        fully_shard(network, mesh=names["mesh"], mp_policy=policy)
        logits = network(names["images"])
        names["loss_of"](logits.float(), names["labels"]).backward()
        result[name] = seen[0].detach()
    return result


def ddp() -> Result:
    """Train one network in all processes, each on its own half of every batch."""
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    names = page.common()
    build, loader = names["finder"], names["loader"]
    halves = [(raw[rank::ranks], target[rank::ranks]) for raw, target in loader]

    def distributed(*radii: float) -> nn.Module:
        return DistributedDataParallel(build(*radii))

    names |= {"finder": distributed, "loader": halves}
    network = page.train_plainly(names)
    result: Result = {"trained": page.weights(network.module)}  # type: ignore[arg-type]
    if rank == 0:
        torch.save(network.state_dict(), "ddp.pt")
        torch.save(network.module.state_dict(), "inner.pt")  # type: ignore[union-attr]
    dist.barrier()
    saved = torch.load("ddp.pt", weights_only=True)
    again = distributed()
    again.load_state_dict(saved)
    plain = build()
    plain.load_state_dict(torch.load("inner.pt", weights_only=True))
    images = names["images"]
    result["logits"] = network(images).detach()
    result["restored"] = again(images).detach()
    result["in one process"] = plain(images).detach()
    with refusal(result, "wrapped"):
        distributed(20.0, 32.0).load_state_dict(saved)
    with refusal(result, "inner"):
        build(20.0, 32.0).load_state_dict(torch.load("inner.pt", weights_only=True))
    return result


CASES: dict[str, Callable[[], Result]] = {"fsdp": fsdp, "ddp": ddp}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
