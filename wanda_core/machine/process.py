"""Settings of this process: its rank, how it ends, what it shows, what malloc does with freed memory.

Called once by what starts a process (command line, page, benchmarks), never by the library: a program that imports it
keeps its own settings.
"""

import ctypes
import gc
import os
import platform
import sys
from typing import NoReturn

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
KEPT_BYTES = 256 * 2**20  # freed memory that is kept for the next tensors; activations of a block fit
LARGE_BYTES = 2**20  # matrices are larger, most other things smaller
MAPPED_BYTES = 64 * 2**20  # from this size on a tensor is mapped alone and given back when freed


def rank_and_size() -> tuple[int, int]:
    """Read which of how many processes this is from `torchrun`'s environment; (0, 1) when it started none."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def leave(code: int) -> NoReturn:
    """End one of several processes at once, after printing what is buffered.

    Threads that exchanged tensors may still be releasing some, and an interpreter that ends under them aborts now and
    then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def show_no_bars() -> None:
    """Have other packages show no bars of progress, for a process that nobody watches.

    Where its log is a file on a disk that becomes full, a bar that cannot be written ends what it counts, and keeps the
    lock that all bars share: then no model is ever loaded again.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # those of the hub's library too


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed activations instead of giving it back after every block.

    Fetching the pages again took a tenth of a first pruning on a CPU. Only glibc has these settings; elsewhere nothing
    happens.
    """
    _set_malloc(KEPT_BYTES, MAPPED_BYTES)


def give_back_freed_memory() -> None:
    """Let the C library give a freed matrix back to the system at once, for models larger than memory.

    If it is kept, the memory of one block fits the next badly, and a few megabytes more are held with every block.
    """
    _set_malloc(LARGE_BYTES, LARGE_BYTES, arenas=1)  # else every thread has its own, 64 MB of addresses each


def bound_arenas() -> None:
    """Let all threads share two arenas of the C library's memory. For a server, before it has threads.

    Each thread would else get one of its own, up to eight a core, and none gives its freed tensors to another: one
    540 MB model took 8 GB within an hour.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def release_freed_memory() -> None:
    """Give freed memory back to the system, of all arenas. Only glibc can; elsewhere nothing happens."""
    gc.collect()  # modules refer to one another in circles
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _set_malloc(kept: int, mapped: int, arenas: int = 0) -> None:
    """Set glibc's malloc: bytes of freed memory to keep, and from how many bytes on a tensor is mapped alone."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, kept)
        libc.mallopt(M_MMAP_THRESHOLD, mapped)
        if arenas:
            libc.mallopt(M_ARENA_MAX, arenas)
