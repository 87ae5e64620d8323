"""What is left of a value: its gain, from 0 (removed) to below 1 (scaled)."""


def state_of(gain: float) -> str:
    """What values with a gain are, in words: `removed`, or `scaled to 50 %`."""
    return f"scaled to {100 * gain:.4g} %" if gain else "removed"
