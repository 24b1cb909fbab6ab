"""A tokenizer.json is read by another process first, which has bounds."""

import os
import sys
import threading
import time

import psutil
import pytest
from transformers import PreTrainedConfig

from wanda_core.errors import ModelError
from wanda_core.machine.helper import Helper, NotStartedError
from wanda_core.model import made_apart
from wanda_core.model.loading import load_model
from wanda_core.model.tokenizer_reading import check_reading
from wanda_core.model.tokenizer_weight import Weight
from wanda_core.progress import GivenUpError, end_when

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the process reads it itself, without bounds")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="no bound on addresses is kept")
WORKER = "wanda_core.model.tokenizer_worker"
PLAIN = PreTrainedConfig()  # of a model whose tokenizer.json is taken as it is


@pytest.fixture
def read_by(monkeypatch, tmp_path):
    """Have files read by a program of a test's own, in the place of tokenizers. -> what takes its lines"""
    given, workers = tmp_path / "given", []
    given.mkdir()
    (given / "tokenizer.json").write_text("{}")

    def begin(lines: str):
        module = f"own{len(list(tmp_path.glob('own*.py')))}"
        body = "\n".join(f"    {line}" for line in lines.splitlines())
        (tmp_path / f"{module}.py").write_text(
            "import os, signal, time\nfrom wanda_core.model import tokenizer_worker as worker\n"
            f"def read(file):\n{body}\nworker.read = read\nmain = worker.main\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        workers.append(Helper(module))
        monkeypatch.setattr(made_apart, "reader", workers[-1])
        return given

    yield begin
    for worker in workers:
        worker.close()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("while True: pass", "takes more than 3 s to be read"),
        ("bytes(10 ** 7); x = b'x' * 8 * 10 ** 7", "takes more than 30 MB to be read, or breaks what reads it"),
        ("raise MemoryError", "takes more than 30 MB to be read, or breaks what reads it"),
        ("os.abort()", "or breaks what reads it"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "or breaks what reads it"),
    ],
    ids=["loop", "memory", "no memory", "abort", "segfault"],
)
def test_a_file_that_harms_what_reads_it_is_refused_and_harms_nothing_else(read_by, lines, said):
    folder, begun = read_by(lines), time.monotonic()
    with pytest.raises(ModelError, match=rf"^the tokenizer of 'owner/model' .*{said}; take the tokenizer of the"):
        check_reading(folder, "owner/model", PLAIN)
    assert time.monotonic() - begun < 10
    process = made_apart.reader._process
    with pytest.raises(ModelError):
        check_reading(folder, "owner/model", PLAIN)
    assert made_apart.reader._process is process, "the next needs no other process"
    assert not psutil.Process(process.pid).children()


@ON_LINUX
def test_memory_is_refused_before_it_is_taken(read_by):
    folder = read_by("x = [b'x' * 10 ** 7 for _ in range(500)]; os.abort()")
    answers, ask = [], made_apart.reader.ask
    made_apart.reader.ask = lambda *given: answers.append(ask(*given)) or answers[-1]
    with pytest.raises(ModelError, match="30 MB"):
        check_reading(folder, "owner/model", PLAIN)
    assert 30e6 < answers[0]["bytes"] < 250e6


def test_what_waits_for_ever_is_ended_too(read_by, monkeypatch):
    monkeypatch.setattr(made_apart, "WAITS", 0.2)
    with pytest.raises(ModelError, match="takes more than 3 s"):
        check_reading(read_by("time.sleep(100)"), "owner/model", PLAIN)
    assert made_apart.reader._process is None


def test_who_leaves_does_not_wait_for_it(read_by):
    folder, begun = read_by("time.sleep(3)"), time.monotonic()
    thread_said, copies = [], []

    def job():
        def left():
            worker = made_apart.reader._process
            copies.extend([] if worker is None else psutil.Process(worker.pid).children())
            return time.monotonic() > begun + 0.5

        end_when(left)
        try:
            check_reading(folder, "owner/model", PLAIN)
        except GivenUpError:
            thread_said.append(time.monotonic() - begun)

    thread = threading.Thread(target=job)
    thread.start()
    thread.join(20)
    assert thread_said
    assert thread_said[0] < 2.5
    assert copies
    if sys.platform == "linux":
        _, alive = psutil.wait_procs(set(copies), timeout=1)  # one that nobody waited for stays a name
        assert all(copy.status() == psutil.STATUS_ZOMBIE for copy in alive), "what it read goes on by itself"


@pytest.mark.parametrize(
    ("lines", "said"), [("raise ValueError('no words')", "^no words$"), ("raise KeyError", "^KeyError$")]
)
def test_what_its_reader_says_is_said(read_by, lines, said):
    with pytest.raises(ValueError, match=said):
        check_reading(read_by(lines), "owner/model", PLAIN)


def test_a_process_that_does_not_start_is_said(read_by, monkeypatch):
    folder = read_by("pass")
    monkeypatch.setattr(made_apart.reader, "ask", lambda *_: (_ for _ in ()).throw(NotStartedError()))
    with pytest.raises(ModelError, match="'owner/model' was not read, because the process that reads it first does"):
        check_reading(folder, "owner/model", PLAIN)


def test_a_model_s_own_is_read_by_it_first(folder, monkeypatch):
    asked = []

    def ask(request, seconds, tell):
        asked.append(request)
        return {"ended": "memory", "bytes": 1, "said": ""}

    monkeypatch.setattr(made_apart.reader, "ask", ask)
    with pytest.raises(ModelError, match="breaks what reads it"):
        load_model(str(folder), device="cpu")
    size = len(b"".join((folder / "tokenizer.json").read_bytes().split()))
    assert (asked[0]["file"], asked[0]["seconds"]) == (str(folder / "tokenizer.json"), 3)
    assert 8 * size < asked[0]["memory"] - 30 * 10**6 <= 34 * size


def test_the_answer_is_of_the_file_alone_however_large_this_process_is(folder):
    taken = bytearray(300 * 10**6)
    taken[::4096] = b"x" * len(taken[::4096])
    made_apart.reader.close()
    request = {"file": str(folder / "tokenizer.json"), "seconds": 2, "memory": 10**8}
    answer = made_apart.reader.ask(request, 60, lambda: None)
    assert answer["ended"] == ""
    assert answer["bytes"] < 60e6


@pytest.fixture
def bounds(tmp_path, monkeypatch):
    """Write a tokenizer.json of so many bytes, of which others are words. -> the seconds and bytes that it may take"""
    asked = []
    answer = {"ended": "", "bytes": 1, "said": ""}
    monkeypatch.setattr(made_apart.reader, "ask", lambda *given: asked.append(given[0]) or answer)

    def write(size: int, weight: Weight | None):
        (tmp_path / "tokenizer.json").write_bytes(b"x" * size + b" " * 10**6)  # and blanks
        check_reading(tmp_path, "owner/model", PLAIN, {}, weight and {"tokenizer.json": weight})
        return asked[-1]["seconds"], asked[-1]["memory"]

    return write


def test_bounds_grow_with_the_words(bounds):
    assert bounds(33_400_000, Weight(33_000_000)) == (36, 1_155_200_000)  # of 262,144


@pytest.mark.parametrize("weight", [Weight(500_000), Weight(500_000, added=400_000)])
def test_what_stands_beside_the_words_raises_them_little(bounds, weight):
    assert bounds(1_400_000, weight) == (4, 54_200_000)
    assert bounds(33_400_000, weight) == (4, 55 * 10**6)


def test_what_is_no_file_of_words_raises_them_little(bounds):
    assert bounds(33_400_000, None) == (3, 38 * 10**6)


@pytest.mark.parametrize(("pieces", "more"), [(10**6, 32 * 10**6), (15 * 10**6, 320 * 10**6), (0, 0)])
def test_a_unigram_model_may_take_more(bounds, pieces, more):
    """260,000 pieces of 6.3 MB take 376 MB, for the tree that they are looked up in."""
    assert bounds(15 * 10**6, Weight(15 * 10**6, pieces))[1] == 540 * 10**6 + more


def test_lines_are_answered_until_there_are_none(folder):
    worker = Helper(WORKER)
    try:
        asked = {"file": str(folder / "tokenizer.json"), "seconds": 2, "memory": 10**8}
        assert [worker.ask(asked, 60, lambda: None)["ended"] for _ in range(3)] == ["", "", ""]
        process, worker._process = worker._process, None
        process.communicate(timeout=20)
        assert process.returncode == 0
    finally:
        worker.close()
