"""The clickable plot of singular values in notebooks: Jupyter, marimo, VS Code (anywidget).

    import explorer as ep

    model, task = ep.load("bundled"), ep.load_task("int-mult")
    widget = ep.widget.prune(model, task)
    widget                # click on points
    widget.mask           # what is removed now
    widget.comparison     # the test split with the mask and without
    widget.observe(print, "mask")

It draws with the same JavaScript as the pages. The model stays as it is.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.actions.loaded import LoadedModel
    from explorer.actions.names import Split
    from explorer.tasks import Task
    from explorer.widget.chart import SpectrumWidget

__all__ = ["prune", "spectrum"]
MOST = 3  # matrices that `prune` shows by itself


def spectrum(model: LoadedModel, *matrix: str, task: Task | None = None) -> SpectrumWidget:
    """The singular values of some matrices, to be removed and restored by clicks.

    Args:
        model: from `explorer.load`.
        matrix: such as `"L0.K.H3"`.
        task: its train examples give the scores and the frozen means; without a task nothing takes a removed value's
            place (mode `zero`).

    Raises:
        SettingsError: anywidget is not installed, or no matrix is named.
        MatrixError, TaskError: what is asked does not fit the model.
    """
    _check()
    from explorer.widget.chart import SpectrumWidget
    from explorer.widget.state import begin

    return SpectrumWidget(begin(model, matrix, task))


def prune(
    model: LoadedModel, task: Task, *matrix: str, split: Split = "test", limit: int | None = None
) -> SpectrumWidget:
    """The same with the figures of a task, which are measured anew after every change of the mask.

    Args:
        model: from `explorer.load`.
        task: what is scored, on its train split, and measured.
        matrix: such as `"L0.K.H3"`; by default the three that hold the lowest scores.
        split: where it is measured.
        limit: the first so many examples of it.

    Raises:
        SettingsError: anywidget is not installed.
        MatrixError, TaskError: what is asked does not fit the model.
    """
    _check()
    from explorer.widget.chart import SpectrumWidget
    from explorer.widget.state import begin, lowest

    return SpectrumWidget(begin(model, matrix or lowest(model, task, MOST), task), measured=(split, limit))


def _check() -> None:
    if find_spec("anywidget") is None:
        raise SettingsError("anywidget is not installed: run `pip install 'eigenprune-explorer[notebook]'`.")
