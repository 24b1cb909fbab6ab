"""The left column: which model, what is done to it, and how far it is."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN, MAX_SAMPLES, MAX_SEQ_LEN, MAX_SPARSITY
from wanda_core.errors import InputError
from wanda_core.model import builtin
from wanda_core.progress import Steps
from wanda_core.recipe import PruneSpec, preset
from wanda_core.text.files import read_text
from wanda_ui.app_state import AppState, Result
from wanda_ui.inputs import as_share, whole_number
from wanda_ui.language import label

MODELS = [
    (label("setup.model_builtin"), builtin.NAME),
    ("SmolLM2-360M-Instruct", "HuggingFaceTB/SmolLM2-360M-Instruct"),
    ("Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"),
    ("GPT-2 (124M)", "openai-community/gpt2"),
    ("OPT-125M", "facebook/opt-125m"),
]
METHOD_CHOICES = [
    ("Wanda", "wanda"),
    (label("setup.method_magnitude"), "magnitude"),
    ("SparseGPT", "sparsegpt"),
    ("RIA", "ria"),
    (label("setup.method_variant"), "wanda-variant"),
    (label("setup.method_random"), "random"),
]
GROUP_CHOICES = [
    (label("setup.group_default"), "default"),
    (label("setup.group_row"), "row"),
    (label("setup.group_matrix"), "matrix"),
    (label("setup.group_column"), "column"),
    (label("setup.group_row_128"), "row:128"),
    (label("setup.group_column_128"), "column:128"),
    (label("setup.group_model"), "model"),
]
ORDER_CHOICES = [
    (label("setup.order_default"), "default"),
    (label("setup.order_faithful"), "faithful"),
    (label("setup.order_in_flight"), "in-flight"),
    (label("setup.order_one_shot"), "one-shot"),
]
UPDATE_CHOICES = [
    (label("setup.update_default"), "default"),
    (label("setup.update_none"), "none"),
    (label("setup.update_obs"), "obs"),
    (label("setup.update_least_squares"), "least-squares"),
    (label("setup.update_best"), "best"),
]
ALLOCATION_CHOICES = [(label("setup.allocation_uniform"), "uniform"), (label("setup.allocation_owl"), "owl")]
MAX_PAGE_TOKENS = 64 * 1024  # samples × length that the page runs; the command line has no such limit


@dataclass(frozen=True)
class SetupPanel:
    """The controls other files listen to."""

    model: gr.Dropdown
    method: gr.Radio
    pattern: gr.Radio
    sparsity: gr.Slider
    group: gr.Dropdown
    order: gr.Dropdown
    allocation: gr.Dropdown
    update: gr.Dropdown
    file: gr.File
    samples: gr.Number
    seq_len: gr.Number
    seed: gr.Number
    prune: gr.Button
    cancel: gr.Button
    status: gr.HTML

    @property
    def recipe(self) -> list[gr.components.Component]:
        """The inputs of `prune`, in its order."""
        return [
            self.model,
            self.method,
            self.pattern,
            self.sparsity,
            self.group,
            self.order,
            self.allocation,
            self.update,
            self.file,
            self.samples,
            self.seq_len,
            self.seed,
        ]


def build() -> SetupPanel:
    """Lay the controls out, in the order a person decides."""
    model = gr.Dropdown(
        MODELS,
        value=builtin.NAME,
        label=label("setup.model"),
        info=label("setup.model_info"),
        allow_custom_value=True,
        elem_id="model",
    )
    method = gr.Radio(METHOD_CHOICES, value="wanda", label=label("setup.method"), elem_id="method")
    pattern = gr.Radio(
        [(label("setup.pattern_free"), "unstructured"), ("2:4", "2:4"), ("4:8", "4:8")],
        value="unstructured",
        label=label("setup.pattern"),
        elem_id="pattern",
    )
    sparsity = gr.Slider(
        0, 100 * MAX_SPARSITY, value=50, step=1, label=label("setup.sparsity"), elem_id="sparsity", buttons=[]
    )
    with gr.Row(elem_classes="wl-buttons"):
        prune = gr.Button(label("setup.prune"), variant="primary", elem_id="prune", scale=2)
        cancel = gr.Button(label("setup.cancel"), elem_id="cancel", scale=1)
    status = gr.HTML("", elem_id="status")
    with gr.Accordion(label("setup.calibration"), open=False, elem_id="calibration"):
        gr.Markdown(label("setup.calibration_what"))
        file = gr.File(label=label("setup.file"), file_types=[".txt"], height=140, elem_id="calibration-file")
        with gr.Row():
            samples = gr.Number(
                DEFAULT_SAMPLES, label=label("setup.samples"), precision=0, min_width=70, elem_id="samples"
            )
            seq_len = gr.Number(
                DEFAULT_SEQ_LEN, label=label("setup.seq_len"), precision=0, min_width=70, elem_id="seq-len"
            )
            seed = gr.Number(0, label=label("setup.seed"), precision=0, min_width=70, elem_id="seed")
    with gr.Accordion(label("setup.more"), open=False, elem_id="more"):
        group = gr.Dropdown(GROUP_CHOICES, value="default", label=label("setup.group"), elem_id="group")
        order = gr.Dropdown(ORDER_CHOICES, value="default", label=label("setup.order"), elem_id="order")
        allocation = gr.Dropdown(
            ALLOCATION_CHOICES, value="uniform", label=label("setup.allocation"), elem_id="allocation"
        )
        update = gr.Dropdown(UPDATE_CHOICES, value="default", label=label("setup.update"), elem_id="update")
    pattern.change(
        lambda chosen: gr.Slider(interactive=chosen == "unstructured"),
        pattern,
        sparsity,
        show_progress="hidden",
        api_visibility="private",
    )
    return SetupPanel(
        model,
        method,
        pattern,
        sparsity,
        group,
        order,
        allocation,
        update,
        file,
        samples,
        seq_len,
        seed,
        prune,
        cancel,
        status,
    )


def job(
    state: AppState,
    name: str,
    method: str,
    pattern: str,
    sparsity: object,
    group: str,
    order: str,
    allocation: str,
    update: str,
    file: str | None,
    *draw: object,
) -> Steps[Result]:
    """The pruning that the controls describe. Raises InputError for what they must not say."""
    spec = _spec(method, pattern, sparsity, group, order=order, allocation=allocation, update=update)
    samples, seq_len, seed = (
        whole_number(value, what) for value, what in zip(draw, ("samples", "length", "seed"), strict=True)
    )
    within = 1 <= samples <= MAX_SAMPLES and 1 <= seq_len <= MAX_SEQ_LEN and samples * seq_len <= MAX_PAGE_TOKENS
    if not within:
        raise InputError(
            f"{samples} samples of {seq_len} tokens are outside what this page runs "
            f"(1 to {MAX_PAGE_TOKENS:,} tokens in all); choose fewer, or use the command line"
        )
    text = read_text(file) if file else None
    source = "uploaded text" if file else None
    settings: dict[str, object] = {"text": text, "source": source, "samples": samples, "seq_len": seq_len, "seed": seed}
    return state.prune_steps(name, spec, settings)


def slide(
    state: AppState, name: str, method: str, pattern: str, sparsity: object, group: str, *others: object
) -> Steps[Result] | None:
    """What a moved slider shows at once: the same recipe from the dense model's norms; None where that cannot be."""
    if pattern != "unstructured" or method == "sparsegpt":
        return None
    return state.slide_steps(name, _spec(method, pattern, sparsity, group, order="one-shot"))


def _spec(method: str, pattern: str, sparsity: object, group: str, **more: Any) -> PruneSpec:
    free = pattern == "unstructured"
    given = {key: value for key, value in more.items() if value != "default"}
    best = given.get("update") == "best" and given.pop("update")
    given |= {"method": method, "pattern": pattern, "sparsity": _share(sparsity) if free else None}
    if free and group != "default":
        given["group"] = group
    return preset("best", **given) if best else PruneSpec(**given)


def _share(percent: Any) -> Any:
    """Percent as a share; what is no number is left for the recipe to refuse, which takes None for the usual one."""
    if percent is None:
        raise InputError("the sparsity is missing; it is the share of weights to remove, try 50")
    return as_share(percent)
