"""One form for every name of a model: a table worked out by hand, and what holds for any text."""

import contextlib
import os

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given as each
from hypothesis import strategies as st

from wanda_core.errors import InputError
from wanda_core.model import builtin
from wanda_core.model.names import BUILTIN, hub_id_and_revision, is_path, normal_name, short_name

SHA = "0123456789abcdef0123456789abcdef01234567"
FORMS = {
    # as it is
    "builtin": "builtin",
    "gpt2": "gpt2",
    "Qwen/Qwen2.5-0.5B": "Qwen/Qwen2.5-0.5B",
    "qwen/qwen2.5-0.5b": "qwen/qwen2.5-0.5b",  # only the hub can tell that these are one
    # pasted around
    "  gpt2\r\n": "gpt2",
    "\u200bgpt2\ufeff": "gpt2",
    "\u200e \u2060gpt2\u00a0": "gpt2",
    "'gpt2'": "gpt2",
    '" gpt2 "': "gpt2",
    "“gpt2”": "gpt2",
    "`Qwen/Qwen2.5-0.5B`\n": "Qwen/Qwen2.5-0.5B",
    "<https://hf.co/gpt2>": "gpt2",
    "gpt2/": "gpt2",
    "owner/name/": "owner/name",
    # the built-in model
    "Builtin ": "builtin",
    "BUILTIN": "builtin",
    "'builtin'": "builtin",
    # addresses
    "https://huggingface.co/Qwen/Qwen2.5-0.5B": "Qwen/Qwen2.5-0.5B",
    "http://www.huggingface.co/Qwen/Qwen2.5-0.5B/": "Qwen/Qwen2.5-0.5B",
    "HTTPS://HuggingFace.co/Qwen/Qwen2.5-0.5B": "Qwen/Qwen2.5-0.5B",
    "huggingface.co/Qwen/Qwen2.5-0.5B": "Qwen/Qwen2.5-0.5B",
    "hf.co/gpt2": "gpt2",
    "hf://owner/name": "owner/name",
    "hf://owner/name@v1": "owner/name@v1",
    "https://huggingface.co/gpt2/tree/main": "gpt2",
    "https://huggingface.co/owner/name/tree/main?not-for-all-audiences=true#files": "owner/name",
    "https://huggingface.co/owner/name?library=transformers": "owner/name",
    "https://huggingface.co/owner/name#use": "owner/name",
    "https://huggingface.co/owner/name/blob/main/config.json": "owner/name",
    "https://huggingface.co/owner/name/resolve/main/model.safetensors?download=true": "owner/name",
    "https://huggingface.co/owner/name/discussions/3": "owner/name",
    "https://huggingface.co/owner/name.git": "owner/name",
    "https://me:secret@huggingface.co/owner/name": "owner/name",
    "https://huggingface.co/models/owner/name": "owner/name",
    "https://huggingface.co/api/models/owner/name": "owner/name",
    # revisions
    "owner/name@v1.0": "owner/name@v1.0",
    "gpt2@main": "gpt2",
    f"gpt2@{SHA}": f"gpt2@{SHA}",
    "owner/name@refs/pr/1": "owner/name@refs/pr/1",
    "https://huggingface.co/owner/name/tree/v1.0": "owner/name@v1.0",
    f"https://huggingface.co/owner/name/commit/{SHA}": f"owner/name@{SHA}",
    "https://huggingface.co/owner/name/tree/refs%2Fpr%2F1": "owner/name@refs/pr/1",
    "https://huggingface.co/owner/name/blob/refs/pr/1/config.json": "owner/name@refs/pr/1",
    # paths of another system
    "C:\\models\\x": "C:\\models\\x",
    "C:/models/x": "C:/models/x",
    "\\\\server\\share": "\\\\server\\share",
}
REFUSED = {
    "": "is no name",
    " \u200b\n": "is no name",
    "''": "is no name",
    "a\nb": "has characters inside that no name has",
    "a\tb": "has characters inside that no name has",
    "\0": "has characters inside that no name has",
    "gpt2\ud800": "has characters inside that no name has",
    "a\u2028b": "has characters inside that no name has",
    "x" * 5000: "has more than the 4,096 characters",
    "two words": "nor a valid hub id",
    "-leading": "nor a valid hub id",
    "a..b": "nor a valid hub id",
    "a--b": "nor a valid hub id",
    "a.git": "nor a valid hub id",
    "@!": "nor a valid hub id",
    "@v1": "nor a valid hub id",
    "modèle": "nor a valid hub id",
    "a" * 300: "nor a valid hub id",
    "gpt2@": "no revision of the hub",
    "gpt2@../../x": "no revision of the hub",
    "gpt2@a b": "no revision of the hub",
    "gpt2@v1@v2": "no revision of the hub",
    "https://huggingface.co/datasets/owner/name": "the hub's address of a data set",
    "hf.co/spaces/owner/name": "the hub's address of a Space",
    "https://huggingface.co/collections/owner/name": "the hub's address of a collection",
    "https://huggingface.co": "the hub's address of no model",
    "https://huggingface.co/models?search=llama": "the hub's address of no model",
    "https://huggingface.co/owner/two%20words": "nor a valid hub id",
    "https://github.com/owner/name": "is an address, and not one of the Hugging Face hub",
    "https://huggingface.co.example.com/owner/name": "is an address, and not one of the Hugging Face hub",
    "https://[": "is an address, and not one of the Hugging Face hub",
    "file:///models/x": "is an address, and not one of the Hugging Face hub",
}
PATHS = ["./x", "..", "/models/x", "~/x", "a/b/c", "..\\x", "C:\\x", "C:/x", "\\\\server\\share", ".hidden"]


@pytest.fixture(scope="module", autouse=True)
def in_an_empty_folder(tmp_path_factory):
    """Nothing there bears a name of the tables."""
    with contextlib.chdir(tmp_path_factory.mktemp("empty")):
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, where a test may make others."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("local_folders", [True, False])
def test_a_name_has_one_form(name, local_folders):
    for given in (name, FORMS[name]):
        if is_path(FORMS[name]) and not local_folders:
            with pytest.raises(InputError, match="is a path"):
                normal_name(given, local_folders)
        else:
            assert normal_name(given, local_folders) == FORMS[name]


@pytest.mark.parametrize("name", REFUSED, ids=range(len(REFUSED)))
@pytest.mark.parametrize("local_folders", [True, False])
def test_what_can_be_no_name_is_refused_in_one_short_sentence(name, local_folders):
    with pytest.raises(InputError) as caught:
        normal_name(name, local_folders)
    message = str(caught.value)
    assert REFUSED[name] in message
    assert "a folder" not in message or local_folders
    assert len(message) < 300
    assert message.splitlines() == [message]


@pytest.mark.parametrize(
    "name", [None, 5, True, b"gpt2", ["gpt2"], 10**5000, "x\n" * 3_000_000, ["x" * 10**6] * 9], ids=range(8)
)
def test_what_is_no_text_or_far_too_long_is_refused_without_echoing_it(name):
    with pytest.raises(InputError) as caught:
        normal_name(name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("path", PATHS)
def test_a_public_server_takes_no_paths_and_tells_nothing_of_its_own(path):
    with pytest.raises(InputError, match="is a path, and this server loads hub ids only") as caught:
        normal_name(path, local_folders=False)
    assert os.getcwd() not in str(caught.value)
    assert os.path.expanduser("~") not in str(caught.value)


# Folders


def test_every_name_of_one_folder_has_one_form(here, monkeypatch):
    model = here / "owner" / "name"
    model.mkdir(parents=True)
    (here / "link").symlink_to(model)
    (here / "other").symlink_to(here / "owner")
    monkeypatch.setenv("HOME", str(here))
    names = [
        "owner/name",
        "owner/name/",
        "./owner/name",
        "owner/../owner/name",
        f"/{model}",
        f"{model}//",
        " 'owner/name' ",
    ]
    names += ["~/owner/name", "link", "./link/", "other/name", "https://huggingface.co/owner/name"]
    assert {normal_name(name) for name in names} == {str(model)}
    assert normal_name("link/..") == str(here / "owner")  # as the system reads it
    assert normal_name("owner/name", local_folders=False) == "owner/name"


def test_a_link_that_is_led_elsewhere_is_another_model(here):
    (here / "first").mkdir()
    (here / "second").mkdir()
    (here / "latest").symlink_to("first")
    assert normal_name("latest") == str(here / "first")
    (here / "latest").unlink()
    (here / "latest").symlink_to("second")
    assert normal_name("latest") == str(here / "second")


def test_a_link_that_leads_to_itself_is_a_path_like_any_other(here):
    (here / "loop").symlink_to("loop")
    assert is_path(normal_name("./loop"))


def test_a_path_that_leads_nowhere_is_still_the_one_path(here):
    assert normal_name("./x/../y/") == str(here / "y")
    assert normal_name("a/b/c") == str(here / "a/b/c")


def test_a_path_from_a_folder_that_has_gone_is_refused(monkeypatch):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    for name in ("./model", "./model.gguf"):
        with pytest.raises(InputError, match=rf"model '{name}' is a path from the folder .* which has gone; give the"):
            normal_name(name)
    assert normal_name("/srv/model") == os.path.realpath("/srv/model")


def test_a_folder_goes_before_a_hub_id_but_not_before_the_built_in_model(here):
    for name in ("gpt2", "builtin", "Builtin", "gpt2@v1"):
        (here / name).mkdir()
    assert normal_name("gpt2") == str(here / "gpt2")
    assert normal_name("gpt2@v1") == str(here / "gpt2@v1")
    assert normal_name("builtin") == "builtin"
    assert normal_name("Builtin") == str(here / "Builtin")
    assert normal_name("./builtin") == str(here / "builtin")
    assert normal_name("Builtin", local_folders=False) == "builtin"


def test_a_file_is_no_folder(here):
    (here / "gpt2").touch()
    assert normal_name("gpt2") == "gpt2"


# Titles and parts


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("gpt2", "gpt2"),
        ("owner/name", "name"),
        ("owner/name@v1.0", "name@v1.0"),
        (f"owner/name@{SHA}", "name@0123456"),
        ("owner/name@refs/pr/1", "name@refs/pr/1"),
        ("/models/tiny-llama", "tiny-llama"),
        ("/models/tiny@v1", "tiny@v1"),
        ("/", "/"),
    ],
)
def test_a_title_is_the_models_own_name_with_the_revision_asked_for(name, short):
    assert short_name(name) == short


def test_id_and_revision_are_told_apart():
    assert hub_id_and_revision("owner/name@refs/pr/1") == ("owner/name", "refs/pr/1")
    assert hub_id_and_revision("gpt2") == ("gpt2", None)
    assert builtin.NAME == BUILTIN == "builtin"


# Any text at all

PIECES = st.sampled_from(
    [
        *FORMS,
        *REFUSED,
        *PATHS,
        "/",
        "@",
        "main",
        "tree",
        "%2F",
        "%00",
        "..",
        " ",
        "'",
        "\u200b",
        "~",
        ":",
        "?",
        "#",
        "models",
    ]
)
ANY_NAME = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=5).map("".join), st.lists(PIECES).map("/".join))


@each(ANY_NAME, st.booleans())
def test_a_form_is_its_own_form_and_whatever_has_none_is_refused(name, local_folders):
    with contextlib.suppress(InputError):
        form = normal_name(name, local_folders)
        assert form == normal_name(form, local_folders)
        assert normal_name(f" “{form}”\n", local_folders) == form
        assert local_folders or not is_path(form)
        assert form == BUILTIN or is_path(form) or hub_id_and_revision(form)[0]


@each(st.one_of(st.text("ab.-_/@é ", min_size=1, max_size=12), st.text(max_size=12)))
def test_a_hub_id_is_what_the_hubs_library_takes_for_one(name):
    try:
        form = normal_name(f"hf://{name}", local_folders=False)
    except InputError:
        return
    if form != BUILTIN:
        validate_repo_id(hub_id_and_revision(form)[0])


@each(st.text("abC1.-_/", min_size=1, max_size=12).filter(lambda text: not is_path(text) and text.strip("/") == text))
def test_what_the_hubs_library_takes_for_an_id_is_one(name):
    try:
        validate_repo_id(name)
    except HFValidationError:
        with pytest.raises(InputError, match="nor a valid hub id"):
            normal_name(name, local_folders=False)
    else:
        assert normal_name(name, local_folders=False) == name
