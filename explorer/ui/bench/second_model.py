"""A second model on the Spectra page, such as a fine-tune of the session's: choosing it, its bench, what differs.

Nothing of it is ever masked or changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from explorer.core.errors import MatrixError
from explorer.core.keys import AnyKey
from explorer.core.progress import Progress, track
from explorer.masks.apply import empty_mask
from explorer.models import ViewPool, load
from explorer.spectra.comparison import SpectrumDiff
from explorer.spectra.model_diff import check_both, check_shapes, compare_matrix
from explorer.ui.bench import chart_data
from explorer.ui.components import words
from explorer.ui.components.spectrum_chart import Series
from explorer.ui.jobs import work
from explorer.ui.jobs.cached import compute
from explorer.ui.session import Bench, Widget, links, requests, used_models
from explorer.ui.shell.model_choice import another, here

_AGAINST: Widget[str | None] = Widget("against")


def choose() -> str:
    """The second model's name, or an empty text for none; the URL keeps it."""
    if (asked := links.asked(_AGAINST.key)) is not None:
        _AGAINST.put(asked or None)
    about = "Such as a fine-tune of this model, to see what it changed. It is only looked at."
    name = another("Second model", _AGAINST, placeholder="None: pick or type one", about=about)
    links.keep(_AGAINST.key, name, "")
    return name


def bench_of(bench: Bench, name: str) -> Bench | None:
    """The bench with the second model, unpruned, in place of the session's; None while it cannot be had."""
    base = bench.model.against
    against = None if base is None else base.source.name
    views = _views(name, bench.model.basis, against) if here(name, "-second") else None
    if views is None:
        return None
    return replace(bench, model=views.model, views=views, mask=empty_mask(views.model))


def _views(name: str, basis: str, against: str | None) -> ViewPool | None:
    """Views of the model that the session's own is compared with.

    It is kept apart from those of `loaded`, so that comparing never makes a session load its own model again. A model
    that is held as either is not loaded twice.
    """

    def load_it(progress: Progress) -> ViewPool:
        own = work.held(("model", name, basis, against))
        model = load(name, basis=basis, against=against, progress=progress) if own is None else own
        used_models.note(name)
        return ViewPool(model)

    return compute(("second", name, basis, against), f"Loading {name}", load_it)


@dataclass(frozen=True)
class Common:
    """Which of some matrices both models have (`shared`), and in one shape (`alike`); `problems` says why not."""

    shared: tuple[AnyKey, ...]
    alike: tuple[AnyKey, ...]
    problems: tuple[str, ...]


def common(bench: Bench, other: Bench, keys: Sequence[AnyKey]) -> Common:
    """What of `keys` can be compared."""
    shared, alike, problems = [], [], []
    with bench.views.borrow() as base, other.views.borrow() as second:
        for key in keys:
            try:
                check_both(base, second, key)
                shared.append(key)
                check_shapes(base, second, key)
                alike.append(key)
            except MatrixError as error:
                problems.append(str(error))
    return Common(tuple(shared), tuple(alike), tuple(problems))


def changes(bench: Bench, other: Bench, keys: tuple[AnyKey, ...]) -> dict[AnyKey, SpectrumDiff] | None:
    """What differs between the bench's model and another bench's, in matrices that they have in one shape."""

    def compare(progress: Progress) -> dict[AnyKey, SpectrumDiff]:
        with bench.views.borrow() as base, other.views.borrow() as second:
            return {key: compare_matrix(base, second, key, svds=bench.svds) for key in track(keys, progress)}

    request = requests.spectra(requests.by_contents(bench), keys, against=other.model.as_loaded)
    label = f"Comparing {words.count(len(keys), 'matrix', 'matrices')}"
    return compute(("changes", request), label, compare)


def series(other: Bench, key: AnyKey) -> Series | None:
    """The second model's singular values of a matrix for the plot; None while they are decomposed."""
    found = chart_data.series(other, (key,), None, edges=True)
    return None if found is None else replace(found[0], matrix=f"{key} of {short_name(other)}")


def short_name(bench: Bench) -> str:
    """The last part of a model's name."""
    return re.split(r"[/\\]", bench.model.source.name.strip().rstrip("/\\"))[-1]
