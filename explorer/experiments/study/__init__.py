"""How far scores can be trusted: predicted against exact effects, for single values and for growing masks.

1. Score all values with every scorer of the study.
2. Measure exact effects on the same examples: of all values of a small model, of a larger one's those of a sample
   (`explorer.experiments.study.sampling`).
3. Compare, per scorer, kind and group (`explorer.experiments.study.trust`).
4. Joint trust: for the lowest k values of each kind, and of all, the sum of the scores against the exact effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from explorer.attribution import SCORERS, Scores, score
from explorer.attribution.effect_cells import effects_by, joint_effects_by
from explorer.attribution.effect_store import EffectStore
from explorer.attribution.exact import exact_effects, joint_effects
from explorer.core.errors import SettingsError
from explorer.core.executor import Executor
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress, part
from explorer.experiments.study.sampling import Group, Value, sample
from explorer.experiments.study.trust import JointPoint, JointTrust, Trust, joint_trust, trust
from explorer.masks.apply import empty_mask
from explorer.masks.mask import Mask, Mode
from explorer.measure.batches import batches
from explorer.measure.metrics import Mean
from explorer.models import View
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task

__all__ = [
    "ALL",
    "EffectsMeasuring",
    "JointPoint",
    "JointTrust",
    "SampledValue",
    "Study",
    "StudyOptions",
    "Trust",
    "study_scorers",
]

ALL = "all"
WHOLE = 4096  # values of all kinds together, measured in seconds on the bundled model
SAMPLED = 200
JOINT_COUNTS = tuple(2**power for power in range(1, 10))


@dataclass(frozen=True)
class StudyOptions:
    """How a study samples values and measures them.

    Attributes:
        mode: how values are removed.
        split, limit: the examples: the first `limit` of a split.
        per_kind: values per kind, 2 or more, in strata of the first scorer's scores; None for all where there are at
            most `WHOLE`, else for `SAMPLED`.
        extremes: besides, this many of the lowest and of the highest scores.
        seed: of the sample, and of scorers that draw.
    """

    mode: Mode = "freeze"
    split: str = "train"
    limit: int | None = 64
    per_kind: int | None = None
    extremes: int = 10
    seed: int = 0


USUAL = StudyOptions()


@dataclass(frozen=True)
class EffectsMeasuring:
    """Where measured effects are kept, and who measures them.

    Attributes:
        store: where they are looked up and kept as they come, so that a study that was stopped goes on; None to keep
            nothing.
        executor: of this model and task; this process if None.
    """

    store: EffectStore | None = None
    executor: Executor | None = None


HERE = EffectsMeasuring()


@dataclass(frozen=True)
class SampledValue:
    """One measured value: what each scorer predicts for it, and its exact effect, nats per example."""

    matrix: MatrixKey
    index: int
    group: Group
    predicted: Mapping[str, float]
    exact: float


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        n: number of examples that the scorers and the exact effects saw.
        loss: unpruned loss on them, nats per example.
        sample: every measured value.
        trust: by scorer, kind ("all" for every kind) and group ("all" for both).
        joint: by scorer and kind ("all" for the lowest over all kinds), for scorers that predict nats.
    """

    model: str
    digest: str
    basis: str
    task: str
    split: str
    n: int
    mode: Mode
    seed: int
    loss: float
    scorers: tuple[str, ...]
    sample: tuple[SampledValue, ...]
    trust: Mapping[tuple[str, str, str], Trust]
    joint: Mapping[tuple[str, str], JointTrust]


def study_scorers(
    view: View,
    task: Task,
    svds: SvdCache,
    keys: Sequence[MatrixKey],
    *,
    scorers: Sequence[str] = ("gradient", "hybrid"),
    options: StudyOptions = USUAL,
    measuring: EffectsMeasuring = HERE,
    progress: Progress | None = None,
) -> Study:
    """Compare scorers with exact effects of the same values; the first scorer defines strata and extremes.

    The view is left unpruned.

    Raises:
        SettingsError: no scorer, an unknown one, or fewer than 2 values per kind.
        TaskError, MatrixError, ModelError: as `score`.
    """
    if not scorers or (options.per_kind is not None and options.per_kind < 2) or options.extremes < 0:
        raise SettingsError("a study needs a scorer, 2 or more values per kind, and extremes of 0 or more.")
    scored = {}
    for done, name in enumerate(scorers):
        bar = part(progress, 0.3 * done / len(scorers), 0.3 * (done + 1) / len(scorers))
        scored[name] = score(
            view, task, svds, keys=keys, scorer=name, mode=options.mode, split=options.split, limit=options.limit,
            seed=options.seed, progress=bar,
        )  # fmt: skip
    first = scored[scorers[0]]
    count = first.size
    per_kind = options.per_kind or (count if count <= WHOLE else SAMPLED)
    groups = sample(first, per_kind=per_kind, extremes=options.extremes, seed=options.seed)
    examples = batches(view, task, task.split(options.split, options.limit))
    executor, split, limit = measuring.executor, options.split, options.limit
    exact = exact_effects(
        view, examples, svds, values=groups, mode=options.mode, store=measuring.store,
        apart=None if executor is None else effects_by(executor, split, limit), progress=part(progress, 0.3, 0.8),
    ).values  # fmt: skip
    measured = tuple(
        SampledValue(
            *value, group, {name: float(s.matrices[value[0]].score[value[1]]) for name, s in scored.items()},
            exact[value].value,
        )
        for value, group in groups.items()
    )  # fmt: skip
    in_nats = {name: scored[name] for name in scorers if SCORERS[name].in_nats}

    def jointly(masks: Sequence[Mask]) -> tuple[Mean, ...]:
        bar = part(progress, 0.8, 1.0)
        if executor is not None:
            return joint_effects_by(executor, masks, options.split, limit=options.limit, progress=bar)
        return joint_effects(view, examples, svds, masks=masks, progress=bar)

    return Study(
        model=view.model.source.name, digest=view.model.digest, basis=view.model.basis, task=task.name,
        split=options.split, n=first.n, mode=options.mode, seed=options.seed, loss=first.loss,
        scorers=tuple(scorers), sample=measured,
        trust=_trusts(measured, scorers),
        joint=_joint(view, in_nats, jointly),
    )  # fmt: skip


def _trusts(measured: Sequence[SampledValue], scorers: Sequence[str]) -> dict[tuple[str, str, str], Trust]:
    found = {}
    for kind in (*dict.fromkeys(str(one.matrix.kind) for one in measured), ALL):
        for group in ("stratified", "extremes", ALL):
            chosen = [one for one in measured if kind in (ALL, str(one.matrix.kind)) and group in (ALL, one.group)]
            exact = [one.exact for one in chosen]
            for name in scorers:
                predicted = [one.predicted[name] for one in chosen]
                found[name, kind, group] = trust(predicted, exact, nats=SCORERS[name].in_nats)
    return found


def _joint(
    view: View, scored: Mapping[str, Scores], measure: Callable[[Sequence[Mask]], Sequence[Mean]]
) -> dict[tuple[str, str], JointTrust]:
    """Growing masks of every scorer, of each kind and of all kinds together, and what `measure` says of them."""
    chosen: dict[tuple[str, str], list[list[Value]]] = {}
    for name, scores in scored.items():
        ranking = [(key, index) for _, key, index in scores.ranking()]
        for kind in (*dict.fromkeys(str(key.kind) for key in scores.matrices), ALL):
            ranked = [value for value in ranking if kind in (ALL, str(value[0].kind))]
            chosen[name, kind] = [ranked[:count] for count in JOINT_COUNTS if count <= len(ranked)]
    empty = {name: empty_mask(view.model, scores.mode) for name, scores in scored.items()}
    masks = [
        empty[name].with_removed(scored[name].removed(*value) for value in values)
        for (name, _), growing in chosen.items()
        for values in growing
    ]
    effects = iter(measure(masks))
    return {
        (name, kind): joint_trust(
            [JointPoint(len(values), _total(scored[name], values), next(effects).value) for values in growing]
        )
        for (name, kind), growing in chosen.items()
    }


def _total(scores: Scores, values: Sequence[Value]) -> float:
    return math.fsum(float(scores.matrices[key].score[index]) for key, index in values)
