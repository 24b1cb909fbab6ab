"""What each control may send. The rules follow from the control itself, so a new control is guarded by being there.

A control of a class that has no rule cannot be an input: the page is not built. To add one, put its rule into `RULES`.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components.api_component import Api
from gradio.utils import get_upload_folder

from wanda_ui.gate.refusal import RefusedError, quoted
from wanda_ui.inputs import is_number
from wanda_ui.settings import Settings

MOST_HTML = 200_000  # characters; the page sends back what it was sent itself: a figure's title
MOST_NAME = 500  # characters of a typed choice: a Hugging Face id has 96 at most, a folder seldom more than this
MOST_TOLD = 100_000  # characters, as JSON, of what is told about an event: fifty prompts, or a prompt with its answer
MOST_FILE_NAME = 1_000  # characters of a path, a file's name or its kind
MOST_FILES = 20  # that one event names, each of which is looked for on the disk; the page names one
UPLOAD_PARTS = 2  # of an upload's path below the folder of uploads: its digest and its name
LARGEST = 2**53  # of a number without bounds of its own; beyond it a browser's numbers have gaps
FILE_KEYS = {"path", "url", "size", "orig_name", "mime_type", "is_stream", "meta"}

Rule = Callable[[Any, Any, Settings], None]  # rule(control, value, settings) raises RefusedError


def name_of(control: Any) -> Any:
    """Return what a refusal calls a control, or what is named: its label, else its element id, else its class."""
    if isinstance(control, str):
        return control
    return getattr(control, "label", None) or getattr(control, "elem_id", None) or type(control).__name__


def check_values(controls: list[Block], values: object, current: Mapping[int, Block], settings: Settings) -> None:
    """Check what came for an event's inputs. Raises RefusedError for a wrong count and for what breaks a rule.

    current: controls as this visitor's page has them now, by id: choices follow the model.
    """
    if not isinstance(values, list):
        raise RefusedError(400, "values", given=quoted(values))
    if len(values) != len(controls):
        raise RefusedError(400, "count", wanted=len(controls), given=len(values))
    for control, value in zip(controls, values, strict=True):
        if not (value is None and _may_be_empty(control)):
            RULES[type(control)](current.get(control._id, control), value, settings)


def _may_be_empty(control: Any) -> bool:
    """Whether the page itself sends nothing for a control: as long as nothing is chosen, uploaded or shown there."""
    if isinstance(control, (gr.Radio, gr.Dropdown)):
        return control.value is None or getattr(control, "allow_custom_value", False)
    return isinstance(control, (gr.HTML, gr.Markdown, gr.File, gr.State, gr.Number, Api))  # a person can empty a number


def check_covered(page: gr.Blocks) -> None:
    """Raise LookupError for an input of the page that has no rule."""
    for event in page.fns.values():
        for control in event.inputs if event.fn is not None else ():
            if type(control) not in RULES or getattr(control, "multiselect", False):
                raise LookupError(f"{type(control).__name__} {name_of(control)!s} has no rule; add one to RULES")


def check_text(control: Any, value: object, most: int) -> str:
    """Return a value that is a text of so many whole characters at most. Raises RefusedError for any other."""
    if not isinstance(value, str):
        raise RefusedError(400, "not_text", control=name_of(control), value=quoted(value))
    if len(value) > most:
        raise RefusedError(400, "too_long", control=name_of(control), given=len(value), most=most)
    if not well_formed(value):
        raise RefusedError(400, "half_characters", control=name_of(control))
    return value


def well_formed(text: str) -> bool:
    """Whether a text can be written as UTF-8: no half of a surrogate pair stands alone."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_number(control: Any, value: object, low: float, high: float, whole: bool) -> None:
    """Check a number. Raises RefusedError for NaN, True, a text, what is out of bounds or, if need be, not whole."""
    name = name_of(control)
    if value is None:
        raise RefusedError(400, "no_number", control=name, low=low, high=high)
    if not is_number(value) or (isinstance(value, float) and not math.isfinite(value)):
        raise RefusedError(400, "not_number", control=name, value=quoted(value), low=low, high=high)
    if not low <= value <= high:
        raise RefusedError(400, "out_of_range", control=name, value=quoted(value), low=low, high=high)
    if whole and isinstance(value, float) and not value.is_integer():
        raise RefusedError(400, "not_whole", control=name, value=quoted(value))


def _textbox(box: Any, value: object, settings: Settings) -> None:
    typed = min(box.max_length or settings.prompt_characters, settings.prompt_characters)
    own = box.visible == "hidden"  # the page itself keeps something there
    check_text(box, value, box.max_length if own else typed)


def _slider(slider: Any, value: object, settings: Settings) -> None:
    whole = all(float(part).is_integer() for part in (slider.minimum, slider.step))
    check_number(slider, value, slider.minimum, slider.maximum, whole)


def _number(field: Any, value: object, settings: Settings) -> None:
    low = -LARGEST if field.minimum is None else field.minimum
    high = LARGEST if field.maximum is None else field.maximum
    check_number(field, value, low, high, field.precision == 0)


def _choice(control: Any, value: object, settings: Settings) -> None:
    """Check a choice; a typed one is a short text."""
    if getattr(control, "allow_custom_value", False):
        check_text(control, value, MOST_NAME)
    elif not any(type(choice) is type(value) and choice == value for _, choice in control.choices):
        raise RefusedError(400, "not_choice", control=name_of(control), value=quoted(value))


def _checkbox(box: Any, value: object, settings: Settings) -> None:
    if not isinstance(value, bool):
        raise RefusedError(400, "not_switch", control=name_of(box), value=quoted(value))


def _html(control: Any, value: object, settings: Settings) -> None:
    check_text(control, value, MOST_HTML)


def _told(control: Any, value: object, settings: Settings) -> None:
    """Check what a tool is given: its size and its numbers; the tool knows its own rules."""
    check_event_data(value)


def _state(control: Any, value: object, settings: Settings) -> None:
    """Refuse whatever was sent for what only the server knows."""
    raise RefusedError(400, "state", value=quoted(value))


def _file(control: Any, value: object, settings: Settings) -> None:
    """Check that a file is one that was uploaded here, is still there, and is not too large."""
    name = name_of(control)
    if not _is_file(value):
        raise RefusedError(400, "not_file", control=name, value=quoted(value))
    check_uploaded(name, value["path"], control.GRADIO_CACHE, settings)  # type: ignore[index]


def check_uploaded(name: Any, path: object, cache: str, settings: Settings) -> None:
    """Check that a path is that of a file which was uploaded here, is still there, and is not too large.

    name: what a refusal calls it; cache: folder of uploads. Raises RefusedError otherwise.
    """
    real = _among_uploads(name, path, cache)
    if not real.is_file():
        raise RefusedError(400, "file_gone", control=name)
    if real.stat().st_size > settings.upload_bytes:
        raise RefusedError(413, "upload", most=megabytes(settings.upload_bytes))


def _among_uploads(name: Any, path: object, cache: str) -> Path:
    """Return the real path of a file in the folder of uploads, which need not be there any more."""
    if not isinstance(path, str) or len(path) > MOST_FILE_NAME or "\0" in path or not well_formed(path):
        raise RefusedError(400, "not_file", control=name, value=quoted(path))
    homes = cache, os.path.realpath(cache)
    # As it is written, too, for so Gradio asks; and first, since finding the real path looks at the disk for each part.
    written = os.path.normpath(path) == path and any(_is_within(Path(path), home) for home in homes)
    real = Path(os.path.realpath(path)) if written else None
    if real is None or not real.is_relative_to(homes[1]):
        raise RefusedError(400, "file_gone", control=name)
    return real


def _is_within(path: Path, home: str) -> bool:
    """Whether a path is written as that of an upload, or as one of the folders above it."""
    return path.is_relative_to(home) and len(path.relative_to(home).parts) <= UPLOAD_PARTS


def is_among_uploads(path: str) -> bool:
    """Whether a path leads into the folder of uploads. path: without NUL."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(get_upload_folder()))


def _is_file(value: object) -> bool:
    """Whether a value has the form that Gradio gives a file."""
    if not isinstance(value, dict) or not FILE_KEYS >= set(value) >= {"path", "meta"}:
        return False
    texts = [value.get(key) for key in ("path", "url", "orig_name", "mime_type")]
    right = all(text is None or (isinstance(text, str) and len(text) <= MOST_FILE_NAME) for text in texts)
    size = value.get("size")
    return (
        right
        and isinstance(value["path"], str)
        and all("\0" not in text and well_formed(text) for text in texts if text)
        and (size is None or (is_number(size) and 0 <= size <= LARGEST))
        and value.get("is_stream") in (None, False)
        and value["meta"] == {"_type": "gradio.FileData"}
    )


def megabytes(count: int) -> str:
    """Write bytes as a number of megabytes."""
    return f"{count / 2**20:.3g}"


def check_event_data(value: object) -> None:
    """Check what a browser tells of an event: small, of whole characters and of numbers that it can count with.

    What looks like a file is one that was uploaded here: Gradio would fail on any other. Raises RefusedError otherwise.
    """
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > MOST_TOLD or not well_formed(text):
        raise RefusedError(400, "event_data", most=MOST_TOLD)
    _check_told("event_data", value)
    files = files_named(value)
    if len(files) > MOST_FILES:
        raise RefusedError(400, "files", given=len(files), most=MOST_FILES)
    for path in files:
        _among_uploads("event_data", path, get_upload_folder())


def _check_told(name: str, value: object) -> None:
    """Check the numbers within an event's data, which is nested no deeper than a body may be."""
    if is_number(value):
        check_number(name, value, -LARGEST, LARGEST, whole=False)
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_told(name, inner)


def files_named(told: object) -> set[str]:
    """Return the different paths that an event names, however deep they stand; it has been checked to be small."""
    return set(_paths(told))


def _paths(told: object) -> Iterator[str]:
    if isinstance(told, dict) and isinstance(told.get("path"), str):
        yield told["path"]
    for inner in told.values() if isinstance(told, dict) else told if isinstance(told, list) else ():
        yield from _paths(inner)


RULES: dict[type, Rule] = {
    gr.Textbox: _textbox,
    gr.Slider: _slider,
    gr.Number: _number,
    gr.Radio: _choice,
    gr.Dropdown: _choice,
    gr.Checkbox: _checkbox,
    gr.HTML: _html,
    gr.Markdown: _html,
    gr.State: _state,
    gr.File: _file,
    Api: _told,
}
