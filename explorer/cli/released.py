"""`search --strategy paper --as-released`: the paper's strategy as its released code does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.actions.choices import kinds_or_all, refuse_unwritable
from explorer.cli.console import figures_row, notice, range_text, say, show_json, show_table, working
from explorer.cli.setup import Asked, identity, open_for, open_task, seed_or_default, wording
from explorer.core.errors import SettingsError

if TYPE_CHECKING:
    from explorer.measure.evaluate import Evaluation
    from explorer.models import View
    from explorer.search.control_runs import ControlRuns
    from explorer.search.released import ReleasedReport
    from explorer.tasks import Task


@dataclass(frozen=True)
class AsReleased:
    """What the command was given; see `explorer.search.released`."""

    model: str
    task: str
    asked: Asked
    kinds: str
    fraction: float
    batch_size: int
    answer_token: int
    limit: int | None
    test_limit: int | None
    seed: int | None
    controls: int
    dtype: str | None
    device: str | None
    out: Path
    json: bool

    def run(self) -> None:
        """Open the model in the folded basis, remove, measure, write the mask, report."""
        refuse_unwritable(self.out)
        kinds, seed = kinds_or_all(self.kinds), seed_or_default(self.seed)
        opened = open_task(self.task, seed, "train", self.limit, self.asked)

        from explorer.search.released import ReleasedSettings, run_released
        from explorer.spectra.cache import default_cache

        settings = ReleasedSettings(self.fraction, self.batch_size, self.answer_token)
        view = open_for([opened], "train", self.limit, self.model, self.dtype, self.device, "folded")
        with working("Pruning as released") as progress:
            found = run_released(
                view, opened, default_cache(notice), kinds or (), settings,
                limit=self.limit, test_limit=self.test_limit, seed=seed, control_draws=self.controls,
                progress=progress,
            )  # fmt: skip
        found.mask.save(self.out)
        if self.json:
            return show_json({**identity(view), **wording(opened), **found.as_dict(), "out": str(self.out)})
        _show(view, opened, found)
        say(f"Mask: {self.out}{', with averaged means in O' if found.averaged else ''}")


def check_alone(strategy: str, layers: str | None, mode: str, *, stacked: bool, per_kind: bool) -> None:
    """Refuse options that the released code has no counterpart of; raises SettingsError."""
    if strategy != "paper":
        raise SettingsError(f"--as-released is a form of the strategy paper, not of {strategy}: add --strategy paper.")
    given = {"--layers": layers is not None, "--mode zero": mode != "freeze", "--stacked": stacked}
    given["--per-kind"] = per_kind
    for option in (name for name, unusual in given.items() if unusual):
        raise SettingsError(f"--as-released freezes values of all layers, per head: leave out {option}.")


def _show(view: View, task: Task, found: ReleasedReport) -> None:
    from explorer.attribution.minibatches import adds_bos

    settings, name = found.settings, f"{len(found.mask):,} removed"
    show_table(
        f"{view.model.source.name} on {task.name}: paper, as released, in mini-batches of {settings.batch_size}",
        ("", "accuracy [95 % interval]", "loss per example"),
        [
            figures_row("before, test", found.baseline.as_dict()),
            figures_row(f"as released ({name}), test", found.test.as_dict()),
            *(figures_row(f"with averaged means in O ({name}), test", one.as_dict()) for one in _averaged(found)),
            *_exact_rows(found),
            *(
                figures_row(f"{what}, {split}", evaluations[split].as_dict())
                for split in ("validation", "train")
                for what, evaluations in (("before", found.before), ("as released", found.released))
                if split in evaluations
            ),
        ],
    )
    if found.controls:
        show_table(
            "Controls of the same size, frozen alike, test",
            ("control", "draws", "accuracy: median (range)", "beaten in accuracy", "beaten in loss"),
            [_control_row(name, runs) for name, runs in found.controls.items()],
        )
    padded = (
        f", padded on the left, read {'with' if found.reads_bos else 'without'} a BOS" if found.means.padded else ""
    )
    say(
        f"Right is answer token {settings.answer_token} at the prompt's last position. Frozen means are summed over "
        f"{found.positions} positions{padded}; those of O are kept by position. {found.forwards:,} forward passes of "
        f"one example, {found.seconds:.0f} s."
    )
    if found.means.padded and settings.answer_token == 0 and adds_bos(view):
        say("The tokenizer puts a BOS in front of an answer, too: as released, token 0 is that BOS.")
    if settings.batch_size == 1:
        say("With mini-batches of one every score is 0: values went in the order of their places.")


def _averaged(found: ReleasedReport) -> list[Evaluation]:
    return [] if found.averaged_test is None else [found.averaged_test]


def _exact_rows(found: ReleasedReport) -> list[tuple[str, str, str]]:
    if found.exact["baseline"] is found.baseline:
        return []
    names = {"baseline": "before", "released": "as released", "averaged": "with averaged means in O"}
    return [figures_row(f"{names[name]}, all answer tokens, test", one.as_dict()) for name, one in found.exact.items()]


def _control_row(name: str, runs: ControlRuns) -> tuple[object, ...]:
    accuracy = [run.accuracy for run in runs.runs]
    beaten = f"{runs.accuracy_percentile:.0f} %", f"{runs.loss_percentile:.0f} %"
    return name, len(accuracy), range_text(accuracy), *beaten
