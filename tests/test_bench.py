"""The benchmark's verdicts, by hand."""

from benchmarks import buys
from benchmarks.buys import Bought, Loaded
from benchmarks.quality import (
    AMOUNTS,
    AS_MUCH_READ,
    SPARSEGPT,
    TARGETS,
    Row,
    judged,
    recipe_name,
    same_order,
    updated,
    without_blank_lines,
)
from wanda_core.evaluation.footprint import Footprint
from wanda_core.evaluation.perplexity import Agreement
from wanda_core.evaluation.speed import Speed
from wanda_core.presets import preset
from wanda_core.text.windows import calibrate

FINEST = Row(45.0, 100.0)


def rows(least_squares: Row, best: Row, finest: Row = FINEST) -> dict[str, dict[str, Row]]:
    one = {SPARSEGPT: Row(100.0, 30.0), TARGETS[0].name: least_squares, "best": best, "finest": finest}
    return dict.fromkeys(AMOUNTS, one)


def test_every_target_is_judged_by_perplexity_and_by_time(capsys):
    assert judged(rows(Row(85.0, 29.0), Row(38.0, 45.0)))
    assert "MISSED" not in capsys.readouterr().out
    assert not judged(rows(Row(85.0, 30.1), Row(38.0, 45.0)))
    assert capsys.readouterr().out.count("MISSED") == 3
    assert not judged(rows(Row(86.0, 29.0), Row(58.0, 45.1)))
    found = capsys.readouterr().out
    assert "| best | 60% | 0.580 | 0.54, MISSED | 1.503 | 1.5, MISSED |" in found
    assert "| best | 50% | 0.580 | 0.76, met | 1.503 | 1.5, MISSED |" in found
    assert found.count("MISSED") == 1 + 2 + 4
    assert not judged(rows(Row(85.0, 29.0), Row(38.0, 45.0), Row(50.1, 121.0)))
    assert "| finest | 60% | 0.501 | 0.5, MISSED | 4.033 | 4, MISSED |" in capsys.readouterr().out


def test_the_order_on_a_second_text_is_said(capsys):
    one = {"a": Row(3.0, 1.0, 30.0), "b": Row(2.0, 1.0, 20.0), "c": Row(1.0, 1.0, 25.0)}
    same_order({"50%": {"a": one["a"], "b": one["b"]}, "60%": one, "2:4": {"a": Row(1.0, 1.0)}})
    assert capsys.readouterr().out.splitlines() == [
        "50%, order on the second text: the same",
        "60%, order on the second text: b < c < a",
    ]


def test_the_recipes_with_a_target_are_measured_at_every_amount():
    for amount in AMOUNTS.values():
        assert list(updated(amount)) == [SPARSEGPT, *(target.name for target in TARGETS), AS_MUCH_READ]
    assert recipe_name(preset("finest", sparsity=0.6), "finest").endswith("(finest) per matrix, 32 × 512 tokens")
    assert without_blank_lines("a\n \n\nb") == "a\nb\n"


def bought(parameters: int, decode: float, perplexity: float, nonzero: int | None = None) -> Bought:
    held = Footprint(parameters, parameters if nonzero is None else nonzero, 4 * parameters)
    speed = Speed(300.0, decode, 256, 32, 3)
    return Bought(held, 4 * parameters + 1000, Loaded(0.5, 1e9), speed, perplexity, Agreement(0.1, 0.75, 512, 2, 1022))


def test_what_is_bought_is_told_beside_what_was_promised(capsys):
    rows = {
        "dense": bought(100_000_000, 20.0, 36.08),
        "Wanda 50%": bought(100_000_000, 20.2, 88.0, nonzero=50_000_000),
        "20% of the neurons gone": bought(80_000_000, 24.01, 53.9),
    }
    head, _, dense, zeros, smaller = buys.lines(rows)
    assert head.count("|") == dense.count("|") == zeros.count("|") == smaller.count("|")
    assert "| Wanda 50% | 100.0 M | 50.0 M | 400 MB |" in zeros
    assert "| 20.2 tokens/s | 1.01 | 1.00 | 88.00 | 75.0% |" in zeros
    assert "| 24.0 tokens/s | 1.20 | 1.25 | 53.90 | 75.0% |" in smaller
    assert buys.judged(rows)  # 0.20 of 0.25 is 0.8
    told = capsys.readouterr().out
    assert "| 20% of the neurons gone | tokens a second, of what is promised | 0.80 | 0.8, met |" in told
    assert "| 20% of the neurons gone | perplexity | 53.90 | 54, met |" in told
    assert "Wanda 50%" not in told  # zeros promise nothing
    rows["20% of the neurons gone"] = bought(80_000_000, 23.9, 54.1)
    assert not buys.judged(rows)
    assert capsys.readouterr().out.count("MISSED") == 2


def test_the_text_that_is_measured_is_not_calibrated_on(tiny_llama, text, monkeypatch):
    given = calibrate(tiny_llama, text, samples=2, seq_len=16)
    monkeypatch.setattr(buys, "WINDOWS", 1)
    monkeypatch.setattr(buys, "WINDOW_TOKENS", 32)
    drawn = buys.same_text(tiny_llama, given, text * 2, "a text")
    assert (drawn.samples, drawn.seq_len) == (2, 16)
    assert "second half of a text" in drawn.source
    monkeypatch.setattr(buys, "WINDOWS", 10**6)
    assert buys.same_text(tiny_llama, given, text, "a text") is given
