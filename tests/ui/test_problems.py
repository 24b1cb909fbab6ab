"""The engine's errors in the reader's language: found by how they are worded, whatever is put in, and all of them."""

import ast
import re
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanda_core.checks import check_whole
from wanda_core.errors import InputError, StorageError
from wanda_core.recipe import PruneSpec
from wanda_ui.language import ENGLISH, LANGUAGES, say, words
from wanda_ui.problems import MOST_CHARACTERS, PART, filled_in, names_only, problem_words, translated, without_folders

ROOT = Path(__file__).resolve().parents[2]
KOREAN = partial(say, "ko")
SENTENCES = [key for key in words("en") if key.startswith("error.") and not key.startswith(PART)]
COVERED = """
    wanda_core/checks.py wanda_core/evaluation/generation.py wanda_core/evaluation/perplexity.py
    wanda_core/evaluation/speed.py
    wanda_core/outliers/ablation.py
    wanda_core/outliers/features.py wanda_core/outliers/interventions.py wanda_core/outliers/massive.py
    wanda_core/model/streams.py wanda_core/outliers/readers.py wanda_core/outliers/sentence.py
    wanda_core/outliers/super_weight.py wanda_core/pruning/linear_pruner.py
    wanda_core/shrinking/blocks.py wanda_core/shrinking/column_cutter.py wanda_core/shrinking/groups.py
    wanda_core/shrinking/heads.py wanda_core/shrinking/shrink.py wanda_core/shrinking/smaller_model.py
    wanda_core/shrinking/spec.py
    wanda_core/checkpoint/atomic_folder.py wanda_core/checkpoint/contents.py wanda_core/checkpoint/manifest.py
    wanda_core/checkpoint/save.py wanda_core/explain/small_piece.py wanda_core/explain/tiles.py
    wanda_core/explain/toy_example.py wanda_core/machine/paths.py wanda_core/model/builtin.py
    wanda_core/model/devices.py wanda_core/model/hub.py wanda_core/model/hub_faults.py
    wanda_core/model/hub_files.py
    wanda_core/model/tokenizer_reading.py wanda_core/model/gguf_conversion.py wanda_core/outliers/run_log.py
    wanda_core/pruning/allocation.py wanda_core/pruning/arrangement.py wanda_core/pruning/count.py
    wanda_core/pruning/one_linear.py wanda_core/pruning/sensitivity.py wanda_core/recipe.py wanda_core/report/keys.py
    wanda_core/report/lesson/consequences.py wanda_core/report/run.py wanda_core/text/corpora.py
    wanda_core/text/documents.py wanda_core/text/json_rows.py wanda_core/text/opening.py wanda_core/text/tables.py
    wanda_core/text/windows.py
    wanda_core/text/files.py wanda_ui/app_state.py wanda_ui/compare/asked.py wanda_ui/compare/tab.py
    wanda_ui/engine/recipe.py wanda_ui/engine/tokens.py wanda_ui/inputs.py
    wanda_ui/outliers/ablation.py wanda_ui/outliers/protection.py wanda_ui/scores/answers.py wanda_ui/scores/linears.py
"""
FOR_PROGRAMS = (  # of these files, said to programs and never to a page
    "take them with channel_means",
    "one sequence is read, (1, L)",
    "has other parameters in another size",  # asked by trying, as the next two
    "is more than the {} blocks",
    "which the smaller model would have",
)


def filled(text: str, value: str = "x7") -> str:
    return re.sub(r"\{\w*\}", value, text)


@pytest.mark.parametrize("key", SENTENCES)
def test_a_sentence_is_found_whatever_is_put_in_and_is_itself_in_english(key):
    names = re.findall(r"\{(\w+)\}", words("en")[key])
    values = {name: f"<{name}>/1;2" for name in names}
    sentence = words("en")[key].format(**values)
    assert translated(sentence, ENGLISH) == sentence
    assert translated(sentence, KOREAN) == words("ko")[key].format(**values)


def raised(path: str) -> list[str]:
    """The sentences of a file's errors, {} for what is put in; those that are put in as a whole are left out."""

    def template(node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(template(part) for part in node.values)
        return "{}"

    tree = ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    calls = (node for node in tree if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args)
    texts = [template(call.args[0]) for call in calls if call.func.id in ("InputError", "ModelError", "StorageError")]
    return [text for text in texts if text != "{}" and not any(words in text for words in FOR_PROGRAMS)]


@pytest.mark.parametrize("path", COVERED.split())
def test_every_error_of_the_files_that_the_page_asks_is_put_into_korean(path):
    sentences = raised(path)
    assert sentences
    left = [text for text in sentences if translated(filled(text), KOREAN) == filled(text)]
    assert left == []


def test_errors_as_the_engine_raises_them_are_read_in_korean():
    with pytest.raises(InputError) as error:
        check_whole("draws", 4, 5, 50)
    assert translated(str(error.value), KOREAN) == (
        "무작위로 뽑는 횟수: 5부터 50까지의 정수가 아니에요(4). 그 범위에서 골라 주세요."
    )
    with pytest.raises(InputError) as error:
        PruneSpec(sparsity=1.5)
    assert translated(str(error.value), KOREAN).startswith("희소도: 0부터 0.95까지의 수가 아니에요(1.5)")


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_not_known_stays_as_it_is(language):
    for sentence in ("somebody's own words", "", "the prompt is empty" * MOST_CHARACTERS):
        assert translated(sentence, partial(say, language)) == sentence


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("'/srv/my rows/runs.jsonl' cannot be read", "'runs.jsonl' cannot be read"),
        ('could not read "/srv/it\'s/x y" (gone)', 'could not read "x y" (gone)'),
        ("written to /srv/.cache/wanda-lab (it's full); free some", "written to wanda-lab (it's full); free some"),
        ("[Errno 2] No such file: '/srv/x…/hub/a.json'", "[Errno 2] No such file: 'a.json'"),
        ("read failed:/tmp/gradio/0f/mine.txt, ~/x/y", "read failed:mine.txt, y"),
        (r"'C:\\Users\\me\\x.txt' and C:\Users\me\y", "'x.txt' and y"),
        ("see https://hub.example/a/b: 'owner/model', 1/2 and a / b, '/'", None),
    ],
)
def test_of_paths_the_names_are_left(said, kept):
    assert without_folders(said) == (said if kept is None else kept)


def test_folders_are_left_out_where_strangers_read():
    error = StorageError(
        "the rows in '/srv/lab/runs.jsonl' cannot be read (Input/output error); set WANDA_RUNS to another file"
    )
    assert "'/srv/lab/runs.jsonl'" in problem_words(error, KOREAN)
    token = names_only.set(True)
    try:
        assert problem_words(error, KOREAN).startswith("'runs.jsonl': ")
    finally:
        names_only.reset(token)


PIECES = ("a", "b", "ab", " is ", "aa", "\n")


@given(
    st.lists(st.sampled_from(("", *PIECES)), min_size=1, max_size=5),
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
)
def test_a_sentence_is_divided_as_the_shortest_groups_of_a_pattern_divide_it(texts, sentence):
    names = [f"n{number}" for number in range(len(texts) - 1)]
    pairs = list(zip(names, texts[1:], strict=True))
    pattern = re.escape(texts[0]) + "".join(f"(?P<{name}>.+?){re.escape(text)}" for name, text in pairs)
    found = re.fullmatch(pattern, sentence, re.DOTALL)
    parts = [texts[0], *(part for pair in pairs for part in pair)]
    assert filled_in(sentence, parts) == (found.groupdict() if found else None)


def test_a_sentence_full_of_fixed_parts_is_looked_up_in_no_time():
    """A visitor's names stand in it: tried as patterns, this one took half a second in which nobody else ran."""
    columns = "its columns are " + "stands against  is  channels are chosen and " * 25 + ", of which --column names one"
    sentence = f"{'files of  stands against ' * 8}.csv has no column of text; {columns}"
    translated(sentence, KOREAN)
    begun = time.thread_time()
    assert translated(sentence, KOREAN) != sentence
    assert time.thread_time() - begun < 0.05
