"""The table of pruning methods. It holds all that tells one method from another, so that adding one is adding a row.

A method also has a score of the same name in `SCORES` of `maths/scores.py`, unless its mask rule is `sweep`.
"""

from dataclasses import dataclass
from typing import Literal

# Which scores of a group go:
# lowest - the `int(size * share)` lowest;
# at-or-below - the same, but of a whole matrix everything up to and including the value at that place, ties too;
# share-of-sum - of every row the lowest whose sum stays within one share of the row's sum;
# sweep - what SparseGPT's sweep chooses as it updates.
MaskRule = Literal["lowest", "at-or-below", "share-of-sum", "sweep"]
Update = Literal["none", "obs", "least-squares"]


@dataclass(frozen=True)
class Method:
    """One way to choose the weights that go.

    name: in recipes and commands; title: for people, the same in every language; groups: what scores may be compared
    within, the default first; needs_norms: whether the score needs input norms; by_row: whether the scores of a row
    depend on that row alone, so that processes can share the rows between them; mask_rule: which scores of a group go;
    default_update: what becomes of the kept weights unless a recipe says otherwise; formula: the score in the usual
    symbols; citation: the publication and the rule in words, for model cards.
    """

    name: str
    title: str
    groups: tuple[str, ...]
    needs_norms: bool
    by_row: bool
    mask_rule: MaskRule
    default_update: Update
    formula: str
    citation: str
    seeded: bool = False

    @property
    def takes_patterns(self) -> bool:
        """Whether the method can prune N:M: a share of a row's sum sets no count of weights."""
        return self.mask_rule != "share-of-sum"

    @property
    def sweeps(self) -> bool:
        """Whether the mask is chosen by SparseGPT's sweep, which always updates, and not by a score of its own."""
        return self.mask_rule == "sweep"


ANY_GROUP = ("row", "matrix", "column", "row:128", "column:128")

METHODS = {
    method.name: method
    for method in (
        Method(
            name="wanda",
            title="Wanda",
            groups=ANY_GROUP,
            needs_norms=True,
            by_row=True,
            mask_rule="lowest",
            default_update="none",
            formula="|W|·‖X‖₂",
            citation="Wanda (Sun et al., 2023): a weight's score is |W| · ‖X‖₂, its size times the norm of its input",
        ),
        Method(
            name="wanda-variant",
            title="Wanda variant",
            groups=("row",),
            needs_norms=True,
            by_row=False,  # one share of the sum for the whole matrix
            mask_rule="share-of-sum",
            default_update="none",
            formula="|W|·‖X‖₂, of each row up to one share of the row's sum",
            citation="Wanda's variant (Sun et al., 2023): of every output row the lowest |W| · ‖X‖₂, up to one share "
            "of the row's sum",
        ),
        Method(
            name="magnitude",
            title="Magnitude",
            groups=("matrix", "row", "column", "row:128", "column:128", "model"),
            needs_norms=False,
            by_row=True,
            mask_rule="at-or-below",
            default_update="none",
            formula="|W|",
            citation="magnitude: a weight's score is its size |W|",
        ),
        Method(
            name="ria",
            title="RIA",
            groups=ANY_GROUP,
            needs_norms=True,
            by_row=False,  # sums over columns
            mask_rule="lowest",
            default_update="none",
            formula="(|W| / column sum + |W| / row sum)·‖X‖₂^½ (Zhang et al. 2024)",
            citation="RIA (Zhang et al., 2024): relative importance of a weight in its row and column, times ‖X‖₂ to "
            "the ½",
        ),
        Method(
            name="sparsegpt",
            title="SparseGPT",
            groups=("matrix:128",),
            needs_norms=True,
            by_row=True,
            mask_rule="sweep",
            default_update="obs",
            formula="W² / diag(H⁻¹)², the others updated as it goes (Frantar and Alistarh 2023)",
            citation="SparseGPT (Frantar and Alistarh, 2023): weights chosen and the others updated by the inverse "
            "Hessian",
        ),
        Method(
            name="random",
            title="Random",
            groups=ANY_GROUP,
            needs_norms=False,
            by_row=False,  # drawn for the matrix as a whole
            mask_rule="lowest",
            default_update="none",
            formula="for comparison",
            citation="random: for comparison only",
            seeded=True,
        ),
    )
}
