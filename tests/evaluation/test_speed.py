"""Tokens a second and what a model takes: by hand, with a clock that ticks once a look."""

import copy
from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import nn

from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation.footprint import Footprint, footprint, rise_promised
from wanda_core.evaluation.speed import Speed, speed_steps
from wanda_core.progress import finish

IDS = torch.arange(1, 13)[None]  # (1, 12)


def test_tokens_a_second_are_tokens_by_the_clock(tiny_llama):
    ticks = count()  # a turn looks three times: before, after the prompt, after the answer
    found = finish(speed_steps([tiny_llama], IDS, new=5, rounds=2, clock=lambda: float(next(ticks))))
    assert found == [Speed(prefill=12.0, decode=5.0, prompt=12, new=5, rounds=2)]


def test_a_model_that_cannot_write_is_told_in_a_sentence_and_memory_that_ran_out_as_such(tiny_llama):
    other = replace(tiny_llama, model=copy.deepcopy(tiny_llama.model))
    faults = iter([AttributeError("'BltConfig' object has no attribute 'num_hidden_layers'\nand more"), MemoryError()])

    def fail(*_):
        raise next(faults)

    other.model.register_forward_pre_hook(fail)
    with pytest.raises(
        ModelError,
        match=r"^the model failed while generating: 'BltConfig' .* no attribute '\w+'; choose another model$",
    ):
        finish(speed_steps([other], IDS, new=2, rounds=1))
    with pytest.raises(MemoryError):
        finish(speed_steps([other], IDS, new=2, rounds=1))


def test_models_take_turns_and_the_first_turn_of_each_does_not_count(tiny_llama):
    other = replace(tiny_llama, model=copy.deepcopy(tiny_llama.model))
    ran: list[str] = []
    for name, lm in (("a", tiny_llama), ("b", other)):
        lm.model.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    # Seconds of the looks, turn by turn: a 1 and 1, b 1 and 1; a 2 and 4, b 3 and 6; a 2 and 4, b 30 and 60; …
    gaps = [(1, 1), (1, 1), (2, 4), (3, 6), (2, 4), (30, 60), (2, 4), (3, 6)]
    looks = [at for read, wrote in gaps for at in (0.0, float(read), float(read + wrote))]
    clock = iter(looks)
    try:
        steps = speed_steps([tiny_llama, other], IDS, new=2, rounds=3, clock=lambda: next(clock))
        progress = []
        found = finish(steps, progress.append)
    finally:
        tiny_llama.model._forward_pre_hooks.clear()
    assert [(each.prefill, each.decode) for each in found] == [(6.0, 0.5), (4.0, 2 / 6)]
    assert "".join(ran) == ("a" * 3 + "b" * 3) * 4  # a prompt and two tokens each
    assert [step.fraction for step in progress] == sorted(step.fraction for step in progress)
    assert {step.stage for step in progress} == {"speed"}
    assert progress[-1].fraction == 1


def test_what_is_written_is_what_the_model_finds_likeliest_and_nothing_is_left_changed(tiny_llama):
    before = {name: value.clone() for name, value in tiny_llama.model.state_dict().items()}
    read: list[int] = []
    handle = tiny_llama.model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(int(kwargs["input_ids"][0, -1])), with_kwargs=True
    )
    try:
        finish(speed_steps([tiny_llama], IDS, new=3, rounds=1))
    finally:
        handle.remove()
    ids, expected = IDS.to(tiny_llama.device), []
    for _ in range(3):
        ids = torch.cat([ids, tiny_llama.model(ids).logits[:, -1].argmax(-1, keepdim=True)], 1)
        expected.append(int(ids[0, -1]))
    assert read == [12, *expected] * 2
    assert all(torch.equal(value, before[name]) for name, value in tiny_llama.model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"new": 0}, "new"), ({"rounds": 0}, "rounds"), ({"rounds": True}, "rounds"), ({"new": 10_000}, "seq_len")],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(tiny_llama, changes, said):
    with pytest.raises(InputError, match=said):
        next(speed_steps([tiny_llama], IDS, **changes))
    with pytest.raises(InputError, match="one sequence"):
        next(speed_steps([tiny_llama], IDS[0]))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4, bias=False), nn.Linear(3, 4, bias=False)
        self.second.weight = self.first.weight
        self.third = nn.Linear(2, 5, dtype=torch.bfloat16)


def test_weights_are_counted_once_zeros_apart_and_in_their_own_bytes():
    model = Tied()
    with torch.no_grad():
        model.first.weight.copy_(torch.arange(12.0).reshape(4, 3))  # one zero
        model.third.weight.fill_(1)
        model.third.bias.zero_()
    assert footprint(model) == Footprint(parameters=12 + 10 + 5, nonzero=11 + 10, nbytes=12 * 4 + 15 * 2)


def test_zeros_promise_nothing_and_a_fifth_less_a_quarter_more():
    dense = Footprint(100, 100, 400)
    assert rise_promised(dense, Footprint(100, 50, 400)) == 0
    assert rise_promised(dense, Footprint(80, 80, 320)) == pytest.approx(0.25)
