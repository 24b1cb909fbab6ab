"""Peak resident memory of other processes: a command's, and the app's after a prune and a comparison."""

import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GB = 1e9
START_SECONDS = 180  # importing, loading the model and a first view on a slow machine
WORK_SECONDS = 300  # one prune, or one pair of answers
COMPARED = """() => document.querySelector("#status")?.textContent.includes("zeros")
    && document.querySelector("#cancel").hidden && !document.querySelector(".wl-busy")"""  # both answers are there


class Skipped(Exception):  # noqa: N818 - it is no error
    """Something cannot be measured on this machine; the message says why."""


def prune_peak(model: str = "builtin") -> float:
    """Peak resident memory, in bytes, of one prune from the command line, written to a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="wanda-bench-") as folder:
        output = str(Path(folder) / "pruned")
        recipe = ["--method", "wanda", "--sparsity", "0.5", "--output", output]
        return command_peak([sys.executable, "-m", "wanda_core", "prune", "--model", model, *recipe])


def command_peak(command: list[str]) -> float:
    """Run a command to its end; the largest resident memory of it or a child it waited for, in bytes.

    Raises RuntimeError with the command's last line when it fails.
    """
    # A small process in between: Linux hands a parent's own peak on to the child it starts, and ours holds models.
    helper = [sys.executable, "-m", "benchmarks.memory", *command]
    done = subprocess.run(helper, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RuntimeError(f"{' '.join(command[1:5])} … failed: {last[:300]}")
    return float(done.stdout.strip().splitlines()[-1])


def app_peak() -> float:
    """Peak resident memory, in bytes, of the app after one prune and one comparison in a browser.

    Raises Skipped without Linux, Playwright, a Chromium or an app; RuntimeError when the app fails.
    """
    if not Path("/proc/self/status").exists():
        raise Skipped("the app's peak is read from /proc, which only Linux has")
    if not (ROOT / "app.py").exists():
        raise Skipped("there is no app.py")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise Skipped("playwright is not installed (requirements-dev.txt)") from None
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        with tempfile.TemporaryFile("w+") as log:
            port = _free_port()
            environment = {**os.environ, "GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
            environment["GRADIO_ANALYTICS_ENABLED"] = "False"
            app = subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True
            )
            try:
                _wait_for_port(app, port)
                prune_and_compare(browser.new_page(), f"http://127.0.0.1:{port}")
                return _peak_of_process(app.pid)
            except (Error, TimeoutError) as error:
                log.seek(0)
                last = (log.read().strip().splitlines() or ["nothing"])[-1]
                raise RuntimeError(f"{str(error).splitlines()[0]}; the app's last line: {last[:200]}") from error
            finally:
                app.terminate()
                try:
                    app.wait(20)
                except subprocess.TimeoutExpired:
                    app.kill()
                    app.wait()
                browser.close()


def launch_chromium(playwright: Any) -> Any:
    """A headless Chromium: WANDA_CHROMIUM, else the one on the PATH, else Playwright's own; Skipped without any."""
    installed = filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-headless-shell")))
    found = os.environ.get("WANDA_CHROMIUM") or next(installed, playwright.chromium.executable_path)
    if not Path(found).exists():
        raise Skipped("there is no Chromium; install one or set WANDA_CHROMIUM to its path")
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium's sandbox refuses to start for root
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox"] if as_root else [])


def prune_and_compare(page: Any, address: str) -> None:
    """Let the page at an address prune the model, and wait for the answers of both models."""
    page.goto(address)
    page.locator("#prune").click(timeout=START_SECONDS * 1000)
    page.wait_for_function(COMPARED, timeout=WORK_SECONDS * 1000)


def _wait_for_port(app: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if app.poll() is not None:
            raise TimeoutError(f"the app ended with code {app.returncode} before it listened")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.25)
    raise TimeoutError(f"the app did not listen on port {port} within {START_SECONDS} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _peak_of_process(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    if match is None:
        raise Skipped("this Linux does not tell a process's peak memory (VmHWM)")
    return int(match[1]) * 1024.0


def main() -> None:
    """`python -m benchmarks.memory COMMAND…` runs it and prints its peak resident memory in bytes."""
    code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)
    sys.exit(code)


def reset_peak() -> None:
    """Forget the peak of this process so far, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> float | None:
    """Bytes: the most this process held since `reset_peak`; None where the system does not say."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


if __name__ == "__main__":
    main()
