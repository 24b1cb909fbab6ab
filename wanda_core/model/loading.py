"""Loading a causal language model: the built-in one, a local folder, or a Hugging Face hub id.

Safetensors only, no remote code, and every reason to refuse is found before weights are read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from wanda_core.errors import InputError, ModelError, first_line
from wanda_core.model import builtin, experts, hub
from wanda_core.model.devices import AUTO, _checked_device, check_memory, default_device, default_dtype
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.linears import decoder_blocks
from wanda_core.model.stored_tensors import (
    carried_tensors,
    check_complete,
    check_finite,
    check_numbers,
    stored_tensors,
)
from wanda_core.progress import Progress


def load_model(
    name: str = builtin.NAME,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    local_folders: bool = True,
) -> LanguageModel:
    """Load a model for inference.

    name: `builtin`, a local folder, or a hub id such as `HuggingFaceTB/SmolLM2-360M`.
    device: a torch device, or `auto`, which spreads the blocks over all GPUs; left out, a GPU if there is one.
    on_progress: told while files are brought.
    local_folders: whether a path of this machine is accepted; a public server says no.
    Raises InputError for a name that leads nowhere, ModelError for a model that cannot be used.
    """
    found = locate(name, device, dtype, on_progress, local_folders)
    folder, config, place, kind = found.folder, found.config, found.device, found.dtype
    gpus = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    spread = str(device) == AUTO and len(gpus) > 1
    _check_fits(config, name, gpus if spread else [place], kind)
    tensors = stored_tensors(folder, name)
    check_numbers(name, tensors)
    try:
        tokenizer = found.tokenizer()
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=kind,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            device_map=AUTO if spread else None,
        )
    except Exception as error:  # a stranger's files: their readers raise types of their own
        raise ModelError(f"{name!r} could not be loaded: {first_line(error)}; try another model") from error
    model, told = loaded
    check_complete(name, told["missing_keys"])
    carried = carried_tensors(model, name, tensors, told["unexpected_keys"])
    check_finite(name, model.named_parameters())
    model.requires_grad_(False)
    if spread:
        _check_on_gpus(model, name)
    else:
        model.to(place)
    return LanguageModel(model.eval(), tokenizer, name, found.revision, folder=folder, carried=carried)


def _check_on_gpus(model: Any, name: str) -> None:
    """Raise ModelError when accelerate had to leave a part of the model elsewhere: its weights come and go with every
    call then, and pruned ones would be lost."""
    places: dict[str, Any] = getattr(model, "hf_device_map", {})  # none where one GPU holds all
    elsewhere = {str(place) for place in places.values()} & {"cpu", "disk"}
    if elsewhere:
        raise ModelError(
            f"{name!r} does not fit on the {torch.cuda.device_count()} GPUs here, a part of it went to the "
            f"{' and the '.join(sorted(elsewhere))}; prune it with --low-memory or choose a smaller model"
        )


@dataclass(frozen=True)
class Located:
    """A model that is on this machine, and what was asked of it, before any weight is read."""

    folder: Path
    revision: str
    config: PreTrainedConfig
    device: torch.device
    dtype: torch.dtype

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer. Raises whatever the reader of a stranger's files raises."""
        return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)


def locate(
    name: str,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    local_folders: bool = True,
) -> Located:
    """Bring a model's files here, unless they are, and look at everything but the weights. Raises as `load_model`."""
    place = default_device() if device is None or str(device) == AUTO else _checked_device(device)
    folder, revision = _locate(name, on_progress, local_folders)
    config = _checked_config(folder, name)
    return Located(folder, revision, config, place, dtype or default_dtype(place))


def _locate(name: str, on_progress: Callable[[Progress], object] | None, local_folders: bool) -> tuple[Path, str]:
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"model {name!r} is no name; give 'builtin', a folder or a hub id such as gpt2")
    name = name.strip()
    if name == builtin.NAME:
        return builtin.ensure(on_progress), builtin.GGUF_SHA256
    looks_like_path = name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1
    if looks_like_path and not local_folders:
        raise InputError(f"model {name!r} is a path, and this server loads hub ids only; give a hub id")
    try:
        folder = Path(name).expanduser()
        is_folder = local_folders and folder.is_dir()
    except (OSError, RuntimeError):  # a name longer than the system takes, a ~user it does not know
        is_folder = False
    if looks_like_path or is_folder:
        if not is_folder:
            raise InputError(f"model folder {name!r} does not exist; give 'builtin', a folder or a hub id")
        return folder, "local"
    return hub.download(name, on_progress)


def _checked_config(folder: Path, name: str) -> PreTrainedConfig:
    """The configuration, after every refusal that can be told from the folder alone."""
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{name!r} is an adapter (LoRA or the like), not a whole model; merge it into its base model first"
        )
    if not (folder / "config.json").exists():
        raise InputError(f"{name!r} holds no config.json, so it is not a model folder; give one that does")
    if not any(folder.glob("*.safetensors")):
        other = sorted(p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".gguf", ".h5"})
        found = f"only {', '.join(other[:3])}" if other else "no weights"
        raise ModelError(
            f"{name!r} holds {found}, and weights are read from safetensors only (pickled files can run code); "
            "give a model saved with save_pretrained"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # a stranger's file: its checks raise types of their own
        raise ModelError(
            f"{name!r} has a configuration that cannot be used: {first_line(error)}; "
            "repair config.json or choose another model"
        ) from error
    if getattr(config, "is_encoder_decoder", False):  # BART would load, half of it, as a decoder
        raise ModelError(
            f"{name!r} ({config.model_type}) is an encoder-decoder, and only causal language models are pruned; "
            "choose a decoder-only model"
        )
    quantised = getattr(config, "quantization_config", None)
    if quantised:
        how = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise ModelError(
            f"{name!r} is quantised ({how or 'unknown method'}), and Wanda compares unquantised weights; "
            "give the original checkpoint"
        )
    return config


def _check_fits(config: PreTrainedConfig, name: str, devices: list[torch.device], dtype: torch.dtype) -> None:
    with torch.device("meta"):
        built = skeleton(config, name)
    check_memory(sum(p.numel() for p in built.parameters()) * dtype.itemsize, name, devices)


def skeleton(config: PreTrainedConfig, name: str, **options: Any) -> nn.Module:
    """The model as transformers builds it, under whatever context keeps its weights out of memory.

    Raises ModelError for what is no decoder, or none that can be pruned.
    """
    try:
        built = AutoModelForCausalLM.from_config(config, trust_remote_code=False, **options)
    except Exception as error:  # sizes that make no model raise whatever arithmetic they break
        kind = getattr(config, "model_type", "unknown")
        raise ModelError(
            f"{name!r} ({kind}) is not a causal language model that transformers knows: {first_line(error)}; "
            "choose one that is"
        ) from error
    _, blocks = decoder_blocks(built)
    strange = experts.unknown(blocks)
    if strange:
        raise ModelError(
            f"{name!r} holds its experts' weights in a form that is not supported ({strange}), and none is left out "
            "silently; choose another model"
        )
    return built
