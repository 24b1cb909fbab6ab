"""Chats: lists of messages in place of a text, put into words by a model's own template."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from wanda_core.errors import InputError, first_line

if TYPE_CHECKING:  # what reads files must not wait for torch
    from wanda_core.model.language_model import LanguageModel

Message = dict[str, Any]  # role, content and what else a template may look at
Chat = list[Message]
Document = str | Chat
# What templates ordinarily read of a message beside its role and content.
READ = (
    *("name", "tool_calls", "tool_call_id", "tool_plan", "tool_responses", "function_call", "weight"),
    *("reasoning_content", "reasoning", "thinking"),
)
MOST_READ = 2**16  # characters of such a list or object, as JSON; a text of these has no bound
MOST_OTHERS = 1024  # characters of all else of a message together, which a template may read as well
MOST_DEPTH = 50  # lists and objects within each other
NO_TEXT = b"\xff"  # what the bytes of documents begin with; no text in UTF-8 holds it
ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}  # as data sets call them


def chat_of(value: object) -> Chat | None:
    """Bring messages `{role, content}` or `{from, value}` to the first form; None where these are no messages.

    Of a content in parts the texts are taken; what is null is left out, and what is long and no template's to read.
    Columns of roles and contents are messages too.
    """
    if isinstance(value, Mapping) and value and all(isinstance(part, list) for part in value.values()):
        value = [dict(zip(value, message, strict=False)) for message in zip(*value.values(), strict=False)]
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    chat = []
    for message in value:
        if not isinstance(message, Mapping):
            return None
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if isinstance(content, Sequence) and not isinstance(content, str):
            parts = [part.get("text") for part in content if isinstance(part, Mapping)]
            content = "".join(part for part in parts if isinstance(part, str))
        if not isinstance(role, str) or not (content is None or isinstance(content, str)):
            return None
        chat.append({**_others(message), "role": ROLES.get(role.lower(), role), "content": content or ""})
    return chat


def _others(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a message is kept beside its role and content."""
    taken = ("role", "content", "from", "value")
    others = {key: value for key, value in message.items() if value is not None and key not in taken}
    if _is_short(others, MOST_OTHERS):
        return others
    read = {key: others[key] for key in READ if key in others}
    read = {key: value for key, value in read.items() if isinstance(value, str) or _is_short(value, MOST_READ)}
    more = {key: value for key, value in others.items() if key not in READ}
    return {**read, **more} if _is_short(more, MOST_OTHERS) else read


def _is_short(value: object, most: int) -> bool:
    """Whether a value has so many characters at most, as JSON, and little depth; no more of it is looked at."""
    waiting: list[Iterator[Any]] = [iter((value,))]
    while waiting and most >= 0 and len(waiting) <= MOST_DEPTH:
        part = next(waiting[-1], waiting)
        if part is waiting:
            waiting.pop()
            continue
        most -= len(part) + 2 if isinstance(part, (str, bytes)) else 2
        if isinstance(part, Mapping):
            waiting.append(chain.from_iterable(part.items()))
        elif isinstance(part, (list, tuple)):
            waiting.append(iter(part))
    return not waiting and most >= 0


def bytes_of(text: str | Sequence[Document]) -> bytes:
    """Write a text in UTF-8, or documents, as bytes, so that two with the same bytes are the same."""
    if isinstance(text, str):
        return text.encode(errors="surrogatepass")
    return NO_TEXT + json.dumps(text, default=str, ensure_ascii=False).encode(errors="surrogatepass")


def from_bytes(data: bytes) -> str | list[Document]:
    """Return the text, or the documents, that were written by `bytes_of`."""
    if not data.startswith(NO_TEXT):
        return data.decode(errors="surrogatepass")
    documents: list[Document] = json.loads(data[len(NO_TEXT) :].decode(errors="surrogatepass"))
    return documents


def fingerprint_of(text: str | Sequence[Document]) -> str:
    """Return the first 16 digits of the sha256 of a text in UTF-8, or of documents: to be shown and compared."""
    return hashlib.sha256(bytes_of(text)).hexdigest()[:16]


def digest_of(data: bytes) -> str:
    """Return the name of a calibration text: 32 digits of the sha256 of its `bytes_of`, since no two may share one."""
    return hashlib.sha256(data).hexdigest()[:32]


def joined_tokens(lm: "LanguageModel", given: str | Sequence[Document]) -> list[int]:
    """Cut a text into tokens, or documents joined by blank lines. Chats bring their own special tokens."""
    documents = [given] if isinstance(given, str) else checked_documents(given)
    texts = [document if isinstance(document, str) else in_words(lm, document) for document in documents]
    return lm.encode("\n\n".join(texts), special=all(isinstance(document, str) for document in documents))


def checked_documents(given: object) -> Sequence[Document]:
    """Return documents as they are. Raises InputError for what is no list of any."""
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes, bytearray)):
        raise InputError(
            f"the text is {type(given).__name__} and must be a string, a Path or a list of documents; decode or read "
            "it first"
        )
    return given


def in_words(lm: "LanguageModel", given: object) -> str:
    """Put a chat into the model's template.

    Raises InputError for what is no chat, a model without a template, and a chat that its template does not take.
    """
    chat = chat_of(given)
    if chat is None:
        raise InputError(
            f"a document of the text is {type(given).__name__} and neither a string nor messages with role and "
            "content; give one of them"
        )
    if not lm.tokenizer.chat_template:
        raise InputError(
            f"the text holds chats, and {lm.title} has no chat template to put them into words; choose a model that "
            "has one, or name a column of text (--column)"
        )
    from wanda_core.model.chat_template import TemplateError, in_template

    try:
        return in_template(lm.tokenizer, chat)
    except (TemplateError, ValueError) as error:  # a template is a program of the model's author
        roles = ", ".join(message["role"] for message in chat[:6])
        raise InputError(
            f"the chat template of {lm.title} does not take a chat of {roles} ({first_line(error)}); leave such chats "
            "out, or name a column of text (--column)"
        ) from error
