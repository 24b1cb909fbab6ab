"""The tools by name: what each is for, in words that an assistant understands, and what it is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN, EVAL_SEQ_LEN, EVAL_WINDOWS, MAX_SEQ_LEN, MAX_SPARSITY
from wanda_core.evaluation.generation import MAX_NEW_TOKENS, MAX_PROMPT_CHARACTERS, MAX_TEMPERATURE
from wanda_core.methods import METHODS
from wanda_core.model import builtin
from wanda_core.presets import RECIPES
from wanda_core.progress import Steps
from wanda_core.recipe import ALLOCATIONS, ORDERS, UPDATES
from wanda_ui.app_state import AppState
from wanda_ui.compare.asked import MOST_RECIPES
from wanda_ui.gate.rules import LARGEST, MOST_NAME
from wanda_ui.settings import Settings
from wanda_ui.tools import answers
from wanda_ui.tools.parameters import REQUIRED, Parameter

MOST_WINDOWS = 64  # of a perplexity: a minute of the built-in model on two cores
PAIR = [{"method": "wanda", "sparsity": 0.5}, {"method": "magnitude", "sparsity": 0.5}]

Json = dict[str, Any]
Answer = Callable[[AppState, Mapping[str, Any]], Steps[Json]]


@dataclass(frozen=True)
class Tool:
    """A tool. about: what it does and gives, for whoever chooses among tools; answer: does it, its values checked."""

    name: str
    title: str
    about: str
    parameters: tuple[Parameter, ...]
    answer: Answer

    @property
    def schema(self) -> Json:
        """JSON Schema of what it is given."""
        needed = [parameter.name for parameter in self.parameters if parameter.default is REQUIRED]
        told = {parameter.name: parameter.schema for parameter in self.parameters}
        return {"type": "object", "properties": told, "required": needed, "additionalProperties": False}


def tools_of(settings: Settings) -> dict[str, Tool]:
    """List the tools of a server, by name, with its own limits."""
    recipe = recipe_fields(settings)
    model = Parameter(
        "model",
        "text",
        f"the model: {builtin.NAME!r} for {builtin.TITLE}, a folder of this machine, or an id on the Hugging Face hub",
        builtin.NAME,
        1,
        MOST_NAME,
    )
    pair = Parameter(
        "recipes", "recipes", "the recipes to hold against each other", PAIR, 1, MOST_RECIPES, fields=recipe
    )
    most = min(settings.prompt_characters, MAX_PROMPT_CHARACTERS)
    seed = Parameter("seed", "whole", "seed of the draw of tokens; the same draws alike for all models", 0, 0, LARGEST)
    tools = (
        Tool(
            "prune",
            "Prune a language model",
            "Prune a language model by one recipe and measure what that costs: sets the weights with the lowest score "
            "to zero, without retraining, and compares perplexity and next-token agreement with the dense model. Gives "
            "the share and number of weights removed, the seconds, both perplexities, and the command that writes the "
            "pruned checkpoint. Nothing is saved. The built-in model takes seconds, the update least-squares and the "
            "preset best up to a minute.",
            (model, *recipe),
            answers.prune,
        ),
        Tool(
            "compare",
            "Compare answers before and after pruning",
            "Answer one prompt by the dense model and by up to three pruned variants of it, and tell where each answer "
            "first parts from the dense one. Gives every answer, its perplexity, and the text before the first token "
            "that differs with both tokens.",
            (
                Parameter("prompt", "text", "what the models are asked", low=1, high=most),
                pair,
                model,
                Parameter("max_new_tokens", "whole", "tokens of an answer at most", 48, 1, MAX_NEW_TOKENS),
                Parameter("temperature", "number", "0 takes the likeliest token always", 0.0, 0, MAX_TEMPERATURE),
                seed,
                Parameter("chat", "switch", "whether the prompt is put into the model's chat template", True),
            ),
            answers.compare,
        ),
        Tool(
            "why_kept",
            "Why a weight is kept or removed",
            "Explain the fate of one single weight: its size |W|, the norm of the input it multiplies, its score "
            "|W|·‖X‖, its ranks, and for each recipe whether it is kept and up to which value weights go there, in one "
            "sentence and in numbers.",
            (
                Parameter(
                    "linear",
                    "text",
                    "full name of the matrix as in the checkpoint, such as 'model.layers.11.mlp.up_proj'",
                    low=1,
                    high=MOST_NAME,
                ),
                Parameter("row", "whole", "output of the matrix, from 0", high=LARGEST),
                Parameter("column", "whole", "input of the matrix, from 0", high=LARGEST),
                pair,
                model,
            ),
            answers.why_kept,
        ),
        Tool(
            "perplexity",
            "Perplexity of a dense or pruned model",
            "Measure the perplexity of the dense model, or of a variant pruned by a recipe, on the built-in text or on "
            "one that is given. Lower is better; it is measured on windows without overlap.",
            (
                Parameter("text", "text", "the text, empty for the built-in one", "", 0, settings.prompt_characters),
                Parameter("recipe", "recipe", "the recipe, null for the dense model", None, fields=recipe),
                model,
                Parameter("seq_len", "whole", "tokens a window", EVAL_SEQ_LEN, 2, MAX_SEQ_LEN),
                Parameter("windows", "whole", "windows from the start of the text", EVAL_WINDOWS, 1, MOST_WINDOWS),
            ),
            answers.perplexity,
        ),
    )
    return {tool.name: tool for tool in tools}


def recipe_fields(settings: Settings) -> tuple[Parameter, ...]:
    """List the fields of a recipe."""
    groups = tuple(dict.fromkeys(group for method in METHODS.values() for group in method.groups))
    return (
        Parameter("method", "text", "how weights are scored, or a whole preset", "wanda", choices=(*METHODS, *RECIPES)),
        Parameter("sparsity", "number", "share of weights to remove, of no pattern N:M", 0.5, 0, MAX_SPARSITY),
        Parameter(
            "pattern",
            "text",
            "'unstructured', or N:M such as '2:4', which keeps N of every M inputs",
            "unstructured",
            3,
            12,
        ),
        Parameter(
            "order",
            "text",
            "when inputs are measured: faithful as published, in-flight, or one-shot, which is fastest",
            "default",
            choices=("default", *ORDERS),
        ),
        Parameter(
            "group",
            "text",
            "what scores are compared within; default is the method's own",
            "default",
            choices=("default", *groups),
        ),
        Parameter(
            "allocation",
            "text",
            "sparsity of the blocks: the same, lower where outliers are (owl), or by measured sensitivity",
            "default",
            choices=("default", *ALLOCATIONS),
        ),
        Parameter(
            "update",
            "text",
            "what becomes of the weights that stay: none, obs or least-squares",
            "default",
            choices=("default", *UPDATES),
        ),
        Parameter(
            "samples",
            "whole",
            "windows of calibration text",
            min(DEFAULT_SAMPLES, settings.samples),
            1,
            settings.samples,
        ),
        Parameter("seq_len", "whole", "tokens of a window of calibration text", DEFAULT_SEQ_LEN, 2, MAX_SEQ_LEN),
        Parameter("seed", "whole", "seed of the draw of calibration text", 0, 0, LARGEST),
    )
