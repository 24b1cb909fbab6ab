"""The start of a Hugging Face Space, rehearsed: `requirements.txt` alone in a fresh environment, then `app.py`.

`python -m benchmarks.space_start` copies what git holds, makes an environment by Python 3.12 where there is one,
installs there what a Space does, starts the page with a Space's variables on this machine alone, and looks at it: its
settings are those of a public page, its preview stands at the Space's address, and the built-in model is loaded.
The package index is asked as pip is set up here; `--constraint constraints.txt` takes the tested versions instead
of the newest.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
WANTED = "3.12"  # what a Space runs
# But for SYSTEM, by which Gradio starts the reloading of the platform's own package.
SPACE = {"SPACE_ID": "somebody/wanda-lab", "SPACE_HOST": "somebody-wanda-lab.hf.space", "SPACE_AUTHOR_NAME": "somebody"}
START_SECONDS, MODEL_SECONDS = (
    300,
    1200,
)  # in which the page answers, and in which its model is there, on a busy machine
RECIPE = {
    **{"id": 0, "key": "wanda", "at": 50, "method": "wanda", "pattern": "unstructured", "order": "default"},
    **{"group": "default", "allocation": "default", "update": "default"},
    **{"text": "", "samples": 16, "seq_len": 256, "seed": 0},
}
QUESTION = {"what": "linear", "model": "builtin", "kind": "mlp.up_proj", "block": 11, "recipes": [RECIPE]}


def main() -> None:
    """Rehearse; exit code 1 with a sentence where something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.space_start", description=__doc__)
    parser.add_argument("--constraint", type=Path, help="file of versions for pip, which a Space has not")
    parser.add_argument("--python", help=f"the interpreter; by default python{WANTED} where it runs, else this one")
    parser.add_argument("--environment", type=Path, help="folder to make it in, or to take it from, and to keep")
    parser.add_argument("--fresh-model", action="store_true", help="bring the built-in model too, as a new Space does")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wanda-space-") as folder:
        try:
            app = copy_of_checkout(Path(folder) / "app")
            place = arguments.environment or Path(folder) / "environment"
            environment = install(place, app, arguments.python or interpreter(), arguments.constraint)
            rehearse(Path(folder), app, environment, arguments.fresh_model)
        except AssertionError as error:
            sys.exit(f"FAILED: {error}")


def rehearse(place: Path, app: Path, environment: Path, fresh_model: bool) -> None:
    """Start and look. Raises AssertionError with what was wrong.

    place: folder for what is written; app: copy of the checkout; environment: its interpreter.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port), "HOME": str(place)}
    if fresh_model:
        variables["WANDA_CACHE"] = str(place / "cache")
    else:
        from wanda_core.model.gguf_file import cache_root

        variables["WANDA_CACHE"] = str(cache_root())
    written = place / "written"
    began = time.monotonic()
    with written.open("w") as log:
        server = subprocess.Popen(
            [str(environment), "app.py"], cwd=app, env=clean() | SPACE | variables, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            page = waited(lambda: read(port, "/").decode(), server, START_SECONDS, "the page", written)
            print(f"the page answered after {time.monotonic() - began:.1f} s", flush=True)
            look_at(page, port)
            waited(lambda: ask(port, "scores", QUESTION).get("loaded"), server, MODEL_SECONDS, "the model", written)
            process = psutil.Process(server.pid)
            resident = sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
            print(f"its model was loaded after {time.monotonic() - began:.1f} s, {resident / 1e9:.2f} GB resident")
        finally:
            server.terminate()
            server.wait(30)
    text = written.read_text(errors="replace")
    assert "Traceback" not in text, f"the server wrote a traceback: {text[-1500:]}"
    print("as a Space should be")


def interpreter() -> str:
    """Find the interpreter: the wanted version's where it runs, else this one's."""
    for name in (f"python{WANTED}", sys.executable):
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
            return found
    raise AssertionError("no Python here can make an environment; install its venv module")


def copy_of_checkout(place: Path) -> Path:
    """Copy the files that git holds: what a Space gets when they are pushed."""
    for name in said(["git", "-C", str(ROOT), "ls-files"]).splitlines():
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return place


def install(place: Path, app: Path, python: str, constraint: Path | None) -> Path:
    """Make an environment with what `requirements.txt` lists, unless it is there. -> its interpreter"""
    made = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [str(made), "-m", "pip", "--disable-pip-version-check"]
    began = time.monotonic()
    if not made.exists():
        subprocess.run([python, "-m", "venv", str(place)], check=True)
        limits = [] if constraint is None else ["-c", str(constraint.resolve())]
        command = [*pip, "install", "--quiet", "-r", str(app / "requirements.txt"), *limits]
        done = subprocess.run(command, env=clean(), capture_output=True, text=True)
        assert done.returncode == 0, f"pip failed: {done.stderr.strip()[-1500:]}"
    version = said([str(made), "-c", "import platform; print(platform.python_version())"])
    packages = said([*pip, "list", "--format", "freeze"]).splitlines()
    named = [line for line in packages if re.match(r"(torch|transformers|gradio|huggingface_hub)==", line)]
    print(f"Python {version}{'' if version.startswith(WANTED) else f', as there is no {WANTED} here'}")
    print(f"{len(packages)} packages after {time.monotonic() - began:.0f} s, {', '.join(named)} among them", flush=True)
    for extra in ("mcp", "datasets", "pytest"):
        assert not any(line.startswith(f"{extra}==") for line in packages), f"{extra} came along"
    return made


def look_at(page: str, port: int) -> None:
    """Check that the page is a Space's: public, greeting at the Space's address, without tools."""
    data = json.loads(re.search(r"<script type='application/json' id='wl-data'>(.*?)</script>", page, re.DOTALL)[1])  # type: ignore[index]
    settings = data["settings"]
    assert [name for name, _ in settings["models"]] == ["builtin"], f"it offers {settings['models']}"
    assert settings["open"] is False, "any model may be typed"
    assert settings["prompt_characters"] == 4000, f"a prompt may have {settings['prompt_characters']} characters"
    assert f'content="https://{SPACE["SPACE_HOST"]}/preview.png"' in page, "its preview is not at the Space's address"
    assert status(port, "/preview.png") == 200, "its preview is not served"
    for path in ("/mcp", "/gradio_api/info"):
        assert status(port, path) == 404, f"{path} is open"
    asked = {**RECIPE, "samples": 1000}
    refused = status(port, "/wanda/scores", json.dumps({**QUESTION, "recipes": [asked]}).encode())
    assert refused == 400, "it takes more samples than a public page does"


def waited(ask: Callable[[], T], server: "subprocess.Popen[Any]", seconds: float, what: str, written: Path) -> T:
    """Ask until there is an answer. Raises AssertionError where the server ends or takes too long."""
    end = time.monotonic() + seconds
    while True:
        assert server.poll() is None, f"the server ended before {what} was there: {written.read_text()[-1500:]}"
        try:
            answer = ask()
            if answer:
                return answer
        except OSError:
            pass
        assert time.monotonic() < end, f"{what} was not there within {seconds} s: {written.read_text()[-1500:]}"
        time.sleep(0.5)


def read(port: int, path: str, body: bytes | None = None) -> bytes:
    """Read an answer of the server, without any proxy."""
    headers = {"content-type": "application/json"} if body is not None else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        content: bytes = answer.read()
        return content


def ask(port: int, question: str, given: dict[str, Any]) -> dict[str, Any]:
    """Ask a question of the page's script."""
    answer: dict[str, Any] = json.loads(read(port, f"/wanda/{question}", json.dumps(given).encode()))
    return answer


def status(port: int, path: str, body: bytes | None = None) -> int:
    """Return the status of an answer."""
    try:
        read(port, path, body)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def said(command: list[str]) -> str:
    """Run a command. -> what it wrote"""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def clean() -> dict[str, str]:
    """Return this environment's variables without those of Python, the lab and Gradio, which a Space has not."""
    return {name: value for name, value in os.environ.items() if not re.match(r"PYTHON|WANDA_|GRADIO_|SPACE", name)}


if __name__ == "__main__":
    main()
