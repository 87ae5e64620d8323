"""Recipes that make masks: searches, and what the library combines."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from explorer.search.request import SearchRequest
from explorer.ui.shell.recipes.setting import Recipe, Setting, code, limit_argument, mask_call

OUT = "found.mask.json"
COMBINED = "combined.mask.json"


def search(given: Setting, asked: SearchRequest) -> Recipe:
    """A search with its report: test figures of the best mask, and its controls."""
    words = ["--strategy", asked.strategy, *given.matrices_words(asked.kinds), "--max-removed", str(asked.max_removed)]
    words += [] if asked.layers is None else ["--layers", ",".join(map(str, asked.layers))]
    words += [] if asked.seconds is None else ["--time", f"{asked.seconds:g}"]
    words += [] if asked.growth is None else ["--max-growth", str(asked.growth)]
    words += [*asked.options.words(), "--controls", str(asked.controls)]
    words += [] if asked.test_limit is None else ["--test-limit", str(asked.test_limit)]
    words += given.scoring_words()
    words += ["--seed", str(asked.seed)]
    words += [] if asked.seed == given.task.seed else ["--split-seed", str(given.task.seed)]
    command = given.command("search", given.model_words(), given.seedless_task_words(), words, ["--out", OUT])
    return Recipe("This search", _search_python(given, asked), command)


def _search_python(given: Setting, asked: SearchRequest) -> str:
    text = ("read_text()", ["from explorer.measure.perplexity import read_text"]) if given.text else ("None", [])
    layers = "" if asked.layers is None else f", {list(asked.layers)}"
    further = {"seconds": asked.seconds, "growth": asked.growth}
    limits = "".join(f", {name}={value}" for name, value in further.items() if value is not None)
    how = f"mode={asked.mode!r}, scorer={asked.scorer!r}{limit_argument(asked.limit)}, seed={asked.seed}"
    strategy, options = f'SEARCHES["{asked.strategy}"]', ""
    if asked.options.given:
        strategy, options = "chosen.run", ", options=chosen.options"
    test = "" if asked.test_limit is None else f", test_limit={asked.test_limit}"
    return code(
        ["from pathlib import Path", ""],
        given.opening(
            "Kind matrices",
            *text[1],
            *([] if options else ["from explorer.search import SEARCHES"]),
            *(["from explorer.search.options import StrategyOptions"] if options else []),
            "from explorer.search.anchor import anchor_blocks",
            "from explorer.search.outcome import Budget",
            "from explorer.search.problem import Problem",
            "from explorer.search.report import Evidence, search",
        ),
        f"keys = {given.keys_call(asked.kinds, layers)}",
        f"budget = Budget({asked.max_removed}{limits})",
        f"problem = Problem(view, task, svds, keys, budget, {how}, text=anchor_blocks(view))",
        *_choice(given, asked),
        f"evidence = Evidence({asked.controls}{test}, text={text[0]})",
        f'report = search(problem, task, "{asked.strategy}", {strategy}{options}, evidence=evidence)',
        "",
        f'report.mask.save(Path("{OUT}"))',
        "found = report.comparison.masked",
        'print(f"{len(report.mask)} removed: accuracy {found.accuracy}, loss {found.mean_loss.value}, n = {found.n}")',
    )


def _choice(given: Setting, asked: SearchRequest) -> list[str]:
    if not asked.options.given:
        return []
    options = ", ".join(f"{name}={value!r}" for name, value in asked.options.given.items())
    task = given.task
    further = (f", seed={task.seed}" if task.seed else "") + (f", shots={task.shots}" if task.shots else "")
    further += "".join(f", {one}" for one in given.framing_arguments())
    opened = f"lambda name: load_task(name{further})"
    return [f'chosen = StrategyOptions({options}).choose("{asked.strategy}", {opened})']


def combine(how: str, masks: Sequence[Path]) -> Recipe:
    """Masks combined into one: `how` is one of the Masks page's ways."""
    files = list(masks[::-1]) if how == "second without first" else list(masks)
    least = {"union": 1, "intersection": len(files), "majority": len(files) // 2 + 1}.get(how)
    verb = {"union": ["union"], "intersection": ["intersect"], "majority": ["vote", "--at-least", str(least)]}
    words = ["eigenprune", "mask", *verb.get(how, ["subtract"]), *map(str, files), "--out", COMBINED, "--json"]
    made = "masks[0].difference(masks[1])" if least is None else f"vote(masks, {least})"
    python = code(
        ["from pathlib import Path", "", "from explorer import load_mask"],
        [] if least is None else ["from explorer.masks.sets import vote"],
        "",
        f"masks = [{', '.join(map(mask_call, files))}]",
        f"mask = {made}",
        f'mask.save(Path("{COMBINED}"))',
        'print(f"{len(mask)} removed")',
    )
    return Recipe(how.capitalize(), python, shlex.join(words))
