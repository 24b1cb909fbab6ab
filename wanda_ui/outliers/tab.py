"""The outlier lab: questions about the model in the page, each with a side tab of its own."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from wanda_ui.engine.loaded import Loaded
from wanda_ui.jobs import Update
from wanda_ui.language import Say, label
from wanda_ui.outliers import ablation, features, growth, protection, sentence, sinks, stream, super_weight
from wanda_ui.outliers.stream import StreamSection
from wanda_ui.tab_context import Tab, TabContext, resizing_tab


@dataclass(frozen=True)
class OutliersTab(Tab):
    """The parts that fill as soon as a model has been analysed: the first section, and the channels to ablate."""

    stream: StreamSection
    channels: gr.Textbox

    @property
    def outputs(self) -> list[Component]:
        """List everything that a model changes."""
        return [*self.stream.outputs, self.channels]

    def welcome(self, say: Say) -> Update:
        """Show what is stored of the first section."""
        return self.stream.welcome(say)

    def waiting(self, html: str) -> Update:
        """Show progress where the first title will be."""
        return {self.stream.lines.title: html}

    def analysed(self, loaded: Loaded, say: Say) -> Update:
        """Show the channels that stand out."""
        assert loaded.analysis is not None  # made by open_steps
        return {**self.stream.show(loaded, say), self.channels: ablation.massive_channels(loaded.analysis)}


def build(context: TabContext) -> OutliersTab:
    """Lay out all sections, one behind the other."""
    with gr.Tabs(elem_id="lab", elem_classes="wl-lab"):
        with _side("stream"):
            first = stream.build(context)
        with _side("sentence") as side:
            sentence.build(context, side.select)
        with _side("sinks") as side:
            sinks.build(context, side.select)
        with _side("features") as side:
            features.build(context, side.select)
        with _side("ablation"):
            channels = ablation.build(context)
        with _side("protection") as side:
            protection.build(context, side.select)
        with _side("super_weight"):
            super_weight.build(context)
        with _side("growth") as side:
            growth.build(context, side.select)
    return OutliersTab(first, channels)


def _side(name: str) -> gr.Tab:
    """Open the tab of a section."""
    return resizing_tab(label(f"outliers.{name}.tab"), name, f"lab-{name}")
