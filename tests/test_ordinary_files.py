"""Whatever path somebody gives or a stranger's folder holds: a pipe does not hang, a device does not fill memory."""

import os

import pytest

from wanda_core.calibration.profile import check_profile_target, load_profile
from wanda_core.checkpoint.push import push_steps
from wanda_core.checkpoint.read import read_record, was_trained
from wanda_core.cli.pruning import _allocation
from wanda_core.cli.sweeping import _table_at
from wanda_core.errors import WandaError
from wanda_core.model.gguf_file import folder_of, is_whole
from wanda_core.model.stored_tensors import INDEX, shards_in, stored_tensors
from wanda_core.outliers.kept_analysis import load_analysis
from wanda_core.outliers.run_log import read_runs
from wanda_core.report.run import read_run
from wanda_core.text.files import read_text

REFUSED = {
    "run": ("run.json", read_run),
    "rows": ("runs.jsonl", read_runs),
    "profile": ("p.safetensors", load_profile),
    "profile's target": ("p.safetensors", check_profile_target),
    "text": ("a.txt", read_text),
    "allocation": ("a.json", lambda path: _allocation(str(path))),
    "table": ("a.csv", lambda path: _table_at(str(path), path.with_name("run.json"))),
    "record": ("wanda.json", lambda path: read_record(path.parent)),
    "pushed": ("wanda.json", lambda path: next(push_steps(path.parent, "me/model", token="hf_x"))),
    "GGUF": ("a.gguf", lambda path: folder_of(path, str(path), None)),
    "weights": ("model.safetensors", lambda path: stored_tensors(path.parent, "model")),
    "index": (INDEX, lambda path: stored_tensors(path.parent, "model")),
}
NONE = {
    "analysis": ("a.safetensors", lambda path: load_analysis(path, None, None)),
    "checkpoint": ("wanda.json", lambda path: was_trained(path.parent)),
    "kept GGUF": ("complete.json", lambda path: is_whole(path.parent, {})),
    "shards": (INDEX, lambda path: shards_in(path.parent)),
}


@pytest.fixture(params=["pipe", "device"])
def lay(request, tmp_path):
    """Lay what never ends under a name. lay(name) -> its path."""

    def laid(name):
        path = tmp_path / name
        if request.param == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
        return path

    return laid


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", REFUSED)
def test_what_never_ends_is_refused_in_a_sentence(lay, what):
    name, read = REFUSED[what]
    with pytest.raises(WandaError, match="; "):
        read(lay(name))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", NONE)
def test_what_never_ends_counts_as_none_where_it_can_be_made_again(lay, what):
    name, read = NONE[what]
    assert not read(lay(name))
