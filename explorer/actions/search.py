"""`search`: find a mask automatically, and report it beside its controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from explorer.actions import names
from explorer.actions.choices import (
    Cluster,
    Kinds,
    Limit,
    MaskFile,
    Mode,
    ModelChoice,
    Stacked,
    TaskChoice,
    TasksChoice,
    identity,
    kinds_or_all,
    layers_or_all,
    refuse_unwritable,
    removal_mode,
    wording,
)
from explorer.actions.clusters import check_cluster, executor_of, workers
from explorer.actions.evidence import Baselines, Controls, DamageText, Nulls, Parts, ReportFolder
from explorer.actions.masks import plain_text
from explorer.actions.report import refuse_report, write_report
from explorer.actions.request import ALONE, Arg, Request, Result, Tools
from explorer.core.errors import SettingsError, Stopped

if TYPE_CHECKING:
    from explorer.models import View
    from explorer.search.evidence.choice import EvidenceChoice
    from explorer.search.journal import Journal
    from explorer.search.options import StrategyOptions
    from explorer.search.released import ReleasedReport
    from explorer.search.report import Report
    from explorer.search.request import SearchRequest
    from explorer.tasks import Task

RELEASED = (0.2, 8, 0)  # fraction, batch size and answer token, if they are not given
SHARE = "0.02"  # of all values that may be removed, if --max-removed does not say otherwise


@dataclass(frozen=True, eq=False)
class SearchResult(Result):
    """A mask and its report; `about` says which model that is by the name that it goes by here."""

    about: Mapping[str, Any]
    report: Report
    out: Path
    folder: Path | None

    def as_dict(self) -> dict[str, Any]:
        """The report, with where it was written."""
        folder = None if self.folder is None else str(self.folder)
        return {**self.report.as_dict(), **self.about, "out": str(self.out), "report": folder}


@dataclass(frozen=True, eq=False)
class ReleasedResult(Result):
    """What the released code removes, and its report.

    Attributes:
        model: its name.
        bos_in_answers: whether token 0 of an answer is a BOS that the tokenizer adds.
    """

    about: Mapping[str, Any]
    report: ReleasedReport
    out: Path
    model: str
    bos_in_answers: bool

    def as_dict(self) -> dict[str, Any]:
        """The report, with where the mask was written."""
        return {**self.about, **self.report.as_dict(), "out": str(self.out)}


@dataclass(frozen=True, kw_only=True)
class Search(Request):
    """Search for a mask that lowers the loss of a task, and measure it once on the test split beside its controls.

    A search sees the train and the validation split only. The unpruned model counts as a result: if nothing helps, the
    mask is empty. Ctrl-C keeps the best mask so far. Asked for again, a search that was stopped or killed goes on where
    it was and ends with the same mask; --time, forwards and seconds are those of all its runs together.

    Keys of --json: model, model_digest, basis, task_digest, shots, template, bos, chat, system, splits, hold_out,
    wordings, only, strategy, task, seed, mode, removed, mask_digest, train, validation, test, test_limit, baseline,
    comparison, seen, controls, curve, damage, evidence, stopped, settings, forwards, seconds, versions, out, report.

    --nulls, --baselines, --repeats and --evidence measure what a claim needs, after the search; with any of them random
    controls are drawn 99 times where that takes two minutes at most. What was measured is kept as the search is, so
    that they may be asked for later. `evidence` of --json holds it, with the sentence that it licenses.

    With --strategy paper --as-released nothing is searched: --fraction decides, the budget does not. What replaces a
    value is its mean over the last mini-batch, summed over token positions. Values of O have one mean per position; the
    mask file holds their average, which is measured as well. Right is --answer-token at the prompt's last position.
    Further keys of --json: as_released, fraction, batch_size, answer_token, positions, padded, reads_bos,
    removed_by_kind, unpruned and averaged (by split; averaged is empty without O), exact (all answer tokens, test).

    Example: `eigenprune search --model bundled --task int-mult --kinds Q,K --max-removed 20 --out mask.json`
    """

    command: ClassVar[str] = "search"

    model: ModelChoice
    task: TaskChoice
    out: MaskFile
    strategy: Annotated[
        str, Arg(f"{', '.join(get_args(names.Method))}, or a control: {', '.join(get_args(names.Chance))}.")
    ] = "verified"
    as_released: Annotated[bool, Arg("paper as in its released code, in the folded basis (see below).")] = False
    fraction: Annotated[float, Arg("Share of the values that --as-released takes.")] = RELEASED[0]
    batch_size: Annotated[int, Arg("Examples in a mini-batch of as-released.")] = RELEASED[1]
    answer_token: Annotated[int, Arg("Which token of the answer as-released looks at, from 0.")] = RELEASED[2]
    per_kind: Annotated[bool, Arg("paper: take the same share of every kind, not the lowest of all kinds.")] = False
    base: Annotated[str | None, Arg("ensemble: the strategy whose masks it combines; paper.")] = None
    members: Annotated[int | None, Arg("ensemble: how many searches; 5.", least=2)] = None
    over: Annotated[
        str | None,
        Arg(
            "ensemble: what its searches differ in: splits (halves of the train split), seeds, or other tasks with "
            "commas between, each beside --task; splits."
        ),
    ] = None
    at_least: Annotated[
        int | None,
        Arg("ensemble: how many of the masks must remove a value, 1 for the union; every number is tried.", least=1),
    ] = None
    kinds: Kinds = "all"
    layers: Annotated[str | None, Arg("Layers such as 0-3,7; all if not given.")] = None
    max_removed: Annotated[str, Arg("Most values to remove: a number, or a share of all such as 0.02.")] = SHARE
    time: Annotated[float | None, Arg("Seconds after which the best mask so far is the result.", least=0.0)] = None
    max_growth: Annotated[
        str,
        Arg(
            "Largest growth of the perplexity on prose and program text, such as 0.05 for 5 %, or none; 0.1 where the "
            "model reads them, if not given."
        ),
    ] = "auto"
    compute: Annotated[
        str,
        Arg(
            "Type in which proposals are computed: float32, bfloat16, or auto (bfloat16 for a large model where it is "
            "faster). Whatever is accepted or reported is measured in the type of --dtype."
        ),
    ] = "auto"
    controls: Controls = 20
    test_limit: Annotated[int | None, Arg("Measure mask, baseline and controls on N test examples only.", least=1)] = (
        None
    )
    nulls: Nulls = None
    baselines: Baselines = None
    repeats: Annotated[int, Arg("Search N times, with other seeds and cuts of train and validation.", least=1)] = 1
    evidence: Parts = False
    also: Annotated[tuple[str, ...], Arg("Another task to measure the damage on; repeatable.")] = ()
    text: DamageText = None
    report: ReportFolder = None
    fresh: Annotated[bool, Arg("Forget what an earlier run of the same search has measured.")] = False
    scorer: Annotated[str, Arg("What scores the values: gradient, hybrid, or another of `score`.")] = "gradient"
    mode: Mode = "freeze"
    stacked: Stacked = False
    limit: Limit = None
    split_seed: Annotated[int | None, Arg("Seed of the splits alone; --seed if not given.", least=0)] = None
    cluster: Cluster = None

    def run(self, tools: Tools = ALONE) -> SearchResult | ReleasedResult:
        """Search, and report.

        Raises:
            ExplorerError: a model, task, strategy or option that cannot be had or does not go with another, or a file
                that cannot be written.
        """
        from explorer.attribution import SCORERS

        if self.scorer not in SCORERS:
            raise SettingsError(f"{self.scorer[:40]!r} is not a scorer: choose one of {', '.join(SCORERS)}.")
        if self.as_released:
            return self._as_released(tools)
        if (self.fraction, self.batch_size, self.answer_token) != RELEASED:
            raise SettingsError("--fraction, --batch-size and --answer-token belong to --as-released: add it.")
        return self._search(tools)

    # ---- what is asked

    @property
    def splits_seed(self) -> int:
        """The seed of the splits."""
        return self.task.seed_number if self.split_seed is None else self.split_seed

    @property
    def options(self) -> StrategyOptions:
        """Those of the strategy."""
        from explorer.search.options import StrategyOptions

        return StrategyOptions(self.per_kind, self.base, self.members, over=self.over, at_least=self.at_least)

    def others(self, tools: Tools) -> list[Task]:
        """The tasks that the damage is measured on."""
        return self._elsewhere(self.also).open("test", self.test_limit, tools)

    def engine_request(self, view: View) -> SearchRequest:
        """What the search itself is asked, on a model."""
        from explorer.models.matrices import matrices, shape
        from explorer.search.request import SearchRequest, growth_limit

        kinds, layers, per_head = kinds_or_all(self.kinds), layers_or_all(self.layers), not self.stacked
        total = sum(min(shape(view, key)) for key in matrices(view, kinds, layers, per_head=per_head))
        return SearchRequest(
            self.strategy, kinds, layers, per_head=per_head, mode=removal_mode(self.mode), scorer=self.scorer,
            limit=self.limit, max_removed=at_most(self.max_removed, total), seconds=self.time,
            seed=self.task.seed_number, controls=self.controls, test_limit=self.test_limit, options=self.options,
            growth=growth_limit(self.max_growth, view), compute=self.compute, evidence=self.evidence_choice,
        )  # fmt: skip

    def _elsewhere(self, names: tuple[str, ...]) -> TasksChoice:
        return self.task.others(names, self.splits_seed)

    @property
    def evidence_choice(self) -> EvidenceChoice:
        """What the mask is measured beside, beyond its controls; raises SettingsError for what is not known."""
        from explorer.search.evidence.choice import as_evidence

        return as_evidence(self.nulls, self.baselines, self.repeats, parts=self.evidence)

    # ---- what is done

    def _search(self, tools: Tools) -> SearchResult:
        elsewhere = self._elsewhere(())
        chosen = self.options.choose(
            self.strategy, lambda name: elsewhere.open_one(name, "train", self.limit, tools=tools)
        )
        self._check_places()
        if self.compute not in get_args(names.Compute):
            raise SettingsError(
                f"--compute {self.compute[:40]!r} is not known: choose one of {', '.join(get_args(names.Compute))}."
            )
        check_cluster(self.cluster)
        kinds_or_all(self.kinds), layers_or_all(self.layers)
        self.evidence_choice.check_mode(removal_mode(self.mode))
        task = replace(self.task, seed=self.splits_seed).open("train", self.limit, tools)
        task.split("test", self.test_limit)
        others = self.others(tools)
        view = self.model.open_for(task, "train", self.limit, tools=tools)
        from explorer.search.conductor import Elsewhere, Recording, Watcher, conduct
        from explorer.search.journal import default_journals
        from explorer.spectra.cache import default_cache

        text, request = plain_text(view, self.text), self.engine_request(view)
        with (
            workers(self.cluster, self.model.device, tools) as executors,
            tools.searching(f"Searching ({self.strategy})") as bar,
        ):
            try:
                found = conduct(
                    request, view, task, svds=default_cache(tools.notice), chosen=chosen,
                    recording=Recording(default_journals(tools.notice), self.fresh),
                    elsewhere=Elsewhere(others, text, executor_of(executors, view, task)),
                    watcher=Watcher(
                        bar.progress, lambda _, status: bar.watch(status), lambda one: _say_resumed(one, tools),
                        after=bar.after,
                    ),
                )  # fmt: skip
            except Stopped:  # a search among the nulls was interrupted: what was measured is kept
                raise KeyboardInterrupt from None
        found.mask.save(self.out)
        if self.report is not None:
            write_report(found.file, self.report)
        return SearchResult({**identity(view), **wording(task)}, found, self.out, folder=self.report)

    def _check_places(self) -> None:
        refuse_unwritable(self.out)
        if self.report is not None:
            refuse_report(self.report)

    def _as_released(self, tools: Tools) -> ReleasedResult:
        """Open the model in the folded basis, remove, measure, write the mask."""
        self.options.choose(
            self.strategy, lambda name: self._elsewhere(()).open_one(name, "train", self.limit, tools=tools)
        )
        self._check_alone()
        refuse_unwritable(self.out)
        kinds = kinds_or_all(self.kinds)
        task = replace(self.task, metric="auto").open("train", self.limit, tools)
        from explorer.attribution.minibatches import adds_bos
        from explorer.search.released import ReleasedRequest, ReleasedSettings, run_released
        from explorer.spectra.cache import default_cache

        settings = ReleasedSettings(self.fraction, self.batch_size, self.answer_token)
        view = replace(self.model, basis="folded", against=None).open_for(task, "train", self.limit, tools=tools)
        request = ReleasedRequest(
            kinds or (), settings, self.limit, test_limit=self.test_limit, seed=self.task.seed_number,
            control_draws=self.controls,
        )  # fmt: skip
        with tools.working("Pruning as released") as progress:
            found = run_released(view, task, default_cache(tools.notice), request=request, progress=progress)
        found.mask.save(self.out)
        about, bos = {**identity(view), **wording(task)}, found.means.padded and adds_bos(view)
        return ReleasedResult(about, found, self.out, model=view.model.source.name, bos_in_answers=bool(bos))

    def _check_alone(self) -> None:
        """Refuse options that the released code has no counterpart of."""
        if self.report is not None or self.also:
            raise SettingsError("--as-released has a report of its own: leave out --report and --also.")
        if self.splits_seed != self.task.seed_number:
            raise SettingsError("--as-released has one seed for everything: leave out --split-seed.")
        if self.task.metric not in ("auto", "exact"):
            raise SettingsError("--as-released counts exact match, as the released code does: leave out --metric.")
        if self.strategy != "paper":
            raise SettingsError(
                f"--as-released is a form of the strategy paper, not of {self.strategy}: add --strategy paper."
            )
        given = {"--layers": self.layers is not None, "--mode zero": self.mode != "freeze", "--stacked": self.stacked}
        given |= {"--per-kind": self.per_kind, "--compute": self.compute != "auto"}
        given |= {"--cluster": self.cluster is not None, "--nulls": self.nulls is not None}
        given |= {"--baselines": self.baselines is not None, "--repeats": self.repeats > 1, "--evidence": self.evidence}
        for option in (name for name, unusual in given.items() if unusual):
            raise SettingsError(f"--as-released freezes values of all layers, per head, in one go: leave out {option}.")


def at_most(text: str, total: int) -> int:
    """A number of values from `40`, or from a share of all of them such as `0.02`.

    Raises:
        SettingsError: it is neither.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    share = "." in text and 0 < number < 1
    if not share and not (number.is_integer() and 1 <= number <= total):
        raise SettingsError(f"--max-removed {text[:40]!r}: give a number from 1 to {total:,}, or a share such as 0.02.")
    return max(1, int(number * total)) if share else int(number)


def _say_resumed(journal: Journal, tools: Tools) -> None:
    tools.notice(
        f"Resuming: {journal.recorded:,} scores and measurements of {journal.seconds:.0f} s are there already; "
        "--fresh starts anew."
    )
