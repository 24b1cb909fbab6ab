"""`LanguageModel`: a model ready to run, with its tokenizer and its linears."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from wanda_core.errors import InputError, shortened
from wanda_core.model import builtin
from wanda_core.model.blocks import BlockWalk, Role
from wanda_core.model.file_state import changed, state_of
from wanda_core.model.linears import Linear, blocks_config, prunable_linears
from wanda_core.model.names import short_name
from wanda_core.model.positions import longest_text
from wanda_core.model.stored_tensors import StoredTensor
from wanda_core.model.streams import side_by_side, stream_count
from wanda_core.model.tokenizer import text_of, token_ids


@dataclass(frozen=True)
class LanguageModel:
    """A model ready to run, with its tokenizer.

    name: in the form of `normal_name` (`builtin`, a folder, a hub id); revision: tells this state of the model from
    others (a hash, a commit, `local`); folder: where its files lie, None for one that was made here; carried: tensors
    of these files that the model does without, by name, which a save hands on unchanged; shrunk: what was removed of
    the model in that folder, step by step, as plain values for records; state: of its files and of the GGUF file that
    these were made of, as they were before any was read, "" where nobody knows.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str
    folder: Path | None = field(default=None, kw_only=True)
    carried: Mapping[str, StoredTensor] = field(default_factory=dict, kw_only=True)
    shrunk: tuple[Mapping[str, Any], ...] = field(default=(), kw_only=True)
    state: tuple[str, str] = field(default=("", ""), kw_only=True)

    def check_unchanged(self) -> None:
        """Raise ModelError where the files were written anew since the model was read, lest a checkpoint be of both."""
        if self.folder is None or not self.state[0]:
            return
        try:
            now = state_of(self.folder)
        except OSError:  # they are gone
            now = ""
        if now != self.state[0]:
            raise changed(self.title)

    @property
    def device(self) -> torch.device:
        """The device that holds the weights; of a model spread over several, the first."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type the weights are stored in."""
        return next(self.model.parameters()).dtype

    @property
    def n_parameters(self) -> int:
        """Number of weights, counting tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @cached_property
    def width(self) -> int:
        """D, what a block's linears read: `hidden_size` of the part that holds the blocks, or the width of an embedded
        token where it tells none. Asked of every block of every sequence, and found once."""
        size = getattr(blocks_config(self.model), "hidden_size", None)
        model = cast(PreTrainedModel, self.model)
        return size if isinstance(size, int) else int(cast(Any, model.get_input_embeddings()).weight.shape[1])

    @property
    def stream_width(self) -> int:
        """S, channels of the residual stream: D, or n · D of a model that carries n streams side by side."""
        return self.width * stream_count(cast(PreTrainedModel, self.model).config.get_text_config())

    @property
    def one_stream(self) -> bool:
        """Whether the columns of what a linear reads are channels of the residual stream; of several streams a block
        makes a mixture before a linear reads."""
        return self.stream_width == self.width

    def stream_of(self, hidden: Tensor) -> Tensor:
        """Lay what a block gives out as the residual stream (B, L, S). Raises ModelError for an unknown shape."""
        return side_by_side(hidden, self.width, self.stream_width // self.width)

    @property
    def title(self) -> str:
        """The name people know the model by; with the revision, where one was asked for."""
        return builtin.TITLE if self.name == builtin.NAME else short_name(self.name)

    @property
    def linears(self) -> list[list[Linear]]:
        """The prunable linears of each decoder block."""
        return prunable_linears(self.model)

    @property
    def all_linears(self) -> list[Linear]:
        """The prunable linears, block after block."""
        return [linear for block in self.linears for linear in block]

    @property
    def kinds(self) -> list[str]:
        """The kinds of linears, such as `self_attn.q_proj`, in the order in which blocks have them."""
        return list(dict.fromkeys(linear.kind for linear in self.all_linears))

    def of_kind(self, kind: str) -> list[Linear]:
        """List the linears of one kind, block after block."""
        return [linear for linear in self.all_linears if linear.kind == kind]

    def linear(self, name: str) -> Linear | None:
        """Find the linear of that full name, None when there is none."""
        return next((linear for linear in self.all_linears if linear.name == name), None)

    def walk(self, role: Role, kept: Sequence[int] | None = None, smaller: nn.Module | None = None) -> BlockWalk:
        """Start a walk through the decoder blocks, one at a time.

        role: its purpose; kept: numbers of the blocks to go through, ascending, None for all; smaller: a model that is
        made of these, each of its blocks from one: what the walk keeps is then of that model.
        """
        return BlockWalk(self.model, kept)

    def lending(self, smaller: nn.Module, kept: Sequence[int]) -> AbstractContextManager[None]:
        """Context manager: let a model be called that shares all its weights. kept: which blocks its own are."""
        return nullcontext()

    def around_blocks(self) -> AbstractContextManager[None]:
        """Context manager: have what stands before and after the blocks in memory, where it always is here."""
        return nullcontext()

    @property
    def longest(self) -> int | None:
        """How many tokens the model has positions for, None where there is no limit."""
        return longest_text(self.model)

    def check_length(self, seq_len: int) -> None:
        """Raise InputError for a window of more tokens than the model has positions for."""
        most = self.longest
        if most is not None and most < seq_len:
            raise InputError(
                f"seq_len {seq_len} is more than the {most} tokens {self.title} can read; choose a smaller one"
            )

    def check_windows(self, ids: Tensor) -> None:
        """Raise InputError for windows, int64 (N, L), that the model cannot read: too long, or of unknown tokens."""
        self.check_length(ids.shape[1])
        self.check_tokens([int(ids.min()), int(ids.max())])

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Raise InputError naming a token that the model has no embedding for."""
        rows = len(cast(Any, self.model).get_input_embeddings().weight)
        if tokens and not 0 <= min(tokens) <= max(tokens) < rows:
            token = next(token for token in tokens if not 0 <= token < rows)
            text = text_of(self.tokenizer, [token], special=True) if 0 <= token < 2**31 else ""
            raise InputError(
                f"the text holds the token {shortened(text)}, whose id is {token}, and the "
                f"embeddings of {self.title} have {rows} rows, 0 to {rows - 1}; leave that token out, or give the "
                "tokenizer and the model that were trained together"
            )

    def decode(self, tokens: Sequence[int]) -> str:
        """Turn token ids into text, without special tokens.

        Spaces stay as the model wrote them, whatever the tokenizer's settings say: a space that is taken away because
        of the token after it would be missing from what was shown before.
        """
        return text_of(self.tokenizer, tokens)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Turn a text into token ids. special: with the special tokens that the tokenizer adds by itself.

        Raises InputError for what is no string, and for a token that the model has no embedding for.
        """
        if not isinstance(text, str):
            raise InputError(f"the text is {type(text).__name__} and must be a string; decode or read it first")
        tokens = token_ids(self.tokenizer, text, special)
        self.check_tokens(tokens)
        return tokens
