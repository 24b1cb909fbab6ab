"""What a run must look like that holds all that its plan names, whatever model it was made from."""

import base64
from dataclasses import asdict
from itertools import pairwise

import pytest

from wanda_core.explain.tiles import SIDE
from wanda_core.report.keys import Key
from wanda_core.report.plan import PICTURED, Plan
from wanda_core.report.run import VALUES, dumped, read_run

METRICS = ("score", "size")  # by which the two lines, Wanda and magnitude, order weights


def assert_whole(run: dict, plan: Plan, blocks: int) -> None:
    """Assert that a run holds everything a plan names, all pictures too. blocks: of the model."""
    assert read_run(dumped(run)) == run
    assert list(run) == [
        *("format", "made", "dense", "lines", "prompts", "answers"),
        *("scores", "linears", "masks", "stream", "ablation", "toy"),
    ]
    _assert_made(run["made"], plan)
    _assert_points(run, plan)
    _assert_answers(run, plan)
    _assert_scores(run["scores"], plan, blocks)
    assert [linear["block"] for linear in run["linears"]] == list(plan.blocks)
    for linear in run["linears"]:
        _assert_linear(linear, plan)
    _assert_weights(run["linears"][0])
    assert not any("told" in linear for linear in run["linears"][1:])
    _assert_masks(run["masks"], blocks)
    _assert_outliers(run, plan, blocks)
    toy = run["toy"]
    (w1, w2), (x1, x2) = toy["w"], toy["x"]
    assert toy["y"] == w1 * x1 + w2 * x2
    assert toy["errors"] == [abs(w1 * x1), abs(w2 * x2)]
    assert (toy["magnitude"], toy["wanda"], toy["cheaper"]) == (0, 1, 1)


def _assert_made(made: dict, plan: Plan) -> None:
    assert len(made["date"].split("-")) == 3
    assert set(made["versions"]) == {"wanda", "torch", "transformers"}
    drawn = made["calibration"]
    assert drawn["source"] == "built-in text"
    assert len(drawn["fingerprint"]) == 64
    assert drawn["seconds"] > 0
    assert (made["windows"], made["seq_len"]) == (plan.windows, plan.seq_len)
    assert made["agreement_windows"] == plan.agreement_windows
    assert made["answer_tokens"] == plan.answer_tokens
    assert (made["dtype"], made["bos"]) == ("float32", False)
    assert 0 < made["prunable"] < made["parameters"]


def _assert_points(run: dict, plan: Plan) -> None:
    assert [(line["key"], tuple(line["at"])) for line in run["lines"]] == [
        (str(line.key), line.percents) for line in plan.lines
    ]
    for line in run["lines"]:
        assert line["calibration"] is None
        assert list(line)[4:] == list(VALUES)
        spec = Key.parse(line["key"]).spec(50).to_dict()
        assert line["recipe"] == {name: value for name, value in spec.items() if name != "sparsity"}
        points = [
            dict(zip(VALUES, values, strict=True)) for values in zip(*(line[name] for name in VALUES), strict=True)
        ]
        if line["at"][0] == 0:
            assert list(points.pop(0).values()) == [run["dense"]["perplexity"], 1, 0, 0]
        for point in points:
            assert point["perplexity"] > 1
            assert 0 <= point["top1"] <= 1
            assert point["kl"] > 0
            assert point["seconds"] > 0


def _assert_answers(run: dict, plan: Plan) -> None:
    assert run["prompts"] == [asdict(prompt) for prompt in plan.prompts]
    assert list(run["answers"]) == ["dense", *(cell.name for cell in plan.cells)]
    for answers in run["answers"].values():
        assert len(answers) == len(plan.prompts)
        for answer in answers:
            assert set(answer) == {"t", "p"}
            assert 1 <= len(answer["t"]) == len(answer["p"]) <= plan.answer_tokens


def _assert_scores(scores: dict, plan: Plan, blocks: int) -> None:
    assert (scores["kind"], scores["sparsity"]) == (plan.kind, plan.sparsity)
    assert scores["blocks"] == list(range(blocks))
    for place, metric in enumerate(METRICS):
        told, cuts, removed = scores[metric], scores["cuts"][place], scores["sparsities"][place]
        low, high = told["edges"]
        assert low < high
        assert len(told["share"]) == len(told["median"]) == len(cuts) == len(removed) == blocks
        for row in told["share"]:
            assert len(row) == scores["bins"]
            assert abs(sum(row) - 1000) <= scores["bins"]  # rounded; exact zeros are in no bin
        for median, cut, share in zip(told["median"], cuts, removed, strict=True):
            assert low < median < high
            assert cut["metric"] == metric
            assert cut["low"] <= cut["median"] <= cut["high"]
            assert median - 0.5 < cut["median"] < median + 0.1  # decades; about half of the weights go
            assert abs(share - plan.sparsity / 100) < 0.02


def _assert_linear(linear: dict, plan: Plan) -> None:
    assert (linear["kind"], linear["sparsity"]) == (plan.kind, plan.sparsity)
    rows, columns = linear["rows"], linear["columns"]
    _assert_plane(linear["plane"], rows * columns, linear["kept"])
    for metric in METRICS:
        histogram = linear[metric]
        low, high = histogram["edges"]
        assert low < high
        assert len(histogram["kept"]) == len(histogram["removed"])
        assert sum(histogram["kept"]) + sum(histogram["removed"]) + histogram["zeros"] == rows * columns
        assert abs(sum(histogram["kept"]) / rows / columns - linear["kept"][0]) < 1e-3  # zeros are removed
    # Row by row Wanda's cut is nearly one along the score, and none along |W|.
    assert 0 <= linear["score"]["misplaced"] < linear["size"]["misplaced"] < 1
    assert all(abs(kept - 1 + plan.sparsity / 100) < 0.02 for kept in linear["kept"])
    median, largest = linear["norm"]
    assert 0 < median < largest
    assert max(rows, columns) <= SIDE * 2 ** linear["levels"] < 2 * max(rows, columns, SIDE)


def _assert_plane(plane: dict, weights: int, kept: list[float]) -> None:
    columns, rows = plane["bins"]
    assert plane["x"][0] < plane["x"][1]
    assert [cut["metric"] for cut in plane["cuts"]] == list(METRICS)
    assert plane["y"][0] < plane["cuts"][1]["median"] < plane["y"][1]
    places = [(row, column) for column, row, *_ in plane["cells"]]
    assert all(earlier < later for earlier, later in pairwise(places))
    assert all(0 <= row < rows and 0 <= column < columns for row, column in places)
    assert all(sum(fates) > 0 and min(fates) >= 0 for _, _, *fates in plane["cells"])
    both, first, second, neither = (sum(cell[place] for cell in plane["cells"]) for place in (2, 3, 4, 5))
    assert both + first + second + neither == weights
    assert abs((first + second) / weights - plane["differ"]) < 1e-4
    assert [(both + first) / weights, (both + second) / weights] == pytest.approx(kept, abs=1e-5)
    for part in ("loudest", "loudest_tenth"):
        assert all(0 <= plane[part][which] <= 1 for which in ("first", "second"))
    assert plane["loudest"]["column"] >= 0


def _assert_weights(linear: dict) -> None:
    """The overview holds all of the matrix, the near tile the weight that is told, and both say what is told."""
    rows, columns = linear["rows"], linear["columns"]
    for tile in (linear["overview"], linear["near"]):
        planes = [base64.b64decode(sheet) for sheet in (tile["size"], *tile["kept"])]
        assert len(planes) == 1 + len(PICTURED)
        assert {len(plane) for plane in planes} == {tile["height"] * tile["width"]}
    overview, near, told = linear["overview"], linear["near"], linear["told"]
    cell = 2 ** linear["levels"]
    assert (overview["height"], overview["width"]) == (-(-rows // cell), -(-columns // cell))
    for share, sheet in zip(linear["kept"], overview["kept"], strict=True):
        means = base64.b64decode(sheet)
        assert abs(sum(means) / len(means) / 255 - share) < 0.02  # cells at the edges are smaller
    weight, column, row = told["weight"], told["column"], told["row"]
    assert (weight["row"], weight["column"]) == (row["row"], column["column"])
    assert weight["columns"] == column["columns"] == row["columns"] == columns
    assert column["rows"] == rows
    across, down = near["at"]
    inside = (weight["row"] - down * SIDE) * near["width"] + told["place"] - across * SIDE
    seen = [base64.b64decode(sheet)[inside] for sheet in near["kept"]]
    assert seen == [0 if fate["removed"] else 255 for fate in weight["fates"]]
    assert seen == [255, 0]  # Wanda keeps it, magnitude does not
    assert [fate["scope"] for fate in weight["fates"]] == ["row", "matrix"]
    assert [fate["of"] for fate in weight["fates"]] == [columns, rows * columns]
    assert weight["by_score"] < weight["by_size"]
    assert weight["loudness"] == column["loudness"] == 1
    assert column["column"] == linear["plane"]["loudest"]["column"]
    assert column["kept"] == pytest.approx(
        [linear["plane"]["loudest"][which] for which in ("first", "second")], abs=1e-4
    )


def _assert_masks(masks: dict, blocks: int) -> None:
    assert masks["pairs"] == [[0, 1]]
    (differ,), (overall,) = masks["differ"], masks["overall"]
    assert len(differ) == len(masks["kinds"]) == len(set(masks["kinds"]))
    assert all(len(row) == blocks for row in differ)
    shares = [share for row in differ for share in row]
    assert 0 <= min(shares) <= overall <= max(shares) < 1


def _assert_outliers(run: dict, plan: Plan, blocks: int) -> None:
    stream, ablation = run["stream"], run["ablation"]
    assert len(stream["largest"]) == len(stream["median"]) == blocks
    ratios = [largest / median for largest, median in zip(stream["largest"], stream["median"], strict=True)]
    assert abs(max(ratios) / stream["ratio"] - 1) < 1e-3
    assert ratios.index(max(ratios)) == stream["block"]
    assert ablation["channels"] == [stream["channel"]]
    assert (ablation["tokens"], ablation["value"]) == ("all", "zero")
    assert (ablation["windows"], ablation["seq_len"]) == (plan.ablation_windows, plan.seq_len)
    assert 1 < ablation["low"] <= ablation["random"] <= ablation["high"]
    assert ablation["draws"] >= 5
