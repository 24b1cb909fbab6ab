"""Settings: their defaults, what the environment may say, and the table that README shows."""

import re
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest

from wanda_core.errors import InputError
from wanda_ui import page
from wanda_ui.settings import PUBLIC, SETTINGS, Settings, table
from wanda_ui.tools import assistants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_without_a_word_the_page_is_its_owners():
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.local_folders
    assert settings.allows("anybody/anything")
    assert settings.jobs_a_minute == 0


@pytest.mark.parametrize("environ", [{"WANDA_PUBLIC": "1"}, {"SPACE_ID": "somebody/lab"}])
def test_a_public_page_allows_the_built_in_model_alone_and_less_of_everything(environ):
    settings = Settings.from_environment(environ)
    assert settings == replace(PUBLIC, jobs_a_minute=settings.jobs_a_minute, one_address=settings.one_address)
    assert not settings.local_folders
    assert settings.allows("builtin")
    assert not settings.allows("openai-community/gpt2")
    own = Settings()
    for name in ("samples", "tokens", "prompt_characters", "upload_bytes"):
        assert getattr(settings, name) < getattr(own, name), name


def test_addresses_are_limited_where_they_are_the_visitors_own():
    """On a Space all visitors come from its proxy."""
    public = Settings.from_environment({"WANDA_PUBLIC": "1"})
    assert public.jobs_a_minute == PUBLIC.jobs_a_minute > 0
    space = {"SPACE_ID": "somebody/lab"}
    assert Settings.from_environment(space).jobs_a_minute == 0
    assert Settings.from_environment(space).one_address
    told = space | {"WANDA_TRUSTED_HEADER": "X-Forwarded-For"}
    assert Settings.from_environment(told).jobs_a_minute == PUBLIC.jobs_a_minute
    assert not Settings.from_environment(told).one_address
    assert not public.one_address
    assert Settings.from_environment(space | {"WANDA_JOBS_A_MINUTE": "9"}).jobs_a_minute == 9


def test_what_the_environment_says_goes_before_the_defaults():
    given = {
        "WANDA_PUBLIC": "1",
        "WANDA_MODELS": f" builtin, openai-community/gpt2@{COMMIT} ,",
        "WANDA_MAX_SAMPLES": "64",
        "WANDA_MAX_TOKENS": " 8192 ",
        "WANDA_MAX_CHARACTERS": "1000",
        "WANDA_MAX_UPLOAD_MB": "0.5",
        "WANDA_MAX_JOBS": "5",
        "WANDA_JOBS_A_MINUTE": "0",
        "WANDA_MAX_EACH": "7",
        "WANDA_TRUSTED_HEADER": "X-Real-IP",
        "WANDA_VARIANT_GB": "2.5",
        "WANDA_TOOLS": "0",
    }
    assert set(given) == {setting.variable for setting in SETTINGS}
    assert Settings.from_environment(given) == Settings(
        public=True,
        models={"openai-community/gpt2": COMMIT},
        samples=64,
        tokens=8192,
        prompt_characters=1000,
        upload_bytes=2**19,
        jobs_waiting=5,
        jobs_a_minute=0,
        events_each=7,
        trusted_header="x-real-ip",
        variant_bytes=2_500_000_000,
    )
    assert Settings.from_environment(given).commit("openai-community/gpt2") == COMMIT


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("WANDA_PUBLIC", "yes"),
        ("WANDA_MODELS", "openai-community/gpt2"),
        ("WANDA_MODELS", "openai-community/gpt2@main"),
        ("WANDA_MODELS", f"gpt2@{COMMIT}"),
        ("WANDA_MODELS", f"../../etc@{COMMIT[:-1]}"),
        ("WANDA_MAX_SAMPLES", "0"),
        ("WANDA_MAX_SAMPLES", "1.5"),
        ("WANDA_MAX_TOKENS", "nan"),
        ("WANDA_MAX_CHARACTERS", "-5"),
        ("WANDA_MAX_UPLOAD_MB", "65"),
        ("WANDA_MAX_JOBS", "1e3"),
        ("WANDA_JOBS_A_MINUTE", "x" * 500),
        ("WANDA_TRUSTED_HEADER", "X Real"),
        ("WANDA_VARIANT_GB", "much"),
        ("WANDA_TOOLS", "yes"),
    ],
)
def test_a_value_that_breaks_its_rule_is_one_short_sentence_that_names_the_variable(variable, text):
    with pytest.raises(InputError, match=f"^{variable} .*; ") as refused:
        Settings.from_environment({variable: text})
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("environ", [{"WANDA_PUBLIC": "1"}, {"SPACE_ID": "somebody/lab"}])
def test_tools_are_off_by_default_and_refused_on_a_public_page(environ):
    assert not Settings().tools
    assert Settings.from_environment({"WANDA_TOOLS": "1"}).tools
    with pytest.raises(
        InputError, match=r"^WANDA_TOOLS is 1 and this server is public, .*; leave --tools and WANDA_TO"
    ):
        Settings.from_environment({"WANDA_TOOLS": "1", **environ})


def test_the_switch_of_the_command_is_the_setting_and_asks_for_its_package(monkeypatch):
    monkeypatch.setenv("WANDA_PUBLIC", "1")
    with pytest.raises(SystemExit, match=r"^WANDA_TOOLS is 1 and this server is public"):
        page.serve(tools=True)
    monkeypatch.delenv("WANDA_PUBLIC")
    monkeypatch.setattr(assistants, "PACKAGE", "no_such_package")
    with pytest.raises(
        SystemExit, match=r"^the tools need the package 'no_such_package'.*; run pip install .* --tools"
    ):
        page.serve(tools=True)


def test_a_server_with_a_bad_setting_ends_with_the_sentence(monkeypatch):
    monkeypatch.setenv("WANDA_MODELS", "openai-community/gpt2")
    with pytest.raises(SystemExit, match=r"^WANDA_MODELS lists 'openai-community/gpt2'"):
        page.serve()


def test_nobody_changes_settings_and_each_has_its_line_in_the_table():
    with pytest.raises(FrozenInstanceError):
        Settings().samples = 1
    assert [setting.field for setting in SETTINGS] == [field.name for field in fields(Settings)][
        :-1
    ]  # whose last follows


def test_the_words_of_the_table_are_the_defaults():
    assert {setting.public for setting in SETTINGS if setting.field == "models"} == {"the built-in one"}
    for setting in SETTINGS:
        for words, settings in ((setting.own, Settings()), (setting.public, PUBLIC)):
            if re.fullmatch(r"[\d.]+", words):
                value = getattr(settings, setting.field)
                assert setting.read(setting.variable, words) == value, setting.variable


def test_readme_shows_the_table():
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    assert table() in readme
