"""The wheel: built, installed beside this environment, and used from a folder where no checkout is."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

import wanda_core

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("hatchling", reason="what builds the wheel is not installed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", str(folder)]
    done = subprocess.run([*build, str(ROOT)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """Where the wheel alone is installed; everything it needs comes from this environment."""
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(folder), str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def command(site: Path, *arguments: object) -> list[str]:
    return [sys.executable, str(site / "bin" / "wanda-lab"), *map(str, arguments)]


def environment(site: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", **more}


def run(site: Path, where: Path, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(site, *arguments), cwd=where, env=environment(site), capture_output=True, text=True, timeout=300
    )


def test_it_holds_the_two_packages_and_all_of_the_assets(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"wanda_core", "wanda_ui"}
    listed = subprocess.run(["git", "ls-files", "assets"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {f"wanda_core/{name}" for name in listed.stdout.splitlines()} <= names
    assert {"wanda_ui/locales/en/page.json", "wanda_ui/locales/ko/page.json"} <= names


def test_it_asks_for_what_requirements_txt_lists(wheel):
    with zipfile.ZipFile(wheel) as archive:
        about = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    asked = {
        re.match(r"[\w.-]+", line)[0]
        for line in re.findall(r"^Requires-Dist: (.*)", about, re.M)
        if "extra" not in line
    }
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert asked == {re.match(r"[\w.-]+", line)[0].replace("_", "-") for line in lines if line and line[0] != "#"}
    assert f"\nVersion: {wanda_core.__version__}\n" in about


def test_its_command_says_its_version_and_lists_every_command(site, tmp_path):
    assert run(site, tmp_path, "--version").stdout == f"wanda-lab {wanda_core.__version__}\n"
    listed = run(site, tmp_path, "--help").stdout
    for name in ("app", "prune", "profile", "sweep", "perplexity", "evaluate", "generate", "outliers", "ablate"):
        assert re.search(rf"^\s+{name}\b", listed, re.MULTILINE), name


@pytest.mark.long
def test_it_prunes_and_measures_from_its_own_texts(site, tmp_path, dense):
    done = run(site, tmp_path, "prune", "--model", dense, "--samples", 2, "--seq-len", 16, "--output", "out")
    assert done.returncode == 0, done.stderr
    done = run(site, tmp_path, "perplexity", "--model", "out", "--seq-len", 32, "--windows", 1)
    assert done.returncode == 0, done.stderr
    assert "built-in text" in done.stdout
    assert (tmp_path / "out" / "wanda.json").is_file()


@pytest.mark.long
def test_it_serves_the_page_with_its_style(site, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    more = {"GRADIO_ANALYTICS_ENABLED": "False"}
    served = subprocess.Popen(
        command(site, "app", "--host", "127.0.0.1", "--port", port), cwd=tmp_path, env=environment(site, **more)
    )
    try:
        page = ""
        for _ in range(240):
            assert served.poll() is None
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    page = answer.read().decode()
                break
            except OSError:
                time.sleep(0.5)
        assert "Wanda Lab" in page
        assert ".wl-" in page
    finally:
        served.terminate()
        served.wait(30)
