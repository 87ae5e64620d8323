"""On which examples? The measured examples by slice, each as a point, and the task on one slice alone."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from explorer.actions import SliceExamples
from explorer.core.progress import Progress
from explorer.measure.evaluate import Comparison
from explorer.measure.slices import BEFORE, Slice, columns, slices, slices_sentence
from explorer.plots import examples as example_plots
from explorer.plots.examples import ExamplePoint
from explorer.tasks import Example
from explorer.ui.bench import inside
from explorer.ui.components import comparisons, figures, words
from explorer.ui.jobs.cached import compute
from explorer.ui.session import Bench, Setting, Widget, links, requests
from explorer.ui.shell import share, task_choice

MOST_LETTERS = 200
_FLIPS = {
    (False, False): "wrong both times",
    (True, True): "right both times",
    (False, True): "wrong → right",
    (True, False): "right → wrong",
}
_NAMES = {BEFORE: "right or wrong before"}


def draw(bench: Bench, found: Comparison, open_in: tuple[Widget[str], str]) -> None:
    """The slices as a table, the examples as points, and what can be done with either.

    Args:
        bench: what the page works on.
        found: the mask on all of the bench's examples, beside the unpruned model.
        open_in: the row of tabs, and the label of the one that shows an example.
    """
    examples = bench.task.split(bench.split, bench.eval_limit)
    by = _choose(bench, examples)

    def work(progress: Progress) -> tuple[Slice, ...]:
        return slices(found, examples, by, seed=bench.task.seed)

    known = hash(tuple(one.columns for one in examples))  # the task's digest says nothing of these
    made = compute(("slices", request(requests.by_contents(bench), by), known, found.masked.metric), "Slicing", work)
    if made is None:
        return
    st.markdown(words.literal(slices_sentence(made, by)))
    table, plot = st.columns([3, 2])
    with table:
        chosen = _table(made)
        _alone(bench, chosen)
    with plot:
        _points(found, examples, chosen, open_in=open_in)


def request(setting: Setting, by: str) -> SliceExamples:
    """The mask on the bench's examples, by a column or a condition."""
    return SliceExamples(model=setting.model, **setting.measured, mask=setting.mask(setting.bench.mask), by=by)


def _choose(bench: Bench, examples: Sequence[Example]) -> str:
    """What slices are made by: a column, or a text in the prompt."""
    offered = columns(examples)
    left, middle, right = st.columns([2, 2, 1], vertical_alignment="bottom")
    linked = links.restore("slice-by", offered[0], links.one_of(offered), key=f"slice-by-{'-'.join(offered)}")
    by = linked.draw(
        left.selectbox, "Slice by", offered, format_func=lambda one: _NAMES.get(one, one),
        help="length: letters of the prompt. Columns of numbers are cut at quantiles, of texts the most frequent are "
        "shown. Further columns of a task file can be sliced by, too.",
    )  # fmt: skip
    text = links.restore("slice-text", "", links.text_up_to(MOST_LETTERS), key="slice-text").draw(
        middle.text_input, "or by a text in the prompt", max_chars=MOST_LETTERS, placeholder="such as not",
        help="Two slices: the prompts that contain it, in capital letters or small ones, and the others.",
    )  # fmt: skip
    asked = f"prompt~{text.strip()}" if text.strip() else by
    with right:
        share.copy("slices", bench, lambda setting: [request(setting, asked)])
    return asked


def _table(made: Sequence[Slice]) -> Slice | None:
    """The slices; gives the one whose row is selected."""
    rows: list[dict[str, object]] = []
    for one in made:
        row: dict[str, object] = {"slice": one.name, "n": one.n}
        for side, figures_of in (("unpruned", one.baseline), ("masked", one.masked)):
            low, high = figures_of["accuracy_interval"]
            shares = (("accuracy", figures_of["accuracy"]), ("low", low), ("high", high))
            row |= {f"{side} {name}": 100 * share for name, share in shares}
        low, high = one.loss_change["interval"]
        row |= {"repaired": one.repaired, "broken": one.broken, "p": one.p, "p, Holm": one.p_holm}
        rows.append(row | {"loss change": one.loss_change["value"], "loss low": low, "loss high": high})
    place = comparisons.choose(rows, f"slices-{hash(tuple(one.name for one in made))}")
    return None if place is None or place >= len(made) else made[place]


def _alone(bench: Bench, chosen: Slice | None) -> None:
    """Work on one slice alone, or on all examples again."""
    only = bench.task.cases.only
    with st.container(horizontal=True, vertical_alignment="center"):
        clicked = st.button(
            "Work on this slice alone" if chosen is None else f"Only {words.one_line(chosen.only or chosen.name)[:40]}",
            key="slice-alone", icon=":material/filter_alt:", disabled=chosen is None or chosen.only is None,
            on_click=task_choice.work_on_slice, args=("" if chosen is None else chosen.only or "",),
            help="Select a row. Then scores, masks and searches are of these examples alone, in every split; the mask "
            "stays. Slices by what was right before are no task.",
        )  # fmt: skip
        if only is not None:
            clicked |= st.button(
                "All examples again", key="slice-all", icon=":material/filter_alt_off:",
                on_click=task_choice.work_on_slice, args=("",), help=f"Now only those with {only}.",
            )  # fmt: skip
    if clicked:
        st.rerun()  # the whole page: this is part of a fragment


def _points(
    found: Comparison, examples: Sequence[Example], chosen: Slice | None, *, open_in: tuple[Widget[str], str]
) -> None:
    """Each example of the slice, or of all, as a point that can be opened."""
    before, after = found.baseline, found.masked
    places = range(found.masked.n) if chosen is None else chosen.places
    points = [
        ExamplePoint(
            str(place), words.one_line(examples[place].prompt + examples[place].answer)[-60:], before.loss[place],
            after=after.loss[place], group=_FLIPS[before.correct[place], after.correct[place]],
        )
        for place in places
    ]  # fmt: skip
    event = figures.draw(
        example_plots.losses(points, list(_FLIPS.values())), "examples", on_select="rerun", selection_mode="points",
        alt="Loss with the mask over loss before, a point per example",
    )  # fmt: skip
    name = figures.selected_id(event) or ""
    place = int(name) if name.isdecimal() and int(name) in places else None
    if st.button(
        "Open an example" if place is None else f"Open {words.one_line(examples[place].prompt)[-40:]}",
        key="slice-open", icon=":material/arrow_outward:", disabled=place is None, on_click=_open,
        args=(place, *open_in), help="Click a point: below the line the mask helps.",
    ):  # fmt: skip
        st.rerun()


def _open(place: int | None, section: Widget[str], inside_tab: str) -> None:
    if place is not None:
        inside.choose_for_good("example")
        Widget[int]("example").put(place)
        section.put(inside_tab)
