"""Everything that a user can ask for: one frozen request per action, which gives one result.

From a request follow its command, its Python, its TOML and its link (`explorer.actions.request`). A new action is a
file here and its name in `__all__`, from which `REQUESTS` are taken.
"""

from explorer.actions.activations import ReadActivations
from explorer.actions.attention import SplitAttention
from explorer.actions.cache import CacheInfo, ClearCache, VerifyCache
from explorer.actions.choices import (
    CasesChoice,
    FramingChoice,
    ModelChoice,
    RawModelChoice,
    TaskArgument,
    TaskChoice,
    TasksChoice,
    WordingChoice,
)
from explorer.actions.direction import ShowDirection
from explorer.actions.effects import MeasureEffects
from explorer.actions.evaluate import Evaluate
from explorer.actions.evidence import MeasureEvidence
from explorer.actions.export import ExportMask
from explorer.actions.finetune import Finetune
from explorer.actions.generate import Generate
from explorer.actions.harness import RunHarness
from explorer.actions.interactions import MeasureInteractions
from explorer.actions.labels import LabelDirection, ListLabels
from explorer.actions.mask_files import (
    DiffMasks,
    IntersectMasks,
    ScaleMask,
    ShowMask,
    SubtractMasks,
    UniteMasks,
    VoteMasks,
)
from explorer.actions.masks import CompareMasks, MeasureDamage, RenewMask, TransferMask
from explorer.actions.models import CheckModel, ConvertModel, FetchModel, ListModels
from explorer.actions.organisms import StudyOrganisms
from explorer.actions.push import PushExport
from explorer.actions.readout import ReadOut
from explorer.actions.report import ShowReport
from explorer.actions.reproduce import Reproduce
from explorer.actions.request import Request, Result, Streaming, Tools
from explorer.actions.scoring import Curve, Prune, Score
from explorer.actions.search import Search
from explorer.actions.slices import SliceExamples
from explorer.actions.spectra import ListMatrices, ShowCheckpoint, ShowSpectra
from explorer.actions.study import StudyScorers
from explorer.actions.tasks import FetchTasks, ListTasks, ShowTask, ValidateTask

__all__ = [
    "REQUESTS",
    "CacheInfo",
    "CasesChoice",
    "CheckModel",
    "ClearCache",
    "CompareMasks",
    "ConvertModel",
    "Curve",
    "DiffMasks",
    "Evaluate",
    "ExportMask",
    "FetchModel",
    "FetchTasks",
    "Finetune",
    "FramingChoice",
    "Generate",
    "IntersectMasks",
    "LabelDirection",
    "ListLabels",
    "ListMatrices",
    "ListModels",
    "ListTasks",
    "MeasureDamage",
    "MeasureEffects",
    "MeasureEvidence",
    "MeasureInteractions",
    "ModelChoice",
    "Prune",
    "PushExport",
    "RawModelChoice",
    "ReadActivations",
    "ReadOut",
    "RenewMask",
    "Reproduce",
    "Request",
    "Result",
    "RunHarness",
    "ScaleMask",
    "Score",
    "Search",
    "ShowCheckpoint",
    "ShowDirection",
    "ShowMask",
    "ShowReport",
    "ShowSpectra",
    "ShowTask",
    "SliceExamples",
    "SplitAttention",
    "Streaming",
    "StudyOrganisms",
    "StudyScorers",
    "SubtractMasks",
    "TaskArgument",
    "TaskChoice",
    "TasksChoice",
    "Tools",
    "TransferMask",
    "UniteMasks",
    "ValidateTask",
    "VerifyCache",
    "VoteMasks",
    "WordingChoice",
]

_NAMED = [globals().get(name) for name in __all__]
REQUESTS: tuple[type[Request], ...] = tuple(
    one for one in _NAMED if isinstance(one, type) and issubclass(one, Request) and hasattr(one, "command")
)
