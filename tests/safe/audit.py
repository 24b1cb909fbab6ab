"""Known faults of the packages that are installed, by pip-audit; and whether they keep to the floors.

`make audit`. Where the database cannot be reached it says so, checks the floors alone, and ends with 0.
"""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
REACH = ("connection", "resolve", "timed out", "max retries", "403", "503", "proxy", "ssl")
SECONDS = 300


def below_floors() -> list[str]:
    """List the packages whose installed version is not one that requirements.txt takes."""
    wrong = []
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        asked = Requirement(text)
        try:
            version = importlib.metadata.version(asked.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{asked.name} is not installed, and {asked.specifier} is asked for")
            continue
        if not asked.specifier.contains(version, prereleases=True):
            wrong.append(f"{asked.name} {version} is installed, and {asked.specifier} is asked for")
    return wrong


def audited() -> tuple[int, str]:
    """Ask pip-audit about constraints.txt. -> its exit code, 0 too where it cannot ask; what to say"""
    if shutil.which("pip-audit", path=str(Path(sys.executable).parent)) is None:
        return 0, "pip-audit is not installed here (pip install pip-audit): known faults were not asked for"
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "-r", str(ROOT / "constraints.txt")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return 0, f"the database of known faults did not answer within {SECONDS} s: they were not asked for"
    said = (done.stdout + done.stderr).strip()
    if done.returncode and not done.stdout.strip() and any(word in said.lower() for word in REACH):
        return (
            0,
            f"the database of known faults cannot be reached: nothing was asked ({said.splitlines()[-1]:.200})",
        )
    return done.returncode, said


def main() -> None:
    """Say what is wrong; exit code 1 where anything is."""
    wrong = below_floors()
    print("\n".join(wrong) or "every package is one that requirements.txt takes")
    code, said = audited()
    print(said)
    sys.exit(1 if wrong or code else 0)


if __name__ == "__main__":
    main()
