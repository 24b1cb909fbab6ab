"""A small lm-eval task of our own."""

import json
from pathlib import Path

TASK = """
task: colours
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {file}
  cache_dir: {cache}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
num_fewshot: 0
metric_list:
  - metric: acc
"""
QUESTIONS = [
    ("The sky is", ["blue", "made of stones"], 0),
    ("Rivers carry sand to the", ["station", "sea"], 1),
    ("She counted the stones", ["twice", "noon"], 0),
]


def write_task(folder: Path) -> Path:
    rows = [{"question": q, "choices": choices, "answer": answer} for q, choices, answer in QUESTIONS]
    file = folder / "colours.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    yaml = folder / "yaml"
    yaml.mkdir()
    (yaml / "colours.yaml").write_text(TASK.format(file=file, cache=folder / "cache"))
    return yaml
