"""Section: does this model have outlier features by LLM.int8()'s definition? Counted once, then shares can be moved."""

from functools import partial
from typing import Any

import gradio as gr

from wanda_core.outliers.features import (
    FEATURE_MAGNITUDE,
    LAYER_SHARE,
    POSITION_SHARE,
    FeatureCounts,
    FeatureReport,
    check_magnitude,
    feature_counts_steps,
    outlier_features,
)
from wanda_core.progress import Steps
from wanda_core.text.windows import calibrate
from wanda_ui.engine.loaded import Loaded
from wanda_ui.inputs import as_share
from wanda_ui.jobs import Update
from wanda_ui.language import Say, label
from wanda_ui.outliers.figures.features import feature_plane
from wanda_ui.outliers.section import Section, buttons, question, section_table
from wanda_ui.outliers.words import channel_list
from wanda_ui.picture import Drawing, picture
from wanda_ui.tab_context import TabContext

MOST_ROWS = 40
COLUMNS = ("blocks_share", "positions_share", "sign")  # after that of the channel


def build(context: TabContext, start: Any) -> None:
    """Lay the section out. start: the event that shows it for the first time."""
    question("features")
    with gr.Row(elem_classes="wl-options wl-ask"):
        magnitude = gr.Number(
            FEATURE_MAGNITUDE, label=label("outliers.features.magnitude"), elem_id="features-magnitude", min_width=110
        )
        layers, positions = (
            gr.Slider(
                0,
                100,
                value=100 * share,
                step=1,
                label=label(f"outliers.features.{name}"),
                elem_id=f"features-{name}",
                buttons=[],
                min_width=210,
            )
            for name, share in (("layers", LAYER_SHARE), ("positions", POSITION_SHARE))
        )
        run, cancel = buttons("features")
    status = gr.HTML("", elem_id="features-status")
    plane = picture("features-plane")
    table = gr.HTML("", elem_id="features-table")

    def steps(name: str, magnitude: float, *_: object) -> Steps[FeatureCounts]:
        check_magnitude(magnitude)
        make = partial(counted, magnitude=magnitude)
        return (yield from context.state.measurement_steps(name, ("features", magnitude), make))

    def fill(counts: FeatureCounts, say: Say, magnitude: float, layers: float, positions: float) -> Update:
        drawing, rows = show(counts, say, layers, positions)
        return {**plane.show(drawing), table: rows}

    section = Section(context, status, run, cancel, [plane], [table])
    again = [magnitude.submit, layers.change, positions.change]
    section.wire(steps, fill, [magnitude, layers, positions], again=again, start=[start])


def counted(loaded: Loaded, magnitude: float) -> Steps[FeatureCounts]:
    """Count the values that reach a magnitude, on the calibration of the analysis, which counted the definition's."""
    if loaded.analysis is not None and loaded.analysis.features is not None and magnitude == FEATURE_MAGNITUDE:
        return loaded.analysis.features
    return (yield from feature_counts_steps(loaded.lm, loaded.calibration or calibrate(loaded.lm), magnitude))


def show(counts: FeatureCounts, say: Say, layers: float, positions: float) -> tuple[Drawing, str]:
    """Draw the plane of all channels with the verdict, and a table with a row for every outlier feature.

    layers, positions: the least shares of blocks and of positions, in percent.
    """
    report = outlier_features(counts, as_share(layers), as_share(positions))
    rows: list[list[object]] = [
        [feature.channel, f"{feature.layer_share:.1%}", f"{feature.position_share:.1%}", sign(feature.positive_share)]
        for feature in report.features[:MOST_ROWS]
    ]
    title, words = features_words(report, counts.over.shape[1], say)
    columns = ("channel" if report.one_stream else "column", *COLUMNS)
    return Drawing(title, feature_plane(counts, report, say), words), section_table(say, "features", columns, rows)


def features_words(report: FeatureReport, width: int, say: Say) -> tuple[str, str]:
    """Write title and sentence: whether the model meets the definition, and how near the nearest channel comes.

    Of what several streams are mixed into before it is read, no column is a channel of the stream, nor called so.
    """
    closest = report.closest
    values = {
        "count": len(report.features),
        "width": width,
        "channels": channel_list([feature.channel for feature in report.features]),
        "blocks_share": report.blocks_share,
        "channel": closest.channel,
        "layers": closest.layer_share,
        "places": closest.position_share,
        "magnitude": report.magnitude,
        "least_layers": report.layer_share,
        "least_places": report.position_share,
        "kinds": ", ".join(kind.rpartition(".")[2] for kind in report.kinds),
        "positions": report.positions,
    }
    which = ("meets" if report.meets else "fails") + ("" if report.one_stream else "_column")
    words = say(f"outliers.features.{which}_text", **values)
    return say(f"outliers.features.{which}_title", **values), f"{words} {say('outliers.features.read', **values)}"


def sign(positive: float) -> str:
    """Write the sign of most of a feature's passing values, and how many have it."""
    return f"+ {positive:.0%}" if positive >= 0.5 else f"− {1 - positive:.0%}"
