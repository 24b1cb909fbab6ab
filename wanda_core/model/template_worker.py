"""The program that renders chat templates in a process of its own: a template is a stranger's program.

It is started by `chat_template.py`, imports jinja2 alone, reads a request a line and answers each by one line of JSON:
`{"text": …}`, or `{"error": …, "kind": …}`. Its environment is the one that transformers gives templates; a test holds
the two to the same texts. Beyond the sandbox it has a bound on its memory; that on its time is its parent's.
"""

import contextlib
import datetime
import json
import signal
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from wanda_core.machine.answering import asked_lines, say

MOST_MEMORY = 160 * 2**20  # bytes of address space, of which Python itself takes a quarter
MOST_ALONE = 5.0  # seconds at work after which it ends by itself; its parent, where there still is one, ends it before
MOST_ERROR = 2000  # characters of what a template says when it fails
MOST_TEXT = 4 * 10**6  # characters of what a template makes; a prompt has 20,000 at most
REASONING = ("reasoning_content", "thinking", "reasoning")  # names of the same thing; the first is the usual one


class _Generation(Extension):
    """`{% generation %}` marks what the assistant says; the text is that of its body."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        """Return the body alone."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Dict:
    """`dict` of a template, without the class itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """Make a dictionary of keys."""
        return dict.fromkeys(*args, **kwargs)


class _Namespace(Namespace):
    """`namespace` of a template, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, given = args[0], dict(*args[1:], **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no name that begins with an underscore, such as {name!r}")


def _raise(message: str) -> None:
    raise TemplateError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


@lru_cache(maxsize=4)
def _compiled(template: str) -> Template:
    """Compile a template, once for all chats that are put into it."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": _strftime_now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment.from_string(template)


def render(template: str, messages: list[dict[str, Any]], names: dict[str, Any]) -> str:
    """Render a template. names: what else it may use. Raises what the template and jinja2 raise."""
    chat = []
    for message in messages:
        reasoning = next((message[key] for key in REASONING if message.get(key) is not None), None)
        alias = {} if reasoning is None else {"thinking": reasoning}
        last = {} if reasoning is None else {"reasoning_content": reasoning}
        chat.append({**alias, **message, **last})
    given = {"messages": chat, "tools": None, "documents": None, **names}
    text = _compiled(template).render(given)
    if len(text) > MOST_TEXT:
        raise MemoryError(f"it makes {len(text):,} characters")
    return text


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # not on Windows; a lower limit may be set already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def _end_after(seconds: float) -> None:
    """Have this process end after so many seconds, 0 for never: by the system, as no thread of Python's is heard while
    one works out a large number."""
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_REAL, seconds)


def main() -> None:
    """Answer requests until the input ends."""
    _limit_memory()
    for line in asked_lines():
        _end_after(MOST_ALONE)
        try:
            answer = {"text": render(**json.loads(line)) if line.strip() else ""}
        except BaseException as error:
            kind = "security" if isinstance(error, SecurityError) else "template"
            kind = "memory" if isinstance(error, (MemoryError, OverflowError)) else kind
            answer = {"error": str(error)[:MOST_ERROR] or type(error).__name__, "kind": kind}
        try:
            said = json.dumps(answer)
        except MemoryError:
            said = json.dumps({"error": "it makes too long a text", "kind": "memory"})
        _end_after(0)
        say(said)


if __name__ == "__main__":
    main()
