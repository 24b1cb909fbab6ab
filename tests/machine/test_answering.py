"""A process that answers requests ends with whoever asks, and its copies with it, whatever they are at work on."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = str(Path(__file__).resolve().parents[2])
ENDLESS = "{% for x in range(99999) %}" * 9 + "{% endfor %}" * 9
BOUNDS = {"seconds": 60, "memory": 10**9}
# Each program, what stands in it for work that lasts, and a request for that.
AT_WORK = {
    "a copy": ("tokenizer_worker", "worker.read = lambda file: sum(iter(int, 1))", {"file": "", **BOUNDS}),
    "a package": (
        "cutting_worker",
        "import time; worker._read = lambda rules: time.sleep(60)",
        {"number": 1, "text": "", "special": True, "split": True, "rules": ""},
    ),
    "a number": (
        "template_worker",
        "worker.MOST_ALONE = 1.0",
        {"template": "{{ 9 ** (10 ** 9) }}", "messages": [], "names": {}},
    ),
    "a template": ("template_worker", "", {"template": ENDLESS, "messages": [], "names": {}}),
}
PARENT = """
import sys
sys.path[:0] = [{folder!r}, {root!r}]
from wanda_core.machine.helper import Helper
helper = Helper("own")
helper.start()
print(helper._process.pid, flush=True)
helper.ask({asked!r}, 90, lambda: None)
"""


def alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def running(*processes):
    return [process.pid for process in processes if alive(process)]


def waited(told, seconds=5):
    end = time.monotonic() + seconds
    while not (said := told()) and time.monotonic() < end:
        time.sleep(0.01)
    return said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no copy")
@pytest.mark.parametrize("kind", AT_WORK)
def test_one_that_is_at_work_ends_with_a_parent_that_is_killed(tmp_path, kind):
    module, work, asked = AT_WORK[kind]
    (tmp_path / "own.py").write_text(f"from wanda_core.model import {module} as worker\n{work}\nmain = worker.main\n")
    program = PARENT.format(folder=str(tmp_path), root=ROOT, asked=asked)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=tmp_path) as parent:
        helper = psutil.Process(int(parent.stdout.readline()))
        copies = waited(helper.children) if kind == "a copy" else time.sleep(0.2) or []
        assert running(helper, *copies) == [helper.pid, *(copy.pid for copy in copies)]
        parent.kill()
    if sys.platform != "linux":  # where a copy ends by itself, within its bounds
        copies = []
    assert waited(lambda: not running(helper, *copies), 2)


def test_all_is_answered_in_turn_until_the_input_ends(tmp_path):
    program = f"import sys; sys.path.insert(0, {ROOT!r})\nfrom wanda_core.machine.answering import answer_lines\n"
    program += "answer_lines(lambda say: dict(said=say), lambda: print('rest', flush=True))"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        process.stdin.write('\n{"say": "a"}\n')
        assert [process.stdout.readline() for _ in range(4)] == ["{}\n", "rest\n", '{"said": "a"}\n', "rest\n"]
        process.stdin.close()
        assert process.wait(5) == 0
