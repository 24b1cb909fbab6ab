"""Runs for tests of what is taken away: small ones of the format that `wanda-lab sweep` writes, and hostile texts."""

from wanda_core.report.keys import Key
from wanda_core.report.run import FORMAT, Run, recipe_of

PROMPT = "What is the capital of France?"
DRAWN = {"source": "built-in text", "samples": 16, "seq_len": 256, "seed": 0, "fingerprint": "a" * 64, "seconds": 1.5}
MADE = {
    "date": "2026-01-31",
    "model": "owner/other-model",
    "name": "owner/other-model",
    "revision": "0123456789abcdef",
    "parameters": 1_234_567,
    "prunable": 1_000_000,
    "versions": {"wanda": "0.2.0", "torch": "2.9.0", "transformers": "5.16.0"},
    "calibration": DRAWN,
    "windows": 4,
    "agreement_windows": 1,
    "seq_len": 512,
    "eval": "f" * 16,
    "answer_tokens": 8,
}
# What a text can be that is to be shown as it stands.
HOSTILE = (
    "<script>window.canary=1</script>",
    "</script><script>window.canary=1</script>",
    "</ScRiPt ><img src=x onerror=window.canary=1>",
    "<!--<script>window.canary=1",
    "--><svg onload=window.canary=1>",
    "]]><script>window.canary=1</script>",
    "</title><script>window.canary=1</script>",
    "</style><script>window.canary=1</script>",
    '"><img src=x onerror=window.canary=1>',
    "' onmouseover='window.canary=1",
    "javascript:window.canary=1",
    "${window.canary=1}",
    "{{window.canary=1}}",
    "{model} {at} {key}",
    "$& $1 $` $' $$",
    "\\u003cscript\\u003ewindow.canary=1\\u003c/script\\u003e",
    "&lt;script&gt; &#60; &amp;",
    "\u202eevil\u202c \u2066rtl\u2069 \u200f",
    "line\u2028separator\u2029paragraph",
    "null\x00byte and \x1b[31mescape",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 \U0001f600",
    "가나다 ऀ العربية ไทย",
    "(a+)+$ [",
    "=1+1|cmd",
    "a" * 100_000,
    "blanks   \t and \n line ends",
)
SHORT = [text for text in HOSTILE if len(text) < 1000]
LONG = [text for text in HOSTILE if len(text) >= 1000]


def line(key: str, at: list, perplexity: list, **more) -> dict:
    """A line; what is not given is as good as it may be."""
    count = len(at)
    values = {"top1": [0.5] * count, "kl": [0.25] * count, "seconds": [1.25] * count}
    start = {"key": key, "recipe": recipe_of(Key.parse(key)), "calibration": None}
    return {**start, "at": at, "perplexity": perplexity, **values, **more}


def answer(text: str) -> dict:
    """An answer of which every blank begins a token."""
    pieces = [piece if i == 0 else f" {piece}" for i, piece in enumerate(text.split(" "))]
    return {"t": pieces, "p": [50] * len(pieces)}


def small(**changes) -> Run:
    """A run of another model than the built-in one, without pictures; two lines, one prompt."""
    lines = [
        line("wanda", [0, 20, 40, 60], [20.0, 21.5, 30.25, 200.0]),
        line("magnitude", [0, 20, 40, 60], [20.0, 25.0, 123.45, 9876.5]),
    ]
    answers = {
        "dense": [answer("It is Paris.")],
        "wanda@20": [answer("It is Paris.")],
        "wanda@40": [answer("It was Paris.")],
        "wanda@60": [answer("Is is is")],
        "magnitude@20": [answer("It is Paris.")],
        "magnitude@40": [answer("No no")],
        "magnitude@60": [None],
    }
    whole = {"format": FORMAT, "made": MADE, "dense": {"perplexity": 20.0}, "lines": lines}
    return {**whole, "prompts": [{"text": PROMPT, "word": "Paris"}], "answers": answers, **changes}


def bare() -> Run:
    """A run of one line with one point, which nobody asked anything."""
    return small(lines=[line("wanda,pattern=2:4", [50], [321.5])], prompts=[], answers={})


def hostile(*texts: str) -> Run:
    """A run whose every text is one that would like to be something else, or all of them."""
    run, text = small(), " ".join(texts)
    drawn = {**DRAWN, "source": text, "fingerprint": text}
    named = dict.fromkeys(("model", "name", "revision", "date", "eval"), text)
    run["made"] = {**MADE, **named, "calibration": drawn, "versions": {"wanda": text, **{each: each for each in texts}}}
    run["prompts"] = [{"text": each, "word": each, "id": each} for each in texts]
    run["answers"] = {name: [{"t": [each, f" {each}"], "p": [1, 2]} for each in texts] for name in run["answers"]}
    run["lines"][0]["recipe"] = {**run["lines"][0]["recipe"], "method": text, "solver": {text: text}, "update": text}
    run["lines"][1]["calibration"] = drawn
    run["lines"] += [{**run["lines"][1], "key": each, "recipe": {"method": each}} for each in texts]
    run["repeat"] = [{"key": each, "title": each, "command": each, "python": each} for each in texts]
    run["shown"] = {"at": 40, "keys": ["wanda", "magnitude", *texts], "prompt": texts[0]}
    return {**run, **{each: each for each in texts if each not in run}}


def long(text: str) -> Run:
    """A run with one text of great length for each kind of its texts, so that it still fits a page."""
    shown = {"at": 40, "keys": ["wanda"], "prompt": text}
    answers = {"dense": [{"t": [text], "p": [1]}], "wanda@40": [{"t": ["a", text], "p": [1, 2]}]}
    told = {"key": "wanda", "title": text, "command": text, "python": ""}
    return small(made={**MADE, "model": text}, prompts=[{"text": text}], answers=answers, repeat=[told], shown=shown)
