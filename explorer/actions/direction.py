"""`direction`: the card of one singular direction, from its place in the spectrum to where it is active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from explorer.actions.choices import TASK_HELP, Mode, ModelChoice, OfTask, Split, TaskChoice, asked, removal_mode
from explorer.actions.masks import plain_text
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.errors import SettingsError
from explorer.core.keys import MatrixKey
from explorer.tasks import Task, takes_data

if TYPE_CHECKING:
    from explorer.experiments.direction import (
        DirectionEffects,
        DirectionFlips,
        DirectionScore,
        LibraryPlace,
        SpectrumPlace,
    )
    from explorer.masks.labels import DirectionLabel
    from explorer.measure.contexts import DirectionContexts
    from explorer.measure.corpora import Corpus
    from explorer.measure.readout import Readout
    from explorer.models import View
    from explorer.spectra.similar import SimilarDirections

SPLIT = "train"
MOST_CONTEXTS = 16  # at either end, of those that are kept


@dataclass(frozen=True)
class DirectionResult(OfTask):
    """Everything about one singular direction; effects and scores are changes of the loss, nats per example.

    Attributes:
        label: what it is called in the workspace, with a note; null if it is called nothing.
        place: sigma, rank, energy (its share of the squared norm), block (indices of its degenerate block), null, and
            bulk_edge (of a random matrix).
        score: score with its bootstrap stderr, uncertain (whether its sign is in doubt), c (the frozen mean), and
            the unpruned loss on n examples.
        effects: tasks: the exact effect of removing it alone, on the task and on every `--other`; gains: the change at
            gains from -1 to 2 (0 removes it, 1 changes nothing).
        flips: the examples of the split that flip if it alone is removed, and what that does to accuracy and loss.
        tokens: per residual-stream vector the tokens that it reads or writes most (plus) and least (minus).
        contexts: per corpus (the task, the plain text) where x . u is largest and smallest, random contexts beside
            them, and its mean, deviation and quantiles over all tokens. A context has x . u at each of its tokens;
            `value` is the one at token `at`, `written` is (x . u) s there.
        library: of how many masks of the library it is part, and which.
        similar: per relation the directions of other matrices with the largest |cosine|; `chance` is the median of the
            largest of as many random directions.
    """

    matrix: str
    index: int
    mode: str
    label: DirectionLabel | None
    place: SpectrumPlace
    score: DirectionScore
    effects: DirectionEffects
    flips: DirectionFlips
    tokens: Sequence[Readout]
    contexts: Sequence[DirectionContexts]
    library: LibraryPlace
    similar: Sequence[SimilarDirections]


@dataclass(frozen=True, kw_only=True)
class ShowDirection(Request):
    """Show the card of one singular direction: its place, score, effects, tokens, contexts, flips, masks and likes.

    Contexts are where x . u is largest and smallest, over the task's train examples and over plain text. They are found
    in one pass for all directions of all matrices and kept in the cache folder, so that the next card has them at once.

    Example: `eigenprune direction L0.K.H1 0 --model bundled --task int-mult`
    """

    command: ClassVar[str] = "direction"

    matrix: Annotated[str, Arg("Such as L0.K.H1 (a head), L0.K (stacked) or L0.OUT.", positional=True)]
    index: Annotated[int, Arg("Which singular value, 0 for the largest.", least=0, positional=True)]
    model: ModelChoice
    task: TaskChoice
    other: Annotated[
        tuple[str, ...],
        Arg(f"Also the exact effect on another task, asked in its usual way: {TASK_HELP[2:-1]}; repeatable."),
    ] = ()
    text: Annotated[
        str | None,
        Arg(
            "Plain text for contexts: bundled, none, or the path of a UTF-8 file; if not given, bundled if the model "
            "reads it."
        ),
    ] = None
    tokens: Annotated[int | None, Arg("Tokens of the text, and of the task, to read; 8192.", least=2)] = None
    contexts: Annotated[int, Arg("Contexts at either end, 16 at most.", least=0)] = 8
    shown: Annotated[int, Arg("Tokens at either end of a vector, and directions of each relation.", least=1)] = 8
    bootstrap: Annotated[int, Arg("Resamples of the examples for the score's standard error.", least=2)] = 100
    mode: Mode = "freeze"
    limit: Annotated[int | None, Arg("Use only the first N train examples.", least=1)] = None
    split: Split = "validation"
    eval_limit: Annotated[int | None, Arg("Show flips among the first N examples of --split.", least=1)] = None

    def run(self, tools: Tools = ALONE) -> DirectionResult:
        """Make the card.

        Raises:
            ExplorerError: a model, task, text, matrix or value that cannot be had.
        """
        key, mode = MatrixKey.parse(self.matrix), removal_mode(self.mode)
        if self.contexts > MOST_CONTEXTS:
            raise SettingsError(f"--contexts is {self.contexts}: give 0 to {MOST_CONTEXTS}, as many as are kept.")
        if self.task.task in self.other:
            raise SettingsError(f"--other {self.task.task[:40]} is the task itself: name another one.")
        task = self.task.open(SPLIT, self.limit, tools)
        task.split(self.split, self.eval_limit)
        others = [self._other(name, tools) for name in self.other]
        view = self.model.open_for_all([task, *others], SPLIT, self.limit, tools=tools)
        from explorer.attribution.effect_store import default_effects
        from explorer.experiments.direction import Direction, card
        from explorer.masks.library import Library
        from explorer.measure.context_store import default_contexts
        from explorer.spectra.cache import default_cache

        direction = Direction(view, default_cache(tools.notice), key, index=self.index, mode=mode)
        corpora = self._corpora(view, task)
        with tools.working("Reading the direction") as progress:
            found = card(
                direction, task, effects=default_effects(tools.notice), contexts=default_contexts(tools.notice),
                library=Library.default(), progress=progress, others=others, corpora=corpora, limit=self.limit,
                split=self.split, eval_limit=self.eval_limit, bootstrap=self.bootstrap, contexts_shown=self.contexts,
                shown=self.shown,
            )  # fmt: skip
        return DirectionResult(**asked(view, task), **vars(found))

    def _other(self, name: str, tools: Tools) -> Task:
        """Another task, asked in its usual way."""
        data = self.task.data if takes_data(name) else None
        choice = TaskChoice(task=name, data=data, seed=self.task.seed)
        return choice.open(SPLIT, self.limit, replace(tools, task=None))

    def _corpora(self, view: View, task: Task) -> list[Corpus]:
        """The task's train examples, and the text if there is one."""
        from explorer.measure.corpora import TOKENS, task_corpus, text_corpus

        most = self.tokens or TOKENS
        text = plain_text(view, self.text)
        found = [task_corpus(view.model, task, SPLIT, limit=self.limit, tokens=most)]
        return found if text is None else [*found, text_corpus(view.model, text, tokens=most)]
