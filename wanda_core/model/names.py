"""The one form of a model's name, which every cache, title and message uses: `builtin`, a folder, or a hub id.

Without torch, so that a name that is none is refused at once.
"""

import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from wanda_core.errors import InputError, shortened
from wanda_core.machine.paths import WINDOWS, bare, looks_like_path

BUILTIN = "builtin"
DEFAULT_REVISION = "main"
LOCAL = "local"  # the revision of every folder, whatever it holds
LONGEST = 4096  # characters; Linux takes no longer path
ROUNDS = 5  # of bringing a name to its form; two suffice but for names made to confuse

SCHEME = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # of two letters or more: C:// is a drive
HUB = re.compile(
    r"(?:https?://(?:[^/?#@]*@)?)?(?:www\.)?(?:huggingface\.co|hf\.co)(?::\d+)?(?=[/?#]|$)|hf://", re.IGNORECASE
)
# As huggingface_hub has it, which would have to be imported first; a test holds the two together.
HUB_ID = re.compile(r"(\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9_](?:[\w.+/-]{0,253}[\w+-])?", re.ASCII)  # branches, tags and commits that are met
COMMIT = re.compile(r"[0-9a-f]{40}")
# First parts of hub addresses that lead to no model, and what they lead to.
OTHER_PAGES = {
    "datasets": "a data set",
    "spaces": "a Space",
    "collections": "a collection",
    "papers": "a paper",
    "docs": "a page of the documentation",
    "blog": "a page of the blog",
    "posts": "a post",
    "kernels": "a kernel",
    "buckets": "a bucket",
    "organizations": "an organisation",
}
# Suffixes of files that are given where a model is meant.
FILES = {
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".onnx", ".msgpack", ".json", ".zip", ".tar"),
    *(".gz", ".zst", ".txt", ".md", ".py", ".jsonl", ".csv", ".tsv", ".parquet"),
}
VIEWS = {"tree", "blob", "resolve", "raw", "commit", "commits"}  # pages of a model, each followed by a revision
OTHER_VIEWS = {"discussions", "edit", "settings"}


def normal_name(name: object, local_folders: bool = True) -> str:
    """Bring what somebody gave as a model's name, or as its path, to its one form; looks what exists, reads nothing.

    The form is `builtin`, the absolute path of a folder, or a GGUF file, with symbolic links followed, `owner/model` or
    `owner/model@revision`; giving it again returns it. What was pasted around a name is left away, an address of the
    hub becomes its id, the revision `main` is no revision. A folder that exists goes before a hub id of that name, yet
    not before `builtin`; what looks like a path is one. Names of the hub that differ in case alone lead to one model
    there, which only the hub can tell: they stay as they are.
    local_folders: whether a path of this machine is accepted. Raises InputError for what can be no name.
    """
    typed = os.path.abspath(os.path.expanduser(name)) if isinstance(name, os.PathLike) else name
    form = _checked(typed, name, local_folders)
    for _ in range(ROUNDS):  # until nothing changes, so that a form is its own form
        again = _checked(_one_round(form, name, local_folders), name, local_folders)
        if again == form:
            return form
        form = again
    raise InputError(f"model {shortened(name)} leads from one name to another; {_remedy(local_folders)}")


def is_path(name: str) -> bool:
    """Tell whether a name in its form, or as typed, is that of a folder for its looks alone."""
    before_revision = name.partition("@")[0]
    return looks_like_path(name) or before_revision.count("/") > 1


def is_gguf(name: str) -> bool:
    """Tell whether a name is that of a GGUF file on this machine, which holds a whole model."""
    try:
        return name.lower().endswith(".gguf") and os.path.isfile(os.path.expanduser(name))
    except (OSError, ValueError):
        return False


def hub_id_and_revision(name: str) -> tuple[str, str | None]:
    """Split a hub model's name, in its form, into its id and its revision, None where the default is meant."""
    hub_id, _, revision = name.partition("@")
    return hub_id, revision or None


def short_name(name: str) -> str:
    """Return the part of a name, in its form, that people know the model by: `model@revision`, or the folder's name.

    A commit is cut to its first seven characters, as Git shows it.
    """
    if is_path(name):
        return Path(name).name or name
    hub_id, revision = hub_id_and_revision(name)
    model = hub_id.rpartition("/")[2]
    return f"{model}@{revision[:7] if COMMIT.fullmatch(revision) else revision}" if revision else model


def _remedy(local_folders: bool) -> str:
    return f"give 'builtin'{', a folder' if local_folders else ''} or a hub id such as HuggingFaceTB/SmolLM2-360M"


def _checked(text: object, given: object, local_folders: bool) -> str:
    """Return a name without what was pasted around it. Raises InputError for what can be no name.

    given: what messages show.
    """
    remedy = _remedy(local_folders)
    if not isinstance(text, str):
        raise InputError(f"model {shortened(given)} is no name; {remedy}")
    if len(text) > LONGEST:
        raise InputError(f"model {shortened(given)} has more than the {LONGEST:,} characters of a name; {remedy}")
    name = bare(str(text))
    if not name:
        raise InputError(f"model {shortened(given)} is no name; {remedy}")
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name):
        raise InputError(
            f"model {shortened(given)} has characters inside that no name has (line ends, tabs, control characters or "
            f"halves of a character); {remedy}"
        )
    return name


def _one_round(text: str, given: object, local_folders: bool) -> str:
    """Bring a bare name nearer to its form."""
    if text == BUILTIN:
        return text
    is_folder = local_folders and (_is_folder(text) or _is_file(text))
    address = HUB.match(text)
    if address and not is_folder:
        return _of_address(text[address.end() :], given, local_folders)
    if SCHEME.match(text):
        raise InputError(
            f"model {shortened(given)} is an address, and not one of the Hugging Face hub; {_remedy(local_folders)}"
        )
    without_slash = text.rstrip("/") or text
    if is_folder or is_path(without_slash):
        return _of_path(text, given, is_folder, local_folders)
    if text.casefold() == BUILTIN:
        return BUILTIN
    return _of_hub_id(*without_slash.partition("@"), given=given, local_folders=local_folders)


def _is_folder(text: str) -> bool:
    try:
        return os.path.isdir(os.path.expanduser(text))
    except (OSError, ValueError):
        return False


def _is_file(text: str) -> bool:
    """Tell whether this is a file of a kind that no hub id is named like; it is called a file where it is opened."""
    path = os.path.expanduser(text)
    return os.path.splitext(path)[1].lower() in FILES and os.path.isfile(path)


def _of_path(text: str, given: object, is_folder: bool, local_folders: bool) -> str:
    """Return the one path of a folder: two names of it would be two models in a cache.

    Links are followed, since `link/..` lies beside what the link leads to, and a link may lead elsewhere tomorrow.
    """
    if not local_folders:
        raise InputError(f"model {shortened(given)} is a path, and this server loads hub ids only; give a hub id")
    foreign = os.name != "nt" and ("\\" in text or WINDOWS.match(text))
    if foreign and not is_folder:  # a path of Windows: none of this machine's folders is meant
        return text
    path = os.path.expanduser(text)
    folder, file = os.path.split(path)
    # A file keeps its own name, for the hub's cache is full of links to files whose names are hashes.
    try:
        path = os.path.join(os.path.realpath(folder), file) if is_gguf(path) else os.path.realpath(path)
    except FileNotFoundError as error:
        raise InputError(
            f"model {shortened(given)} is a path from the folder that this program was started in, which has gone; "
            "give the whole path"
        ) from error
    return "/" + path.lstrip("/") if path.startswith("//") and os.name != "nt" else path  # POSIX leaves // open


def _of_address(rest: str, given: object, local_folders: bool) -> str:
    """Return the hub id, and the revision, that an address of the hub leads to. rest: what follows the host."""
    parts = [unquote(part) for part in re.split(r"[?#]", rest, maxsplit=1)[0].split("/") if part]
    if parts[:1] == ["api"]:
        parts = parts[1:]
    if parts[:1] == ["models"]:
        parts = parts[1:]
    what = OTHER_PAGES.get(parts[0].lower()) if parts else "no model"
    if what:
        raise InputError(
            f"model {shortened(given)} is the hub's address of {what}; {_remedy(local_folders)}, or the address of a "
            "model's page"
        )
    of_id = 1 if len(parts) == 1 or parts[1] in VIEWS | OTHER_VIEWS else 2
    hub_id, view = "/".join(parts[:of_id]).removesuffix(".git"), parts[of_id:]
    hub_id, at, revision = hub_id.partition("@")
    if len(view) > 1 and view[0] in VIEWS:
        at, revision = "@", "/".join(view[1:4]) if view[1] == "refs" else view[1]  # refs/pr/1 is one revision
    return _of_hub_id(hub_id, at, revision, given=given, local_folders=local_folders)


def _of_hub_id(hub_id: str, at: str, revision: str, *, given: object, local_folders: bool) -> str:
    """Return `hub_id`, or `hub_id@revision` unless that is the default. Raises InputError for what is neither."""
    if not HUB_ID.fullmatch(hub_id) or "--" in hub_id or ".." in hub_id or hub_id.endswith(".git"):
        folder = " nor an existing folder" if local_folders else ""
        raise InputError(
            f"model {shortened(given)} is neither 'builtin'{folder} nor a valid hub id; "
            "a hub id looks like HuggingFaceTB/SmolLM2-360M"
        )
    if at and (not REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise InputError(
            f"model {shortened(given)} has after its @ no revision of the hub, which is a branch, a tag or a commit; "
            "give one, such as owner/model@v1.0, or leave @ out"
        )
    return f"{hub_id}@{revision}" if at and revision != DEFAULT_REVISION else hub_id
