"""Keys of a stranger's config.json that are no settings: refused before they lead anywhere, and no code is run."""

import ast
import io
import json
import socket
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest
from configured import configure
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import get_session
from safe.hostile import CODE
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    Gemma3Config,
    GitVisionConfig,
    GPT2Config,
    LlamaConfig,
)
from transformers import dynamic_module_utils as theirs
from transformers.utils import cached_file

import wanda_core
from wanda_core.errors import ModelError
from wanda_core.model.config_keys import check_keys, check_made, forget_files, parts_of
from wanda_core.model.folder import checked_config
from wanda_core.model.foreign_code import WAYS_OUT, no_foreign_code
from wanda_core.model.hub_faults import httpx
from wanda_core.model.loading import load_model, skeleton

NO_SETTING = "in its config.json, which is no setting of a model and would change how the others, or which files, are"
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 320}


@pytest.fixture
def asking(folder, monkeypatch):
    """What a part of a configuration needs to have transformers ask for code, which whoever sits there would allow.

    -> that part's settings, and the path that the code would write
    """
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    canary = folder.parent / "canary"
    (folder / "own.py").write_text(CODE.format(canary=str(canary)))
    where = {"name_or_path": str(folder), "_name_or_path": str(folder)}
    return {"model_type": "git_vision_model", "auto_map": {"AutoModel": "own.Model"}, **where}, canary


@pytest.mark.parametrize("model", ["own.Model", "owner/model--own.Model"])
def test_code_of_a_part_is_neither_asked_for_nor_run(folder, asking, refusal, capfd, monkeypatch, model):
    part, canary = asking
    monkeypatch.setattr(AutoModel, "_model_mapping", {})  # its refusal would import and list all of them
    vision = part | {"auto_map": {"AutoModel": model}}
    configure(folder, model_type="gemma3", vision_config=vision, text_config=SMALL | {"head_dim": 16}, architectures=[])
    assert "is not a causal language model that transformers knows: Unrecognized configuration class" in refusal(folder)
    assert "run the custom code" not in capfd.readouterr().out
    assert not canary.exists()


def test_code_that_a_configuration_still_names_is_not_run_either(asking, capfd):
    part, canary = asking
    config = Gemma3Config(vision_config=GitVisionConfig(**part), text_config=SMALL | {"head_dim": 16})
    with pytest.raises(ModelError, match="would run code of its own, which is never done"):
        skeleton(config, "owner/model", 10, 10**9)
    assert "run the custom code" not in capfd.readouterr().out
    assert not canary.exists()
    forget_files(config)
    assert not any(hasattr(each, "auto_map") for each in parts_of(config))


def test_every_place_that_builds_or_reads_a_model_runs_none_of_its_code():
    called, places = {"from_pretrained", "from_config"}, 0
    for path in Path(wanda_core.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        nodes = [*ast.walk(ast.parse(text))] if any(f".{name}(" in text for name in called) else []
        calls = [each for each in nodes if isinstance(each, ast.Call) and getattr(each.func, "attr", "") in called]
        withs = [each for each in nodes if isinstance(each, ast.With)]
        within = [each for each in withs if "no_foreign_code()" in ast.unparse(each).splitlines()[0]]
        assert {*calls} <= {inner for each in within for inner in ast.walk(each)}, path
        places += len(calls)
    assert places >= 8


def test_it_ends_with_the_last_who_asked_for_it():
    before = theirs.get_class_in_module, theirs.TIME_OUT_REMOTE_CODE
    with no_foreign_code(), pytest.raises(ModelError), no_foreign_code():
        theirs.get_class_in_module("Model", "own.py")
    assert (theirs.get_class_in_module, theirs.TIME_OUT_REMOTE_CODE) == before


NAMES_ANOTHER = "the model's settings name another model, whose files would be fetched unchecked"


@pytest.mark.parametrize("kind", ["rf_detr", "pp_ocrv6_small_det"])
def test_another_model_that_a_configuration_names_is_not_asked_for(folder, monkeypatch, kind):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    configure(folder, model_type=kind, backbone="resnet50", use_timm_backbone=False)
    with pytest.raises(ModelError, match=NAMES_ANOTHER):
        checked_config(folder, "owner/model")


def reaches(call):
    """Tell whether a call is made: it fails, of another cause than ours."""
    try:
        call()
    except ModelError:
        return False
    except Exception:
        return True
    return True


@pytest.mark.parametrize(
    "call",
    [
        lambda: HfApi(endpoint="http://127.0.0.1:9").repo_exists("owner/other"),
        lambda: HfApi(endpoint="http://127.0.0.1:9").hf_hub_download("owner/other", "config.json"),
        lambda: cached_file("owner/other", "config.json", local_files_only=True),
        lambda: get_session().get("http://127.0.0.1:9/"),
        lambda: urlopen("http://127.0.0.1:9/", timeout=5),
        lambda: httpx.Client().get("http://127.0.0.1:9/"),
    ],
)
def test_nothing_is_fetched_while_files_are_read_but_by_others(monkeypatch, call):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    before, elsewhere = [getattr(*way) for way in WAYS_OUT], []
    with no_foreign_code():
        assert not reaches(call)
        others = threading.Thread(target=lambda: elsewhere.append(reaches(lambda: socket.getaddrinfo("127.0.0.1", 9))))
        others.start()
        others.join()
    assert elsewhere == [True]
    assert [getattr(*way) for way in WAYS_OUT] == before


def test_a_backbone_of_another_kind_is_a_setting(folder):
    for value in ("resnet50", None, {"model_type": "resnet"}, 5):
        configure(folder, backbone=value)
        assert checked_config(folder, "owner/model").backbone == value


@pytest.mark.parametrize(
    "fields",
    [
        {"attribute_map": {"num_hidden_layers": "warmup_steps"}, "warmup_steps": 10**9},
        {"attribute_map": None},
        {"part": [{"attribute_map": {"hidden_size": "n_embd"}}]},
        {"model_type": "gpt2", "attribute_map": {}},
        {"configuration_files": ["config.5.0.0.json"]},
        {"fusion_config": {"patch_embeddings": True}},
        {"vision_config": {"fusion_config": {"patch_embeddings": True}}},
        {"configuration_files": ["config.json", "config.4.0.0.json"]},
        {"configuration_files": {"config.x.json": 1}},
        {"configuration_files": ["config.x.json"]},
        {"transformers_weights": "other.safetensors"},
        {"text_config": {"transformers_weights": "adapter_model.bin"}},
        {"model_type": "rf_detr", "backbone": "owner/other", "use_timm_backbone": False},
        {"vision_config": {"backbone": "hf-hub:owner/other"}},
        {"sub_configs_defaults": {"text_config": 1}},
        {"extra_files": ["/other.safetensors"]},
        {"_auto_class": "AutoModel"},
        {"save_pretrained": 1},
        {"_get_generation_parameters": "x"},
    ],
    ids=str,
)
def test_what_is_no_setting_is_refused(folder, refusal, fields):
    (folder / "config.5.0.0.json").write_text("{")
    configure(folder, **fields)
    assert NO_SETTING in refusal(folder)


def test_what_changes_nothing_is_taken(folder):
    configure(folder, attribute_map={}, configuration_files=["config.json", "config.99.0.0.json"], _auto_class=None)
    configure(folder, transformers_weights="model.safetensors", base_model_tp_plan=None, auto_map={"AutoModel": "a.B"})
    lm = load_model(str(folder), device="cpu")
    assert lm.model.config.num_hidden_layers == 3
    assert not hasattr(lm.model.config, "auto_map")
    check_keys({"model_type": "gpt2", "attribute_map": GPT2Config.attribute_map}, "owner/model")


def test_no_kind_of_configuration_is_refused_as_it_is_saved():
    for kind in ("llama", "mamba2", "bloom", "gpt_oss", "deepseek_v3", "phi3", "opt", "qwen3_moe"):
        check_keys({"model_type": kind, "attribute_map": CONFIG_MAPPING[kind].attribute_map}, kind)
    for config in (LlamaConfig(), GPT2Config(), Gemma3Config()):
        check_keys(json.loads(config.to_json_string()), "owner/model")
        check_made(config, "owner/model")


@pytest.mark.parametrize("part", ["text_encoder", "text_config", "decoder", "generator"])
@pytest.mark.parametrize("value", [{"a": 1}, [1], 5, "x", True])
def test_a_part_for_text_that_is_no_configuration_is_told(folder, refusal, part, value):
    configure(folder, **{part: value})
    said = refusal(folder)
    assert "describes no language model, as its part for text is" in said or "configuration that cannot be used" in said


def test_two_parts_for_text_are_told(folder, refusal):
    configure(folder, text_encoder={"a": 1}, decoder={"b": 2})
    assert "describes no language model, as its parts for text are unclear (Multiple valid text conf" in refusal(folder)


def test_a_part_of_a_composed_model_that_is_no_configuration_is_told(folder, refusal):
    for value in (5, [], "x", {"text_config": 5}):
        configure(folder, model_type="qwen2_5_omni", thinker_config=value, architectures=["Own"])
        assert "configuration that cannot be used" in refusal(folder) or "not a causal language model" in refusal(
            folder
        )
