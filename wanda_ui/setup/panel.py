"""The controls of the set-up, in the order a person decides."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from wanda_core.checks import DEFAULT_SAMPLES, DEFAULT_SEQ_LEN, MAX_SPARSITY
from wanda_core.model import builtin
from wanda_ui.jobs import LIGHT
from wanda_ui.language import label, names_below
from wanda_ui.settings import Settings

MODELS = [
    (label("setup.model_builtin"), builtin.NAME),
    ("SmolLM2-360M-Instruct", "HuggingFaceTB/SmolLM2-360M-Instruct"),
    ("Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"),
    ("GPT-2 (124M)", "openai-community/gpt2"),
    ("OPT-125M", "facebook/opt-125m"),
]
# In the order of the words' file; a test holds them to the table of methods.
METHOD_CHOICES = [(label(f"setup.method.{name}"), name) for name in names_below("setup.method")]
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


@dataclass(frozen=True)
class SetupPanel:
    """The controls, the two buttons and the status."""

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
    need: gr.HTML
    status: gr.HTML

    @property
    def recipe(self) -> dict[str, Component]:
        """Return the controls that describe a pruning, by the names that `prune_job` has for their values."""
        return {
            "name": self.model,
            "method": self.method,
            "pattern": self.pattern,
            "sparsity": self.sparsity,
            "group": self.group,
            "order": self.order,
            "allocation": self.allocation,
            "update": self.update,
            "file": self.file,
            "samples": self.samples,
            "seq_len": self.seq_len,
            "seed": self.seed,
        }

    @property
    def decides_need(self) -> list[gr.Radio | gr.Dropdown]:
        """List the controls that decide how much memory a variant takes."""
        return [self.method, self.order, self.update]


def models_of(settings: Settings) -> list[tuple[Any, str]]:
    """List the models to choose from, (label, name): ours that the server allows, then those it lists itself."""
    known = [(shown, name) for shown, name in MODELS if settings.allows(name)]
    names = [name for _, name in known]
    return known + [(name, name) for name in settings.models or () if name not in names]


def build(settings: Settings) -> SetupPanel:
    """Lay the controls out."""
    model = gr.Dropdown(
        models_of(settings),
        value=builtin.NAME,
        label=label("setup.model"),
        info=label("setup.model_info") if settings.models is None else None,
        allow_custom_value=settings.models is None,
        elem_id="model",
    )
    method = gr.Radio(METHOD_CHOICES, value="wanda", label=label("setup.method_title"), elem_id="method")
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
    need = gr.HTML("", elem_id="need")
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
    pattern.change(lambda chosen: gr.Slider(interactive=chosen == "unstructured"), pattern, sparsity, **LIGHT)
    return SetupPanel(
        model=model,
        method=method,
        pattern=pattern,
        sparsity=sparsity,
        group=group,
        order=order,
        allocation=allocation,
        update=update,
        file=file,
        samples=samples,
        seq_len=seq_len,
        seed=seed,
        prune=prune,
        cancel=cancel,
        need=need,
        status=status,
    )
