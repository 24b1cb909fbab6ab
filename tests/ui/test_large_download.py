"""A checkpoint of two gigabytes over HTTP: the server's memory grows by a few pieces, and the time it takes is told."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import torch
from raw_requests import Raw
from take_away import SENT
from transformers import LlamaConfig, LlamaForCausalLM
from view_events import until

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 131072,  # the embeddings alone take a gigabyte
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
MOST = 100e6  # bytes that the server may grow by
SERVER = """
import os, sys, time
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from engine_room import serving
from take_away import RECIPE
from wanda_core.machine.process import bound_arenas, keep_freed_memory, release_freed_memory
from wanda_core.model.loading import load_model
from wanda_core.progress import finish
from wanda_ui.app_state import AppState
from wanda_ui.engine.loaded import Loaded
from wanda_ui.engine.look import Wanted
from wanda_ui.engine.looked import only_progress

keep_freed_memory()
bound_arenas()
state = AppState()
AppState.normal = lambda self, name: name
state.models["tiny"] = Loaded(load_model({folder!r}, device="cpu"), "tiny")
finish(only_progress(state.look_steps("tiny", RECIPE, None, Wanted(False, False))))
release_freed_memory()
os.environ["GRADIO_TEMP_DIR"] = str(Path({folder!r}).parent / "uploads")
with serving(state) as (page, address):
    print(address, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def large(tokenizer, tmp_path_factory):
    """A folder of two gigabytes."""
    folder = tmp_path_factory.mktemp("large") / "model"
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) > 2e9
    return folder


@pytest.fixture(scope="module")
def server(large):
    """-> (the process of a server that has the model and a variant of it, its address)"""
    program = SERVER.format(root=str(ROOT), tests=str(ROOT / "tests"), folder=str(large))
    environ = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", "OMP_WAIT_POLICY": "PASSIVE"}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            yield psutil.Process(process.pid), process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_gigabytes_go_out_through_a_few_megabytes(server, dtype):
    process, address = server
    most, going = 0, threading.Event()
    before = process.memory_info().rss

    def watch():
        nonlocal most
        while not going.wait(0.02):
            most = max(most, process.memory_info().rss - before)

    watching = threading.Thread(target=watch)
    with closing(Raw(address)) as web:
        watching.start()
        try:
            asked = web.post("/wanda/checkpoint", {"model": "tiny", "recipe": SENT, "dtype": dtype})
            made = json.loads(asked.body)
            began, length, last = time.monotonic(), 0, 0.0
            with closing(web.connection()) as connection:
                connection.request("GET", f"/{made['address']}")
                answer = connection.getresponse()
                while piece := answer.read(2**20):
                    length += len(piece)
                    if time.monotonic() - last > 2:  # others are answered meanwhile
                        last = time.monotonic()
                        assert web.send("GET", "/gradio_api/app_id").status == 200
                        assert time.monotonic() - last < 5
            seconds = time.monotonic() - began
        finally:
            going.set()
            watching.join()
    assert length == made["bytes"] > (2e9 if dtype == "float32" else 1e9)
    print(f"{dtype}: {length / 1e9:.2f} GB in {seconds:.1f} s, {most / 1e6:.0f} MB more in memory")
    assert most < MOST


@pytest.mark.long
def test_a_cut_leaves_no_file_open_and_no_memory_taken_and_the_rest_follows(server, large):
    process, address = server
    before, cut = process.memory_info().rss, 2**28
    with closing(Raw(address)) as web:
        made = json.loads(web.post("/wanda/checkpoint", {"model": "tiny", "recipe": SENT, "dtype": "bfloat16"}).body)
        with closing(web.connection()) as connection:
            connection.request("GET", f"/{made['address']}")
            assert len(connection.getresponse().read(cut)) == cut
        until(lambda: not [file for file in process.open_files() if Path(file.path).is_relative_to(large)], 30)
        left = process.memory_info().rss - before
        with closing(web.connection()) as connection:
            connection.request("GET", f"/{made['address']}", headers={"range": f"bytes={cut}-"})
            answer = connection.getresponse()
            assert answer.status == 206
            rest = sum(len(piece) for piece in iter(lambda: answer.read(2**20), b""))
    assert cut + rest == made["bytes"]
    print(f"after a cut {left / 1e6:.0f} MB more in memory")
    assert left < MOST
