"""Nothing of the user's is lost: files laid around, inside and over every place that is written to stay as they are."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wanda_core.calibration.profile import profile, save_profile
from wanda_core.checkpoint.manifest import RECORD, check_replaceable
from wanda_core.checkpoint.save import save
from wanda_core.errors import StorageError
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.low_memory.prune import prune_to_folder
from wanda_core.model.loading import load_model
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import draw

# Around, inside and over what a save, a streamed pruning and what they leave after a kill are called.
PLACES = [
    "notes.txt",
    ".git/HEAD",
    "out/thesis.txt",
    "out/.git/HEAD",
    "out/dense/model.safetensors",
    "out/model-Q4.gguf",
    "out/model.safetensors",
    "out/config.json",
    "out/wanda.json",
    "out/empty/",
    "out.kept-1/notes.txt",
    ".out.unfinished/notes.txt",
    ".out.unfinished/model/notes.txt",
    ".out.unfinished/state.json",
    ".out.unfinished/",
    ".out.unfinished-0123abcd/notes.txt",
    ".out.tmp-1-0123abcd/model.safetensors",
    ".out.old-999999-0123abcd/config.json",
    ".out.old-999999-0123abcd/notes.txt",
    "dense/notes.txt",
]
CALIBRATION = draw(
    torch.randint(1, 250, (300,), generator=torch.Generator().manual_seed(4)).tolist(), samples=2, seq_len=16
)


@pytest.fixture(scope="module")
def template(tmp_path_factory, tiny_llama) -> Path:
    """A folder with a dense model and, as `out`, an earlier checkpoint made of it."""
    folder = tmp_path_factory.mktemp("template")
    tiny_llama.model.save_pretrained(folder / "dense")
    tiny_llama.tokenizer.save_pretrained(folder / "dense")
    save(prune(load_model(str(folder / "dense"), device="cpu"), PruneSpec("magnitude", 0.3)), folder / "out")
    return folder


def plant(root: Path, places: list[str], earlier: bool) -> dict[str, bytes | None]:
    """Lay somebody's own files and empty folders there. -> what must stay: path -> bytes, None for a folder."""
    if not earlier:
        shutil.rmtree(root / "out")
    planted: dict[str, bytes | None] = {}
    for number, place in enumerate(places):
        path = root / place
        if any(parent.is_file() for parent in path.parents) or path.is_dir():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if place.endswith("/"):
            path.mkdir()
            planted[place] = None
        else:
            path.write_bytes(f"years of work, volume {number}".encode())
            planted[place] = path.read_bytes()
    return planted


def assert_all_there(root: Path, planted: dict[str, bytes | None], dense: dict[str, bytes]) -> None:
    for place, data in planted.items():
        assert (root / place).is_dir() if data is None else (root / place).read_bytes() == data, place
    for name, data in dense.items():
        assert (root / "dense" / name).read_bytes() == data, name


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def prune_streamed(root: Path, kill_at: int | None = None) -> None:
    """`prune --low-memory`; this process is killed at that step of its progress."""
    steps = 0

    def progress(step) -> None:
        nonlocal steps
        steps += 1
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    lm = open_model(str(root / "dense"), device="cpu", dtype=torch.float32)
    prune_to_folder(lm, PruneSpec("wanda", 0.5), root / "out", CALIBRATION, progress)


def save_in_memory(root: Path) -> None:
    save(prune(load_model(str(root / "dense"), device="cpu"), PruneSpec("magnitude", 0.5)), root / "out")


places = st.lists(st.sampled_from(PLACES), max_size=5, unique=True)


@settings(max_examples=40)
@given(places, st.booleans(), st.sampled_from(["in memory", "streamed"]))
def test_after_a_success_or_a_refusal(template, tmp_path_factory, laid, earlier, how):
    root = tmp_path_factory.mktemp("user") / "work"
    shutil.copytree(template, root)
    dense = contents(root / "dense")
    planted = plant(root, laid, earlier)
    before = sorted(str(path) for path in root.rglob("*"))
    try:
        (save_in_memory if how == "in memory" else prune_streamed)(root)
    except StorageError:
        assert sorted(str(path) for path in root.rglob("*")) == before  # nothing half done either
    else:
        assert check_replaceable(root / "out")
    assert_all_there(root, planted, dense)
    shutil.rmtree(root.parent)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@settings(max_examples=12)
@example(laid=[], later=["notes.txt", ".out.unfinished/state.json"], earlier=False, kill_at=1)
@given(places, places, st.booleans(), st.integers(1, 22))
def test_after_a_kill_and_after_the_run_that_goes_on(template, tmp_path_factory, laid, later, earlier, kill_at):
    root = tmp_path_factory.mktemp("user") / "work"
    shutil.copytree(template, root)
    dense = contents(root / "dense")
    planted = plant(root, laid, earlier)
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)  # a forked child has no other threads
            prune_streamed(root, kill_at)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert_all_there(root, planted, dense)
    known = set(planted)
    new = [place for place in later if place not in known and not (root / place).exists()]
    planted |= plant(root, new, True)
    try:
        prune_streamed(root)
    except StorageError:
        pass
    else:
        assert (root / "out" / RECORD).is_file()
    assert_all_there(root, planted, dense)
    shutil.rmtree(root.parent)


def test_a_profile_is_written_over_a_profile_alone(template, tmp_path):
    lm = load_model(str(template / "dense"), device="cpu")
    norms = profile(lm, CALIBRATION)
    beside = tmp_path / ".norms.safetensors.part"
    beside.write_bytes(b"mine")
    for other in (template / "dense" / "model.safetensors", beside):
        before = other.read_bytes()
        with pytest.raises(StorageError, match="is no profile, and writing one there would lose what it is"):
            save_profile(norms, other)
        assert other.read_bytes() == before
    target = save_profile(norms, tmp_path / "norms.safetensors")
    assert save_profile(norms, target) == target
    assert sorted(path.name for path in tmp_path.iterdir()) == [".norms.safetensors.part", "norms.safetensors"]
    assert beside.read_bytes() == b"mine"


def test_a_model_that_the_folder_is_linked_from_is_not_replaced(template, tmp_path):
    shutil.copytree(template / "out", tmp_path / "out")
    (tmp_path / "linked").mkdir()
    for path in (tmp_path / "out").iterdir():
        (tmp_path / "linked" / path.name).symlink_to(path)
    again = prune(load_model(str(tmp_path / "linked"), device="cpu"), PruneSpec("magnitude", 0.7))
    with pytest.raises(StorageError, match=r"lies in .*, which would be replaced; choose another folder"):
        save(again, tmp_path / "out")
    assert load_model(str(tmp_path / "linked"), device="cpu")


@pytest.mark.parametrize("damage", ["edited", "without its list", "no JSON"])
def test_a_record_that_is_not_as_it_was_written_protects_its_folder(template, tmp_path, damage):
    shutil.copytree(template / "out", tmp_path / "out")
    path = tmp_path / "out" / RECORD
    record = json.loads(path.read_text())
    changed = {
        "edited": json.dumps(record | {"label": "my notes: do not lose"}),
        "without its list": json.dumps({key: value for key, value in record.items() if key != "files"}),
        "no JSON": "{",
    }[damage]
    path.write_text(changed)
    shutil.copytree(template / "dense", tmp_path / "dense")
    with pytest.raises(StorageError, match="move it away or choose another folder"):
        save_in_memory(tmp_path)
    assert path.read_text() == changed
