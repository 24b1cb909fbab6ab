"""Numbers as the lesson says them: no digit that a learner would stumble over."""


def number(value: float) -> str:
    """Write a perplexity, size or norm: 1.9, 44.3, 779, 158,090."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def times(ratio: float, digits: int = 1) -> str:
    """Write how many times something is: 1.3, 21, 4,343. digits: below ten."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.{digits}f}"
