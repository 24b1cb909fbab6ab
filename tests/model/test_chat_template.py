"""Chat templates are strangers' programs: rendered as transformers does, in a process that ends when it must."""

import copy
import time
from contextvars import copy_context
from pathlib import Path

import pytest

from wanda_core.errors import ModelError
from wanda_core.model import chat_template, template_worker
from wanda_core.model.chat_template import EndlessTemplateError, TemplateError, check_template, in_template
from wanda_core.progress import GivenUpError, end_when

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Wie geht's, 별?"},
    {"role": "assistant", "content": "Well.", "thinking": "hm"},
    {"role": "user", "content": "Why?"},
]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture
def with_template(tokenizer):
    def give(template):
        own = copy.deepcopy(tokenizer)
        own.chat_template = template
        return own

    return give


@pytest.mark.parametrize("answer_follows", [True, False])
@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}<{{ m.role }}>{{ m['content'] | trim }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}",
        "{%- for m in messages if m.role != 'system' -%}\n  {{ loop.index0 }}{{ m | tojson(indent=1) }}\n{%- endfor %}",
        "{% for m in messages %}{% if m.thinking %}{{ m.reasoning_content }}{% generation %}{{ m.content }}"
        "{% endgeneration %}{% break %}{% endif %}{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}"
        "{{ dict(a=1).items() | list }}{{ tools is none }}{{ bos_token is defined }}{{ strftime_now('%Y')[:2] }}",
        "{% macro say(m) %}[{{ m.content.split(' ') | join('_') }}]{% endmacro %}{% for m in messages %}{{ say(m) }}"
        "{% endfor %}{{ undefined_thing }}",
    ],
    ids=["plain", "json", "generation", "namespace", "macro"],
)
def test_a_template_makes_the_text_that_transformers_makes(with_template, template, answer_follows):
    own = with_template(template)
    theirs = own.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=answer_follows)
    assert in_template(own, CHAT, answer_follows=answer_follows) == theirs


@pytest.mark.builtin
def test_the_built_in_models_too(builtin_lm):
    theirs = builtin_lm.tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert in_template(builtin_lm.tokenizer, CHAT, answer_follows=True) == theirs


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% if %}", "Expected an expression"),
        ("{{ messages[9].content }}", "no element 9"),
        ("{% include 'x' %}", "no loader"),
    ],
)
def test_a_template_that_fails_says_why_and_is_no_reason_to_refuse_a_model(with_template, template, said):
    with pytest.raises(TemplateError, match=said) as caught:
        in_template(with_template(template), CHAT)
    assert type(caught.value) is TemplateError
    check_template(with_template(template), "owner/model")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (LOOP, "does not end within"),
        ("{{ 9 ** (10 ** 9) }}", "does not end within"),
        ("{{ 'x' * 10 ** 12 }}", "."),
        ("{{ '%1000000000d' % 1 }}", "."),
        ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "."),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.os.system('touch x') }}", "unsafe"),
        ("{{ namespace(__class__=1) }}", "underscore"),
    ],
    ids=["loop", "power", "long", "format", "text", "classes", "globals", "namespace"],
)
def test_a_template_that_goes_too_far_is_ended_and_the_next_one_is_served(with_template, monkeypatch, template, said):
    monkeypatch.setattr(chat_template, "MOST_SECONDS", 1.0)
    begun = time.monotonic()
    with pytest.raises(ModelError, match=f"'owner/model' has a chat template that is not run .*{said}"):
        check_template(with_template(template), "owner/model")
    with pytest.raises(EndlessTemplateError):
        in_template(with_template(template), CHAT)
    assert in_template(with_template("{{ messages | length }}"), CHAT) == "4"
    assert time.monotonic() - begun < 60


def test_the_process_ends_by_itself_after_whoever_ends_it_would_have():
    assert chat_template.MOST_SECONDS < template_worker.MOST_ALONE < 2 * chat_template.MOST_SECONDS


def test_a_template_makes_so_many_letters_of_its_own_and_of_each_of_the_messages(with_template):
    most = chat_template.MORE_LETTERS + 20 * len('[{"content": "12345"}]')
    for letters in (most, most + 1):
        own = with_template(f"{{{{ 'x' * {letters} }}}}")
        if letters == most:
            assert len(in_template(own, [{"content": "12345"}])) == most
        else:
            with pytest.raises(EndlessTemplateError, match="it makes 100,441 letters, and at most 100,440 are read"):
                in_template(own, [{"content": "12345"}])


def test_who_leaves_waits_for_no_template_and_nobody_else_does(with_template):
    assert in_template(with_template("{{ messages | length }}"), CHAT) == "4"
    begun = time.monotonic()

    def leave():
        end_when(lambda: time.monotonic() > begun + 0.3)
        in_template(with_template(LOOP), CHAT)

    with pytest.raises(GivenUpError):
        copy_context().run(leave)
    assert in_template(with_template("{{ messages | length }}"), CHAT) == "4"
    assert time.monotonic() - begun < 2


def test_a_process_that_was_ended_from_outside_is_started_anew(with_template):
    own = with_template("{{ messages[0].role }}")
    assert in_template(own, CHAT) == "system"
    chat_template._worker._process.kill()
    chat_template._worker._process.wait()
    assert in_template(own, CHAT) == "system"


def test_the_process_of_templates_knows_no_secret_of_this_one(monkeypatch, with_template):
    for name in ("HF_TOKEN", "HTTPS_PROXY", "WANDA_TRUSTED_HEADER", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")
    chat_template.end_worker()
    assert in_template(with_template("{{ messages[0].content }}"), CHAT) == "Be brief."
    process = chat_template._worker._process
    if Path("/proc/self/environ").exists():
        given = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"secret" not in given
        assert b"PATH=" in given
