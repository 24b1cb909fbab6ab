"""What the tests of every causal architecture share: which are refused and why, and the text that they read."""

import torch
from architectures import IMPOSSIBLE, NAMES, NOT_RELOADABLE

from wanda_core.text.windows import draw

VOCABULARY = 320  # tokens, as the tests' tokenizer has
# What is refused, and the words that say why. Everything else must be served.
REFUSED: dict[str, str] = {
    "bart": "never received an input",
    "bigbird_pegasus": "never received an input",
    "blenderbot": "never received an input",
    "blenderbot-small": "never received an input",
    "cpmant": "reads what comes after a token too",
    "dbrx": "experts' weights in a form that is not supported",
    "glm_moe_dsa": "gives other hidden states than in the model",
    "hrm_text": "run by itself, fails",
    "hy_v4": "gives other hidden states than in the model",
    "inkling2_text": "something computed from what earlier blocks gave",
    "inkling_text": "experts' weights in a form that is not supported",
    "jetmoe": "experts' weights in a form that is not supported",
    "llama4": "experts' weights in a form that is not supported",
    "llama4_text": "experts' weights in a form that is not supported",
    "longcat_flash": "its experts cannot be told apart",
    "marian": "never received an input",
    "mbart": "never received an input",
    "mvp": "never received an input",
    "pegasus": "never received an input",
    "plbart": "never received an input",
    "prophetnet": "never received an input",
    "reformer": "run by itself, fails",
    "trocr": "never received an input",
    "whisper": "never received an input",
    "xlm": "changes the hidden states between its blocks",
    "xlnet": "lays the hidden states of one sequence out as",
    "zamba2": "never received an input",
    "zaya": "something computed from what earlier blocks gave",
}

POSSIBLE = [name for name in NAMES if name not in IMPOSSIBLE and name not in NOT_RELOADABLE]


def sequences():
    ids = torch.randint(1, VOCABULARY, (500,), generator=torch.Generator().manual_seed(4)).tolist()
    return draw(ids, samples=3, seq_len=24)


def kept_by(model):
    """What a model's modules and their configurations hold beside weights: all that a pass could leave there."""
    kept = {}
    for name, module in model.named_modules():
        config = vars(module.config) if hasattr(module, "config") else {}
        for key, value in [*vars(module).items(), *module.named_buffers(recurse=False), *config.items()]:
            if isinstance(value, torch.Tensor):
                kept[name, key] = value.clone()
            elif value is None or isinstance(value, (bool, int, float, str, tuple)):
                kept[name, key] = value
    return kept


def changed(before, after):
    """Names of what is other than before."""
    return {
        key for name, key in before.keys() | after.keys() if not _same(before.get((name, key)), after.get((name, key)))
    }


def _same(first, second):
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return torch.equal(first, second)
    return type(first) is type(second) and first == second
