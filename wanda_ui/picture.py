"""A figure with its words: a finding above it, a sentence below."""

from dataclasses import dataclass

import gradio as gr
import plotly.graph_objects as go

from wanda_ui import markup
from wanda_ui.jobs import LIGHT, Update

# Gives the figure with the element id ID its title as a name.
NAME_FIGURE = """(title) => {
    const plot = document.getElementById('ID'), words = document.createElement('i');
    words.innerHTML = title || '';
    plot?.setAttribute('role', 'figure');
    plot?.setAttribute('aria-label', words.textContent);
}"""


@dataclass(frozen=True)
class Drawing:
    """Content of a picture. title: the finding; text: what the figure shows for this model. Both are plain text."""

    title: str
    figure: go.Figure
    text: str


@dataclass(frozen=True)
class Picture:
    """The components of a figure under its finding and over its sentence."""

    title: gr.HTML
    plot: gr.Plot
    text: gr.HTML

    @property
    def outputs(self) -> list[gr.components.Component]:
        """List the components that `show` and `clear` fill."""
        return [self.title, self.plot, self.text]

    def show(self, drawing: Drawing) -> Update:
        """Put a drawing into the picture."""
        return {
            self.title: markup.figure_title(drawing.title),
            self.plot: drawing.figure,
            self.text: markup.sentence(drawing.text),
        }

    def clear(self) -> Update:
        """Empty the picture."""
        return {self.title: "", self.plot: None, self.text: ""}


def picture(name: str) -> Picture:
    """Lay out an empty picture with the element ids NAME, NAME-title and NAME-text."""
    title = gr.HTML("", elem_id=f"{name}-title")
    plot = figure_place(name, title)
    text = gr.HTML("", elem_id=f"{name}-text")
    return Picture(title, plot, text)


def figure_place(name: str, title: gr.HTML) -> gr.Plot:
    """Lay out an empty figure with the element id NAME, which a screen reader calls by its title.

    A figure has no text that a screen reader could read, and its title is a finding.
    """
    plot = gr.Plot(show_label=False, elem_id=name, elem_classes="wl-figure")
    plot.change(None, title, None, js=NAME_FIGURE.replace("ID", name), **LIGHT)
    return plot
