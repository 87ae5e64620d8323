"""What is known by now of what the mask does: on the live sample, on the split, and beside random masks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import streamlit as st

from explorer.attribution import Scores
from explorer.measure.evaluate import Comparison
from explorer.ui.bench import live
from explorer.ui.components import words
from explorer.ui.components.painting import SOON, UNSEEN, Wait
from explorer.ui.jobs import cached, work
from explorer.ui.session import Bench, state


@dataclass(frozen=True)
class _ControlsWanted: ...


@dataclass(frozen=True)
class Measured:
    """What is known of the mask so far.

    Attributes:
        scores: of the bench's matrices.
        sample: the mask on the live sample; None too where the sample is the whole split.
        part: the mask on the first examples of the split, as many as have been measured by now.
        whole: the mask on the whole split.
        controls: accuracies of the default control's masks on the whole split, if they are wanted, once the mask is
            measured.
        problem: why nothing will be measured, if that is so.
    """

    scores: Scores | None
    sample: Comparison | None = None
    part: Comparison | None = None
    whole: Comparison | None = None
    controls: tuple[float, ...] | None = None
    problem: str | None = None

    @property
    def best(self) -> Comparison | None:
        """The split if it is measured, otherwise as much of it as there is beyond the sample, otherwise the sample."""
        known = [one for one in (self.whole, self.part, self.sample) if one is not None]
        return max(known, key=lambda one: one.masked.n, default=None)


def sample_and_split(bench: Bench, wait: Wait = SOON) -> tuple[Comparison | None, Comparison | None]:
    """The mask on the live sample, unless it is the whole split, and on the whole split."""
    drawn = live.sample(bench, wait)
    if drawn is not None and drawn.whole:
        return None, work.comparison(bench, wait)
    sample = None if drawn is None else live.comparison(bench, drawn, wait)
    return sample, work.comparison(bench, replace(wait, seconds=0.0, urgent=False))


def known(bench: Bench, scores: Scores | None, wait: Wait = UNSEEN) -> Measured:
    """What has been measured by now; what has not been is started."""
    sample, whole = sample_and_split(bench, wait)
    part = work.so_far(bench) if whole is None else None
    controls = work.controls(bench, wait) if controlled(bench) else None
    problem = failure(bench) if whole is None else None
    return Measured(scores, sample, part, whole=whole, controls=None if whole is None else controls, problem=problem)


def failure(bench: Bench) -> str | None:
    """Why the mask cannot be measured; None while that may still be had."""
    return work.failure(bench) or cached.failure(live.sample_key(bench))


def controlled(bench: Bench) -> bool:
    """Whether random masks are to be measured, and there is a mask to compare with."""
    return bool(len(bench.mask)) and state.find(_ControlsWanted) is not None


def want_controls() -> None:
    """Have random masks measured from now on, on every change of the mask."""
    state.put(_ControlsWanted())


def line(bench: Bench, found: Measured) -> None:
    """What the mask does in one line, for pages about something else: predicted change and measured accuracy."""
    predicted = None if found.scores is None or not len(bench.mask) else found.scores.predicted(bench.mask)
    text = f"{len(bench.mask):,} {bench.mask.state}" + (
        "" if predicted is None else f", predicted {words.nats(predicted)}"
    )
    if found.best is None:
        text += f". Accuracy, {bench.split}: {'cannot be measured' if failure(bench) else 'measuring'}"
    else:
        now, before = found.best.masked, found.best.baseline
        text += f". {titled(words.accuracy_title(now), bench, found)}: **{words.accuracy(now, bench.total)}**"
        text += f" ({words.beside(now)})" if now.chosen_among else ""
        text += f"; unpruned {words.percent(before.accuracy)}" if len(bench.mask) else ""
    with st.container(key="mask-line", width="content"):
        st.markdown(text.replace(" %", "\u00a0%"))  # a line does not end between them


def titled(what: str, bench: Bench, found: Measured) -> str:
    """What is shown, and on which examples."""
    if found.best is not None and found.best is found.sample:
        return f"{what}, live sample"
    return f"{what}, {bench.split}" + (" so far" if found.best is not None and found.best is found.part else "")
