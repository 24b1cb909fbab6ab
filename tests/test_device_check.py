"""The device check: its verdicts, its budget, and the one file that it becomes, here on the CPU."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import device_check
from benchmarks.device_check import COLUMNS, Budget, Row, differing, each_shape, mask_rows, orders_of, rows
from benchmarks.device_models import SHAPES, Shape, random_model
from benchmarks.device_pack import NEEDED, STAND_INS, pack
from wanda_core.methods import METHODS
from wanda_core.recipe import ORDERS, PruneSpec

CPU = torch.device("cpu")
TINY = Shape("tiny", 32, 64, 2, (4, 2), 128, True)


def test_every_method_is_compared_in_every_order_that_it_takes():
    for method in METHODS.values():
        for order in ORDERS:
            spec = PruneSpec(method.name, 0.5, order="faithful")
            taken = order in orders_of(method) or not spec.needs_calibration
            try:
                PruneSpec(method.name, 0.5, order=order)
                assert taken
            except ValueError:
                assert not taken


def test_shapes_have_the_weights_they_are_named_after():
    built_in, one, eight = SHAPES
    assert built_in.weights == pytest.approx(134.5e6, rel=0.01)
    assert one.weights == pytest.approx(1.24e9, rel=0.01)
    assert eight.weights == pytest.approx(8.03e9, rel=0.01)
    model = random_model(TINY, CPU, torch.float32).model
    assert sum(p.numel() for p in model.parameters() if p.dim() == 2) == TINY.weights


def test_the_cpu_agrees_with_itself_in_every_format_and_an_error_is_a_row():
    found = list(mask_rows(CPU, Budget(3600), replace(TINY, blocks=1)))
    assert [(row.numbers, row.what) for row in found] == [
        (numbers, method) for numbers in ("float32", "float16", "bfloat16") for method in METHODS
    ]
    assert {(row.verdict, row.bad) for row in found} == {("as expected", False)}
    assert all(part.split()[-1] == "0" for row in found for part in row.here.split("; "))


def test_masks_that_differ_are_counted_and_called_so(monkeypatch):
    first, second = (random_model(TINY, CPU, torch.float32).model for _ in range(2))
    with torch.no_grad():
        first.model.layers[0].mlp.up_proj.weight[0, :5] = 0
        second.model.layers[0].mlp.up_proj.weight[0, 3:7] = 0
    total = 2 * (32 * 32 * 3 + 3 * 32 * 64)
    assert differing(first, second) == 5 / total  # 0, 1, 2 and 5, 6
    monkeypatch.setattr(device_check, "METHODS", {name: METHODS[name] for name in ("wanda", "random")})
    monkeypatch.setattr(device_check, "differing", lambda *_: 0.5)
    assert all(row.bad and row.verdict == "MORE THAN EXPECTED" for row in mask_rows(CPU, Budget(3600), TINY))


def test_the_plain_loop_gives_the_same_bits_and_2_4_is_left_out_without_cuda(monkeypatch):
    monkeypatch.setattr(device_check, "mask_rows", lambda *_: iter(()))
    found = list(rows(CPU, Budget(3600), [replace(TINY, name=name) for name in ("one", "two")]))
    loop = [row for row in found if row.check == "plain loop"]
    assert [(row.shape, row.what) for row in loop] == [(name, order) for name in ("one", "two") for order in ORDERS]
    assert all("bit for bit the same" in row.verdict for row in loop if row.what == "faithful")
    assert not any(row.bad for row in found)
    assert str(found[-1]) == "| 2:4 by torch |  |  | needs CUDA, capability 8.0 |  |  | left out |"


def test_what_would_not_fit_into_the_budget_is_left_out_and_said():
    now = iter([0.0, 0.0, 0.0])  # made, asked, begun; the small shape takes ten seconds
    budget = Budget(100, clock=lambda: next(now, 10.0))
    small, large = replace(TINY, name="small"), replace(TINY, name="large", blocks=40)
    ran = []
    found = list(
        each_shape(
            "a check",
            [small, large],
            budget,
            lambda shape: ran.append(shape.name) or [Row("a", "", "", "")],
            lambda shape: shape.weights,
        )
    )
    assert ran == ["small"]
    assert found[-1].verdict == "left out"
    assert all(row.verdict == "left out" for row in mask_rows(CPU, Budget(0), TINY))


def test_what_a_device_cannot_do_becomes_a_row_that_is_bad():
    def fails(shape):
        raise RuntimeError("no kernel | here\nmore")

    (row,) = each_shape("a check", [TINY], Budget(3600), fails, lambda shape: shape.weights)
    assert (row.bad, row.verdict) == (True, "FAILED: no kernel / here")


HIDDEN = ("psutil", "platformdirs", "accelerate", "gguf", "typer", "rich", "gradio", "plotly", "pandas", "datasets")


@pytest.mark.long
def test_one_file_runs_with_torch_and_transformers_alone(tmp_path):
    file = pack(tmp_path / "device-check.pyz")
    hide = f"import sys\nsys.modules.update(dict.fromkeys({[name for name in HIDDEN if name not in STAND_INS]!r}))\n"
    # The stand-ins must be what is imported: the real packages are taken off the path's names.
    hide += (
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {tuple(STAND_INS)!r}:\n"
        "            from importlib.machinery import PathFinder\n"
        "            return PathFinder.find_spec(name, [p for p in sys.path if 'stand_ins' in p])\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    (tmp_path / "sitecustomize.py").write_text(hide)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(file), "--seconds", "7", "--output", str(tmp_path / "table.md")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table.strip() == done.stdout.strip()
    assert f"| {' | '.join(COLUMNS)} |" in table
    assert "| masks | masks | float32 | wanda |" in table  # compared, or left out where the machine is busy
    assert "FAILED" not in table
    assert "There is no GPU here" in table
    assert {name.removesuffix(".py") for name in NEEDED} >= {"device_check", "device_models", "plain"}
