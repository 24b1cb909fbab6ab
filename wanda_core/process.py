"""How this process uses the machine. Called once by what starts a process (command line, page, benchmarks), never by
the library: a program that imports it keeps its own settings."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT_BYTES = 256 * 2**20  # freed memory that is kept for the next tensors; activations of a block fit
LARGE_BYTES = 2**20  # matrices are larger, most other things smaller
MAPPED_BYTES = 64 * 2**20  # from this size on a tensor is mapped alone and given back when freed


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed activations instead of giving it back after every block.

    Fetching the pages anew took a tenth of a first pruning on a CPU. Only glibc knows these settings; elsewhere
    nothing happens.
    """
    _set(KEPT_BYTES, MAPPED_BYTES)


def give_back_freed_memory() -> None:
    """The opposite, for models larger than memory: a freed matrix goes back to the system at once.

    Kept, the memory of one block fits the next badly, and a few megabytes more were held with every block.
    """
    _set(LARGE_BYTES, LARGE_BYTES)


def _set(kept: int, mapped: int) -> None:
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, kept)
        libc.mallopt(M_MMAP_THRESHOLD, mapped)
