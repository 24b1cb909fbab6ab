"""Loading a model from a folder, and every refusal in one readable sentence."""

import json
import os
import shutil
import threading
import time
from itertools import count
from pathlib import Path

import pytest
import torch
from configured import configure
from safetensors.torch import load_file, save_file
from transformers import BartConfig, T5Config

from wanda_core.errors import InputError, ModelError, WandaError, shortened_path
from wanda_core.model import loading, watched
from wanda_core.model.devices import default_device, default_dtype, free_memory
from wanda_core.model.file_state import state_of
from wanda_core.model.loading import ONE_THREAD, load_located, load_model, locate
from wanda_core.model.names import normal_name

pytestmark = pytest.mark.usefixtures("no_network")


def refusal(name, kind: type[WandaError] = ModelError, **settings) -> str:
    """The sentence a name is refused with: one line, and the name in it."""
    with pytest.raises(kind) as caught:
        load_model(name, device="cpu", **settings)
    message = str(caught.value)
    assert type(caught.value) is kind
    assert "\n" not in message
    assert len(message) < 700
    assert shortened_path(normal_name(name) if settings.get("local_folders", True) else name) in message
    assert not message.endswith(".")
    return message


# What loads


def test_a_saved_folder_loads_as_it_was(saved, tiny_llama, device, text):
    lm = load_model(str(saved), device=device, dtype=torch.float32)
    assert (lm.name, lm.revision, lm.title) == (str(saved), "local", "tiny-llama")
    assert (lm.device.type, lm.dtype) == (device.type, torch.float32)
    assert lm.n_parameters == tiny_llama.n_parameters
    assert lm.encode(text) == tiny_llama.encode(text)
    assert lm.decode(lm.encode(text)) == text
    for name, parameter in tiny_llama.model.named_parameters():
        assert torch.equal(lm.model.get_parameter(name), parameter)
    assert not lm.model.training
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())


def test_a_folder_may_be_given_from_the_home_folder(saved, monkeypatch):
    monkeypatch.setenv("HOME", str(saved.parent))
    assert load_model("~/tiny-llama", device="cpu").title == "tiny-llama"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_asked_for_dtype_is_loaded(saved, device, dtype):
    assert load_model(str(saved), device=device, dtype=dtype).dtype == dtype


def test_left_out_device_and_dtype_are_chosen_for_this_machine(saved):
    lm = load_model(str(saved))
    assert lm.device.type == default_device().type
    assert lm.dtype == default_dtype(default_device())
    assert default_dtype(torch.device("cpu")) == torch.float32


def test_tied_weights_are_counted_once(tiny_gpt2):
    embedding = tiny_gpt2.model.transformer.wte.weight
    assert tiny_gpt2.model.lm_head.weight is embedding
    by_name = dict(tiny_gpt2.model.named_parameters(remove_duplicate=False))
    assert tiny_gpt2.n_parameters == sum(p.numel() for p in by_name.values()) - embedding.numel()


@pytest.mark.builtin
def test_the_built_in_model_is_what_it_says(builtin_lm):
    assert (builtin_lm.name, builtin_lm.title) == ("builtin", "SmolLM2-135M-Instruct")
    assert builtin_lm.dtype == torch.float32
    assert builtin_lm.n_parameters == 134_515_008
    assert builtin_lm.tokenizer.chat_template
    assert getattr(builtin_lm.model.config, "quantization_config", None) is None


# Threads


@pytest.mark.parametrize("one_thread", [True, False])
def test_weights_can_be_read_without_starting_threads(saved, device, monkeypatch, one_thread):
    started, start = [], threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread), start(thread))[1])
    monkeypatch.setenv(ONE_THREAD, "0")
    located = locate(str(saved), device, torch.float32)
    lm = load_located(located, one_thread=one_thread)
    own = {"wanda-watch", "apart", "helper"}  # of ours, which hold no weights
    assert any(thread.name not in own for thread in started) != one_thread
    assert os.environ[ONE_THREAD] == "0"
    for name, parameter in load_model(str(saved), device=device, dtype=torch.float32).model.named_parameters():
        assert torch.equal(lm.model.get_parameter(name), parameter)


# Files that somebody writes


def test_weights_in_use_do_not_change_with_their_files(saved, device, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    lm, file = load_model(str(folder), device=device, dtype=torch.float32), folder / "model.safetensors"
    before, size = {name: value.clone() for name, value in lm.model.state_dict().items()}, file.stat().st_size
    with file.open("r+b") as opened:
        opened.write(b"\x41" * size)
    for name, value in lm.model.state_dict().items():
        assert torch.equal(value, before[name])
    file.write_bytes(b"")  # whoever read it by way of memory would be ended
    assert all(bool(value.isfinite().all()) for value in lm.model.state_dict().values())


def test_all_files_that_a_model_is_read_from_tell_its_state(saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    before = {state_of(folder)}
    for written in ("README.md", "train_log.txt", "all_results.json"):
        (folder / written).write_text("notes")
    (folder / "gone.txt").symlink_to("nowhere")
    assert {state_of(folder)} == before
    for number, name in enumerate(("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja")):
        (folder / name).touch()
        os.utime(folder / name, (number, number))
        assert state_of(folder) not in before
        before.add(state_of(folder))
    (folder / "config.json").unlink()
    with pytest.raises(OSError, match=r"config\.json"):
        state_of(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_files_that_change_while_they_are_read_give_no_model(saved, tmp_path, monkeypatch, file):
    folder = Path(shutil.copytree(saved, tmp_path / "model"))

    def changes(name, tensors):
        os.utime(folder / file, ns=(0, 1))

    with monkeypatch.context() as while_it_is_read:
        while_it_is_read.setattr(loading, "check_finite", changes)
        assert "changed while they were read; open it again once nothing writes them" in refusal(
            str(folder), ModelError
        )
    assert load_model(str(folder), device="cpu").folder == folder


def test_a_model_is_of_one_state_of_its_files(saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    located = locate(str(folder), "cpu")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    with pytest.raises(ModelError, match="changed while they were read"):
        load_located(located)
    lm = load_model(str(folder), device="cpu")
    assert lm.model.config.rms_norm_eps == 0.5
    assert lm.state == (state_of(folder), "")


# Names


@pytest.mark.parametrize("bad", ["", "  ", None, 5, "two words", "https://huggingface.co/datasets/owner/name"])
def test_a_name_that_is_none_is_refused(bad):
    with pytest.raises(InputError, match=r"is no name|nor a valid hub id|address of a data set"):
        load_model(bad, device="cpu")


def test_a_model_bears_the_one_form_of_its_name(saved, monkeypatch):
    monkeypatch.chdir(saved.parent.parent)
    lm = load_model(f" '{saved.parent.name}/{saved.name}/' ", device="cpu")
    assert (lm.name, lm.title, lm.folder) == (str(saved), "tiny-llama", saved)


@pytest.mark.parametrize("name", ["./gone", "/gone/for/good", "~/gone", "a/b/c", "~nobody-of-this-name/model", "..\\x"])
def test_a_path_that_leads_nowhere_is_refused(name):
    assert "does not exist" in refusal(name, InputError)


def test_a_path_object_is_a_path_and_a_file_is_called_a_file(saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    assert load_model(Path(saved.name), device="cpu").name == str(saved)
    for name in (saved / "config.json", "tiny-llama/config.json", f"'{saved / 'config.json'}'"):
        assert "/tiny-llama/config.json' is a file, and a model is a folder with" in refusal(name, InputError)


@pytest.mark.parametrize("name", ["gpt2", "nobody/no-such-model"])
def test_a_hub_id_without_network_is_refused_with_the_way_out(name):
    message = refusal(name)
    assert "the Hugging Face hub cannot be reached" in message
    assert "use 'builtin' or a local folder" in message


def test_a_public_server_takes_no_paths(saved, monkeypatch):
    assert "this server loads hub ids only" in refusal(str(saved), InputError, local_folders=False)
    monkeypatch.chdir(saved.parent)  # a bare name that is a folder here must mean the hub
    assert "hub cannot be reached" in refusal(saved.name, local_folders=False)
    assert load_model(saved.name, device="cpu").revision == "local"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="needs a CUDA GPU and torch sees none"):
        load_model("builtin", device="cuda")


# Folders that hold no usable model


@pytest.mark.parametrize("device", ["toaster", "cuda:99", "cuda:x", ""])
def test_a_device_that_is_none_is_refused_before_anything_is_read(device, monkeypatch):
    monkeypatch.setattr("wanda_core.model.loading.find_folder", lambda *_: pytest.fail("a model was looked for"))
    with pytest.raises(InputError, match=r"leave (it|the device) out"):
        load_model("builtin", device=device)


def test_a_folder_without_a_model_is_refused(tmp_path):
    assert "holds no config.json" in refusal(str(tmp_path), InputError)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt"])
def test_weights_that_are_not_safetensors_are_refused_by_their_name(folder, file):
    (folder / "model.safetensors").rename(folder / file)
    message = refusal(str(folder))
    assert f"holds only {file}" in message
    assert "pickled files can run code" in message


def test_a_folder_with_a_configuration_and_no_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert "holds no weights" in refusal(str(folder))


def test_an_adapter_is_refused_with_what_to_do(folder):
    (folder / "adapter_config.json").write_text("{}")
    assert "merge it into its base model" in refusal(str(folder))


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors"])
def test_a_quantised_checkpoint_is_refused_by_its_method(folder, method):
    configure(folder, quantization_config={"quant_method": method, "bits": 4})
    assert f"is quantised ({method})" in refusal(str(folder))


@pytest.mark.parametrize("config", [T5Config(), BartConfig()], ids=lambda config: config.model_type)
def test_an_encoder_decoder_is_refused(tmp_path, config):
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert f"({config.model_type}) is an encoder-decoder" in refusal(str(tmp_path))


def test_a_model_that_only_encodes_is_refused(tmp_path):
    from transformers import ViTConfig

    ViTConfig().save_pretrained(tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert "(vit) is not a causal language model" in refusal(str(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"llama"', '{"model_type": "no-such-kind"}'])
def test_a_configuration_that_means_nothing_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    assert "configuration that cannot be used" in refusal(str(folder))


@pytest.mark.parametrize(
    "fields", [{"hidden_size": "x"}, {"hidden_size": -4}, {"num_attention_heads": 0}, {"vocab_size": None}]
)
def test_sizes_that_make_no_model_are_refused(folder, fields):
    configure(folder, **fields)
    refusal(str(folder))


def test_code_that_comes_with_a_model_is_never_run(folder):
    configure(folder, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    (folder / "own.py").write_text("raise SystemExit('ran')")
    refusal(str(folder))


@pytest.mark.parametrize("size", [0, 7, 2000])
def test_half_a_weight_file_is_refused(folder, size):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    assert "could not be read" in refusal(str(folder))


def test_missing_weights_are_refused_and_never_made_up(folder):
    weights = folder / "model.safetensors"
    whole = load_file(weights)
    save_file({k: v for k, v in whole.items() if "layers.1.mlp" not in k}, weights, metadata={"format": "pt"})
    assert "lacks 3 of its weights, model.layers.1.mlp.down_proj.weight among them" in refusal(str(folder))


def test_a_load_that_computes_without_end_is_ended(folder, monkeypatch):
    monkeypatch.setattr(watched, "SECONDS", 0.2)
    monkeypatch.setattr(loading, "skeleton", lambda *a, **b: torch.nn.Module())
    monkeypatch.setattr(loading, "check_made_of", lambda *a: None)
    monkeypatch.setattr(
        loading.AutoModelForCausalLM, "from_pretrained", lambda *a, **b: [time.sleep(0.01) for _ in count()]
    )
    assert "has settings that take more than 0 s to build from" in refusal(str(folder))


@pytest.mark.parametrize("fields", [{"hidden_size": 32}, {"num_hidden_layers": 4}, {"vocab_size": 500}])
def test_a_configuration_of_another_model_is_refused(folder, fields):
    configure(folder, **fields)
    refusal(str(folder))


def test_a_model_larger_than_memory_is_refused_before_its_weights_are_read(folder, monkeypatch):
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", None)  # it would fail if it were called
    monkeypatch.setenv("WANDA_MEMORY_LIMIT", "1000")
    message = refusal(str(folder))
    assert "needs 0.1 GB for its weights and 0.0 GB of memory are free on cpu" in message
    assert "choose a smaller model" in message


def test_a_seventy_billion_model_is_told_by_its_configuration_alone(folder, monkeypatch):
    configure(folder, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64)
    monkeypatch.setenv("WANDA_MEMORY_LIMIT", str(16 * 10**9))
    assert "GB for its weights" in refusal(str(folder), dtype=torch.float16)


def test_the_memory_limit_only_ever_lowers_what_is_free(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setenv("WANDA_MEMORY_LIMIT", "12345")
    assert free_memory(cpu) == 12345
    monkeypatch.setenv("WANDA_MEMORY_LIMIT", str(10**18))
    assert free_memory(cpu) < 10**18
    monkeypatch.delenv("WANDA_MEMORY_LIMIT")
    assert free_memory(cpu) > 0


def test_a_model_of_another_format_leaves_torch_s_own_as_it_is_meanwhile(saved, tmp_path, monkeypatch):
    """Other threads make tensors in it, which would be of a stranger's format as long as the model is looked at."""
    folder = shutil.copytree(saved, tmp_path / "model")
    configure(folder, dtype="bfloat16")
    formats, set_format = [], torch.set_default_dtype
    monkeypatch.setattr(torch, "set_default_dtype", lambda kind: (formats.append(kind), set_format(kind))[1])
    load_model(str(folder), device="cpu", dtype=torch.float32)
    assert set(formats) <= {torch.float32}
