"""A model with what can be asked of it, for notebooks and scripts: `explorer.load` gives one.

It has its decompositions and lends its views, so neither is carried by hand. Every method leaves the model as it was.
The functions behind the methods (`explorer.score`, `explorer.evaluate`, ...) take a view and decompositions instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypedDict, TypeVar, Unpack

from explorer.actions.activations import parse_head
from explorer.actions.choices import kinds_or_all
from explorer.actions.names import Compute, Directions, Scorer, Split, Strategy
from explorer.attribution import ScoreOptions, Scores
from explorer.attribution import score as score_values
from explorer.attribution.effect_store import default_effects
from explorer.attribution.exact import exact_effects
from explorer.attribution.interactions import ORDERS, Interactions, interactions
from explorer.core.keys import Kind, MatrixKey, parse_key
from explorer.core.progress import Progress
from explorer.experiments.direction import CardOptions, Direction, DirectionCard, card
from explorer.experiments.harness import HarnessFigure, HarnessRun, run_harness
from explorer.export import FORMATS
from explorer.export.base import Order
from explorer.export.run import Exported
from explorer.export.run import export as export_mask
from explorer.masks.activations import Prompt
from explorer.masks.apply import apply, empty_mask
from explorer.masks.belonging import adopted
from explorer.masks.damage import Damage
from explorer.masks.damage import damage as measure_damage
from explorer.masks.head_split import HeadPlace, HeadSplit, first_tokens, head_split
from explorer.masks.library import Library
from explorer.masks.mask import Mask, Mode
from explorer.masks.replies import ReplyPair, replies
from explorer.measure.batches import batches
from explorer.measure.context_store import default_contexts
from explorer.measure.corpora import TOKENS, task_corpus, text_corpus
from explorer.measure.evaluate import Comparison, Evaluation
from explorer.measure.evaluate import evaluate as evaluate_view
from explorer.measure.generation import GREEDY, Decoding
from explorer.measure.metrics import Mean
from explorer.measure.perplexity import Perplexity, own_text
from explorer.measure.perplexity import perplexity as measure_perplexity
from explorer.measure.slices import Slice, slices
from explorer.models import Model, View, ViewPool, adapted
from explorer.models import load as load_model
from explorer.models.matrices import matrices
from explorer.models.model import Basis
from explorer.search import STRATEGIES, check_strategy, mask_of
from explorer.search.conductor import Elsewhere, Recording, Watcher, conduct
from explorer.search.evidence.choice import NO_EVIDENCE, EvidenceChoice
from explorer.search.given import GivenOptions, given_request, given_search
from explorer.search.journal import default_journals
from explorer.search.options import USUAL, StrategyOptions
from explorer.search.report import Report
from explorer.search.request import SearchRequest, growth_limit
from explorer.spectra.cache import SvdCache, default_cache, warn
from explorer.spectra.model_diff import decomposed
from explorer.spectra.svd import Decomposition
from explorer.tasks import AS_USUAL, Example, Framing, Task

Kinds = str | Iterable[Kind]
Key = TypeVar("Key", bound=MatrixKey | str)


class SearchOptions(TypedDict, total=False):
    """How `LoadedModel.search` searches, and what it reports.

    Attributes:
        per_head: whether attention is taken per head (so if not given) or stacked.
        max_growth: largest growth of the perplexity of plain text, 0.05 for 5 %, or None for no limit; if not given,
            0.1 where the model reads the text.
        scorer: a name of `explorer.SCORERS`; `gradient` if not given.
        mode: how values are removed; `freeze` if not given.
        limit: train examples to score on; all if not given.
        seconds: time limit; none if not given.
        controls: draws of each random control, 0 for no controls; 20 if not given.
        test_limit: test examples for the final figures; all if not given.
        compute: in which type proposals are computed; `auto`, what is faster, if not given.
        options: those that belong to the strategy.
        evidence: what the mask is measured beside, beyond its controls (`explorer.EvidenceChoice`).
        others: tasks to measure the damage on.
        text: plain text to measure the damage on; if not given the one that comes along, where the model reads it.
        fresh: forget what an earlier run has recorded.
    """

    per_head: bool
    max_growth: float | Literal["auto"] | None
    scorer: Scorer
    mode: Mode
    limit: int | None
    seconds: float | None
    controls: int
    test_limit: int | None
    compute: Compute
    options: StrategyOptions
    evidence: EvidenceChoice
    others: Sequence[Task]
    text: str | None
    fresh: bool


_SEARCH: SearchOptions = {
    "per_head": True, "max_growth": "auto", "scorer": "gradient", "mode": "freeze", "limit": None, "seconds": None,
    "controls": 20, "test_limit": None, "compute": "auto", "options": USUAL, "others": (), "text": None, "fresh": False,
    "evidence": NO_EVIDENCE,
}  # fmt: skip


def load(
    name: str,
    *,
    basis: Basis = "raw",
    against: str | None = None,
    adapter: Path | str | None = None,
    dtype: Literal["float32", "float64", "bfloat16", "float16"] | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> LoadedModel:
    """Load a causal language model by name, hub id, local folder or .gguf file.

    Args:
        name: a name of `explorer.models.NAMED`, a folder, a .gguf file, or a hub id with an optional `@revision`.
        basis: `raw`, `folded` or `delta`: what its matrices are; outputs are the same within rounding.
        against: of `delta`, the base model whose weights are subtracted.
        adapter: folder of a LoRA adapter of PEFT that is merged into it.
        dtype: the settings' type if None.
        device: torch device; the settings' device if None.
        progress: told (done, total).

    Raises:
        ModelError: unknown name, no network, not a causal LM, a broken file, norms that cannot be folded, a hooked
            copy that differs from plain transformers, or a base that cannot be subtracted.
        SettingsError: an unknown dtype or basis; `delta` without a base, or another basis with one.
    """
    return LoadedModel.of(
        load_model(adapted(name, adapter), basis=basis, against=against, dtype=dtype, device=device, progress=progress)
    )


def as_kinds(kinds: Kinds) -> tuple[Kind, ...] | None:
    """Kinds of matrix from `"QK"`, `"Q,K,OUT"`, `"all"` or kinds; None for all.

    Raises:
        MatrixError: something else.
    """
    if not isinstance(kinds, str):
        return tuple(kinds)
    return kinds_or_all(kinds)


@dataclass(frozen=True, eq=False)
class LoadedModel(Model):
    """A `Model` with its decompositions, its views, and what can be asked of it."""

    @cached_property
    def svds(self) -> SvdCache:
        """Its decompositions: in memory, then in the cache folder, then computed."""
        return default_cache(warn)

    @cached_property
    def views(self) -> ViewPool:
        """Views to borrow."""
        return ViewPool(self)

    def matrices(
        self, kinds: Kinds = "all", *, layers: Sequence[int] | None = None, per_head: bool = True
    ) -> tuple[MatrixKey, ...]:
        """Its matrices, in canonical order; attention per head or stacked."""
        with self.views.borrow() as view:
            return matrices(view, as_kinds(kinds), None if layers is None else tuple(layers), per_head=per_head)

    def svd(self, matrix: str) -> Decomposition:
        """Singular values and vectors of a matrix such as `L0.K.H1`, or of a head's product such as `L0.QK.H1`.

        Raises:
            MatrixError: no such matrix.
        """
        with self.views.borrow() as view:
            return decomposed(view, self.svds, parse_key(matrix))

    def score(
        self,
        task: Task,
        *,
        kinds: Kinds = "all",
        layers: Sequence[int] | None = None,
        per_head: bool = True,
        progress: Progress | None = None,
        **how: Unpack[ScoreOptions],
    ) -> Scores:
        """Score singular values on the task's train split: the predicted change of the loss if each alone is removed.

        Args:
            task: what the loss is of.
            kinds: of matrices, such as `"QK"` or `"Q,K,OUT"`.
            layers: of matrices; all if None.
            per_head: whether attention is taken per head or stacked.
            progress: told (done, total).
            how: see `ScoreOptions`.

        Raises:
            SettingsError, MaskError, NotFiniteError, TaskError, MatrixError, ModelError: see `explorer.score`.
        """
        keys = self.matrices(kinds, layers=layers, per_head=per_head)
        with self.views.borrow() as view:
            asked: ScoreOptions = {"seed": task.seed, **how}
            return score_values(view, task, self.svds, keys=keys, progress=progress, **asked)

    def prune(self, task: Task, scores: Scores, count: int, *, strategy: str = "lowest", gain: float = 0.0) -> Mask:
        """A mask of `count` of the scored values: by default those with the lowest scores.

        Raises:
            SettingsError: no such strategy, or more values than were scored.
            MaskError: a gain outside of [0, 1).
        """
        check_strategy(strategy)
        with self.views.borrow() as view:
            chosen = STRATEGIES[strategy](scores, count, task.seed)
            return mask_of(view, scores, chosen, task=task, strategy=strategy, gain=gain)

    def search(
        self,
        task: Task,
        *,
        kinds: Kinds = "all",
        layers: Sequence[int] | None = None,
        strategy: Strategy = "verified",
        max_removed: int,
        progress: Progress | None = None,
        **how: Unpack[SearchOptions],
    ) -> Report:
        """Search for a mask that lowers the task's loss, and measure it once on the test split beside its controls.

        The same search goes on where an earlier run of it was stopped.

        Args:
            task: whose train and validation split the search sees.
            kinds: of matrices, such as `"QKVO"`.
            layers: of matrices; all if None.
            strategy: a name of `explorer.search.SEARCHES`.
            max_removed: largest number of removed values.
            progress: told (done, total) until the strategy has ended.
            how: see `SearchOptions`.

        Raises:
            MatrixError, SettingsError, TaskError: what is asked does not fit the model or the task.
        """
        given: SearchOptions = {**_SEARCH, **how}
        text = given["text"]
        with self.views.borrow() as view:
            request = SearchRequest(
                strategy, as_kinds(kinds), None if layers is None else tuple(layers), max_removed=max_removed,
                seed=task.seed, per_head=given["per_head"], mode=given["mode"], scorer=given["scorer"],
                limit=given["limit"], seconds=given["seconds"], controls=given["controls"],
                test_limit=given["test_limit"], options=given["options"],
                growth=growth_limit(given["max_growth"], view), compute=given["compute"], evidence=given["evidence"],
            )  # fmt: skip
            return conduct(
                request, view, task, svds=self.svds, recording=Recording(default_journals(warn), given["fresh"]),
                elsewhere=Elsewhere(given["others"], own_text(self.tokenizer) if text is None else text),
                watcher=Watcher(progress),
            )  # fmt: skip

    def effects(
        self,
        task: Task,
        values: Iterable[tuple[Key, int]],
        *,
        mode: Mode = "freeze",
        limit: int | None = None,
        mask: Mask | None = None,
        progress: Progress | None = None,
    ) -> Mapping[tuple[Key, int], Mean]:
        """The exact effect of single values: the measured change of the train loss if each alone is flipped.

        Args:
            task: what the loss is of.
            values: pairs of a matrix's key, or its text such as `L0.Q.H3`, and an index.
            mode: how values are removed.
            limit: the first so many train examples only.
            mask: measure from here on.
            progress: told (done, total).

        Raises:
            MatrixError, MaskError, SettingsError: see `explorer.attribution.exact.exact_effects`.
        """
        with self.views.borrow() as view:
            cut = batches(view, task, task.split("train", limit))
            keys = {(key, index): (_matrix_key(key), index) for key, index in values}
            measured = exact_effects(
                view, cut, self.svds, values=keys.values(), mode=mode, mask=mask, store=default_effects(warn),
                progress=progress,
            )  # fmt: skip
            return {value: measured.values[key] for value, key in keys.items()}

    def interactions(
        self,
        mask: Mask,
        task: Task,
        *,
        limit: int | None = None,
        orders: int = ORDERS,
        progress: Progress | None = None,
    ) -> Interactions:
        """How the removals of a mask's 2 to 32 values act together: pairs beside sums, the best order, fair shares.

        Args:
            mask: whose values, with its frozen means; each is removed whole, whatever the mask's gain.
            task: on whose train examples they are measured.
            limit: the first so many of these only.
            orders: drawn for the Shapley values of more than 8 values.
            progress: told (done, total).

        Raises:
            SettingsError: too few or too many values.
            MaskError: another model's mask.
        """
        with self.views.borrow() as view:
            own = adopted(view, mask, self.svds, notify=warn)
            return interactions(
                view, batches(view, task, task.split("train", limit)), self.svds, removed=own.removed, mode=own.mode,
                orders=orders, seed=task.seed, progress=progress,
            )  # fmt: skip

    def attention(
        self,
        head: str,
        prompt: Prompt,
        *,
        query: int = -1,
        key: int | None = None,
        directions: Directions = "head",
        toward: Sequence[str] = (),
        mask: Mask | None = None,
    ) -> HeadSplit:
        """Why a head looks from one token to another, and what it moves from there, by pairs of singular directions.

        Args:
            head: its layer and query head, such as `L0.H3`.
            prompt: a text, or an example's prompt, read with what is usual around it.
            query: position of the token that looks; negative ones count from the end.
            key: position of the token that is looked at; None for the one that gets most attention.
            directions: of the head's own matrices, of the stacked ones, or of its products.
            toward: what is moved is measured by what it adds directly to the logit of the first text's first token,
                minus that of a second text's; by its own length without any.
            mask: what is removed; nothing if None.

        Raises:
            SettingsError: no such head or position.
            TaskError, MaskError: a prompt that this model cannot take, or another model's mask.
        """
        layer, number = parse_head(head)
        place = HeadPlace(layer, -1 if number is None else number, query, key=key)
        with self.views.borrow() as view:
            own = empty_mask(self) if mask is None else adopted(view, mask, self.svds, notify=warn)
            return head_split(
                view, own, self.svds, prompt=prompt, place=place, directions=directions,
                toward=first_tokens(view, prompt, toward),
            )  # fmt: skip

    def direction(
        self,
        matrix: MatrixKey | str,
        index: int,
        task: Task,
        *,
        text: str | None = None,
        mode: Mode = "freeze",
        progress: Progress | None = None,
        **how: Unpack[CardOptions],
    ) -> DirectionCard:
        """The card of one singular direction: place, score, effects, contexts, flips, masks and similar directions.

        Args:
            matrix: its key, or its text such as `L0.Q.H3`.
            index: which singular value.
            task: what score, effects and flips are of; contexts are of its train examples and of the text.
            text: a plain text to look for contexts in, too; if None the one that comes along, where the model reads it.
            mode: how the value is removed.
            progress: told (done, total).
            how: see `CardOptions`; `corpora` takes the place of task and text.

        Raises:
            MatrixError, TaskError, SettingsError: what is asked does not fit the model or the task.
        """
        if "corpora" not in how:
            read = own_text(self.tokenizer) if text is None else text
            own = task_corpus(self, task, limit=how.get("limit"), tokens=TOKENS)
            how["corpora"] = [own] if read is None else [own, text_corpus(self, read)]
        with self.views.borrow() as view:
            return card(
                Direction(view, self.svds, _matrix_key(matrix), index=index, mode=mode), task,
                effects=default_effects(warn), contexts=default_contexts(warn), library=Library.default(),
                progress=progress, **how,
            )  # fmt: skip

    def evaluate(self, task: Task, *, split: Split = "test", limit: int | None = None) -> Evaluation:
        """The unpruned model on a split of a task: loss, accuracy and the model's own answers."""
        with self.pruned(empty_mask(self)) as view:
            return view.evaluate(task, split=split, limit=limit)

    def compare(self, mask: Mask, task: Task, *, split: Split = "test", limit: int | None = None) -> Comparison:
        """A mask on a split of a task beside the unpruned model, on the same examples.

        Raises:
            MaskError: another model's mask.
        """
        with self.pruned(mask) as view:
            masked = view.evaluate(task, split=split, limit=limit)
        return Comparison(masked, self.evaluate(task, split=split, limit=limit))

    def slices(
        self, mask: Mask, task: Task, by: str = "answer", *, split: Split = "test", limit: int | None = None
    ) -> tuple[Slice, ...]:
        """A mask beside the unpruned model by slices of a split: where it helps, and where it harms.

        Args:
            mask: what is removed.
            task: on whose examples; `explorer.load_task(..., cases=Cases(only="i=3"))` asks one slice alone.
            by: answer, length, before, a column of the task, or a condition such as `prompt~not`.
            split: of the task.
            limit: the first so many examples only.

        Raises:
            MaskError: another model's mask.
            SettingsError, TaskError: no such column, or no condition.
        """
        found = self.compare(mask, task, split=split, limit=limit)
        return slices(found, task.split(split, limit), by, seed=task.seed)

    def damage(
        self,
        mask: Mask,
        tasks: Sequence[Task] = (),
        *,
        text: str | None = None,
        split: Split = "test",
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> Damage:
        """A mask on tasks that it was not made for, and on plain text, beside the unpruned model.

        `text` is the one that comes along if it is None and the model reads it.

        Raises:
            MaskError: another model's mask.
            TaskError: a task or a text that this model cannot take.
        """
        read = own_text(self.tokenizer) if text is None else text
        with self.views.borrow() as view:
            own = adopted(view, mask, self.svds, notify=warn)
            return measure_damage(
                view, own, self.svds, tasks=tasks, text=read, split=split, limit=limit, progress=progress
            )

    def evidence(
        self,
        mask: Mask,
        task: Task,
        choice: EvidenceChoice,
        *,
        others: Sequence[Task] = (),
        text: str | None = None,
        progress: Progress | None = None,
        **how: Unpack[GivenOptions],
    ) -> Report:
        """Measure what a claim about a mask needs, as for the result of a search, wherever the mask comes from.

        What was measured before is found again.

        Args:
            mask: of this model, with at least one value.
            task: whose test split it is measured on.
            choice: what it is measured beside, beyond its controls; what needs a search says that there is none.
            others: tasks to measure the damage on.
            text: plain text to measure the damage on; the one that comes along if None and the model reads it.
            progress: told (done, total).
            how: see `GivenOptions`.

        Raises:
            MaskError: another model's mask.
            SettingsError, TaskError: what is asked does not fit the mask, the model or the task.
        """
        request = given_request(mask, choice, **how)
        read = own_text(self.tokenizer) if text is None else text
        with self.views.borrow() as view:
            own = adopted(view, mask, self.svds, notify=warn)
            return conduct(
                request, view, task, svds=self.svds, chosen=given_search(own),
                recording=Recording(default_journals(warn)), elsewhere=Elsewhere(others, read),
                watcher=Watcher(after=progress),
            )  # fmt: skip

    def generate(
        self,
        prompts: str | Example | Sequence[str | Example],
        mask: Mask | None = None,
        *,
        framing: Framing = AS_USUAL,
        decoding: Decoding = GREEDY,
        progress: Progress | None = None,
    ) -> tuple[ReplyPair, ...]:
        """What the model says after prompts, unpruned and with a mask, and where the two part.

        Args:
            prompts: one or several.
            mask: what the second side is under; without one the unpruned model speaks alone.
            framing: what stands around the prompts: `explorer.Framing(chat=True)` for a chat.
            decoding: how tokens are taken; `explorer.Decoding(temperature=1.0, seed=3)` draws them.
            progress: told (done, total) tokens; may raise `Stopped` to end with what has been said.

        Raises:
            TaskError: a prompt that this model cannot take.
            MaskError: another model's mask.
        """
        listed = [prompts] if isinstance(prompts, str | Example) else prompts
        with self.views.borrow() as first, self.views.borrow() as second:
            own = empty_mask(self) if mask is None else adopted(second, mask, self.svds, notify=warn)
            return replies(
                (first, second), own, self.svds, prompts=listed, framing=framing, decoding=decoding, progress=progress
            )

    def export(
        self,
        mask: Mask,
        format: str,
        out: Path | str,
        *,
        tasks: Sequence[Task],
        zero: bool = False,
        force: bool = False,
        reader: Literal["any", "vllm"] = "any",
        progress: Progress | None = None,
    ) -> Exported:
        """Write the pruned model, or its change, as a folder for others' programs, one of which reads it again.

        Args:
            mask: of this model.
            format: a name of `explorer.FORMATS`.
            out: the new folder.
            tasks: on whose test prompts it is checked and measured.
            zero: put nothing in the place of removed values, even if the mask freezes means.
            force: replace an export that is there.
            reader: `vllm` makes adapters that vLLM reads.
            progress: told (done, total).

        Raises:
            ExportError: a folder that is taken, a change that the format cannot hold, or a client that is not there or
                reads it otherwise.
            MaskError: another model's mask.
        """
        order = Order(format, Path(out), tuple(tasks), force=force, reader=reader, zero=zero)
        with self.views.borrow() as view:
            own = adopted(view, mask, self.svds, notify=warn)
            return export_mask(view, own, self.svds, order=order, forms=FORMATS, progress=progress)

    def lm_eval(
        self,
        mask: Mask,
        tasks: Sequence[str],
        *,
        folder: Path | None = None,
        shots: int | None = None,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> tuple[HarnessFigure, ...]:
        """The lm-evaluation-harness itself on the pruned model, beside the unpruned one, paired by document.

        Args:
            mask: what is removed.
            tasks: names of its tasks, groups or tags.
            folder: where further task files lie; those that run code are refused.
            shots: documents shown in front of every prompt; each task's own number if None.
            limit: the first so many documents of each task.
            progress: told (runs done, 2).

        Raises:
            MaskError: another model's mask.
            TaskError: the harness is not installed, or cannot run these tasks.
        """
        run = HarnessRun(tuple(tasks), folder, shots, limit=limit)
        with self.views.borrow() as view:
            own = adopted(view, mask, self.svds, notify=warn)
            return run_harness(view, own, self.svds, run=run, progress=progress)

    @contextmanager
    def pruned(self, mask: Mask) -> Iterator[PrunedModel]:
        """A view with a mask on it, for the time of a `with` block; nobody else uses it meanwhile.

        Raises:
            MaskError: another model's mask.
        """
        with self.views.borrow() as view:
            apply(view, adopted(view, mask, self.svds, notify=warn), self.svds)
            try:
                yield PrunedModel(view, mask)
            finally:
                apply(view, empty_mask(self), self.svds)


@dataclass(frozen=True, eq=False)
class PrunedModel:
    """A view of a model with a mask on it.

    Attributes:
        view: for `explorer`'s functions, and for TransformerLens: `view.bridge`.
        mask: what it is under.
    """

    view: View
    mask: Mask

    def evaluate(self, task: Task, *, split: Split = "test", limit: int | None = None) -> Evaluation:
        """Loss, accuracy and the model's own answers on a split of a task.

        Raises:
            TaskError: an empty split, or an example that this model cannot take.
        """
        return evaluate_view(self.view, task, split, limit=limit)

    def perplexity(self, text: str) -> Perplexity:
        """The perplexity of the first tokens of a text.

        Raises:
            TaskError: a text that this model cannot take.
        """
        return measure_perplexity(self.view, text)


def _matrix_key(key: MatrixKey | str) -> MatrixKey:
    return MatrixKey.parse(key) if isinstance(key, str) else key
