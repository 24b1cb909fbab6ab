"""lm-eval's tasks: a small one of our own is run for real, and every mistake is one sentence."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from lm_eval_task import QUESTIONS, write_task
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

pytest.importorskip("lm_eval", reason="the extra that runs tasks is not installed")

from wanda_core.cli import commands
from wanda_core.errors import InputError, ModelError
from wanda_core.evaluation.lm_eval_tasks import Score, Tasks, scores_of
from wanda_core.model.language_model import LanguageModel


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with one task of three questions."""
    return write_task(tmp_path_factory.mktemp("tasks"))


@torch.no_grad()
def log_likelihood(lm, context: str, choice: str) -> float:
    """log P(choice | context), token by token."""
    before, ids = lm.encode(context), lm.encode(context + choice)
    logits = lm.model(torch.tensor([ids], device=lm.device)).logits[0].log_softmax(dim=-1)
    return sum(float(logits[place - 1, ids[place]]) for place in range(len(before), len(ids)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_task_of_ones_own_is_run_and_scored_as_by_hand(tiny_llama, own):
    scores = Tasks(["colours"], include_path=own, batch_size=2).run(tiny_llama)
    right = [
        max(range(2), key=lambda i: log_likelihood(tiny_llama, q, f" {choices[i]}")) == answer
        for q, choices, answer in QUESTIONS
    ]
    assert [(score.task, score.metric, score.documents, score.shots) for score in scores] == [("colours", "acc", 3, 0)]
    assert scores[0].value == pytest.approx(sum(right) / 3)
    assert scores[0].stderr is not None
    assert 0 <= scores[0].stderr < 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_question_longer_than_the_model_reads_loses_its_start(tokenizer, own):
    from transformers import MptConfig, MptForCausalLM

    model = MptForCausalLM(MptConfig(vocab_size=320, d_model=32, n_layers=1, n_heads=4, max_seq_len=11)).eval()
    lm = LanguageModel(model, tokenizer, "tiny", "local")
    lengths = [len(lm.encode(f"{question} {choice}")) for question, choices, _ in QUESTIONS for choice in choices]
    assert max(lengths) > lm.longest + 1
    assert Tasks(["colours"], include_path=own).run(lm)[0].documents == 3


def run(*arguments: object):
    return CliRunner().invoke(commands.app, ["evaluate", *map(str, arguments)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_command_prints_a_table_or_json(dense, own):
    options = ("--model", dense, "--device", "cpu", "--tasks", "colours", "--include-path", own, "--limit", 2)
    found = json.loads(run(*options, "--json").stdout)
    assert [score["documents"] for score in found["scores"]] == [2]
    assert found["scores"][0]["value"] in (0.0, 0.5, 1.0)
    words = run(*options).stdout
    assert "colours" in words
    assert "acc" in words
    assert "±" in words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            ["--tasks", "hellaswagg"],
            "task 'hellaswagg' is not one of lm-eval's; did you mean hellaswag",
            marks=pytest.mark.long,  # it reads all of lm-eval's own tasks
        ),
        (["--tasks", "colours,"], "a task without a name was asked for"),
        (["--tasks", "colours", "--limit", "0"], "limit 0 is not a whole number"),
        (["--tasks", "colours", "--batch-size", "0"], "batch_size 0 is not a whole number"),
        (["--tasks", "colours", "--include-path", "nowhere"], "include path 'nowhere' is not a folder"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_mistake_is_refused_before_a_model_is_loaded(options, message, monkeypatch):
    monkeypatch.setattr("wanda_core.model.loading.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    result = run(*options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_task_whose_documents_are_missing_is_one_sentence(own, tmp_path):
    (tmp_path / "lost.yaml").write_text(
        (own / "colours.yaml").read_text().replace("colours.jsonl", "lost.jsonl").replace("task: colours", "task: lost")
    )
    with pytest.raises(InputError, match="the tasks lost cannot be read"):
        Tasks(["lost"], include_path=tmp_path)


def test_without_the_extra_the_command_to_install_it_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    result = run("--tasks", "hellaswag")
    assert result.exit_code == 2
    assert "pip install lm_eval" in result.stderr


def test_scores_leave_out_what_is_no_number():
    found = {
        "results": {
            "a": {"alias": "a", "acc,none": 0.5, "acc_stderr,none": 0.1, "f1,strict": 1, "f1_stderr,strict": "N/A"},
            "group": {"alias": " - group", "acc,none": 0.25, "acc_stderr,none": "N/A"},
        },
        "n-samples": {"a": {"original": 9, "effective": 4}},
        "n-shot": {"a": 5},
    }
    assert scores_of(found) == [
        Score("a", "acc", 0.5, 0.1, 4, 5),
        Score("a", "f1 (strict)", 1.0, None, 4, 5),
        Score("group", "acc", 0.25, None, 0, 0),
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_without_begin_and_end_token_is_refused_with_what_to_give_it(tiny_llama, own):
    bare = PreTrainedTokenizerFast(tokenizer_object=tiny_llama.tokenizer.backend_tokenizer)
    lm = replace(tiny_llama, tokenizer=bare)
    with pytest.raises(ModelError) as refused:
        Tasks(["colours"], include_path=own).run(lm)
    assert str(refused.value) == (
        "lm-eval puts a model's begin token before a text, or else its end token, and tiny has neither; give its "
        "tokenizer_config.json a bos_token or an eos_token"
    )
    bare.bos_token = "<end>"
    assert Tasks(["colours"], include_path=own).run(lm)[0].documents == len(QUESTIONS)
    assert (bare.pad_token, len(bare)) == (None, len(tiny_llama.tokenizer))  # lm-eval pads with a token of its own
