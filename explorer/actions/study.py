"""`study scorers`: how far scores can be trusted, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import (
    Cluster,
    Kinds,
    Mode,
    ModelChoice,
    OfTask,
    Stacked,
    TaskChoice,
    asked,
    kinds_or_all,
    refuse_unwritable,
    removal_mode,
)
from explorer.actions.clusters import check_cluster, executor_of, workers
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.experiments.study import Study

SPLIT = "train"


@dataclass(frozen=True)
class StudyResult(OfTask):
    """How scorers agree with the exact effects of `sampled` values, measured on `n` examples; all or a sample.

    Attributes:
        loss: the unpruned model's, nats per example.
        trust: per scorer, kind and group (stratified, extremes or all): n, lowest (of the 1, 4, 16 and 64 lowest
            predictions: precision, regret, predicted, exact, calibration), spearman, pearson, sign_agreement,
            reliable_range and errors by the size of the prediction.
        joint: per scorer and kind: sums of the lowest scores against the exact effect of removing those values
            together, and up to how many the sign, and half of the size, is right.
    """

    split: str
    n: int
    seed: int
    mode: str
    loss: float
    scorers: Sequence[str]
    sampled: int
    trust: Sequence[Mapping[str, Any]]
    joint: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class StudyScorers(Request):
    """Measure exact effects, of all values or of a stratified sample, and compare what the scorers predict for them.

    Strata and extremes come from the first scorer. Measured effects are kept in the cache folder: a study that was
    stopped goes on.

    Example: `eigenprune study scorers --model bundled --task int-mult --per-kind 50`
    """

    command: ClassVar[str] = "study scorers"

    model: ModelChoice
    task: TaskChoice
    kinds: Kinds = "all"
    scorer: Annotated[
        tuple[str, ...], Arg("A scorer to study; may be given several times. Default: gradient and hybrid.")
    ] = ()
    per_kind: Annotated[
        int | None,
        Arg("Values measured per kind, over all layers. Default: all if there are at most 4,096, else 200.", least=2),
    ] = None
    extremes: Annotated[int, Arg("Besides, this many of the lowest and of the highest scores.", least=0)] = 10
    limit: Annotated[int, Arg("Use the first N examples of the train split.", least=1)] = 64
    mode: Mode = "freeze"
    stacked: Stacked = False
    out: Annotated[Path | None, Arg("Write every measured value to this CSV file as well.")] = None
    cluster: Cluster = None

    def run(self, tools: Tools = ALONE) -> StudyResult:
        """Measure, and compare.

        Raises:
            ExplorerError: a model, task or scorer that cannot be had, or a file that cannot be written.
        """
        from explorer.attribution import SCORERS
        from explorer.attribution.effect_store import default_effects
        from explorer.experiments.study import EffectsMeasuring, StudyOptions, study_scorers
        from explorer.models.matrices import matrices
        from explorer.spectra.cache import default_cache

        names = tuple(dict.fromkeys(self.scorer or ("gradient", "hybrid")))
        for name in names:
            if name not in SCORERS:
                raise SettingsError(f"{name[:40]!r} is not a scorer: choose from {', '.join(SCORERS)}.")
        if self.out is not None:
            refuse_unwritable(self.out)
        check_cluster(self.cluster)
        kinds, mode = kinds_or_all(self.kinds), removal_mode(self.mode)
        task = self.task.open(SPLIT, self.limit, tools)
        view = self.model.open_for(task, SPLIT, self.limit, tools=tools)
        options = StudyOptions(mode, SPLIT, self.limit, per_kind=self.per_kind, extremes=self.extremes, seed=task.seed)
        store = default_effects(tools.notice)
        with workers(self.cluster, self.model.device, tools) as executors:
            measuring = EffectsMeasuring(store, executor_of(executors, view, task))
            with tools.working("Measuring exact effects") as progress:
                study = study_scorers(
                    view, task, default_cache(tools.notice), keys=matrices(view, kinds, per_head=not self.stacked),
                    scorers=names, options=options, measuring=measuring, progress=progress,
                )  # fmt: skip
        if self.out is not None:
            _write_csv(study, self.out)
        return StudyResult(**asked(view, task) | _figures(study))


def _figures(study: Study) -> dict[str, Any]:
    """The study as plain values, without the single measurements."""
    return {
        "split": study.split,
        "n": study.n,
        "seed": study.seed,
        "mode": study.mode,
        "loss": study.loss,
        "scorers": list(study.scorers),
        "sampled": len(study.sample),
        "trust": [
            {"scorer": scorer, "kind": kind, "group": group, **asdict(one)}
            for (scorer, kind, group), one in study.trust.items()
        ],
        "joint": [{"scorer": scorer, "kind": kind, **asdict(one)} for (scorer, kind), one in study.joint.items()],
    }


def _write_csv(study: Study, path: Path) -> None:
    import pandas as pd

    rows = [
        {
            "matrix": str(one.matrix),
            "kind": str(one.matrix.kind),
            "layer": one.matrix.layer,
            "index": one.index,
            "group": one.group,
            "exact": one.exact,
            **one.predicted,
        }
        for one in study.sample
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
