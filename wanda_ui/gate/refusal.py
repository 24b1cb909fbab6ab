"""A refusal: which rule was broken, to be put into the visitor's language, and how a value is quoted in it."""

import json

from gradio.i18n import I18nData

from wanda_ui.language import Say

MOST_QUOTED = 40  # characters of a value that a refusal repeats


class RefusedError(Exception):
    """A request is refused. status: of the HTTP answer; key: of the words below `gate`; values: for these words.

    A value may be a label, which is put into words too.
    """

    def __init__(self, status: int, key: str, **values: object) -> None:
        super().__init__(key)
        self.status, self.key, self.values = status, key, values

    def words(self, say: Say) -> str:
        """Return the sentence for the visitor."""
        spoken = {name: say(value.key) if isinstance(value, I18nData) else value for name, value in self.values.items()}
        return say(f"gate.{self.key}", **spoken)


def quoted(value: object) -> str:
    """Write a value as JSON does, cut short, in characters that every answer and every log can carry."""
    if isinstance(value, str):
        value = value[: MOST_QUOTED + 1]
    elif isinstance(value, (list, dict)) and len(value) > MOST_QUOTED:
        return "[…]" if isinstance(value, list) else "{…}"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= MOST_QUOTED + 2 else text[:MOST_QUOTED] + "…"
