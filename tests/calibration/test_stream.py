"""Which linears add to the residual stream, and how far two streams are apart there, against hooks on the models."""

import copy

import pytest
import torch
from families import FAMILIES, tiny

from wanda_core.calibration import batching
from wanda_core.calibration.in_flight import in_flight
from wanda_core.calibration.stream import adding, drift
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks, prunable_linears
from wanda_core.text.windows import draw

# What adds to the stream in each family, by the names inside a block; nothing where something stands behind a linear.
ADDING = {
    "Llama": {"self_attn.o_proj", "mlp.down_proj"},
    "Qwen3": {"self_attn.o_proj", "mlp.down_proj"},
    "Gemma": {"self_attn.o_proj", "mlp.down_proj"},
    "Phi3": {"self_attn.o_proj", "mlp.down_proj"},
    "OPT": {"self_attn.out_proj", "fc2"},
    "GPT2": {"attn.c_proj", "mlp.c_proj"},
    "GPTNeoX": {"attention.dense", "mlp.dense_4h_to_h"},  # side by side
    "GPTJ": {"attn.out_proj", "mlp.fc_out"},
    "Bloom": {"self_attention.dense", "mlp.dense_4h_to_h"},
    "Falcon": {"self_attention.dense", "mlp.dense_4h_to_h"},
    "Gemma2": set(),  # norms behind both
    "Olmo2": set(),
    "Mixtral": set(),  # experts
}


@pytest.fixture(scope="module")
def text():
    ids = torch.randint(1, 250, (500,), generator=torch.Generator().manual_seed(4))
    return draw(ids.tolist(), samples=5, seq_len=24)


@pytest.mark.parametrize("family", ADDING)
def test_what_adds_to_the_stream_is_found_by_its_numbers(family, tokenizer, device, text):
    assert family in FAMILIES
    lm = tiny(family, tokenizer, device)
    _, blocks = decoder_blocks(lm.model)
    with torch.no_grad():
        calls, hidden = lm.walk("read").start(text.ids.to(device))
        for index, linears in enumerate(prunable_linears(lm.model)):
            names = adding(blocks[index], calls[index], linears, hidden[0])
            assert {linear.kind for linear in linears if linear.name in names} == ADDING[family]


def test_a_drift_by_hand():
    dense = torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, 4.0]]])
    pruned = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [2.0, 6.0]]])
    added = (torch.full((1, 3, 2), 5.0), torch.full((1, 3, 2), 3.0))
    assert drift(dense, pruned, []).tolist() == [[[0, 0], [0, 1], [1, -2]]]
    assert drift(dense, pruned, [added]).tolist() == [[[0, 0], [2, 3], [3, 0]]]
    assert drift(dense.half(), pruned.half(), []).dtype == torch.float32


@pytest.mark.parametrize("in_steps", [False, True])
def test_products_of_the_drift_are_those_of_hooks_on_both_models(tiny_llama, text, monkeypatch, in_steps):
    """An oracle in plain PyTorch: what enters the norm before the MLP is the stream at o_proj's sum."""
    if in_steps:
        monkeypatch.setattr(batching, "BATCH_TOKENS", 48)
        monkeypatch.setattr("wanda_core.calibration.in_flight.AT_ONCE_TOKENS", 0)
    halved = LanguageModel(copy.deepcopy(tiny_llama.model), tiny_llama.tokenizer, "halved", "local")
    with torch.no_grad():
        halved.model.model.layers[0].self_attn.v_proj.weight *= 0.5
    streams = []
    for lm in (tiny_llama, halved):
        caught = {"o_proj": [], "down_proj": [], "x": [], "attended": []}
        block = lm.model.model.layers[1]
        handles = [
            block.register_forward_pre_hook(lambda m, args, c=caught: c["o_proj"].append(args[0])),
            block.post_attention_layernorm.register_forward_pre_hook(
                lambda m, args, c=caught: c["down_proj"].append(args[0])
            ),
            block.mlp.down_proj.register_forward_pre_hook(lambda m, args, c=caught: c["x"].append(args[0])),
            block.self_attn.o_proj.register_forward_pre_hook(lambda m, args, c=caught: c["attended"].append(args[0])),
        ]
        with torch.no_grad():
            for row in text.ids:
                lm.model(row[None], use_cache=False)
        for handle in handles:
            handle.remove()
        streams.append({name: torch.cat(parts) for name, parts in caught.items()})
    seen = {}
    with torch.no_grad():
        list(
            in_flight(halved, text, lambda linear, moments: seen.update({linear.name: moments}), True, tiny_llama, True)
        )
    for kind, module, x in (("o_proj", "self_attn.o_proj", "attended"), ("down_proj", "mlp.down_proj", "x")):
        E = streams[0][kind] - streams[1][kind]
        E[:, 0] = 0
        expected = E.flatten(0, 1).T @ streams[1][x].flatten(0, 1)
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(seen[f"model.layers.1.{module}"].drift, expected, rtol=1e-3, atol=1e-5)
    assert all(moments.drift is None for name, moments in seen.items() if not name.endswith(("o_proj", "down_proj")))
    assert not any(module._forward_hooks for module in halved.model.modules())
