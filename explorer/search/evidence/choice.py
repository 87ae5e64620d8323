"""What evidence is asked for beside a mask: nulls, baselines, how its members share the work, how stable it is."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.core.errors import SettingsError

NULL_NAMES = ("shuffled", "rotated", "mean-only")
BASELINE_NAMES = ("bias-only", "lora-1", "scaling", "shots", "chat")
MOST_REPEATS = 50


@dataclass(frozen=True)
class EvidenceChoice:
    """What is measured of a search's mask beyond its controls; nothing by default.

    Attributes:
        nulls: names of `explorer.search.evidence.rivals.NULLS`.
        baselines: names of `explorer.search.evidence.rivals.BASELINES`.
        repeats: how many searches, this one among them, tell how stable the mask is; 1 for this one alone.
        parts: whether its members, other wordings and a second text are measured.

    Raises:
        SettingsError: a name that is not known, or a number of repeats out of range.
    """

    nulls: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    repeats: int = 1
    parts: bool = False

    def __post_init__(self) -> None:
        for what, names, known in (("null", self.nulls, NULL_NAMES), ("baseline", self.baselines, BASELINE_NAMES)):
            if unknown := [name for name in names if name not in known]:
                raise SettingsError(f"{unknown[0][:40]!r} is not a {what}: choose some of {', '.join(known)}, or all.")
        if not 1 <= self.repeats <= MOST_REPEATS:
            raise SettingsError(f"{self.repeats} repeats cannot be made: give 1 to {MOST_REPEATS}.")

    @property
    def any(self) -> bool:
        """Whether anything is asked for."""
        return self.parts or self.repeats > 1 or bool(self.nulls or self.baselines)

    def check_mode(self, mode: str) -> None:
        """Raise SettingsError if a null does not go with how values are removed."""
        if "mean-only" in self.nulls and mode != "freeze":
            raise SettingsError(f"the null mean-only needs frozen means, which the mode {mode} has not: leave it out.")


NO_EVIDENCE = EvidenceChoice()


def as_evidence(
    nulls: str | None = None, baselines: str | None = None, repeats: int = 1, *, parts: bool = False
) -> EvidenceChoice:
    """A choice from options: names with commas between, or `all`; raises SettingsError as `EvidenceChoice` does."""
    return EvidenceChoice(_names(nulls, NULL_NAMES), _names(baselines, BASELINE_NAMES), repeats, parts=parts)


def _names(text: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """Names in the order of the table, each once; unknown ones behind them."""
    if text is None or not text.strip():
        return ()
    if text.strip().lower() == "all":
        return known
    given = dict.fromkeys(one.strip() for one in text.split(","))
    return (*(name for name in known if name in given), *(name for name in given if name not in known))
