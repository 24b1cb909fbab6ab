"""Names that say a recipe, and that every file system and address takes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.checkpoint.naming import file_stem
from wanda_core.presets import preset
from wanda_core.recipe import PruneSpec


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (PruneSpec("wanda", 0.45), "wanda-45"),
        (PruneSpec("wanda", 0.625, order="one-shot"), "wanda-62.5"),
        (PruneSpec("wanda", pattern="2:4"), "wanda-2-4"),
        (PruneSpec("wanda", 0.5, group="column:128"), "wanda-50-column-128"),
        (PruneSpec("wanda", 0.6, allocation="owl"), "wanda-60-owl"),
        (PruneSpec("wanda", 0.6, allocation="measured"), "wanda-60-measured"),
        (PruneSpec("wanda", 0.5, allocation=(0.4, 0.6)), "wanda-50-by-block"),
        (PruneSpec("wanda", 0.5, update="least-squares"), "wanda-50-least-squares"),
        (PruneSpec("sparsegpt", 0.5), "sparsegpt-50"),
        (PruneSpec("magnitude", 0.0), "magnitude-0"),
        (preset("best", sparsity=0.6), "best-60"),
        (preset("best", pattern="2:4"), "best-2-4"),
        (preset("paper", sparsity=0.5), "wanda-50"),
    ],
)
def test_a_name_says_the_recipe(spec, said):
    assert file_stem("SmolLM2-135M-Instruct", spec) == f"SmolLM2-135M-Instruct-{said}"


@pytest.mark.parametrize(
    ("title", "first"),
    [
        ("model@v1.0", "model-v1.0"),
        ("model@refs/pr/1", "model-refs-pr-1"),
        ("내 모델", "model"),
        ("../../etc", "etc"),
        ('a"; b\r\nc', "a-b-c"),
        ("x" * 500, "x" * 100),
        ("", "model"),
    ],
)
def test_whatever_a_model_is_called(title, first):
    assert file_stem(title, PruneSpec()) == f"{first}-wanda-50"


@given(st.text())
def test_no_title_makes_a_path(title):
    stem = file_stem(title, PruneSpec())
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}", stem)
    assert ".." not in stem
