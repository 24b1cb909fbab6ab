"""The engine of Wanda Lab: pruning language models by |W|·‖X‖₂, without retraining and without a user interface.

`import wanda_core` is all a program needs; torch is imported only when a name that needs it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from wanda_core.version import __version__

if TYPE_CHECKING:
    from wanda_core.calibration.profile import Profile, load_profile, profile, save_profile
    from wanda_core.checkpoint.save import save
    from wanda_core.errors import GatedError, InputError, ModelError, ProcessError, StorageError, WandaError
    from wanda_core.evaluation.generation import Generated, generate
    from wanda_core.evaluation.perplexity import Agreement, Perplexity, agreement, perplexity
    from wanda_core.methods import METHODS, Method
    from wanda_core.model.language_model import LanguageModel
    from wanda_core.model.loading import load_located, load_model, locate
    from wanda_core.model.names import normal_name
    from wanda_core.presets import preset
    from wanda_core.progress import Progress
    from wanda_core.pruning.prune import prune
    from wanda_core.pruning.variant import LinearReport, PruneReport, Variant
    from wanda_core.recipe import PruneSpec, Solver
    from wanda_core.shrinking.report import ShrinkReport, Shrunk
    from wanda_core.shrinking.shrink import shrink
    from wanda_core.shrinking.spec import ShrinkSpec
    from wanda_core.text.documents import read_documents
    from wanda_core.text.files import read_text
    from wanda_core.text.windows import Calibration, calibrate
    from wanda_core.training.distil import distil
    from wanda_core.training.settings import Training

# The module of each public name. Rooms import each other, never this file, so it must not import them either.
_HOMES = {
    "calibration.profile": ("Profile", "load_profile", "profile", "save_profile"),
    "checkpoint.save": ("save",),
    "errors": ("GatedError", "InputError", "ModelError", "ProcessError", "StorageError", "WandaError"),
    "evaluation.generation": ("Generated", "generate"),
    "evaluation.perplexity": ("Agreement", "Perplexity", "agreement", "perplexity"),
    "methods": ("METHODS", "Method"),
    "model.language_model": ("LanguageModel",),
    "model.loading": ("load_located", "load_model", "locate"),
    "model.names": ("normal_name",),
    "progress": ("Progress",),
    "pruning.prune": ("prune",),
    "pruning.variant": ("LinearReport", "PruneReport", "Variant"),
    "presets": ("preset",),
    "recipe": ("PruneSpec", "Solver"),
    "shrinking.report": ("Shrunk", "ShrinkReport"),
    "shrinking.shrink": ("shrink",),
    "shrinking.spec": ("ShrinkSpec",),
    "text.documents": ("read_documents",),
    "text.files": ("read_text",),
    "text.windows": ("Calibration", "calibrate"),
    "training.distil": ("distil",),
    "training.settings": ("Training",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "METHODS",
    "Agreement",
    "Calibration",
    "GatedError",
    "Generated",
    "InputError",
    "LanguageModel",
    "LinearReport",
    "Method",
    "ModelError",
    "Perplexity",
    "ProcessError",
    "Profile",
    "Progress",
    "PruneReport",
    "PruneSpec",
    "ShrinkReport",
    "ShrinkSpec",
    "Shrunk",
    "Solver",
    "StorageError",
    "Training",
    "Variant",
    "WandaError",
    "__version__",
    "agreement",
    "calibrate",
    "distil",
    "generate",
    "load_located",
    "load_model",
    "load_profile",
    "locate",
    "normal_name",
    "perplexity",
    "preset",
    "profile",
    "prune",
    "read_documents",
    "read_text",
    "save",
    "save_profile",
    "shrink",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its room when it is first used."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List all public names, imported yet or not."""
    return sorted({*globals(), *__all__})
