"""Changing what a model's folder says in one of its files of JSON."""

import json


def configure(folder, file="config.json", **fields):
    """Set fields of a file, which begins empty where there is none."""
    path = folder / file
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | fields))
