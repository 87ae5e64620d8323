"""Everything that a user can ask for: one frozen request per action, which gives one result.

From a request follow its command, its Python, its TOML and its link (`explorer.actions.request`). A new action is a
file here and a line in `REQUESTS`.
"""

from explorer.actions.activations import ReadActivations
from explorer.actions.choices import FramingChoice, ModelChoice, RawModelChoice, TaskChoice
from explorer.actions.effects import MeasureEffects
from explorer.actions.evaluate import Evaluate
from explorer.actions.finetune import Finetune
from explorer.actions.readout import ReadOut
from explorer.actions.request import Request, Result, Tools
from explorer.actions.scoring import Curve, Prune, Score
from explorer.actions.spectra import ListMatrices, ShowCheckpoint, ShowSpectra
from explorer.actions.study import StudyScorers

__all__ = [
    "REQUESTS",
    "Curve",
    "Evaluate",
    "Finetune",
    "FramingChoice",
    "ListMatrices",
    "MeasureEffects",
    "ModelChoice",
    "Prune",
    "RawModelChoice",
    "ReadActivations",
    "ReadOut",
    "Request",
    "Result",
    "Score",
    "ShowCheckpoint",
    "ShowSpectra",
    "StudyScorers",
    "TaskChoice",
    "Tools",
]

REQUESTS: tuple[type[Request], ...] = (
    Curve,
    Evaluate,
    Finetune,
    ListMatrices,
    MeasureEffects,
    Prune,
    ReadActivations,
    ReadOut,
    Score,
    ShowCheckpoint,
    ShowSpectra,
    StudyScorers,
)
