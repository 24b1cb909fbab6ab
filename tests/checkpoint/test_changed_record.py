"""The record of a checkpoint that somebody changed: refused before a model is loaded, never read in silence."""

import copy
import json

import pytest

from wanda_core.checkpoint import manifest
from wanda_core.checkpoint.read import read_record, variant_of
from wanda_core.checkpoint.records import record
from wanda_core.errors import InputError, StorageError
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate

TRAINED = {"settings": {"steps": 5}, "calibration": {}, "tokens": 5, "seconds": 1.0, "held_out": "x", "windows": 4}
TRAINED |= {"seq_len": 8, "kl": [1.0, 0.5], "top1": [0.1, 0.2]}


@pytest.fixture(scope="module")
def whole(tiny_llama, text):
    told = record(prune(tiny_llama, PruneSpec(), calibrate(tiny_llama, text, samples=2, seq_len=16)))
    return json.loads(json.dumps(told | {"training": TRAINED}))


@pytest.fixture
def read(tmp_path, tiny_llama):
    """Read a record from a folder as the variant that it tells of. read(record)"""

    def as_variant(told):
        (tmp_path / "wanda.json").write_text(json.dumps(told))
        return variant_of(tiny_llama, read_record(tmp_path))

    return as_variant


def test_a_whole_record_is_read(read, whole):
    assert read(whole).report.sparsity == whole["sparsity"]
    assert read(whole | {"training": None, "calibration": None}).report.training is None


CHANGES = [
    *[((key,), value) for key in ("base", "recipe", "linears", "blocks", "processes") for value in (None, 7, "x", [5])],
    *[(("sparsity",), value) for value in (None, "x", -1, float("nan"), True)],
    *[(("seconds",), value) for value in (None, "x", -1, float("inf"), 10**400)],
    *[(("linears", 0, "shape"), value) for value in (None, [4], [4, 4, 4], [0, 4], [-4, -4], [4.0, 4], "xy")],
    *[(("linears", 0, "zeros"), value) for value in (None, -1, 10**9, 1.5, True)],
    *[(("linears", 0, "dead_columns"), value) for value in (None, -1, 10**9)],
    *[(("linears", 0, key), value) for key in ("name", "by_magnitude") for value in (None, 7)],
    *[(("blocks", 0), {"sparsity": value}) for value in (None, "x", float("nan"))],
    *[(("base", key), None) for key in ("name", "title", "revision")],
    *[(("calibration", key), []) for key in ("source", "samples", "fingerprint")],
    *[(("calibration", "more"), value) for value in (float("nan"), "\ud800")],
    *[(("sensitivities",), value) for value in (7, {"losses": []}, [1])],
    *[(("training",), value) for value in (7, [1], {"more": 1})],
    *[(("training", key), value) for key in ("settings", "more") for value in (None, 7, {})],
    *[(("training", key), value) for key in ("kl", "top1") for value in (None, "x", 0.5, [0.5], [0.5, float("nan")])],
    *[(("training", key), value) for key in ("tokens", "seconds", "windows", "seq_len") for value in (None, "x", -1)],
    (("training", "held_out"), 7),
]


@pytest.mark.parametrize(("place", "value"), CHANGES)
def test_a_changed_record_is_refused(read, whole, place, value):
    told = copy.deepcopy(whole)
    inner = told
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(InputError, match=r"has no wanda\.json that tells how it was pruned"):
        read(told)


@pytest.mark.parametrize("change", [{"files": []}, {"files": {"a": 1}}, {"label": "\ud800"}])
def test_a_changed_list_of_files_lets_nothing_be_replaced(tmp_path, whole, change):
    (tmp_path / "wanda.json").write_text(json.dumps(json.loads(manifest.sealed(whole, {})) | change))
    with pytest.raises(StorageError, match="replacing the folder would lose it"):
        manifest.check_replaceable(tmp_path)
