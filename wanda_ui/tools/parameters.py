"""What a tool is given: its parameters with their types, limits and defaults, told to programs and checked.

One table serves both ways of asking: the JSON Schema that assistants read, and the typed function that Gradio shows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wanda_core.errors import InputError, shortened
from wanda_ui.gate.rules import well_formed
from wanda_ui.inputs import is_number

Kind = Literal["text", "number", "whole", "switch", "recipe", "recipes"]
PYTHON: dict[Kind, Any] = {
    "text": str,
    "number": float,
    "whole": int,
    "switch": bool,
    "recipe": dict[str, Any] | None,
    "recipes": list[dict[str, Any]],
}
JSON: dict[Kind, str] = {"text": "string", "number": "number", "whole": "integer", "switch": "boolean"}
REQUIRED: Any = object()  # the default of what has none
EXAMPLE = '{"method": "wanda", "sparsity": 0.5}'


@dataclass(frozen=True)
class Parameter:
    """One parameter of a tool, or one field of a recipe that is given to it.

    about: what it is, in a sentence; default: REQUIRED where it must be given; low, high: of a number, of a text's
    characters, of a list's length; choices: of a text, none where any may be given; fields: of a recipe.
    """

    name: str
    kind: Kind
    about: str
    default: Any = REQUIRED
    low: float = 0
    high: float = math.inf
    choices: tuple[str, ...] = ()
    fields: tuple["Parameter", ...] = ()

    @property
    def hint(self) -> Any:
        """Type of its values in Python."""
        return PYTHON[self.kind]

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of its values."""
        told: dict[str, Any] = {"description": self.about}
        if self.default is not REQUIRED:
            told["default"] = self.default
        if self.kind in ("recipe", "recipes"):
            fields = {field.name: field.schema for field in self.fields}
            recipe = {"type": "object", "properties": fields, "additionalProperties": False}
            if self.kind == "recipe":
                return {**told, **recipe, "type": ["object", "null"]}
            return {**told, "type": "array", "items": recipe, "minItems": int(self.low), "maxItems": int(self.high)}
        told["type"] = JSON[self.kind]
        if self.choices:
            return {**told, "enum": list(self.choices)}
        if self.kind == "switch":
            return told
        low, high = ("minLength", "maxLength") if self.kind == "text" else ("minimum", "maximum")
        told[low] = self.low
        return told if math.isinf(self.high) else {**told, high: self.high}

    def check(self, value: object) -> Any:
        """Return a value that keeps the rules. Raises InputError, which calls it by its name, for any other."""
        name = self.name
        if self.kind == "recipe":
            return None if value is None else checked(name, value, self.fields)
        if self.kind == "recipes":
            return self._checked_recipes(name, value)
        if self.kind == "switch":
            if not isinstance(value, bool):
                raise InputError(f"{name} {shortened(value)} is neither true nor false; give one of them")
            return value
        return self._checked_text(name, value) if self.kind == "text" else self._checked_number(name, value)

    def _checked_recipes(self, name: str, value: object) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not self.low <= len(value) <= self.high:
            raise InputError(
                f"{name} {shortened(value)} is not a list of {self.low} to {self.high} recipes; give objects such as "
                f"{EXAMPLE}"
            )
        return [checked(f"{name}[{place}]", recipe, self.fields) for place, recipe in enumerate(value)]

    def _checked_text(self, name: str, value: object) -> str:
        if not isinstance(value, str) or not well_formed(value):
            raise InputError(f"{name} {shortened(value)} is no text; give a string")
        if self.choices and value not in self.choices:
            raise InputError(f"{name} {shortened(value)} is not offered; choose one of {', '.join(self.choices)}")
        if not self.low <= len(value) <= self.high:
            remedy = "write some words" if len(value) < self.low else "shorten it"
            raise InputError(
                f"{name} has {len(value):,} characters and {self.low:,} to {self.high:,} are read; {remedy}"
            )
        return value

    def _checked_number(self, name: str, value: object) -> int | float:
        if not is_number(value) or not math.isfinite(value):
            raise InputError(f"{name} {shortened(value)} is no number; give one from {self.low:,} to {self.high:,}")
        if self.kind == "whole" and not float(value).is_integer():
            raise InputError(f"{name} {shortened(value)} is not a whole number; give one such as 16")
        if not self.low <= value <= self.high:
            raise InputError(f"{name} {shortened(value)} is outside {self.low:,} to {self.high:,}; give one within")
        return int(value) if self.kind == "whole" else float(value)


def checked(what: str, given: object, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    """Return the values of all parameters by name, of those that are left out their defaults.

    what: whose they are, for messages. Raises InputError for what is no object, for a name that is none of theirs, for
    one that is missing and for a value that breaks a rule.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{what} {shortened(given)} is no object; give one such as {EXAMPLE}")
    known = {parameter.name: parameter for parameter in parameters}
    for name in given:
        if name not in known:
            raise InputError(f"{what} has no {shortened(name)}; it takes {', '.join(known)}")
    values = {}
    for name, parameter in known.items():
        if name not in given and parameter.default is REQUIRED:
            raise InputError(f"{what} lacks {name!r}: {parameter.about}; give it")
        values[name] = parameter.check(given.get(name, parameter.default))
    return values
