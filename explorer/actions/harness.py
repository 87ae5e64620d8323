"""`lm-eval`: the lm-evaluation-harness itself on a pruned model, beside the unpruned one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from explorer.actions.choices import Limit, ModelChoice, OfModel, identity, own_mask, read_mask
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import SettingsError
from explorer.core.measuring import version_of

if TYPE_CHECKING:
    from explorer.experiments.harness import HarnessFigure


@dataclass(frozen=True)
class HarnessResult(OfModel):
    """Figures of the harness with a mask and without, on the same documents.

    Attributes:
        harness: its version.
        removed: values that the mask removes or scales; 0 without one.
        figures: per task, metric and filter: n, higher_is_better, baseline and masked with the harness' standard
            errors, their change, its paired 95 % bootstrap interval over documents (null for a figure that is no mean
            of documents), and for values of 0 and 1 repaired, broken and the p of McNemar's exact test (else null).
    """

    harness: str
    mask_digest: str | None
    removed: int
    fewshot: int | None
    limit: int | None
    figures: Sequence[HarnessFigure]


@dataclass(frozen=True, kw_only=True)
class RunHarness(Request):
    """Run the lm-evaluation-harness on the pruned model in memory, and on the unpruned one beside it.

    Its own tasks are asked as it asks them, in plain transformers with the mask's weights and biases. Task files of
    --include-path that run code are refused. Needs the extra `lm-eval`.

    Example: `eigenprune lm-eval --model smollm2-135m --mask mask.json --tasks my_task --include-path tasks/`
    """

    command: ClassVar[str] = "lm-eval"

    model: ModelChoice
    tasks: Annotated[str, Arg("Tasks, groups or tags of the harness, with commas between.")]
    mask: Annotated[Path | None, Arg("Mask file; without it the unpruned model alone, on both sides.")] = None
    include_path: Annotated[Path | None, Arg("Folder of further task files (YAML).")] = None
    fewshot: Annotated[
        int | None, Arg("Documents shown in front of every prompt; each task's own number if not given.", least=0)
    ] = None
    limit: Limit = None
    batch: Annotated[int, Arg("Sequences that are run at once.", least=1)] = 8

    def run(self, tools: Tools = ALONE) -> HarnessResult:
        """Run it twice.

        Raises:
            ExplorerError: a model, mask or task that cannot be had, or one that the harness cannot run.
        """
        names = tuple(name.strip() for name in self.tasks.split(",") if name.strip())
        if not names:
            raise SettingsError("--tasks names none: give some of `lm-eval ls tasks`, with commas between.")
        mask = None if self.mask is None else read_mask(self.mask)
        view = self.model.open(tools)
        from explorer.experiments.harness import HarnessRun, run_harness
        from explorer.masks.apply import empty_mask
        from explorer.spectra.cache import default_cache

        state = empty_mask(view.model) if mask is None else own_mask(view, mask, tools)
        run = HarnessRun(names, self.include_path, self.fewshot, limit=self.limit, batch=self.batch)
        with tools.working("Running the lm-evaluation-harness") as progress:
            figures = run_harness(view, state, default_cache(tools.notice), run=run, progress=progress)
        return HarnessResult(
            **identity(view), harness=version_of("lm-eval"), mask_digest=None if mask is None else state.digest,
            removed=len(state), fewshot=self.fewshot, limit=self.limit, figures=figures,
        )  # fmt: skip
