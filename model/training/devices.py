"""Where a run computes: one process a device, started and joined by Lightning Fabric, and the threads of each."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

ACCELERATORS = ("auto", "cpu", "cuda", "mps")


def launch(devices: int = 1, accelerator: str = "auto") -> Fabric:
    """One process a device, each with a share of every batch: starts the others, which run this program again from its
    start, and joins them.

    "auto" is a GPU where there is one. Under `torchrun` the processes are there already and only join; how
    many is its choice.
    """
    if devices < 1:
        raise ValueError(f"devices is {devices}; it must be at least 1")
    if accelerator not in ACCELERATORS:
        raise ValueError(f"accelerator is '{accelerator}'; it must be one of {', '.join(ACCELERATORS)}")
    nodes = 1
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    # Fabric logs a line for every process that joins.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"there are no {devices} devices of accelerator '{accelerator}' here (CUDA devices: "
            f"{torch.cuda.device_count()}); choose fewer with --devices, or --accelerator cpu"
        ) from error
    fabric.launch()
    return fabric


def mean_of_processes(fabric: Fabric, tensors: list[Tensor]) -> list[Tensor]:
    """Each tensor's mean over the processes, in one exchange."""
    if fabric.world_size == 1:
        return tensors
    mean: Any = fabric.all_reduce(nn.utils.parameters_to_vector(tensors))
    parts = torch.split(mean, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


@contextmanager
def threads_an_operation(count: int) -> Iterator[None]:
    """As many threads within one operation of PyTorch, for as long as the context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def precision(device: torch.device, *, half: bool) -> Any:
    """A context in which matrices are multiplied as bfloat16, or as float32."""
    # Each weight is used once a step, so there is nothing to gain by a cache, which all threads would share.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False) if half else nullcontext()


def half_precision_pays(device: torch.device) -> bool:
    """Whether the device has instructions to multiply bfloat16 matrices, which take half of float32's time or less.

    Asked and not measured: under load a measurement may come out either way, and equal runs must give equal weights.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    has: Mapping[str, Any] = torch.cpu.get_capabilities()
    return any(has.get(instructions, False) for instructions in ("avx512_bf16", "amx_bf16"))
