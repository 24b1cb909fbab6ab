"""Figures of attacks, each beside its target: taken while the tests run, printed as one table when they have ended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """line: of the table of reliability; what: was measured; value, most: and its target, in the unit; exact: whether
    the target is met by that value alone."""

    line: str
    what: str
    value: float
    most: float
    unit: str
    exact: bool

    @property
    def met(self) -> bool:
        return self.value == self.most if self.exact else self.value <= self.most

    @property
    def words(self) -> str:
        sign = "" if self.exact else "≤ "
        value, most = f"{self.value:,.4g} {self.unit}".strip(), f"{sign}{self.most:,g} {self.unit}".strip()
        return f"{self.what} | {value} | {most} | {'yes' if self.met else 'NO'}"


class Figures:
    """The figures of a run, in the order in which they were taken."""

    def __init__(self) -> None:
        self.taken: list[Figure] = []

    def at_most(self, line: str, what: str, value: float, most: float, unit: str = "") -> None:
        """Take a figure, and fail where it is above its target."""
        self._take(Figure(line, what, value, most, unit, exact=False))

    def exactly(self, line: str, what: str, value: float, target: float, unit: str = "") -> None:
        """Take a figure, and fail where it is not its target."""
        self._take(Figure(line, what, value, target, unit, exact=True))

    def _take(self, figure: Figure) -> None:
        self.taken.append(figure)
        assert figure.met, f"{figure.line}: {figure.words}"

    def table(self) -> str:
        """Write them as a table, a line of the table of reliability after the other."""
        rows = ["| line | attack | figure | target | met |", "|---|---|---|---|---|"]
        rows += [f"| {figure.line} | {figure.words} |" for figure in self.taken]
        return "\n".join(rows)


ALL = Figures()
