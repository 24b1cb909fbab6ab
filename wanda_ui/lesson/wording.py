"""Numbers as the lesson says them: no digit that a learner would stumble over."""

INFINITE = 1e290  # from here on ∞: 1e300 stands for an infinite perplexity, which may be divided by another one


def number(value: float) -> str:
    """Write a perplexity, size or norm: 1.9, 44.3, 778.5, 158,090, ∞."""
    if value >= INFINITE:
        return "∞"
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}").replace("-", "−")


def times(ratio: float, digits: int = 1) -> str:
    """Write how many times something is: 1.3, 21, 4,343, ∞. digits: below ten."""
    if ratio >= INFINITE:
        return "∞"
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.{digits}f}"


def weight(value: float) -> str:
    """Write a weight in two digits: 0.39, −0.011."""
    return f"{value:.2g}".replace("-", "−")
