"""The live sample: what the mask does to a few examples, measured on every click before anything else.

The sample is drawn once for a model, a task and a split, and is the same for every mask and session
(`explorer.measure.sampling`). Its measurements are urgent jobs; one that a newer mask has outdated is stopped.
"""

from __future__ import annotations

from dataclasses import replace

from explorer.core.progress import Progress
from explorer.masks.apply import apply
from explorer.measure.evaluate import Comparison
from explorer.measure.sampling import Sample, draw_sample
from explorer.models import View
from explorer.ui.components import words
from explorer.ui.components.painting import SOON, Wait
from explorer.ui.jobs.cached import only
from explorer.ui.jobs.runner import Key
from explorer.ui.jobs.work import on_view
from explorer.ui.session import Bench, requests, session


def now(bench: Bench) -> Bench:
    """The bench with the mask as it is now, which callbacks may have changed since the page ran."""
    return replace(bench, mask=session.history(bench.model).mask)


def sample(bench: Bench, wait: Wait = SOON) -> Sample | None:
    """The sample; None while it is drawn."""

    def work(view: View, progress: Progress) -> Sample:
        apply(view, bench.mask.without_all(), bench.svds)
        return draw_sample(view, bench.task, bench.split, limit=bench.eval_limit, progress=progress)

    return on_view(bench, sample_key(bench), work, label="Choosing a live sample", wait=wait)


def sample_key(bench: Bench) -> Key:
    """The job that draws the sample."""
    return "sample", requests.evaluate(requests.by_contents(bench), None)


def comparison(bench: Bench, drawn: Sample, wait: Wait = SOON) -> Comparison | None:
    """The mask on the sample, beside the unpruned model; None while it is measured."""
    if not len(bench.mask):
        return Comparison(drawn.baseline, drawn.baseline)

    def work(view: View, progress: Progress) -> Comparison:
        apply(view, bench.mask, bench.svds)
        return drawn.measure(view, progress)

    key = ("live", requests.evaluate(requests.by_contents(bench), bench.mask), session.token())
    only("live-measuring", key)
    label = f"Measuring {words.chosen(bench.mask)} on {words.count(len(drawn.examples), 'example')}"
    return on_view(bench, key, work, label=label, wait=wait)
