"""What a replay must look like, whatever model and plan it was made from."""

from dataclasses import asdict
from itertools import pairwise

from wanda_core.report.plan import LINES, Plan
from wanda_core.report.replay import recipes

POINT = ("perplexity", "top1", "kl", "seconds")


def assert_whole(replay: dict, plan: Plan, blocks: int) -> None:
    """Assert that a replay holds everything a plan names. blocks: of the model."""
    assert list(replay) == [
        *("made", "dense", "sparsities", "lines", "points", "prompts", "answers"),
        *("scores", "planes", "stream", "ablation", "toy"),
    ]
    _assert_made(replay["made"], plan)
    _assert_points(replay, plan)
    _assert_answers(replay, plan)
    _assert_scores(replay["scores"], plan, blocks)
    assert [plane["block"] for plane in replay["planes"]] == list(plan.blocks)
    for plane in replay["planes"]:
        _assert_plane(plane, plan)
    _assert_outliers(replay, plan, blocks)
    toy = replay["toy"]
    (w1, w2), (x1, x2) = toy["w"], toy["x"]
    assert toy["y"] == w1 * x1 + w2 * x2
    assert toy["errors"] == [abs(w1 * x1), abs(w2 * x2)]
    assert (toy["magnitude"], toy["wanda"], toy["cheaper"]) == (0, 1, 1)


def _assert_made(made: dict, plan: Plan) -> None:
    assert len(made["date"].split("-")) == 3
    assert made["recipes"] == recipes()
    assert set(made["versions"]) == {"wanda", "torch", "transformers"}
    drawn = made["calibration"]
    assert (drawn["samples"], drawn["seq_len"], drawn["seed"]) == (plan.samples, plan.length, 0)
    assert drawn["source"] == "built-in text"
    assert len(drawn["fingerprint"]) == 64
    assert drawn["seconds"] > 0
    assert (made["windows"], made["seq_len"]) == (plan.windows, plan.seq_len)
    assert made["agreement_windows"] == plan.agreement_windows
    assert made["answer_tokens"] == plan.answer_tokens
    assert 0 < made["prunable"] < made["parameters"]


def _assert_points(replay: dict, plan: Plan) -> None:
    assert replay["sparsities"] == list(plan.sparsities)
    assert list(replay["lines"]) == list(LINES)
    points = [dict(point) for point in replay["points"]]
    for line in replay["lines"].values():
        assert tuple(line) == POINT
        assert all(len(values) == len(plan.sparsities) for values in line.values())
        first = tuple(line[name][0] for name in POINT)
        assert first == (replay["dense"]["perplexity"], 1, 0, 0)
        points += [dict(zip(POINT, values, strict=True)) for values in zip(*line.values(), strict=True)][1:]
    for point in points:
        assert point["perplexity"] > 1
        assert 0 <= point["top1"] <= 1
        assert point["kl"] > 0
        assert point["seconds"] > 0
    places = [(point["line"], point["pattern"], point["sparsity"]) for point in replay["points"]]
    shares = {pattern: round(100 * (1 - int(pattern[0]) / int(pattern[2:]))) for pattern in plan.patterns}
    expected = [(line, pattern, shares[pattern]) for line in LINES for pattern in plan.patterns]
    assert places == expected + [("best", "unstructured", percent) for percent in plan.best]


def _assert_answers(replay: dict, plan: Plan) -> None:
    assert replay["prompts"] == [asdict(prompt) for prompt in plan.prompts]
    assert list(replay["answers"]) == ["dense", *(cell.name for cell in plan.cells)]
    for answers in replay["answers"].values():
        assert len(answers) == len(plan.prompts)
        for answer in answers:
            assert set(answer) == {"t", "p"}
            assert 1 <= len(answer["t"]) == len(answer["p"]) <= plan.answer_tokens
            assert all(isinstance(piece, str) for piece in answer["t"])
            assert all(isinstance(percent, int) and 0 <= percent <= 100 for percent in answer["p"])


def _assert_scores(scores: dict, plan: Plan, blocks: int) -> None:
    assert (scores["kind"], scores["sparsity"]) == (plan.kind, plan.sparsity)
    for metric in LINES:
        told = scores[metric]
        low, high = told["edges"]
        assert low < high
        assert len(told["share"]) == len(told["median"]) == len(told["cut"]) == blocks
        for row in told["share"]:
            assert len(row) == told["bins"]
            assert abs(sum(row) - 1000) <= told["bins"]  # rounded; exact zeros are in no bin
        for median, cut in zip(told["median"], told["cut"], strict=True):
            assert low < median < high
            assert median - 0.5 < cut < median + 0.1  # decades; about half of the weights go


def _assert_plane(plane: dict, plan: Plan) -> None:
    assert (plane["kind"], plane["sparsity"]) == (plan.kind, plan.sparsity)
    columns, rows = plane["bins"]
    assert plane["x"][0] < plane["x"][1]
    assert plane["y"][0] < plane["level"] < plane["y"][1]
    places = [(row, column) for column, row, *_ in plane["cells"]]
    assert all(earlier < later for earlier, later in pairwise(places))
    assert all(0 <= row < rows and 0 <= column < columns for row, column in places)
    assert all(sum(fates) > 0 and min(fates) >= 0 for _, _, *fates in plane["cells"])
    both, wanda, magnitude, cut = (sum(cell[place] for cell in plane["cells"]) for place in (2, 3, 4, 5))
    weights = both + wanda + magnitude + cut
    assert abs((wanda + magnitude) / weights - plane["differ"]) < 1e-4
    assert abs((wanda + cut) / weights - plan.sparsity / 100) < 0.02  # what magnitude cuts
    for part in ("loudest", "loudest_tenth"):
        assert all(0 <= plane[part][metric] <= 1 for metric in LINES)
    assert plane["loudest"]["column"] >= 0


def _assert_outliers(replay: dict, plan: Plan, blocks: int) -> None:
    stream, ablation = replay["stream"], replay["ablation"]
    assert len(stream["largest"]) == len(stream["median"]) == blocks
    ratios = [largest / median for largest, median in zip(stream["largest"], stream["median"], strict=True)]
    assert abs(max(ratios) / stream["ratio"] - 1) < 1e-3
    assert ratios.index(max(ratios)) == stream["block"]
    assert ablation["channels"] == [stream["channel"]]
    assert (ablation["tokens"], ablation["value"]) == ("all", "zero")
    assert (ablation["windows"], ablation["seq_len"]) == (plan.ablation_windows, plan.seq_len)
    assert 1 < ablation["low"] <= ablation["random"] <= ablation["high"]
    assert ablation["draws"] >= 5
