"""A process that answers requests: those who leave cost nobody else anything, and one that ends is started anew."""

import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from wanda_core.machine.helper import ROOT, EndedError, Helper, LateError, NotStartedError, paths
from wanda_core.progress import GivenUpError

PROGRAM = """
import json, os, sys, time

def main():
    for line in sys.stdin:
        asked = json.loads(line) if line.strip() else {}
        time.sleep(asked.get("sleep", 0))
        if asked.get("die"):
            os._exit(1)
        print(json.dumps({"said": asked.get("say"), "pid": os.getpid()}), flush=True)
"""


def nobody_leaves():
    pass


@pytest.fixture
def helper(tmp_path, monkeypatch):
    (tmp_path / "own_helper.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(tmp_path)
    one = Helper("own_helper")
    yield one
    one.close()


def leaves_after(seconds):
    begun = time.monotonic()

    def tell():
        if time.monotonic() > begun + seconds:
            raise GivenUpError

    return tell


def test_requests_are_answered_by_one_process(helper):
    first, second = (helper.ask({"say": word}, 20, nobody_leaves) for word in ("a", "b\n"))
    assert (first["said"], second["said"]) == ("a", "b\n")
    assert first["pid"] == second["pid"]


@pytest.mark.parametrize(
    ("request_", "seconds", "error"), [({"die": True}, 20, EndedError), ({"sleep": 20}, 0.2, LateError)]
)
def test_one_that_is_not_answered_ends_it_and_the_next_is(helper, request_, seconds, error):
    with pytest.raises(error):
        helper.ask(request_, seconds, nobody_leaves)
    assert helper.ask({"say": "a"}, 20, nobody_leaves)["said"] == "a"


def test_who_leaves_is_not_waited_for(helper):
    helper.ask({}, 20, nobody_leaves)
    begun = time.monotonic()
    with pytest.raises(GivenUpError):
        helper.ask({"sleep": 20}, 60, leaves_after(0.3))
    assert helper.ask({"say": "a"}, 20, nobody_leaves)["said"] == "a"
    assert time.monotonic() - begun < 5


def test_those_who_leave_before_it_is_their_turn_end_nothing_of_anothers(helper):
    process, answers = helper.ask({}, 20, nobody_leaves)["pid"], []
    asking = threading.Thread(
        target=lambda: answers.append(helper.ask({"sleep": 1, "say": "mine"}, 20, nobody_leaves)), daemon=True
    )
    asking.start()
    time.sleep(0.2)
    for _ in range(3):
        with pytest.raises(GivenUpError):
            helper.ask({"sleep": 20}, 60, leaves_after(0.1))
    asking.join(20)
    assert answers == [{"said": "mine", "pid": process}]
    begun = time.monotonic()
    assert helper.ask({}, 20, nobody_leaves)["pid"] == process, "what nobody waits for is not begun"
    assert time.monotonic() - begun < 5


def test_one_that_is_ended_as_its_answer_comes_is_not_asked_again(helper, monkeypatch):
    helper.start()
    process, asked, answered, left = helper._process, helper._asked, threading.Event(), threading.Event()

    def held(line, seconds):
        said = asked(line, seconds)
        answered.set()
        left.wait(20)
        return said

    def slowly():
        threading.Timer(0.5, type(process).kill, [process]).start()
        left.set()
        time.sleep(0.1)  # for the answer to be done with, where nothing keeps it

    def tell():
        if answered.is_set():
            raise GivenUpError

    monkeypatch.setattr(helper, "_asked", held)
    monkeypatch.setattr(process, "kill", slowly)
    with pytest.raises(GivenUpError):
        helper.ask({}, 20, tell)
    assert helper.ask({"sleep": 1, "say": "a"}, 20, nobody_leaves)["said"] == "a"


@pytest.mark.parametrize("when", ["readline", "write", "at the start"])
def test_nobody_is_given_an_answer_that_another_could_not_take(helper, monkeypatch, when):
    popen = subprocess.Popen

    def breaks(*given, **more):
        process = popen(*given, **more)
        process.stdout = Breaks(process.stdout, "readline")
        return process

    with monkeypatch.context() as broken:
        if when == "at the start":
            broken.setattr(subprocess, "Popen", breaks)
        else:
            helper.start()
            name = "stdout" if when == "readline" else "stdin"
            broken.setattr(helper._process, name, Breaks(getattr(helper._process, name), when))
        with pytest.raises(MemoryError):
            helper.ask({"say": "first"}, 20, nobody_leaves)
    for word in ("second", "third"):
        assert helper.ask({"say": word}, 20, nobody_leaves)["said"] == word


class Breaks:
    """A pipe at which memory runs out once what was asked of it is done."""

    def __init__(self, pipe, what):
        self.pipe, self.what = pipe, what

    def __getattr__(self, name):
        given = getattr(self.pipe, name)
        if name != self.what:
            return given

        def broken(*more):
            if name == "write":
                given(*more)
                self.pipe.flush()
            raise MemoryError

        return broken


def test_a_machine_that_starts_no_more_processes_is_one_where_it_does_not_start(helper, monkeypatch):
    def none_left(*given, **more):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", none_left)
    with pytest.raises(NotStartedError):
        helper.ask({}, 5, nobody_leaves)


def test_one_that_does_not_start_is_said():
    with pytest.raises(NotStartedError):
        Helper("no_such_module_anywhere").ask({}, 5, nobody_leaves)


def test_the_end_of_this_process_waits_for_nothing(tmp_path):
    (tmp_path / "own_helper.py").write_text(PROGRAM)
    program = (
        "import sys, threading, time\nfrom wanda_core.machine.helper import Helper\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\none = Helper('own_helper')\none.start()\n"
        "threading.Thread(target=lambda: one.ask({'sleep': 60}, 90, lambda: None), daemon=True).start()\n"
        "time.sleep(0.3)\nprint(one._process.pid, flush=True)\n"
    )
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert time.monotonic() - begun < 20, "it would wait for 60 s"
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(int(done.stdout)).wait(5)


def test_one_that_is_started_before_answers_at_once(helper):
    helper.start()
    process = helper._process
    helper.start()
    assert helper.ask({"say": "a"}, 20, nobody_leaves)["pid"] == process.pid


STRANGERS = ("json", "encodings", "site", "sitecustomize", "re", "tokenizers", "transformers", "jinja2", "numpy")
STARTS = """
import os, sys, threading
sys.path.append(sys.argv[2])
from wanda_core.machine.helper import Helper
os.chdir(sys.argv[1])
helpers = [Helper(f"wanda_core.model.{name}_worker") for name in ("tokenizer", "template")]
starting = [threading.Thread(target=one.start) for one in helpers]
[one.start() for one in starting]
[one.join() for one in starting]
print([one._process is not None for one in helpers])
"""


@pytest.mark.parametrize("more", [{}, {"PYTHONPATH": f"{os.pathsep}."}], ids=["as it is", "with paths"])
def test_no_program_in_the_current_folder_is_run(tmp_path, more):
    (tmp_path / "model").mkdir()
    for name in STRANGERS:
        canary = f"open({str(tmp_path / 'canary')!r}, 'a').write(__name__ + chr(10))"
        (tmp_path / "model" / f"{name}.py").write_text(canary)
    (tmp_path / "starts.py").write_text(STARTS)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "starts.py"), str(tmp_path / "model"), ROOT],
        **{"cwd": ROOT, "env": os.environ | more, "capture_output": True, "text": True, "timeout": 60},
    )
    assert done.stdout == "[True, True]\n", done.stderr
    assert not (tmp_path / "canary").exists(), (tmp_path / "canary").read_text()


def test_the_paths_hold_no_current_folder_but_this_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", "./", "beside", str(tmp_path / "own")])
    assert paths() == [ROOT, str(tmp_path / "beside"), str(tmp_path / "own")]
    monkeypatch.setattr(sys, "path", [str(tmp_path / "own"), ROOT, ""])
    assert paths() == [str(tmp_path / "own"), ROOT]
