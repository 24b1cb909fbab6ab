"""What tells the state of a model's files from another: a folder can be written anew, and so can a GGUF file."""

from pathlib import Path

from wanda_core.errors import ModelError
from wanda_core.model import limits
from wanda_core.model.names import is_gguf


def state_of(folder: Path) -> str:
    """Return what tells this state of the files that a model is read from, for a folder can be written anew. Raises
    OSError where one is not there any more."""
    read = (file for file in folder.iterdir() if file.suffix == ".safetensors" or limits.largest_size(file.name))
    files = {file for file in (*read, *folder.glob("additional_chat_templates/*.jinja")) if file.exists()}
    statuses = [(file.name, file.stat()) for file in sorted(files | {folder / "config.json"})]
    return "|".join(f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in statuses)


def changed(title: str) -> ModelError:
    """Return the error of a model, by its title, whose files are others now than those that were read."""
    return ModelError(f"the files of {title} have changed since it was loaded; load the model again")


def source_of(name: str) -> str:
    """Return what tells this state of the GGUF file that a model's folder is made of, "" where there is none."""
    if not is_gguf(name):
        return ""
    try:
        status = Path(name).stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"
