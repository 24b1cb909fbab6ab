"""Of a model that also sees or hears, the language model is pruned, however large the rest is."""

import pytest
import torch
from architectures import tiny_config
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from wanda_core.checkpoint.save import save
from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation.perplexity import perplexity
from wanda_core.low_memory.model_on_disk import open_model
from wanda_core.low_memory.prune import prune_to_folder
from wanda_core.model.linears import decoder_blocks
from wanda_core.model.loading import load_model
from wanda_core.presets import preset
from wanda_core.pruning.prune import prune
from wanda_core.recipe import PruneSpec
from wanda_core.text.windows import calibrate

VOCABULARY = 320  # tokens
WHERE = {  # the blocks of the language model, whose towers are made larger than it
    "blt": "model.global_transformer.layers",  # beside it models of bytes and patches, which read the same text
    "fuyu": "model.language_model.layers",
    "gemma3": "model.language_model.layers",
    "gemma4": "model.language_model.layers",
    "git": "git.encoder.layer",
    "got_ocr2": "model.language_model.layers",
    "moss_transcribe_diarize": "model.language_model.layers",
    "phi4_multimodal": "model.layers",
}
SIZES = ("intermediate_size", "mlp_dim", "encoder_ffn_dim")


@pytest.fixture(autouse=True)
def _quiet(transformers_as_before):
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def wrapper(name):
    """A random model with a wide tower for pictures or sound, and a text limit below its own."""
    config = tiny_config(name, VOCABULARY)
    for part in ("vision_config", "audio_config"):
        tower = getattr(config, part, None)
        for size in SIZES:
            if tower is not None and hasattr(tower, size):
                setattr(tower, size, 2048)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


@pytest.mark.parametrize("name", WHERE)
def test_the_blocks_are_those_of_the_language_model(name):
    model = wrapper(name)
    where, blocks = decoder_blocks(model)
    assert where == WHERE[name]
    towers = [m for n, m in model.named_modules() if n.endswith(("vision_tower", "audio_tower", "image_encoder"))]
    for tower in towers:
        assert sum(p.numel() for p in tower.parameters()) > sum(p.numel() for p in blocks.parameters())


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "gemma3"
    wrapper("gemma3").save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def differing(model, other) -> set[str]:
    theirs = dict(other.named_parameters())
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, theirs[name])}


@pytest.mark.parametrize("spec", [PruneSpec("magnitude", 0.5), PruneSpec("wanda", 0.5), preset("best")])
def test_only_the_language_model_is_pruned_in_memory_and_from_the_disk(folder, text, tmp_path, spec):
    lm = load_model(str(folder), device="cpu", dtype=torch.float32)
    calibration = calibrate(lm, text, samples=2, seq_len=32)
    variant = prune(lm, spec, calibration)
    saved = load_model(str(save(variant, tmp_path / "out")), device="cpu", dtype=torch.float32)
    expected = {f"{linear.name}.weight" for linear in lm.all_linears}
    assert differing(lm.model, saved.model) == expected
    assert len(expected) == 2 * 7
    assert all(name.startswith("model.language_model.layers.") for name in expected)
    on_disk = open_model(str(folder), device="cpu", dtype=torch.float32)
    prune_to_folder(on_disk, spec, tmp_path / "low", calibration)
    low = load_model(str(tmp_path / "low"), device="cpu", dtype=torch.float32)
    assert differing(saved.model, low.model) == set()
    assert perplexity(saved, text, seq_len=32, windows=1).perplexity > 1


def test_the_limit_of_its_text_is_the_limit_of_its_windows(folder, text):
    lm = load_model(str(folder), device="cpu", dtype=torch.float32)
    assert lm.longest == lm.model.config.text_config.max_position_embeddings == 256
    assert lm.width == 32
    with pytest.raises(InputError, match="seq_len 257 is more than the 256 tokens"):
        calibrate(lm, text * 2, samples=2, seq_len=257)


def test_a_model_that_does_not_run_from_text_alone_is_refused(folder, monkeypatch):
    from transformers import Gemma3ForConditionalGeneration

    forward = Gemma3ForConditionalGeneration.forward

    def needs_a_picture(self, input_ids, pixel_values, **arguments):
        return forward(self, input_ids, pixel_values, **arguments)

    monkeypatch.setattr(Gemma3ForConditionalGeneration, "forward", needs_a_picture)
    for load in (load_model, open_model):
        with pytest.raises(ModelError, match=r"\(gemma3\) does not run from text alone \(.*'pixel_values'\); choose"):
            load(str(folder), device="cpu", dtype=torch.float32)
