"""The model card shows names that somebody gave as text alone."""

import pytest
from test_runtimes import RECORD

from wanda_core.checkpoint.model_card import card

NAMES = {
    "<img src=x onerror=alert(1)>.txt": "&lt;img src=x onerror=alert(1)&gt;.txt",
    "[a](javascript:alert(1))": r"\[a\](javascript:alert(1))",
    "two\n# lines": "two # lines",
    "`code` *b* & \\": r"\`code\` \*b\* &amp; \\",
    "SmolLM2-360M_v1.0 (mine)": "SmolLM2-360M_v1.0 (mine)",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_text_whatever_it_holds(name):
    read = {"samples": 2, "seq_len": 32, "source": name, "seed": 0}
    training = {"settings": {"steps": 1}, "kl": [1.0, 0.5], "calibration": read, "tokens": 64, "held_out": name}
    base = {"name": name, "title": name, "revision": "local"}
    text = card(RECORD | {"base": base, "calibration": read, "training": training})
    assert f"\n# {NAMES[name]}, pruned: " in text
    assert f"\n- Base model: {NAMES[name]}, a local folder\n" in text
    assert f"2 windows of 32 tokens, {NAMES[name]}, seed 0" in text
    assert f"tokens, {NAMES[name]} (64 tokens in all" in text
    assert f"base model on {NAMES[name]}, which training does not read" in text
