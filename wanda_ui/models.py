"""The models that the page offers by name."""

from typing import Any

from wanda_core.model import builtin
from wanda_ui.language import label
from wanda_ui.settings import Settings

MODELS = [
    (label("view.model_builtin"), builtin.NAME),
    ("SmolLM2-360M-Instruct", "HuggingFaceTB/SmolLM2-360M-Instruct"),
    ("Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"),
    ("GPT-2 (124M)", "openai-community/gpt2"),
    ("OPT-125M", "facebook/opt-125m"),
]


def models_of(settings: Settings) -> list[tuple[Any, str]]:
    """List the models to choose from, (label, name): ours that the server allows, then those it lists itself."""
    known = [(shown, name) for shown, name in MODELS if settings.allows(name)]
    names = [name for _, name in known]
    return known + [(name, name) for name in settings.models or () if name not in names]
