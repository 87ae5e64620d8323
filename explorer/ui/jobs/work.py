"""The engine's work as the pages ask for it, each piece a job whose key is made of contents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from explorer.actions import MeasureEffects
from explorer.attribution import Options, Scores, score
from explorer.attribution.effect_cells import effects_by
from explorer.attribution.effect_store import default_effects
from explorer.attribution.exact import Value, exact_effects, known_effects
from explorer.core.errors import MaskError, MatrixError
from explorer.core.keys import AnyKey, MatrixKey
from explorer.core.progress import Progress
from explorer.masks.activations import Contrast, PromptReading, read_prompt
from explorer.masks.apply import apply, check_mask
from explorer.masks.belonging import adopted
from explorer.masks.mask import Mask
from explorer.measure.batches import batches
from explorer.measure.evaluate import Comparison, Evaluation, evaluate_kept
from explorer.measure.metrics import Mean
from explorer.measure.readers import measured_batches
from explorer.measure.readout import Readout, readouts
from explorer.measure.residuals import Kept, keep
from explorer.models import Model, View, ViewPool, fetch, load
from explorer.models.matrices import matrices
from explorer.search.controls import DEFAULT, draws, means_of
from explorer.search.mask_cells import here, measured_masks
from explorer.spectra.model_diff import decomposed
from explorer.spectra.svd import Decomposition
from explorer.tasks import Example
from explorer.ui.components import words
from explorer.ui.components.painting import USUAL, Wait
from explorer.ui.jobs import cached, cluster
from explorer.ui.jobs.cached import compute, effects_seen, only, runner, svds
from explorer.ui.jobs.runner import JobState, Key, tell
from explorer.ui.session import Bench, requests, used_models
from explorer.ui.session.notices import notices
from explorer.ui.session.session import token

CONTROL_DRAWS = 20
T = TypeVar("T")
Wanted = Callable[[View], tuple[MatrixKey, ...]]  # the matrices of a view that are to be scored
KEPT_BYTES = 1 << 28  # residual streams of one split
FEW = 8  # values that are measured here although there are workers
PORTION = 64  # a split is measured in portions of so many examples, each a random sample


def on_view(
    bench: Bench, key: Key, work: Callable[[View, Progress], T], *, label: str, wait: Wait | None = None
) -> T | None:
    """The result of some work on a view of the bench's model, as `compute` gives it."""

    def borrowed(progress: Progress) -> T:
        with bench.views.borrow() as view:
            return work(view, progress)

    return compute(key, label, borrowed, wait=wait)


def loaded(name: str, basis: str = "raw", against: str | None = None) -> Model | None:
    """The model called `name`, in a basis; `against` is the model that is subtracted in the basis `delta`."""

    def work(progress: Progress) -> Model:
        second = held(("second", name, basis, against))
        held_model = None if second is None else second.model
        model: Model = held_model or load(name, basis=basis, against=against, progress=progress)
        for one in (name, against):
            if one is not None:
                used_models.note(one)
        return model

    return compute(("model", name, basis, against), f"Loading {name}", work)


def held(key: Key) -> Any | None:
    """The result of a job that is done and kept; None otherwise."""
    job = runner().find(key)
    return job.result if job is not None and job.state is JobState.DONE else None


def fetched(name: str) -> bool:
    """Whether a named model is on this machine now; starts the download."""
    return compute(("fetch", name), f"Fetching {name}", lambda progress: fetch(name, progress)) is not None


def checked(views: ViewPool, mask: Mask, name: str) -> Mask | str | None:
    """A mask with the model's identity if its values are those of the model, else the sentence that says why not.

    This takes the decompositions of all its matrices.
    """

    def work(progress: Progress) -> Mask | str:
        with views.borrow() as view:
            try:
                own = adopted(view, mask, svds(), notify=notices().append_once)
                check_mask(view, own, svds(), progress=progress)
            except (MaskError, MatrixError) as error:
                return f"{name}: {error}"
        return own

    key = ("check", views.model.as_loaded, mask.digest, repr(mask.provenance))
    return compute(key, f"Checking {name}", work)


def scores(bench: Bench, keys: tuple[MatrixKey, ...]) -> Scores | None:
    """Scores of some matrices."""
    request = requests.score(requests.by_contents(bench), every=True)
    return _scored(bench, ("scores", request, keys), lambda view: keys, what=", ".join(map(str, keys)))


def ranked(bench: Bench, *, every: bool = False, bootstrap: int = 0, mask: Mask | None = None) -> Scores | None:
    """Scores of the bench's whole set.

    Args:
        bench: what is scored.
        every: all kinds of the model instead of the bench's.
        bootstrap: resamples for standard errors, 0 for none.
        mask: score what flipping each value does from here; None for the unpruned model.
    """
    request = requests.score(requests.by_contents(bench), every=every, bootstrap=bootstrap, mask=mask)
    what = ("all kinds" if every else ", ".join(bench.kinds)) + ("" if mask is None else " at the mask")
    kinds = None if every else bench.kinds

    def wanted(view: View) -> tuple[MatrixKey, ...]:
        return matrices(view, kinds, per_head=bench.per_head)

    return _scored(bench, ("scores", request), wanted, what=what, bootstrap=bootstrap, mask=mask)


def _scored(
    bench: Bench, key: Key, wanted: Wanted, *, what: str, bootstrap: int = 0, mask: Mask | None = None
) -> Scores | None:
    """Scores of the `wanted` matrices, which the key says."""

    def work(view: View, progress: Progress) -> Scores:
        return score(
            view, bench.task, bench.svds, keys=wanted(view), scorer=bench.scorer, mode=bench.mode,
            limit=bench.score_limit, seed=bench.task.seed, mask=mask, options=Options(bootstrap=bootstrap),
            progress=progress,
        )  # fmt: skip

    return on_view(bench, key, work, label=f"Scoring {what} on {bench.task.name}")


@dataclass(frozen=True, eq=False)
class Baseline:
    """The unpruned model on a split, and the residual streams that masks are measured from."""

    evaluation: Evaluation
    kept: Kept


def comparison(bench: Bench, wait: Wait | None = None) -> Comparison | None:
    """The mask's evaluation beside the unpruned model's, on the bench's split."""
    baseline = _baseline(bench, wait)
    if baseline is None:
        return None
    if not len(bench.mask):
        return Comparison(baseline.evaluation, baseline.evaluation)
    masked = _evaluation(bench, baseline, wait)
    return None if masked is None else Comparison(masked, baseline.evaluation)


def _baseline(bench: Bench, wait: Wait | None) -> Baseline | None:
    def work(view: View, progress: Progress) -> Baseline:
        apply(view, bench.mask.without_all(), bench.svds)
        examples = bench.task.split(bench.split, bench.eval_limit)
        cut = measured_batches(view, bench.task, examples, portion=PORTION)
        kept = keep(view, cut, memory_bytes=KEPT_BYTES, progress=progress)
        return Baseline(evaluate_kept(view, examples, kept, metric=bench.task.metric_of(bench.split)), kept)

    return on_view(bench, _baseline_key(bench), work, label="Measuring the unpruned model", wait=wait)


def _baseline_key(bench: Bench) -> Key:
    return "baseline", requests.evaluate(requests.by_contents(bench), None)


def _evaluation(bench: Bench, baseline: Baseline, wait: Wait | None) -> Evaluation | None:
    key = _evaluation_key(bench)
    only("measuring", key)

    def work(view: View, progress: Progress) -> Evaluation:
        apply(view, bench.mask, bench.svds)
        before = baseline.evaluation
        return evaluate_kept(view, before.examples, baseline.kept, progress=progress, so_far=tell, metric=before.metric)

    return on_view(bench, key, work, label=f"Measuring {words.chosen(bench.mask)}", wait=wait)


def _evaluation_key(bench: Bench) -> Key:
    """The session's own: it may stop its measurement when the mask changes again, but not another session's."""
    return "evaluation", requests.evaluate(requests.by_contents(bench), bench.mask), token()


def failure(bench: Bench) -> str | None:
    """Why the mask cannot be measured on the bench's split; None while that may still be had."""
    return cached.failure(_baseline_key(bench), _evaluation_key(bench))


def scores_failure(bench: Bench) -> str | None:
    """Why there are no scores of the bench's own matrices; None while they may still be had."""
    return cached.failure(("scores", requests.score(requests.by_contents(bench))))


def so_far(bench: Bench) -> Comparison | None:
    """The mask on what has been measured of the bench's split: its first examples, or all of them."""
    job, baseline = runner().find(_evaluation_key(bench)), held(_baseline_key(bench))
    if job is None or baseline is None:
        return None
    found = cast("Evaluation | None", job.result if job.state is JobState.DONE else job.so_far)
    return None if found is None else Comparison(found, baseline.evaluation.first(found.n))


def controls(bench: Bench, wait: Wait | None = None) -> tuple[float, ...] | None:
    """The accuracies under masks of the default control of the bench's mask, measured as the mask is."""
    made = bench.mask.provenance
    request = requests.evaluate(requests.by_contents(bench), bench.mask, CONTROL_DRAWS)
    key = ("controls", request, made.task, made.examples)  # which give the frozen means

    def work(view: View, progress: Progress) -> tuple[float, ...]:
        seeds = range(bench.task.seed, bench.task.seed + CONTROL_DRAWS)
        scores = means_of(view, bench.task, bench.svds, mask=bench.mask)
        found = measured_masks(
            cluster.executor(bench, view) or here(view, bench.task, bench.svds), bench.task,
            draws(scores, bench.mask, DEFAULT, seeds=seeds), split=bench.split, limit=bench.eval_limit,
            progress=progress,
        )  # fmt: skip
        return tuple(one.accuracy for one in found)

    label = f"{CONTROL_DRAWS} {DEFAULT} masks of {words.count(len(bench.mask), 'value')}"
    return on_view(bench, key, work, label=label, wait=replace(wait or USUAL, urgent=False))


def decomposition(bench: Bench, key: AnyKey) -> Decomposition | None:
    """Singular values and vectors of one matrix, or of a head's product."""
    request = requests.spectra(requests.by_contents(bench), (key,))
    return on_view(
        bench, ("svd", request), lambda view, _: decomposed(view, bench.svds, key), label=f"Decomposing {key}"
    )


def prepared(bench: Bench, keys: Sequence[AnyKey]) -> bool:
    """Whether the matrices among `keys` are decomposed; if not, they are, all in one job."""
    wanted = tuple(key for key in keys if isinstance(key, MatrixKey))

    def work(view: View, progress: Progress) -> bool:
        bench.svds.get_many(view, wanted, progress)
        return True

    key = ("svds", requests.spectra(requests.by_contents(bench), wanted))
    return len(wanted) < 2 or bool(on_view(bench, key, work, label=f"Decomposing {len(wanted):,} matrices"))


def readout(bench: Bench, key: AnyKey, found: Decomposition, index: int, k: int) -> list[Readout] | None:
    """The k tokens at both ends of the residual-stream vectors of one singular value."""
    job = ("readout", bench.model.as_loaded, key, index, k)
    return on_view(
        bench, job, lambda view, _: readouts(view, key, found, indices=[index], k=k), label=f"Reading {key} out"
    )


def contrast(bench: Bench, prompt: Example) -> Contrast | None:
    """What happens inside on the prompt of an example, unpruned and under the mask."""
    before = _reading(bench, bench.mask.without_all(), prompt)
    if before is None:
        return None
    after = _reading(bench, bench.mask, prompt) if len(bench.mask) else before
    return None if after is None else Contrast(before, after)


def _reading(bench: Bench, mask: Mask, prompt: Example) -> PromptReading | None:
    def work(view: View, progress: Progress) -> PromptReading:
        apply(view, mask, bench.svds)
        return read_prompt(view, prompt, bench.task.around)

    key = ("reading", requests.read_prompt(requests.by_contents(bench), prompt, mask))
    return on_view(bench, key, work, label="Reading the prompt")


def known(bench: Bench, keys: tuple[MatrixKey, ...], mask: Mask) -> dict[Value, Mean] | None:
    """Exact effects at a mask that are on this machine; what this process has measured since it looked is added."""

    def work(view: View, progress: Progress) -> dict[Value, Mean]:
        cut = batches(view, bench.task, bench.task.split("train", bench.score_limit))
        return dict(known_effects(view, cut, keys, mask=mask, store=default_effects(notices().append)))

    at = place(bench, mask)
    on_disk = on_view(bench, ("known", at, keys, token()), work, label="Looking for measured effects")
    if on_disk is None:
        return None
    wanted = set(keys)
    return on_disk | {value: mean for value, mean in effects_seen().at(at).items() if value[0] in wanted}


def place(bench: Bench, mask: Mask) -> MeasureEffects:
    """What exact effects depend on beside the values: their request without any."""
    return requests.effects(requests.by_contents(bench), (), mask)


def effects_asked(bench: Bench, values: tuple[Value, ...], mask: Mask) -> bool:
    """Whether these effects are being measured, or have been, together."""
    return runner().find(_effects_key(bench, values, mask)) is not None


def _effects_key(bench: Bench, values: tuple[Value, ...], mask: Mask) -> Key:
    return "effects", requests.effects(requests.by_contents(bench), values, mask)


def effects(bench: Bench, values: tuple[Value, ...], mask: Mask) -> dict[Value, Mean] | None:
    """Measured change of the train loss if each value alone is flipped, from `mask` on."""

    def work(view: View, progress: Progress) -> dict[Value, Mean]:
        cut = batches(view, bench.task, bench.task.split("train", bench.score_limit))
        workers = cluster.executor(bench, view) if len(values) > FEW else None
        found = exact_effects(
            view, cut, bench.svds, values=values, mode=mask.mode, mask=mask, store=default_effects(notices().append),
            apart=None if workers is None else effects_by(workers, "train", bench.score_limit), progress=progress,
        )  # fmt: skip
        seen.add(at, found.values)
        return dict(found.values)

    seen, at = effects_seen(), place(bench, mask)
    label = f"Measuring {words.count(len(values), 'value')} one by one"
    return on_view(bench, _effects_key(bench, values, mask), work, label=label)
