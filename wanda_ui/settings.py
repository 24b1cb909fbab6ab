"""Settings of a server: what the page may be asked for, read once from the environment and never changed."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wanda_core.checks import MAX_SAMPLES
from wanda_core.errors import InputError
from wanda_core.model import builtin

PINNED = re.compile(r"(?P<name>[\w.-]{1,96}/[\w.-]{1,96})@(?P<commit>[0-9a-f]{40})")
MEGABYTE, GIGABYTE = 2**20, 10**9


@dataclass(frozen=True)
class Settings:
    """What one server allows. Made by `from_environment`; as it stands, the settings of a page on one's own machine.

    public: whether strangers use it; models: name -> commit of the models that may be chosen beside the built-in one,
    None for any; samples: windows of calibration text; tokens: samples × length; prompt_characters: of any text box;
    upload_bytes: of one upload; jobs_waiting: in the queue; jobs_a_minute: of one address,
    0 without limit; events_each: that one address has waiting or running at once, 0 without limit; trusted_header: name
    of the header in which a proxy puts the visitor's address, None to take the connection's own; variant_bytes: memory
    for pruned variants that are kept; tools: whether programs and assistants of this machine may use it by name;
    one_address: whether a proxy hides the visitors' addresses, so that browsers are told apart instead.
    """

    public: bool = False
    models: Mapping[str, str] | None = None
    samples: int = MAX_SAMPLES
    tokens: int = 64 * 1024
    prompt_characters: int = 50_000
    upload_bytes: int = 8 * MEGABYTE
    jobs_waiting: int = 20
    jobs_a_minute: int = 0
    events_each: int = 0
    trusted_header: str | None = None
    variant_bytes: int = 1_200_000_000
    tools: bool = False
    one_address: bool = False

    @property
    def local_folders(self) -> bool:
        """Whether a model may be a folder of this machine: only where its owner sits before the page."""
        return not self.public

    def allows(self, name: str) -> bool:
        """Whether a model may be chosen."""
        return name == builtin.NAME or self.models is None or name in self.models

    def commit(self, name: str) -> str | None:
        """Return the commit that a listed model is pinned to, None where the newest may be taken."""
        return (self.models or {}).get(name)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings. Raises InputError, one sentence, for a value that breaks its rule, also for tools that a
        public server was to offer."""
        public = _switch("WANDA_PUBLIC", environ.get("WANDA_PUBLIC", "")) or bool(environ.get("SPACE_ID"))
        start = PUBLIC if public else cls()
        given: dict[str, Any] = {}
        for setting in SETTINGS:
            text = environ.get(setting.variable, "").strip()
            if setting.field != "public" and text:
                given[setting.field] = setting.read(setting.variable, text)
        if environ.get("SPACE_ID") and "trusted_header" not in given:  # all visitors come from the Space's own proxy
            given.setdefault("jobs_a_minute", 0)
            given["one_address"] = True
        settings = cls(**{**vars(start), **given})
        if settings.tools and settings.public:
            raise InputError(
                "WANDA_TOOLS is 1 and this server is public, and tools are for programs of its owner; leave --tools "
                "and WANDA_TOOLS out, or serve a page of your own without WANDA_PUBLIC and --lan"
            )
        return settings


@dataclass(frozen=True)
class Setting:
    """One line of the table. read(variable, text) -> value, raises InputError; own, public: the defaults in words."""

    variable: str
    field: str
    read: Callable[[str, str], Any]
    own: str
    public: str
    reason: str


def _switch(variable: str, text: str) -> bool:
    """Read 1 or 0; nothing is 0."""
    if text.strip() not in ("", "0", "1"):
        raise InputError(f"{variable} is {text[:40]!r} and must be 1 or 0; set it to 1 for a page that strangers use")
    return text.strip() == "1"


def _whole(least: int, most: int, unit: int = 1) -> Callable[[str, str], int]:
    """Make the reader of a number from `least` to `most` of some unit."""

    def read(variable: str, text: str) -> int:
        number = float(text) if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,6})?", text) else -1.0
        if not least <= number <= most or (unit == 1 and not number.is_integer()):
            kind = "whole number" if unit == 1 else "number"
            raise InputError(f"{variable} is {text[:40]!r} and must be a {kind} from {least:,} to {most:,}; change it")
        return int(number * unit)

    return read


def _models(variable: str, text: str) -> dict[str, str]:
    """Read the list of allowed models, each with the commit it is pinned to."""
    models: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        if part == builtin.NAME:
            continue
        pinned = PINNED.fullmatch(part)
        if pinned is None:
            raise InputError(
                f"{variable} lists {part[:120]!r}, and every model needs the commit that is meant; "
                "write it as org/name@ and the commit's 40 hex digits"
            )
        models[pinned["name"]] = pinned["commit"]
    return models


def _header(variable: str, text: str) -> str:
    """Read the name of a header."""
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", text):
        raise InputError(f"{variable} is {text[:40]!r}, which is no name of a header; try X-Forwarded-For")
    return text.lower()


PUBLIC = Settings(
    public=True,
    models={},
    samples=128,
    tokens=16 * 1024,
    prompt_characters=4_000,
    upload_bytes=2 * MEGABYTE,
    jobs_a_minute=60,
    events_each=20,
)

SETTINGS = (
    Setting(
        "WANDA_PUBLIC",
        "public",
        _switch,
        "0",
        "1",
        "1 for a page that strangers use: no local folders, no checkpoints to take, and the defaults on the right; a "
        "Space is public by itself",
    ),
    Setting(
        "WANDA_MODELS",
        "models",
        _models,
        "any",
        "the built-in one",
        "Models beside the built-in one, `org/name@commit` with commas between them: pinned, so that what strangers "
        "run is what was looked at",
    ),
    Setting(
        "WANDA_MAX_SAMPLES",
        "samples",
        _whole(1, MAX_SAMPLES),
        "4096",
        "128",
        "Windows of calibration text; the paper takes 128",
    ),
    Setting(
        "WANDA_MAX_TOKENS",
        "tokens",
        _whole(2, 2**27),
        "65536",
        "16384",
        "Samples × length of one pruning: what sets how long others wait",
    ),
    Setting(
        "WANDA_MAX_CHARACTERS",
        "prompt_characters",
        _whole(100, 50_000),
        "50000",
        "4000",
        "Characters of a prompt, a sentence or any other box",
    ),
    Setting(
        "WANDA_MAX_UPLOAD_MB",
        "upload_bytes",
        _whole(0, 64, MEGABYTE),
        "8",
        "2",
        "Of one upload, which is one file; it is cut into tokens whole, a second or two a megabyte",
    ),
    Setting(
        "WANDA_MAX_JOBS",
        "jobs_waiting",
        _whole(1, 1000),
        "20",
        "20",
        "Jobs in the queue; at some ten seconds each, the last waits three minutes",
    ),
    Setting(
        "WANDA_JOBS_A_MINUTE",
        "jobs_a_minute",
        _whole(0, 100_000),
        "0",
        "60",
        "Of one address, 0 for no limit; a press of a button is up to three jobs. 0 on a Space, whose visitors all "
        "come from one address, until the header below is set",
    ),
    Setting(
        "WANDA_MAX_EACH",
        "events_each",
        _whole(0, 200),
        "0",
        "20",
        "Events that one address has waiting or running at once, of the 200 that there are, 0 for no limit; of those "
        "that run a model a third of the queue, rounded up, and two of a kind that runs one at a time. On a Space one "
        "browser, until the header below is set",
    ),
    Setting(
        "WANDA_TRUSTED_HEADER",
        "trusted_header",
        _header,
        "none",
        "none",
        "Header in which the proxy in front puts the visitor's address; without it the connection's own counts, since "
        "anybody can send a header",
    ),
    Setting(
        "WANDA_VARIANT_GB",
        "variant_bytes",
        _whole(0, 10_000, GIGABYTE),
        "1.2",
        "1.2",
        "Memory for pruned variants that are kept: two of the built-in model (0.43 GB each) and some room; a fixed "
        "figure, the same on every machine",
    ),
    Setting(
        "WANDA_TOOLS",
        "tools",
        _switch,
        "0",
        "0",
        "1 for tools, by which programs and assistants of this machine use the lab (see *As a tool*); a public server "
        "refuses to start with it",
    ),
)


def table() -> str:
    """Write the settings as README's table."""
    head = "| variable | default | in public | what it is for |\n|---|---|---|---|\n"
    rows = (f"| `{s.variable}` | {s.own} | {s.public} | {s.reason} |" for s in SETTINGS)
    return head + "\n".join(rows)
