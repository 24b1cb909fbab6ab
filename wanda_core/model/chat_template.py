"""Putting messages into a model's chat template, a stranger's program, in a process that can be ended.

jinja2's sandbox keeps a template from the machine, yet not from looping for ever or from filling the memory.
"""

import json
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from wanda_core.errors import ModelError, first_line, shortened_path
from wanda_core.machine.helper import EndedError, Helper, LateError, NotStartedError
from wanda_core.progress import still_wanted

MOST_SECONDS = 3.0  # of a template at work; a tenth of a second is much
# Letters that a template makes, beside some for each letter of the messages; 10,000 are met, of instructions.
MORE_LETTERS, TIMES_LETTERS = 100_000, 20
TRIED = [{"role": "user", "content": "Why is the sky blue?"}]


class TemplateError(Exception):
    """A template that fails with these messages."""


class EndlessTemplateError(TemplateError):
    """A template that takes too long or too much, or reaches for what the sandbox does not give."""


_worker = Helper("wanda_core.model.template_worker", {"MALLOC_ARENA_MAX": "1"})  # another would take addresses


def end_worker() -> None:
    """End the process that renders templates, one for all models, so that nothing of theirs stays in it; the next
    template starts it anew."""
    _worker.close()


def in_template(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, Any]], *, answer_follows: bool = False
) -> str:
    """Put messages into a tokenizer's chat template, as `apply_chat_template` does, within bounds of time and memory.

    answer_follows: whether the beginning of an answer is added. Raises TemplateError for a template that fails.
    """
    still_wanted()  # many chats are put into words one after the other
    if type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:  # one without templates
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": answer_follows}
        try:
            return str(tokenizer.apply_chat_template(list(messages), **options))
        except Exception as error:
            raise TemplateError(first_line(error)) from error
    names = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    request = {
        "template": tokenizer.get_chat_template(),
        "messages": list(messages),
        "names": {**names, "add_generation_prompt": answer_follows},
    }
    answered = _answered(request)
    if "text" in answered:
        text, most = answered["text"], MORE_LETTERS + TIMES_LETTERS * len(json.dumps(request["messages"], default=str))
        if len(text) > most:
            raise EndlessTemplateError(f"it makes {len(text):,} letters, and at most {most:,} are read")
        return text
    raise (TemplateError if answered["kind"] == "template" else EndlessTemplateError)(answered["error"])


def _answered(request: dict[str, Any]) -> dict[str, str]:
    """Return the answer of the process that renders."""
    try:
        return _worker.ask(request, MOST_SECONDS, still_wanted)
    except LateError:
        raise EndlessTemplateError(f"it does not end within {MOST_SECONDS:g} s") from None
    except EndedError:
        raise EndlessTemplateError("it takes more memory than a template may") from None
    except NotStartedError:
        raise TemplateError("the process that renders chat templates does not start here") from None


def check_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ModelError for a chat template that does not end, fills the memory or reaches out of its sandbox.

    One that fails in another way may take other messages; it is told where it is used. name: of the model.
    """
    if not tokenizer.chat_template:
        return
    try:
        in_template(tokenizer, TRIED, answer_follows=True)
    except EndlessTemplateError as error:
        raise ModelError(
            f"{shortened_path(name)} has a chat template that is not run ({first_line(error)}); take the template away "
            "or choose another model"
        ) from error
    except (TemplateError, ValueError):  # ValueError: several templates, none of them the default
        return
