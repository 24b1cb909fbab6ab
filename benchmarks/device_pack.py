"""The device check as one file that runs wherever torch and transformers are: `python device-check.pyz`."""

import sys
import zipapp
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("__init__.py", "device_check.py", "device_models.py", "plain.py")  # of the benchmarks
# What the engine imports and neither torch nor transformers brings, as far as the check asks for it. Stand-ins come
# last on the path: where the packages themselves are, they are used.
STAND_INS = {
    "psutil": '''"""Stand-in: how much memory is free, as far as the system tells."""
import os
from types import SimpleNamespace


def virtual_memory():
    try:
        return SimpleNamespace(available=os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return SimpleNamespace(available=8 * 10**9)
''',
    "platformdirs": '''"""Stand-in: the check keeps nothing, so no folder is ever asked for."""
import tempfile


def user_cache_dir(name):
    return tempfile.gettempdir()


user_data_dir = user_cache_dir
''',
}
START = """import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "stand_ins"))
from benchmarks.device_check import main

main()
"""


def pack(target: Path) -> Path:
    """Write the file. -> its path."""
    with TemporaryDirectory(prefix="wanda-pack-") as made:
        folder = Path(made)
        sources = [ROOT / "benchmarks" / name for name in NEEDED] + sorted((ROOT / "wanda_core").rglob("*.py"))
        files = {source.relative_to(ROOT): source.read_text(encoding="utf-8") for source in sources}
        files |= {Path("stand_ins", f"{name}.py"): text for name, text in STAND_INS.items()}
        files[Path("__main__.py")] = START
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        zipapp.create_archive(folder, target, interpreter="/usr/bin/env python3", compressed=True)
    return target


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if len(sys.argv) > 1 else "out/device-check.pyz")))
