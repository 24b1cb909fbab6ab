"""A figure with its words: a finding above it, a sentence below."""

from dataclasses import dataclass

import gradio as gr

from wanda_ui import markup
from wanda_ui.jobs import LIGHT

# A figure has no text that a screen reader could read, so it is told the figure's title, which is a finding.
TELL = """(title) => {
    const plot = document.getElementById('ID'), words = document.createElement('i');
    words.innerHTML = title || '';
    plot?.setAttribute('role', 'img');
    plot?.setAttribute('aria-label', words.textContent);
}"""


@dataclass(frozen=True)
class Picture:
    """A figure under its finding and over its sentence."""

    title: gr.HTML
    plot: gr.Plot
    text: gr.HTML

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `drawn` returns."""
        return [self.title, self.plot, self.text]


def picture(name: str) -> Picture:
    """An empty picture with the element ids NAME, NAME-title and NAME-text."""
    title = gr.HTML("", elem_id=f"{name}-title")
    plot = gr.Plot(show_label=False, elem_id=name, elem_classes="wl-figure")
    text = gr.HTML("", elem_id=f"{name}-text")
    plot.change(None, title, None, js=TELL.replace("ID", name), **LIGHT)
    return Picture(title, plot, text)


def drawn(title: str, figure: object, text: str) -> list:
    """Values for a picture's outputs."""
    return [markup.figure_title(title), figure, markup.sentence(text)]
