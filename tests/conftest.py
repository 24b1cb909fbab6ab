"""What every test shares: devices, tiny models built on the spot, the built-in model, and a watch over the tree."""

import copy
import gc
import os
import socket
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before anything imports gradio
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
# Before torch: its threads would otherwise spin while they wait, ten times slower on cores that others use too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if os.environ.get("PYTEST_XDIST_WORKER"):  # the other cores have tests of their own
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from browser import CHROMIUM, MINUTE, QUIET, ready
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from wanda_core.model.language_model import LanguageModel
from wanda_core.model.loading import load_model
from wanda_core.outliers.analysis import analyse
from wanda_core.text.windows import calibrate

ROOT = Path(__file__).resolve().parent.parent
MINUTES = ("families", "long", "safe")  # marks of tests that take minutes

# The same examples on every run: a failure here fails everywhere, and no database is written.
settings.register_profile("wanda", deadline=None, max_examples=60, derandomize=True, database=None)
settings.load_profile("wanda")

SENTENCES = [
    "The sky is blue because sunlight is scattered by the air.",
    "A weight matters when it is large and when its input is large.",
    "Rivers carry sand to the sea, and the sea gives it back to the shore.",
    "She counted the stones twice and wrote both numbers down.",
    "Every morning the baker opens the door before the birds begin to sing.",
    "Two trains left the station at noon, one for the north, one for the coast.",
]
IGNORED_FOLDERS = {
    ".git",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "__pycache__",
    "out",
}


def _files() -> set[Path]:
    found = set()
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in IGNORED_FOLDERS]
        found.update(Path(folder, name).relative_to(ROOT) for name in names)
    return found


def pytest_collection_modifyitems(config, items):
    """Leave out what is marked as taking minutes, unless `-m` names the mark, or WANDA_FAMILIES=1 the families."""
    named = config.getoption("markexpr") + " families" * (os.environ.get("WANDA_FAMILIES") == "1")
    left_out = [item for item in items for mark in MINUTES if item.get_closest_marker(mark) and mark not in named]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish():
    """Leave what is imported out of the search for garbage, as a server does: it comes after every job of an engine."""
    _leave_out_of_the_search()


@pytest.fixture(scope="module", autouse=True)
def what_others_left():
    """Leave out too what a file of tests leaves behind, mostly Gradio's pages: each search took a third of a second."""
    yield
    _leave_out_of_the_search()


def _leave_out_of_the_search() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_stray_files():
    """Tests write to temporary folders only."""
    before = _files()
    yield
    stray = sorted(map(str, _files() - before))
    assert not stray, f"tests left files in the tree: {stray}"


@pytest.fixture(scope="session", params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request) -> torch.device:
    """Every place a model can run here."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any text can be encoded and decoded."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<end>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=trained, eos_token="<end>", pad_token="<end>")


@pytest.fixture(scope="session")
def text() -> str:
    """About two thousand tokens of the tiny tokenizer."""
    return " ".join(SENTENCES[i % len(SENTENCES)] for i in range(90))


def _tiny(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, device: torch.device) -> LanguageModel:
    """Random weights, large enough that activations differ clearly from column to column."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            # norms around 1 but uneven, so that columns have different scales
            parameter.copy_(noise * 0.15 if parameter.dim() > 1 else 1 + 0.5 * noise)
    model.requires_grad_(False)
    return LanguageModel(model.eval().to(device), tokenizer, "tiny", "local")


@pytest.fixture(scope="session")
def tiny_llama(device, tokenizer) -> LanguageModel:
    """Grouped-query attention: four query heads share two key heads. It never ends an answer by itself."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return _tiny(LlamaForCausalLM(config), tokenizer, device)


@pytest.fixture(scope="session")
def tiny_gpt2(device, tokenizer) -> LanguageModel:
    """Conv1D stores its matrices (C_in, C_out); lm_head is tied to the embedding."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=64,
        n_layer=2,
        n_head=4,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _tiny(GPT2LMHeadModel(config), tokenizer, device)


@pytest.fixture(scope="session")
def tiny_opt(device, tokenizer) -> LanguageModel:
    """Learned positions, biases, and an MLP with ReLU."""
    config = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        ffn_dim=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        word_embed_proj_dim=64,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return _tiny(OPTForCausalLM(config), tokenizer, device)


@pytest.fixture
def own_llama(tiny_llama) -> LanguageModel:
    """A tiny Llama that the test may damage."""
    return LanguageModel(copy.deepcopy(tiny_llama.model), tiny_llama.tokenizer, "tiny", "local")


@pytest.fixture(scope="session")
def builtin_lm(device) -> LanguageModel:
    """The real built-in model in float32."""
    return load_model("builtin", device=device, dtype=torch.float32)


@pytest.fixture(scope="session")
def builtin_analysis(builtin_lm):
    """What is known of it from the default calibration: it takes a quarter of a minute."""
    return analyse(builtin_lm, calibrate(builtin_lm))


@pytest.fixture(scope="session")
def builtin_profile(builtin_analysis):
    """Its norms."""
    return builtin_analysis.profile


@pytest.fixture(scope="session")
def builtin_head(builtin_lm) -> LanguageModel:
    """The built-in model cut after its third block: real weights and activations in little time."""
    shared = {id(p): p for p in builtin_lm.model.parameters()}
    model = copy.deepcopy(builtin_lm.model, shared)
    model.model.layers = model.model.layers[:3]
    model.config.num_hidden_layers = 3
    return LanguageModel(model, builtin_lm.tokenizer, "builtin", builtin_lm.revision)


@pytest.fixture(scope="module")
def state():
    """What the server of a file of tests keeps."""
    from wanda_ui.app_state import AppState

    state = AppState()
    state.start()
    return state


@pytest.fixture(scope="module")
def address(state):
    """The page over that state, on loopback."""
    from wanda_ui.page import build, launch_settings

    page = build(state)
    with socket.create_server(("127.0.0.1", 0)) as free:  # Gradio would try its usual ports, which others may hold
        port = free.getsockname()[1]
    where = {"server_name": "127.0.0.1", "server_port": port}
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **where, **launch_settings())
    yield url
    page.close()


@pytest.fixture(scope="module")
def browser():
    """Chromium: the system's, or the one `playwright install chromium` brought."""
    from playwright.sync_api import Error, expect, sync_playwright

    expect.set_options(timeout=MINUTE)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        except Error as error:
            pytest.skip(f"no Chromium: install it or run `playwright install chromium` ({str(error).splitlines()[0]})")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser, address):
    """One visitor, whose tab stays open through a file of tests."""
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    page.set_default_timeout(3 * MINUTE)
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(address)
    ready(page)
    return page


@pytest.fixture
def transformers_as_before():
    """The command line quiets transformers for the whole process."""
    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    yield
    logging.set_verbosity(verbosity)
    (logging.enable_progress_bar if shown else logging.disable_progress_bar)()


@pytest.fixture(scope="session")
def dense(tmp_path_factory, tiny_llama) -> str:
    """The folder of a tiny Llama, for commands."""
    folder = tmp_path_factory.mktemp("models") / "dense"
    tiny_llama.model.save_pretrained(folder)
    tiny_llama.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def sample(tmp_path, text) -> Path:
    """The text as a file."""
    file = tmp_path / "sample.txt"
    file.write_text(text, encoding="utf-8")
    return file
