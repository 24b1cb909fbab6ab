"""The benchmark's verdicts, by hand."""

from benchmarks.quality import AMOUNTS, SPARSEGPT, TARGETS, Row, judged, updated, without_blank_lines


def rows(least_squares: Row, best: Row) -> dict[str, dict[str, Row]]:
    one = {SPARSEGPT: Row(100.0, 30.0), TARGETS[0].name: least_squares, TARGETS[1].name: best}
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


def test_the_recipes_with_a_target_are_measured_at_every_amount():
    for amount in AMOUNTS.values():
        assert list(updated(amount)) == [SPARSEGPT, *(target.name for target in TARGETS)]
    assert without_blank_lines("a\n \n\nb") == "a\nb\n"
