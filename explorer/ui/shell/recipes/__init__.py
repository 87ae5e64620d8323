"""What the pages do, as commands and as Python: text that gives the same numbers where it is run.

`RECIPES` is the table of all of them. A recipe takes a `Setting` (model, task, examples, mask, scores), and what its
action was asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from explorer.ui.shell.recipes.looking import activations, against, readout, spectra
from explorer.ui.shell.recipes.measuring import controls, curve, damage, evaluate, own_damage, pair
from explorer.ui.shell.recipes.scoring import effects, lowest, ranking, study
from explorer.ui.shell.recipes.searching import combine, search
from explorer.ui.shell.recipes.setting import Recipe, Setting, is_file_task, needs_data
from explorer.ui.shell.recipes.transferring import transfer

__all__ = [
    "RECIPES",
    "Recipe",
    "Setting",
    "activations",
    "against",
    "combine",
    "controls",
    "curve",
    "damage",
    "effects",
    "evaluate",
    "is_file_task",
    "lowest",
    "needs_data",
    "own_damage",
    "pair",
    "ranking",
    "readout",
    "search",
    "spectra",
    "study",
    "transfer",
]

RECIPES: dict[str, Callable[..., Recipe | None]] = {
    "activations": activations,
    "against": against,
    "combine": combine,
    "controls": controls,
    "curve": curve,
    "damage": damage,
    "effects": effects,
    "evaluate": evaluate,
    "lowest": lowest,
    "own damage": own_damage,
    "pair": pair,
    "ranking": ranking,
    "readout": readout,
    "search": search,
    "spectra": spectra,
    "study": study,
    "transfer": transfer,
}
