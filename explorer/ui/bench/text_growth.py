"""What the mask does to plain text, measured by itself after every change: on a short sample, behind all else."""

from __future__ import annotations

from explorer.core.progress import Progress
from explorer.masks.apply import apply
from explorer.masks.damage import TextDamage
from explorer.measure.perplexity import read_text
from explorer.measure.text_sample import TextSample, draw_text_sample
from explorer.models import View
from explorer.ui.components import words
from explorer.ui.components.painting import BEHIND
from explorer.ui.jobs import cached
from explorer.ui.jobs.runner import Key
from explorer.ui.jobs.work import on_view
from explorer.ui.session import Bench, session


def measured(bench: Bench) -> TextDamage | None:
    """The mask on the sample of the text that comes with the explorer, and without it; None while it is measured."""
    drawn = _sample(bench)
    if drawn is None:
        return None
    if not len(bench.mask):
        return TextDamage(drawn.baseline, drawn.baseline)

    def work(view: View, _: Progress) -> TextDamage:
        apply(view, bench.mask, bench.svds)
        return TextDamage(drawn.measure(view), drawn.baseline)

    key = _growth_key(bench)
    cached.only("text-measuring", key)
    cached.shown_here(key)
    return on_view(bench, key, work, label=f"Measuring {words.chosen(bench.mask)} on plain text", wait=BEHIND)


def failure(bench: Bench) -> str | None:
    """Why there is no figure and will not be one; None while it may still be had."""
    return cached.failure(_sample_key(bench), _growth_key(bench))


def _sample(bench: Bench) -> TextSample | None:
    def work(view: View, progress: Progress) -> TextSample:
        apply(view, bench.mask.without_all(), bench.svds)
        return draw_text_sample(view, read_text(), progress=progress)

    cached.shown_here(_sample_key(bench))
    return on_view(bench, _sample_key(bench), work, label="Choosing a sample of plain text", wait=BEHIND)


def _sample_key(bench: Bench) -> Key:
    return "text-sample", bench.model.as_loaded


def _growth_key(bench: Bench) -> Key:
    return "text-growth", bench.model.as_loaded, bench.mask.digest, session.token()
