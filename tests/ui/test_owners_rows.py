"""The owner's own rows of the outlier lab's log: shown on one's own page, told to nobody on a public one."""

import json
from contextlib import closing
from dataclasses import replace

import pytest
from engine_room import server, serving
from raw_requests import Raw

from wanda_core.outliers.run_log import MEASURED_RUNS, add_run, read_runs
from wanda_ui.settings import PUBLIC, Settings

MODEL, TEXT = "a-folder-of-mine", "a-text-of-mine.txt"


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "runs.jsonl"
    monkeypatch.setenv("WANDA_RUNS", str(path))
    measured = read_runs(MEASURED_RUNS).rows[0]
    add_run(replace(measured, model=MODEL, text=TEXT, calibration="f" * 64))
    return path


def heard(tiny_llama, settings: Settings) -> str:
    """What the event that shows the rows tells a visitor."""
    state = server(tiny_llama, settings=settings)
    with serving(state) as (page, address), closing(Raw(address)) as raw:
        number = next(
            number
            for number, event in page.fns.items()
            if event.name == "first" and "growth-table" in [getattr(part, "elem_id", None) for part in event.outputs]
        )
        raw.join("visitor", number, [None] * len(page.fns[number].inputs))
        return json.dumps(raw.messages("visitor"))


def test_they_are_shown_on_ones_own_page_and_told_to_nobody_on_a_public_one(tiny_llama, log):
    own, public = heard(tiny_llama, Settings()), heard(tiny_llama, PUBLIC)
    assert MODEL in own
    assert TEXT in own
    assert MODEL not in public
    assert TEXT not in public
    assert "wanda-lab-outliers.csv" in public  # those that come with the lab are


def test_a_log_that_cannot_be_read_tells_no_stranger_where_it_lies(tiny_llama, log):
    log.unlink()
    log.mkdir()
    assert str(log) in heard(tiny_llama, Settings())
    assert log.name not in heard(tiny_llama, PUBLIC)
