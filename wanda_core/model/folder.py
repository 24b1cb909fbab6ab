"""From a model's name to the folder with its files, and every refusal that the folder alone is enough for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from transformers import AutoConfig, PreTrainedConfig

from wanda_core.errors import SHOWN, InputError, ModelError, first_line, shortened_path
from wanda_core.model import builtin, gguf_file, hub, limits
from wanda_core.model.config_keys import check_made, forget_files, parts_of
from wanda_core.model.folder_faults import check_no_pointers, check_weights_there
from wanda_core.model.foreign_code import no_foreign_code
from wanda_core.model.names import BUILTIN, LOCAL, is_gguf, is_path, normal_name
from wanda_core.model.rotary import check_rotary
from wanda_core.model.watched import watched
from wanda_core.progress import Progress

# What transformers is told in place of what the file says.
HOW_TO_RUN = {"output_attentions": False, "attn_implementation": None, "experts_implementation": None}
BUCKETS = 64  # what transformers' rule gives Reformer for texts of 2,048 tokens in chunks of 64


def find_folder(
    name: str,
    on_progress: Callable[[Progress], object] | None,
    local_folders: bool,
    token: str | None = None,
    weigh: hub.Weigh | None = None,
) -> tuple[Path, str]:
    """Find or download the files of a model. -> their folder, and what tells this state of the model from others.

    name, on_progress, local_folders, token: as of `load_model`; weigh: as of `hub.download`. Raises InputError for a
    name that leads nowhere, ModelError for a model that cannot be downloaded.
    """
    name = normal_name(name, local_folders)
    if name == BUILTIN:
        return builtin.ensure(on_progress), builtin.GGUF_SHA256
    if not is_path(name):
        return hub.download(name, on_progress, token, weigh)
    folder = Path(name)
    if is_gguf(name):
        return gguf_file.folder_of(folder, name, on_progress), LOCAL
    if folder.is_file():
        raise InputError(
            f"model {shortened_path(name)} is a file, and a model is a folder with config.json and safetensors, or a "
            "GGUF file; give 'builtin', one of these or a hub id"
        )
    if not folder.is_dir():
        raise InputError(f"model folder {shortened_path(name)} does not exist; give 'builtin', a folder or a hub id")
    return folder, LOCAL


def checked_config(folder: Path, name: str) -> PreTrainedConfig:
    """Read a model's configuration. name: as asked for, for messages.

    Raises InputError for a folder that holds no model, ModelError for a model that is not pruned: an adapter, weights
    other than safetensors, a broken configuration, an encoder-decoder, quantised weights.
    """
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{shortened_path(name)} is an adapter (LoRA or the like), not a whole model; merge it into its base "
            "model first"
        )
    if not (folder / "config.json").exists():
        raise InputError(
            f"{shortened_path(name)} holds no config.json, so it is not a model folder; give one that does"
        )
    limits.check_files(folder, name)
    limits.check_config_numbers(folder, name)
    check_no_pointers(folder, name)
    check_weights_there(folder, name)
    try:
        with no_foreign_code(), watched(name):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **HOW_TO_RUN)
    except ModelError:
        raise
    except Exception as error:  # a stranger's file: its checks raise types of their own
        raise ModelError(
            f"{shortened_path(name)} has a configuration that cannot be used: {first_line(error)}; "
            "repair config.json or choose another model"
        ) from error
    if getattr(config, "is_encoder_decoder", False):  # BART would load, half of it, as a decoder
        raise ModelError(
            f"{shortened_path(name)} ({str(config.model_type)[:SHOWN]}) is an encoder-decoder, and only causal "
            "language models are pruned; choose a decoder-only model"
        )
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        how = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise ModelError(
            f"{shortened_path(name)} is quantised ({str(how or 'unknown method')[:SHOWN]}), and Wanda compares "
            "unquantised weights; give the original checkpoint"
        )
    check_made(config, name)
    check_rotary(config, name)
    forget_files(config)
    for part in list(parts_of(config)):
        _run_plainly(part)
    return cast(PreTrainedConfig, config)


def _run_plainly(config: Any) -> None:
    """Make a configuration ask for logits alone, by what transformers chooses to compute them.

    A file may ask for attention weights, hidden states or tuples, and for kernels of the machine that it comes from.
    """
    for name, value in HOW_TO_RUN.items():
        setattr(config, f"_{name}" if name.endswith("implementation") else name, value)
    config.return_dict, config.output_hidden_states = True, False
    if hasattr(config, "rescale_every"):  # RWKV would halve weights in place in its first pass, against overflow
        config.rescale_every = 0
    if type(config).model_type == "reformer":  # it would hash anew in each pass, as its first text asks for
        config.num_buckets = BUCKETS if config.num_buckets is None else config.num_buckets
        config.hash_seed = 0 if config.hash_seed is None else config.hash_seed
