"""Where zeros and smaller matrices pay: one small, dated table, which README, model cards and the page show."""

from dataclasses import dataclass
from typing import Literal

CHECKED = "2026-11"  # year and month in which the sources were last read

# What a runtime makes of zeros, or of smaller matrices:
# pays - less memory and less time; nothing - as large and as slow as before; dropped - it paid, and the code is gone;
# prototype - it pays where `NEEDS` is met, by an interface that may change.
Use = Literal["pays", "nothing", "dropped", "prototype"]
USES: dict[Use, str] = {"pays": "yes", "nothing": "no", "dropped": "dropped", "prototype": "prototype"}
NEEDS = "an NVIDIA GPU of compute capability ≥ 8.0 and 16-bit weights, which then take 9/16 of their memory"
COLUMNS = ("where", "zeros anywhere", "zeros in 2:4", "smaller matrices", "source")


@dataclass(frozen=True)
class Runtime:
    """What one runtime makes of a pruned model.

    name: of the runtime; scattered: of zeros anywhere; two_of_four: of zeros in the pattern 2:4; smaller: of matrices
    with fewer rows or columns, and of fewer blocks; source: what says so, with its year and month where it has one;
    address: of the source.
    """

    name: str
    scattered: Use
    two_of_four: Use
    smaller: Use
    source: str
    address: str

    @property
    def uses(self) -> tuple[Use, Use, Use]:
        """The three uses, in the order of `COLUMNS`."""
        return self.scattered, self.two_of_four, self.smaller


def _pull(repository: str, number: int, when: str = "") -> tuple[str, str]:
    """Name a pull request that was merged, and its address. when: it was opened, year and month."""
    return f"#{number}{when and ', '}{when}", f"https://github.com/{repository}/pull/{number}"


RUNTIMES = (
    Runtime(
        "PyTorch", "nothing", "prototype", "pays", "torch 2.13", "https://docs.pytorch.org/docs/stable/sparse.html"
    ),
    Runtime("transformers", "nothing", "dropped", "pays", *_pull("huggingface/transformers", 46342, "2026-06")),
    Runtime("vLLM", "nothing", "dropped", "pays", *_pull("vllm-project/vllm", 36799, "2026-03")),
    Runtime(
        "compressed-tensors", "dropped", "dropped", "pays", *_pull("vllm-project/compressed-tensors", 610, "2026-03")
    ),
    Runtime("torchao", "nothing", "dropped", "pays", *_pull("pytorch/ao", 4728, "2026-08")),
    Runtime("TensorRT-LLM", "nothing", "dropped", "pays", *_pull("NVIDIA/TensorRT-LLM", 15918)),
    Runtime(
        "llama.cpp", "nothing", "nothing", "pays", "GGUF", "https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"
    ),
)


def markdown() -> list[str]:
    """Write the table in Markdown, line by line, and what its words mean below it."""
    rows = [
        (runtime.name, *(USES[use] for use in runtime.uses), f"[{runtime.source}]({runtime.address})")
        for runtime in RUNTIMES
    ]
    head, *table = [f"| {' | '.join(row)} |" for row in (COLUMNS, *rows)]
    return [
        head,
        "|---" * len(COLUMNS) + "|",
        *table,
        "",
        f"*No*: as large and as slow as before. *Prototype*: needs {NEEDS}. Sources read {CHECKED}.",
    ]
