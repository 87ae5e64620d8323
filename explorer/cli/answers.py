"""The part of `eval` about choices and distractors: its figures, and the lines that show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.cli.console import accuracy_text, loss_text, say
from explorer.cli.reports import Choice, Lead, Leads, Share
from explorer.tasks.metric import RULES

if TYPE_CHECKING:
    from explorer.measure.choices import Alternatives
    from explorer.measure.evaluate import Comparison

Measured = tuple["Alternatives", "Alternatives"]  # with the mask, unpruned
_RULES = {"sum": "summed log-probability", "mean": "log-probability per token"}


def choice_figures(comparison: Comparison) -> dict[str, Choice] | None:
    """Choice accuracy by each rule; None without choices."""
    found: dict[str, Choice] = {}
    for rule in RULES:
        test = comparison.choice_test(rule)
        if test is not None:
            found[rule] = {
                "masked": _share(comparison.masked.hits(rule)),
                "baseline": _share(comparison.baseline.hits(rule)),
                "test": {"repaired": test.repaired, "broken": test.broken, "p": test.p},
            }
    return found or None


def lead_figures(masked: Alternatives, baseline: Alternatives, seed: int) -> Leads | None:
    """How far the answer leads the distractor; None without distractors."""
    from explorer.measure.paired import bootstrap_interval

    if not masked.leads:
        return None
    changes = [after - before for after, before in zip(masked.leads, baseline.leads, strict=True)]
    return {
        "masked": _lead(masked),
        "baseline": _lead(baseline),
        "change_interval": list(bootstrap_interval(changes, seed=seed)),
    }


def _share(hits: tuple[bool, ...]) -> Share:
    from explorer.measure.metrics import wilson_interval

    n, found = len(hits), sum(hits)
    return {"n": n, "accuracy": found / n, "accuracy_interval": list(wilson_interval(found, n))}


def _lead(measured: Alternatives) -> Lead:
    found = measured.mean_lead
    ahead = tuple(lead > 0 for lead in measured.leads)
    return {"n": found.n, "value": found.value, "stderr": found.stderr, "ahead": _share(ahead)}


def show_choice(choice: dict[str, Choice], *, pruned: bool) -> None:
    """One line per rule."""
    for rule, one in choice.items():
        line = f"Choice by {_RULES[rule]}: {_share_text(one['baseline'])} unpruned"
        if pruned:
            line += f", {_share_text(one['masked'])} with the mask, McNemar p = {one['test']['p']:.2g}"
        say(line)


def show_lead(leads: Leads, *, pruned: bool) -> None:
    """One line: the mean lead of the answer over the distractor, and how often it is ahead."""
    line = f"Answer leads distractor by {_lead_text(leads['baseline'])} unpruned"
    if pruned:
        low, high = leads["change_interval"]
        line += f", {_lead_text(leads['masked'])} with the mask, change in [{low:+.3f}, {high:+.3f}]"
    say(line)


def _share_text(share: Share) -> str:
    return accuracy_text(share["accuracy"], share["accuracy_interval"], share["n"])


def _lead_text(lead: Lead) -> str:
    return f"{loss_text(lead['value'], lead['stderr'], signed=True)}, ahead in {_share_text(lead['ahead'])},"
