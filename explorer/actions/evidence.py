"""`mask evidence`: a mask from anywhere, measured as the result of a search would be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from explorer.actions import names
from explorer.actions.choices import (
    Cluster,
    Limit,
    ModelChoice,
    TaskChoice,
    identity,
    own_mask,
    read_mask,
    wording,
)
from explorer.actions.clusters import check_cluster, executor_of, workers
from explorer.actions.masks import GivenMask, plain_text
from explorer.actions.report import refuse_report, write_report
from explorer.actions.request import ALONE, Arg, Request, Result, Tools
from explorer.core.errors import Stopped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from explorer.search.evidence.choice import EvidenceChoice
    from explorer.search.report import Report

Nulls = Annotated[
    str | None,
    Arg(f"Measure the mask beside nulls: some of {', '.join(get_args(names.Null))} with commas between, or all."),
]
Baselines = Annotated[
    str | None,
    Arg(f"Measure it beside baselines: some of {', '.join(get_args(names.Baseline))} with commas between, or all."),
]
Parts = Annotated[
    bool, Arg("Restore the mask's members one by one and in subsets, and measure other wordings and program text.")
]
DamageText = Annotated[
    str | None, Arg("Plain text for the damage: a UTF-8 file, or none; bundled if the model reads it.")
]
ReportFolder = Annotated[Path | None, Arg("Folder to write report.json and report.html into.")]
Controls = Annotated[int, Arg("Draws of each random control of the mask; 0 for none.", least=0)]


@dataclass(frozen=True, eq=False)
class EvidenceResult(Result):
    """The report of a mask that was given; `about` says which model that is by the name that it goes by here."""

    about: Mapping[str, Any]
    report: Report
    folder: Path | None

    def as_dict(self) -> dict[str, Any]:
        """The report, with where it was written."""
        return {**self.report.as_dict(), **self.about, "report": None if self.folder is None else str(self.folder)}


@dataclass(frozen=True, kw_only=True)
class MeasureEvidence(Request):
    """Measure what a claim about a mask needs: controls, nulls, baselines, its members, damage, and what they license.

    The mask may be made by hand or come from a file; it is measured as the result of a search is. Two nulls need a
    search to run again, shuffled and rotated: where they are asked for, the report says that there is none. Test
    examples count as new if neither the task's train and validation split nor, as far as the mask says, the search that
    it comes from has read them. What was measured is kept, so that more may be asked for later.

    Keys of --json: those of `search`, but for out.

    Example: `eigenprune mask evidence --model bundled --mask mask.json --task int-mult --nulls all --baselines all`
    """

    command: ClassVar[str] = "mask evidence"

    model: ModelChoice
    mask: GivenMask
    task: TaskChoice
    controls: Controls = 20
    nulls: Nulls = None
    baselines: Baselines = None
    evidence: Parts = False
    also: Annotated[tuple[str, ...], Arg("Another task to measure the damage on; repeatable.")] = ()
    text: DamageText = None
    test_limit: Annotated[int | None, Arg("Measure on N test examples only.", least=1)] = None
    limit: Limit = None
    report: ReportFolder = None
    cluster: Cluster = None

    def run(self, tools: Tools = ALONE) -> EvidenceResult:
        """Measure.

        Raises:
            ExplorerError: a model, mask, task or option that cannot be had or does not go with another, or a file that
                cannot be written.
        """
        choice = self.evidence_choice
        check_cluster(self.cluster)
        if self.report is not None:
            refuse_report(self.report)
        task = self.task.open("train", self.limit, tools)
        task.split("test", self.test_limit)
        others = self.task.others(self.also).open("test", self.test_limit, tools)
        mask = read_mask(self.mask)
        choice.check_mode(mask.mode)
        from explorer.search.given import given_request, given_search

        request = given_request(
            mask, limit=self.limit, seed=task.seed, controls=self.controls, test_limit=self.test_limit, evidence=choice
        )
        view = self.model.open_for(task, "train", self.limit, tools=tools)
        mask = own_mask(view, mask, tools)
        from explorer.search.conductor import Elsewhere, Recording, Watcher, conduct
        from explorer.search.journal import default_journals
        from explorer.spectra.cache import default_cache

        text = plain_text(view, self.text)
        with (
            workers(self.cluster, self.model.device, tools) as executors,
            tools.working("Measuring what a claim needs") as progress,
        ):
            try:
                found = conduct(
                    request, view, task, svds=default_cache(tools.notice), chosen=given_search(mask),
                    recording=Recording(default_journals(tools.notice)),
                    elsewhere=Elsewhere(others, text, executor_of(executors, view, task)),
                    watcher=Watcher(after=progress),
                )  # fmt: skip
            except Stopped:  # what was measured is kept
                raise KeyboardInterrupt from None
        if self.report is not None:
            write_report(found.file, self.report)
        return EvidenceResult({**identity(view), **wording(task)}, found, self.report)

    @property
    def evidence_choice(self) -> EvidenceChoice:
        """What the mask is measured beside, beyond its controls; raises SettingsError for what is not known."""
        from explorer.search.evidence.choice import as_evidence

        return as_evidence(self.nulls, self.baselines, parts=self.evidence)
