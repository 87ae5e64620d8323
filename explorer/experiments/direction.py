"""The card of one singular direction: its place, its score and effects, where it is active, what holds it, its likes.

Each part is a function and a record of its own, for whoever wants one of them; `card` puts them together. All of them
look at the unpruned model: the view is left so.

The gain curve is of `y <- y + (g - 1) s_i (x . u_i - c_i) v_i`: at gain 0 the value is removed, at 1 nothing changes,
at 2 what it writes about its mean is doubled, at -1 turned round. c_i is the frozen mean, or 0 for removal by zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

from explorer.attribution import Options, Scores, score
from explorer.attribution.effect_store import EffectStore
from explorer.attribution.exact import EffectsJob, exact_effects
from explorer.attribution.singles import Flip
from explorer.core.errors import MatrixError, SettingsError
from explorer.core.keys import MatrixKey
from explorer.core.progress import Progress, part
from explorer.core.records import Record
from explorer.masks.apply import apply, empty_mask
from explorer.masks.belonging import names
from explorer.masks.labels import DirectionLabel, LabelBook
from explorer.masks.library import Library
from explorer.masks.mask import Mode, Removed
from explorer.measure.batches import batches
from explorer.measure.context_store import ContextStore, kept_contexts
from explorer.measure.contexts import TOP, DirectionContexts, direction_contexts
from explorer.measure.corpora import Corpus
from explorer.measure.evaluate import Comparison, evaluate, keep_split
from explorer.measure.metrics import Mean, paired_difference
from explorer.measure.readout import Readout, readouts
from explorer.models import View
from explorer.models.matrices import check, matrices
from explorer.spectra.cache import SvdCache
from explorer.spectra.measures import blocks, bulk_edge, null_from
from explorer.spectra.similar import SimilarDirections, similar_directions
from explorer.spectra.svd import Decomposition
from explorer.tasks import Task

GAINS = tuple(step / 4 for step in range(-4, 9))  # from -1 to 2
BOOTSTRAP, CONTEXTS, SHOWN = 100, 8, 8


@dataclass(frozen=True)
class SpectrumPlace(Record):
    """Where a value stands in its matrix's spectrum.

    Attributes:
        sigma: the singular value.
        rank: number of singular values.
        energy: its share of the squared Frobenius norm.
        block: indices of the degenerate block that it is in; empty where it is in none.
        null: whether it is numerically zero.
        bulk_edge: the Marchenko-Pastur edge, which values of a random matrix do not exceed; null where it is undefined.
    """

    sigma: float
    rank: int
    energy: float
    block: tuple[int, ...]
    null: bool
    bulk_edge: float | None


@dataclass(frozen=True)
class DirectionScore(Record):
    """The score of a value: the predicted change of the loss if it alone is removed, nats per example.

    Attributes:
        score, stderr: with its bootstrap standard error over the examples.
        uncertain: whether the sign of the score is in doubt.
        c: the frozen mean m . u_i.
        loss: of the unpruned model on the `n` examples.
    """

    score: float
    stderr: float
    uncertain: bool
    c: float
    loss: float
    n: int


@dataclass(frozen=True)
class GainPoint(Record):
    """The measured change of the mean loss at a gain, nats per example, with its standard error."""

    gain: float
    change: float
    stderr: float


@dataclass(frozen=True)
class TaskEffect(Record):
    """The exact effect of removing the value alone on a task, with the frozen mean of the card's own task."""

    task: str
    split: str
    n: int
    exact: float
    stderr: float


@dataclass(frozen=True)
class DirectionEffects(Record):
    """What a value does to losses: on the card's task first, and on others; and along the gain on its own.

    Attributes:
        tasks: exact effects.
        gains: the curve on the card's task.
    """

    tasks: tuple[TaskEffect, ...]
    gains: tuple[GainPoint, ...]


@dataclass(frozen=True)
class FlippedExample(Record):
    """An example that is right on one side and wrong on the other; `repaired` if it is right without the value."""

    prompt: str
    answer: str
    before: str
    after: str
    repaired: bool


@dataclass(frozen=True)
class DirectionFlips(Record):
    """Which examples flip if the value alone is removed.

    Attributes:
        split, n: on what.
        metric: what counts as right.
        accuracy_before, accuracy_after: of the unpruned model, and without the value.
        loss_change, loss_stderr: of the mean loss, nats per example.
        examples: those that flip, repaired ones first.
    """

    split: str
    n: int
    metric: str
    accuracy_before: float
    accuracy_after: float
    loss_change: float
    loss_stderr: float
    examples: tuple[FlippedExample, ...]


@dataclass(frozen=True)
class HoldingMask(Record):
    """A mask of the library that removes a value, or scales it."""

    id: str
    name: str
    removed: int
    gain: float
    strategy: str | None


@dataclass(frozen=True)
class LibraryPlace(Record):
    """How often a value is chosen: the masks of the library that hold it, out of `masks` of this model."""

    masks: int
    holding: tuple[HoldingMask, ...]


@dataclass(frozen=True)
class DirectionCard(Record):
    """All parts of the card of one singular direction."""

    matrix: str
    index: int
    mode: str
    label: DirectionLabel | None
    place: SpectrumPlace
    score: DirectionScore
    effects: DirectionEffects
    flips: DirectionFlips
    tokens: tuple[Readout, ...]
    contexts: tuple[DirectionContexts, ...]
    library: LibraryPlace
    similar: tuple[SimilarDirections, ...]


@dataclass(frozen=True)
class Direction:
    """A singular direction of a matrix of a model, and how removing it replaces it.

    Attributes:
        view: of the model; left unpruned.
        svds: decompositions.
        key: the matrix, per head or stacked.
        index: which singular value.
        mode: `freeze` or `zero`.
    """

    view: View
    svds: SvdCache
    key: MatrixKey
    index: int
    mode: Mode = "freeze"

    def __post_init__(self) -> None:
        check(self.view, self.key)
        if not 0 <= self.index < self.svd.rank:
            raise MatrixError(
                f"{self.key} has singular values 0 to {self.svd.rank - 1}, not {self.index}: choose another."
            )

    @property
    def svd(self) -> Decomposition:
        """The decomposition of its matrix."""
        return self.svds.get(self.view, self.key)

    @property
    def alike(self) -> tuple[MatrixKey, ...]:
        """All matrices of the model, attention cut into heads as its own is."""
        return matrices(self.view, per_head=self.key.head is not None or not self.key.kind.has_heads)

    def unpruned(self) -> View:
        """The view, unpruned."""
        apply(self.view, empty_mask(self.view.model), self.svds)
        return self.view

    def label(self) -> DirectionLabel | None:
        """What it is called in the workspace, if it is called something."""
        return LabelBook.default(self.view.model.digest).every().get((str(self.key), self.index))

    def place(self) -> SpectrumPlace:
        """Where the value stands in the spectrum."""
        s, (d_in, d_out) = self.svd.s.double(), self.svd.shape
        null = null_from(s, d_in, d_out)
        energy = float(s.square().sum())
        return SpectrumPlace(
            sigma=float(s[self.index]),
            rank=len(s),
            energy=float(s[self.index].square()) / energy if energy else 0.0,
            block=next((one for one in (blocks(s[:null]) if null else ()) if self.index in one), ()),
            null=self.index >= null,
            bulk_edge=bulk_edge(s, d_in, d_out) if energy else None,
        )

    def score(self, task: Task, limit: int | None = None, *, bootstrap: int = BOOTSTRAP) -> DirectionScore:
        """Its gradient score on the task's train split."""
        return score_of(self._scores(task, limit, bootstrap), self.key, self.index)

    def _scores(self, task: Task, limit: int | None, bootstrap: int) -> Scores:
        return score(
            self.view, task, self.svds, keys=[self.key], mode=self.mode, limit=limit, seed=task.seed,
            options=Options(bootstrap=bootstrap),
        )  # fmt: skip

    def effects(
        self,
        task: Task,
        others: Sequence[Task] = (),
        limit: int | None = None,
        *,
        store: EffectStore | None = None,
        progress: Progress | None = None,
    ) -> DirectionEffects:
        """Its exact effects on the train splits of the task and of others, and the gain curve on the task."""
        view, value, whole = self.view, (self.key, self.index), (task, *others)
        cuts = [batches(view, one, one.split("train", limit)) for one in whole]
        found = []
        with view.lock:
            own = exact_effects(view, cuts[0], self.svds, values=[value], mode=self.mode, store=store)
            found.append(own.values[value])
            job = EffectsJob.begin(
                view, cuts[0], self.svds, mask=empty_mask(view.model, self.mode), keys=[self.key],
                progress=part(progress, 0.0, 0.2),
            )  # fmt: skip
            gains = self._gains(job, found[0])
            for place, cut in enumerate(cuts[1:]):
                stage = part(progress, 0.3 + 0.7 * place / len(others), 0.3 + 0.7 * (place + 1) / len(others))
                there = exact_effects(
                    view, cut, self.svds, values=[value], mode=self.mode, means=job.inputs, store=store, progress=stage
                )
                found.append(there.values[value])
        return DirectionEffects(
            tasks=tuple(
                TaskEffect(one.name, "train", n=mean.n, exact=mean.value, stderr=mean.stderr)
                for one, mean in zip(whole, found, strict=True)
            ),
            gains=gains,
        )

    def _gains(self, job: EffectsJob, removed: Mean) -> tuple[GainPoint, ...]:
        """The gain curve; at gain 0 it is the exact effect, which is known."""
        svd, c = self.svd, float(job.means(self.key)[self.index]) if self.mode == "freeze" else 0.0
        u, v, s = svd.left([self.index])[:, 0], svd.right([self.index])[0], float(svd.s[self.index])
        before, copies = job.runs.before, job.runs.copies
        measured = [gain for gain in GAINS if gain not in (0.0, 1.0)]
        flips = [Flip(self.key, u, (gain - 1.0) * s * v, c=c) for gain in measured]
        groups = (job.runs.losses(flips[start : start + copies]) for start in range(0, len(flips), copies))
        rows = [row for group in groups for row in group.tolist()]
        found = {gain: paired_difference(row, before) for gain, row in zip(measured, rows, strict=True)}
        found |= {0.0: removed, 1.0: paired_difference(before, before)}
        return tuple(GainPoint(gain, found[gain].value, found[gain].stderr) for gain in GAINS)

    def flips(self, task: Task, c: float, split: str = "validation", limit: int | None = None) -> DirectionFlips:
        """Which examples of a split flip if the value alone is removed.

        Args:
            task: the task.
            c: the frozen mean.
            split: `train`, `validation` or `test`.
            limit: the first so many examples only.
        """
        view = self.view
        removed = Removed(matrix=str(self.key), index=self.index, sigma=float(self.svd.s[self.index]), c=c)
        mask = empty_mask(view.model, self.mode).with_removed([removed])
        with view.lock:
            kept = keep_split(self.unpruned(), task, split, limit=limit)
            baseline = evaluate(view, task, split, limit=limit, kept=kept)
            try:
                apply(view, mask, self.svds)
                masked = evaluate(view, task, split, limit=limit, kept=kept)
            finally:
                self.unpruned()
        return _flips(Comparison(masked, baseline), split)

    def contexts(
        self,
        corpus: Corpus,
        count: int = CONTEXTS,
        *,
        store: ContextStore,
        progress: Progress | None = None,
    ) -> DirectionContexts:
        """Where it is active in a corpus.

        Args:
            corpus: a task's, or a text's.
            count: contexts at either end.
            store: where the contexts of all directions are kept.
            progress: told (done, total).

        Raises:
            SettingsError: more contexts than are kept.
        """
        if not 0 <= count <= TOP:
            raise SettingsError(f"{count} contexts cannot be shown: give 0 to {TOP}.")
        with self.view.lock:
            view = self.unpruned()
            found = kept_contexts(
                view, corpus, self.svds, keys=self.alike, key=self.key, store=store, progress=progress
            )
            return direction_contexts(view, corpus, found, key=self.key, svd=self.svd, index=self.index, count=count)

    def library(self, library: Library) -> LibraryPlace:
        """The masks of a library that hold it."""
        entries = library.list(names(self.view.model)).entries
        holding = [one for one in entries if self.index in one.mask.indices(self.key)]
        return LibraryPlace(
            len(entries),
            tuple(
                HoldingMask(one.id, one.name, len(one.mask), gain=one.mask.gain, strategy=one.mask.provenance.strategy)
                for one in holding
            ),
        )

    def tokens(self, count: int = SHOWN) -> tuple[Readout, ...]:
        """The tokens that its residual-stream vectors read or write most, at either end."""
        return tuple(readouts(self.view, self.key, self.svd, indices=[self.index], k=count))

    def similar(self, count: int = SHOWN, progress: Progress | None = None) -> tuple[SimilarDirections, ...]:
        """The most similar directions of other matrices, and those that it is composed with."""
        return similar_directions(
            self.view, self.svds, self.key, index=self.index, among=self.alike, count=count, progress=progress
        )


class CardOptions(TypedDict, total=False):
    """What a card is made of.

    Attributes:
        others: tasks on which the exact effect is measured, too.
        corpora: where contexts are looked for.
        limit: train examples for score, effects and gain curve; all if not given.
        split, eval_limit: the examples whose flips are shown; all of the validation split if not given.
        bootstrap: resamples for the score's standard error.
        contexts_shown: contexts at either end.
        shown: tokens at either end of a vector, and directions of each relation.
    """

    others: Sequence[Task]
    corpora: Sequence[Corpus]
    limit: int | None
    split: str
    eval_limit: int | None
    bootstrap: int
    contexts_shown: int
    shown: int


def card(
    direction: Direction,
    task: Task,
    *,
    effects: EffectStore,
    contexts: ContextStore,
    library: Library,
    progress: Progress | None = None,
    **how: Unpack[CardOptions],
) -> DirectionCard:
    """The whole card of a direction.

    Args:
        direction: the direction.
        task: what scores, effects and flips are of.
        effects: where exact effects are kept.
        contexts: where contexts are kept.
        library: whose masks are looked through.
        progress: told (done, total).
        how: see `CardOptions`.

    Raises:
        TaskError, SettingsError, NotFiniteError, ModelError: a task or a text that this model cannot take.
    """
    limit, corpora = how.get("limit"), how.get("corpora", ())
    scored = direction.score(task, limit, bootstrap=how.get("bootstrap", BOOTSTRAP))
    return DirectionCard(
        matrix=str(direction.key),
        index=direction.index,
        mode=direction.mode,
        label=direction.label(),
        place=direction.place(),
        score=scored,
        effects=direction.effects(task, how.get("others", ()), limit, store=effects, progress=part(progress, 0.0, 0.2)),
        flips=direction.flips(task, scored.c, how.get("split", "validation"), limit=how.get("eval_limit")),
        tokens=direction.tokens(how.get("shown", SHOWN)),
        contexts=tuple(
            direction.contexts(
                one,
                how.get("contexts_shown", CONTEXTS),
                store=contexts,
                progress=part(progress, 0.2 + 0.7 * place / len(corpora), 0.2 + 0.7 * (place + 1) / len(corpora)),
            )
            for place, one in enumerate(corpora)
        ),
        library=direction.library(library),
        similar=direction.similar(how.get("shown", SHOWN), part(progress, 0.9, 1.0)),
    )


def score_of(scores: Scores, key: MatrixKey, index: int) -> DirectionScore:
    """The part of some scores that is one value's."""
    one = scores.matrices[key]
    return DirectionScore(
        score=float(one.score[index]),
        stderr=float("nan") if one.stderr is None else float(one.stderr[index]),
        uncertain=index in one.uncertain_indices,
        c=float(one.c[index]),
        loss=scores.loss,
        n=scores.n,
    )


def _flips(found: Comparison, split: str) -> DirectionFlips:
    before, after = found.baseline, found.masked
    places = [*((place, True) for place in found.repaired), *((place, False) for place in found.broken)]
    return DirectionFlips(
        split=split,
        n=before.n,
        metric=before.metric,
        accuracy_before=before.accuracy,
        accuracy_after=after.accuracy,
        loss_change=found.loss_change.value,
        loss_stderr=found.loss_change.stderr,
        examples=tuple(
            FlippedExample(
                before.examples[place].prompt, before.examples[place].answer, before=before.says(place),
                after=after.says(place), repaired=repaired,
            )
            for place, repaired in places
        ),
    )  # fmt: skip
