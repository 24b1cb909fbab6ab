"""The outlier lab: a list of questions about the model in the page, each answered in a place of its own."""

from dataclasses import dataclass

import gradio as gr

from wanda_ui.app_state import Loaded
from wanda_ui.jobs import LIGHT, RESIZE
from wanda_ui.language import Say, label
from wanda_ui.outliers import ablation, features, growth, protection, sentence, sinks, stream, super_weight
from wanda_ui.outliers.stream import StreamSection
from wanda_ui.tab_context import TabContext


@dataclass(frozen=True)
class OutliersTab:
    """The components other files listen to."""

    stream: StreamSection
    channels: gr.Textbox

    @property
    def lines_title(self) -> gr.HTML:
        """Where the analysis says how far it is."""
        return self.stream.lines.title

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `show` returns."""
        return [*self.stream.outputs, self.channels]


def build(context: TabContext) -> OutliersTab:
    """All sections, one behind the other."""
    with gr.Tabs(elem_id="lab", elem_classes="wl-lab"):
        sides = {}

        def side(name: str) -> gr.Tab:
            sides[name] = gr.Tab(label(f"outliers.{name}.tab"), id=name, elem_id=f"lab-{name}")
            return sides[name]

        with side("stream"):
            first = stream.build(context)
        with side("sentence") as shown:
            sentence.build(context, shown.select)
        with side("sinks") as shown:
            sinks.build(context, shown.select)
        with side("features") as shown:
            features.build(context, shown.select)
        with side("ablation"):
            channels = ablation.build(context)
        with side("protection") as shown:
            protection.build(context, shown.select)
        with side("super_weight"):
            super_weight.build(context)
        with side("growth") as shown:
            growth.build(context, shown.select)
    for one in sides.values():
        one.select(None, js=RESIZE, **LIGHT)
    return OutliersTab(first, channels)


def show(loaded: Loaded, say: Say) -> list:
    """What is known of a model as soon as it has been analysed."""
    assert loaded.analysis is not None  # made by open_steps
    return [*stream.show(loaded, say), ablation.found_channels(loaded.analysis)]
