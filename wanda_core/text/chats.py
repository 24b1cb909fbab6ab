"""Chats: lists of messages in place of a text, put into words by a model's own template."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wanda_core.errors import InputError, first_line

if TYPE_CHECKING:  # what reads files must not wait for torch
    from wanda_core.model.language_model import LanguageModel

Message = dict[str, Any]  # role, content and what else a template may look at
Chat = list[Message]
Document = str | Chat
ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}  # as data sets call them


def chat_of(value: object) -> Chat | None:
    """Bring messages `{role, content}` or `{from, value}` to the first form; None where these are no messages.

    Of a content in parts the texts are taken; what is null is left out. Columns of roles and contents are messages too.
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
        others = {key: kept for key, kept in message.items() if kept is not None and key not in ("from", "value")}
        chat.append({**others, "role": ROLES.get(role.lower(), role), "content": content or ""})
    return chat


def bytes_of(text: str | Sequence[Document]) -> bytes:
    """Write a text or documents as bytes, so that two with the same bytes are the same."""
    return (text if isinstance(text, str) else json.dumps(text, default=str)).encode()


def fingerprint_of(text: str | Sequence[Document]) -> str:
    """Return the first 16 digits of the sha256 of a text in UTF-8, or of documents."""
    return hashlib.sha256(bytes_of(text)).hexdigest()[:16]


def tokens_of(lm: "LanguageModel", document: Document) -> list[int]:
    """Cut a document into tokens, with the special tokens that the tokenizer, or the chat template, puts there."""
    return lm.encode(document) if isinstance(document, str) else lm.encode(in_words(lm, document), special=False)


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
