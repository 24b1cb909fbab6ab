"""Choosing the device and type for a model, and checking that it fits there."""

import os
import re

import torch

from wanda_core.errors import InputError, ModelError, in_gb, shortened, shortened_path
from wanda_core.machine.memory import free_bytes

AUTO = "auto"  # as a device: all GPUs of this machine, the blocks spread over them
MEMORY_SHARE = 0.9  # of what is free; the rest is for activations and other programs


def checked_device(device: str | torch.device) -> torch.device:
    """Return the device if it is on this machine. Raises InputError otherwise."""
    name = str(device)
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,2})?", name):
        raise InputError(
            f"device {shortened(name)} is not one of cpu, cuda, cuda:N, mps and auto; leave it out for a GPU if there "
            "is one"
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps' needs an Apple GPU and torch sees none here; leave the device out")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {shortened(name)} needs a CUDA GPU and torch sees none here; leave the device out")
    place = torch.device(name)
    if place.index is not None and place.type == "cuda" and place.index >= torch.cuda.device_count():
        raise InputError(
            f"device {shortened(name)} is not here, torch sees {torch.cuda.device_count()} CUDA GPUs; leave the "
            "device out"
        )
    return place


def default_device() -> torch.device:
    """Choose CUDA if there is a GPU for it, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """Choose bfloat16 on a CUDA GPU that computes in it, else float32: on most CPUs bfloat16 is many times slower."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    return torch.float32


def check_memory(
    needed: int,
    name: str,
    devices: list[torch.device],
    what: str = "its weights",
    remedy: str = "choose a smaller model or prune it with --low-memory",
) -> None:
    """Raise ModelError when the bytes needed are not free on the devices together. what, remedy: for the message."""
    usable = sum(free_memory(device) for device in devices) * MEMORY_SHARE
    if needed > usable:
        needs, has = in_gb(needed, usable)
        raise ModelError(
            f"{shortened_path(name)} needs {needs} GB for {what} and {has} GB of memory are "
            f"free on {devices[0].type}, a tenth left for activations; {remedy}"
        )


def free_memory(device: torch.device) -> int:
    """Return how many bytes are free on the device; of the CPU's no more than WANDA_MEMORY_LIMIT, where it is set."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limit = int(os.environ.get("WANDA_MEMORY_LIMIT", "0"))  # for machines whose own limit nothing tells
    return min(free_bytes(), limit) if limit else free_bytes()


def overflow_remedy(dtype: torch.dtype) -> str:
    """Return what to do about numbers that are not finite in a model whose weights are finite, as messages end."""
    if dtype in (torch.float32, torch.float64):
        return "its numbers overflow even in float32, so check the checkpoint and its configuration"
    return "load the model in float32"
