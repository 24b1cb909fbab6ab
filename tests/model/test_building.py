"""Models that are built at the same moment leave torch and transformers as they were."""

import threading

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from wanda_core.errors import ModelError
from wanda_core.model.building import REPLACED, one_at_a_time
from wanda_core.model.loading import load_model
from wanda_core.model.watched import ended_after
from wanda_core.progress import GivenUpError, end_when


def theirs():
    return [getattr(place, name) for place, name in REPLACED] + [torch.get_default_dtype()]


def test_two_loads_that_overlap_leave_everything_in_its_place(folder, monkeypatch):
    """The first to begin ends first: without turns the second would put back what the first had put there."""
    before, inside, ended = theirs(), threading.Event(), []
    original = AutoModelForCausalLM.from_pretrained

    def slow(*args, **settings):
        replaced = PreTrainedModel.tie_weights
        assert replaced is before[0], "another is being built"
        PreTrainedModel.tie_weights = lambda self, *_, **__: None  # as transformers does
        inside.set()
        try:
            return original(*args, **settings)
        finally:
            PreTrainedModel.tie_weights = replaced

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", slow)
    threads = [threading.Thread(target=lambda: ended.append(load_model(str(folder)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ended) == 3
    assert theirs() == before


def test_whatever_ends_it_all_is_in_its_place_again():
    before = theirs()

    def replaced():
        PreTrainedModel.tie_weights = nn.Module.register_parameter = torch.linspace = None
        torch.set_default_dtype(torch.float64)

    def fails():
        replaced()
        raise KeyError

    def loops():
        replaced()
        while True:
            sum(range(100))

    with pytest.raises(KeyError), one_at_a_time(), one_at_a_time():
        fails()
    assert theirs() == before
    with pytest.raises(ModelError), one_at_a_time(), ended_after(0.01, "too long"):
        loops()
    assert theirs() == before


def test_who_leaves_does_not_wait_for_a_turn():
    gone, said = threading.Event(), []

    def job():
        end_when(gone.is_set)
        with pytest.raises(GivenUpError), one_at_a_time():
            pytest.fail("another has it")
        said.append("left")

    with one_at_a_time():
        waits = threading.Thread(target=job)
        waits.start()
        gone.set()
        waits.join(5)
    assert said == ["left"]
