"""Loading a causal language model: the built-in one, a local folder, or a Hugging Face hub id.

Safetensors only, no remote code, and every reason to refuse is found before weights are read.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

from wanda_core.errors import SHOWN, ModelError, first_line, shortened_path
from wanda_core.model import builtin, experts
from wanda_core.model.any_fault import any_fault_worded
from wanda_core.model.building import one_at_a_time
from wanda_core.model.causality import check_causal, check_not_masked
from wanda_core.model.devices import (
    AUTO,
    check_memory,
    checked_device,
    default_device,
    default_dtype,
)
from wanda_core.model.file_state import source_of, state_of
from wanda_core.model.folder import checked_config, find_folder
from wanda_core.model.folder_faults import why_not_built
from wanda_core.model.foreign_code import no_foreign_code
from wanda_core.model.language_model import LanguageModel
from wanda_core.model.limits import check_count, check_experts, few_parameters
from wanda_core.model.linears import check_not_empty, decoder_blocks
from wanda_core.model.names import LOCAL, normal_name
from wanda_core.model.stored_names import check_places
from wanda_core.model.stored_tensors import (
    StoredTensor,
    carried_tensors,
    check_complete,
    check_finite,
    check_numbers,
    check_shapes,
    held_tensors,
    size_of,
    stored_tensors,
    weights_in_memory,
)
from wanda_core.model.tokenizer import load_tokenizer
from wanda_core.model.watched import watched
from wanda_core.progress import Progress

ONE_THREAD = "HF_DEACTIVATE_ASYNC_LOAD"  # transformers reads it with every load
# Seconds that a load may take: for each GB of files, of which slow disks and networks bring 10 MB a second, and until
# many GPUs are ready.
SECONDS_OF_GB, SECONDS_OF_GPUS = 100.0, 300.0


def load_model(
    name: str = builtin.NAME,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    local_folders: bool = True,
    token: str | None = None,
) -> LanguageModel:
    """Load a model for inference: `locate`, then `load_located`.

    name: `builtin`, a local folder, or a hub id such as `HuggingFaceTB/SmolLM2-360M`, with `@` and a branch, a tag or a
    commit behind it for another revision than `main`; brought to its one form by `normal_name`.
    device: a torch device, or `auto`, which spreads the blocks over all GPUs; by default a GPU if there is one.
    dtype: to hold the weights in; by default bfloat16 on a CUDA GPU that computes in it, else float32.
    on_progress: called with each step while files are downloaded; an exception from it gives up.
    local_folders: whether a path of this machine is accepted; a public server says no.
    token: of the hub, for a model that is gated or private; by default the machine's own.
    Raises InputError for a name that leads nowhere, GatedError where a licence has to be accepted first, ModelError for
    a model that cannot be used.
    """
    return load_located(locate(name, device, dtype, on_progress, local_folders, token))


@dataclass(frozen=True)
class Located:
    """A model whose files are on this machine, with the device and type asked for, before any weight is read.

    name: in its one form; revision: tells this state of the model from others, as `LanguageModel` has it; spread:
    whether its blocks are to be spread over all GPUs; state: of its files, as `LanguageModel` has it.
    """

    name: str
    folder: Path
    revision: str
    config: PreTrainedConfig
    device: torch.device
    dtype: torch.dtype
    spread: bool = False
    state: tuple[str, str] = ("", "")

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the model's tokenizer. Raises ModelError for one that is not there or cannot be used."""
        return load_tokenizer(self.folder, self.name, self.config)


def locate(
    name: str,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    local_folders: bool = True,
    token: str | None = None,
    whole: bool = True,
) -> Located:
    """Find or download a model's files and check all but the weights. Arguments and errors as of `load_model`.

    whole: whether all its weights are to be in memory at once; a model that is too large for that is then refused
    before it is downloaded. It may take minutes, and may run in a thread of its own: it holds no weights and computes
    nothing. on_progress is called in the caller's thread several times a second while the hub is waited for; an
    exception from it gives up.
    """
    name = normal_name(name, local_folders)
    spread = str(device) == AUTO
    place = default_device() if device is None or spread else checked_device(device)
    held = dtype or default_dtype(place)

    def weigh(nbytes: int, counts: Mapping[str, int] | None) -> None:
        check_memory(weights_in_memory(nbytes, counts, held), name, _devices(place, spread))

    with any_fault_worded(name, on_progress) as tell:
        source = source_of(name)
        folder, revision = find_folder(name, tell, local_folders, token, weigh if whole else None)
        state = state_of(folder) if (folder / "config.json").exists() else ""  # else it is refused now
        config = checked_config(folder, name)
    return Located(name, folder, revision, config, place, held, spread, (state, source))


def _devices(place: torch.device, spread: bool) -> list[torch.device]:
    """List the devices that share a model's weights: all GPUs where it is to be spread over several."""
    gpus = [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return gpus if spread and len(gpus) > 1 else [place]


def load_located(located: Located, *, one_thread: bool = False) -> LanguageModel:
    """Read the weights of a located model, without network.

    one_thread: read them in the caller's thread alone. transformers starts up to four threads otherwise, each of which
    leaves the memory that malloc keeps for a thread behind: quicker, and right where a process loads once; a server
    that loads for days grows by it. Raises ModelError for a model that cannot be used.
    """
    with any_fault_worded(located.name):
        return _loaded(located, one_thread)


def _loaded(located: Located, one_thread: bool) -> LanguageModel:
    name = located.name
    devices = _devices(located.device, located.spread)
    spread = len(devices) > 1
    tensors = stored_tensors(located.folder, name)
    check_numbers(name, tensors)
    _check_fits(located.config, name, devices, located.dtype, tensors)
    tokenizer = located.tokenizer()
    more = SECONDS_OF_GB * size_of(tensors)[1] / 1e9 + SECONDS_OF_GPUS * spread
    try:
        with (
            no_foreign_code(),
            one_at_a_time(),
            _in_one_thread() if one_thread else contextlib.nullcontext(),
            watched(name, len(tensors), more),
        ):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                located.folder,
                config=located.config,
                dtype=located.dtype,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
                device_map=AUTO if spread else None,
            )
    except ModelError:
        raise
    except Exception as error:  # a stranger's files: their readers raise types of their own
        raise ModelError(
            f"{shortened_path(name)} could not be loaded: {first_line(error)}; try another model"
        ) from error
    model, loading_info = loaded
    check_shapes(name, loading_info["mismatched_keys"])
    check_complete(name, loading_info["missing_keys"])
    carried = carried_tensors(model, name, tensors, loading_info["unexpected_keys"])
    if located.revision == LOCAL and located.device.type == "cpu":
        _take_out_of_files(model)
    check_finite(name, held_tensors(model))
    model.requires_grad_(False)
    if spread:
        _check_on_gpus(model, name)
    else:
        model.to(located.device)
    check_causal(model.eval(), tokenizer, name)
    if located.revision == LOCAL and located.state[0] not in ("", state_of(located.folder)):
        raise ModelError(
            f"the files of {shortened_path(name)} changed while they were read; open it again once nothing writes them"
        )
    made: dict[str, Any] = {"folder": located.folder, "carried": carried, "state": located.state}
    return LanguageModel(model, tokenizer, name, located.revision, **made)


def _take_out_of_files(model: nn.Module) -> None:
    """Copy what lies in memory by way of a file: whoever wrote that anew would change the weights of a model in use,
    and end this process by cutting it short. Caches write theirs once."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        tensor.data = tensor.data.clone()


@contextlib.contextmanager
def _in_one_thread() -> Iterator[None]:
    """Tell transformers to start no threads while it loads; its only switch for that is the environment."""
    before = os.environ.get(ONE_THREAD)
    os.environ[ONE_THREAD] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(ONE_THREAD, None)
        else:
            os.environ[ONE_THREAD] = before


def _check_on_gpus(model: Any, name: str) -> None:
    """Raise ModelError when accelerate had to leave a part of the model outside the GPUs: its weights would come and go
    with every call, and pruned ones would be lost."""
    places: dict[str, Any] = getattr(model, "hf_device_map", {})  # none where one GPU holds all
    elsewhere = {str(place) for place in places.values()} & {"cpu", "disk"}
    if elsewhere:
        raise ModelError(
            f"{shortened_path(name)} does not fit on the {torch.cuda.device_count()} GPUs here, a part of it went to "
            f"the {' and the '.join(sorted(elsewhere))}; prune it with --low-memory or choose a smaller model"
        )


def _check_fits(
    config: PreTrainedConfig,
    name: str,
    devices: list[torch.device],
    dtype: torch.dtype,
    tensors: Mapping[str, StoredTensor],
) -> None:
    """Raise ModelError for a model that cannot be built, does not fit in memory, or whose files do not hold it."""
    with torch.device("meta"):  # in that format: else torch's default one is the file's meanwhile, for all threads
        model = skeleton(config, name, len(tensors), size_of(tensors)[0], dtype=dtype)
    weights = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    check_memory(weights + sum(buffer.nbytes for buffer in model.buffers()), name, devices)
    check_made_of(name, model, tensors)


def check_made_of(name: str, model: nn.Module, tensors: Mapping[str, StoredTensor]) -> None:
    """Raise ModelError for a model without memory that is not that of its files, as far as their names, number formats
    and sizes tell. tensors: in the files."""
    check_count(name, model, *size_of(tensors))
    with watched(name, len(tensors)):
        check_places(model, name, tensors)


def skeleton(config: PreTrainedConfig, name: str, stored: int, numbers: int, **options: Any) -> nn.Module:
    """Build a model as transformers does, from its configuration alone.

    stored, numbers: how many tensors its files hold, and how many numbers these, which bound what is built; options:
    for transformers. Call it within a context that keeps the weights out of memory. Raises ModelError for a model that
    is no decoder, or none that can be pruned.
    """
    try:
        MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)  # imports its module, which is not to be timed
        with no_foreign_code(), one_at_a_time(), few_parameters(name, stored, numbers), watched(name, stored):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False, **options)
    except ModelError:
        raise
    except Exception as error:  # sizes that make no model raise whatever arithmetic they break
        known = why_not_built(config)
        if known:
            raise ModelError(f"{shortened_path(name)} {known}") from error
        kind = getattr(config, "model_type", "unknown")
        raise ModelError(
            f"{shortened_path(name)} ({str(kind)[:SHOWN]}) is not a causal language model that transformers knows: "
            f"{first_line(error)}; choose one that is"
        ) from error
    with watched(name, stored):  # for all that goes through its parts, of which there may be many
        check_experts(name, model, numbers)
        _check_prunable(model, name)
    return cast(nn.Module, model)


def _check_prunable(model: nn.Module, name: str) -> None:
    """Raise ModelError for a model without memory that is no decoder, or none that can be pruned."""
    check_not_masked(model, name)
    _, blocks = decoder_blocks(model)
    check_not_empty(name, model)
    unsupported = experts.unknown(blocks)
    if unsupported:
        raise ModelError(
            f"{shortened_path(name)} holds its experts' weights in a form that is not supported ({unsupported}), and "
            "pruning would leave them out; choose another model"
        )
