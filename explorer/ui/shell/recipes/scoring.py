"""Recipes of scores: the ranking, masks of the lowest-scored values, exact effects, and the study of scorers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from explorer.attribution.exact import Value
from explorer.core.keys import MatrixKey
from explorer.ui.shell.recipes.setting import Recipe, Setting, code, limit_argument, mask_call


def ranking(given: Setting, *, every: bool = False, bootstrap: int = 0) -> Recipe:
    """Scores of all values of the chosen kinds, or of every kind; at the mask if there is one."""
    kinds = () if every else given.kinds
    resamples = ["--bootstrap", str(bootstrap)] if bootstrap else []
    words = given.matrices_words(kinds), given.scoring_words(), given.mask_words(), resamples
    names = "matrices score" + " Kind" * bool(kinds) + " load_mask" * (given.mask is not None)
    options = ["from explorer.attribution import Options"] if bootstrap else []
    further = "" if given.mask is None else f", mask={mask_call(given.mask)}"
    further += f", options=Options(bootstrap={bootstrap})" if bootstrap else ""
    error = " ± {scores.matrices[key].stderr[index]}" if bootstrap else ""
    python = code(
        given.opening(names, *options),
        f"keys = {given.keys_call(kinds)}",
        f"scores = score(view, task, svds, keys, {given.scoring_arguments()}{further})",
        "",
        "for value, key, index in scores.ranking():",
        f'    print(f"{{key}} {{index}}: {{value:+}}{error}")',
    )  # fmt: skip
    at = "" if given.mask is None else " at the mask"
    return Recipe(f"Scores{at}", python, given.command("score", given.model_words(), given.task_words(), *words))


def lowest(given: Setting, count: int) -> Recipe:
    """The mask of the `count` lowest-scored values, as a file."""
    out = f"lowest-{count}.mask.json"
    words = given.matrices_words(), given.scoring_words(), given.gain_words(), ["--count", str(count), "--out", out]
    per_head = "" if given.per_head else ", per_head=False"
    python = code(
        ["from pathlib import Path", ""],
        given.opening("Kind prune"),
        f"kinds = [{', '.join(f'Kind.{kind.name}' for kind in given.kinds)}]",
        f"mask = prune(view, task, svds, kinds=kinds, count={count}, {given.scoring_arguments()}{per_head}"
        f"{given.gain_argument()})",
        "",
        f'mask.save(Path("{out}"))',
        'print(f"{len(mask)} {mask.state}")',
        "for one in mask.removed:",
        '    print(f"{one.matrix} {one.index}: sigma {one.sigma}, frozen mean {one.c}")',
    )
    title = f"The {count:,} lowest-scored values"
    return Recipe(title, python, given.command("prune", given.model_words(), given.task_words(), *words))


def effects(given: Setting, values: Iterable[Value]) -> Recipe:
    """What flipping each value alone does to the train loss; from the mask on if there is one."""
    wanted = tuple(values)
    named = [word for text in _grouped(wanted) for word in ("--value", text)]
    words = named, ["--mode", given.mode], given.score_words(), given.mask_words()
    command = given.command("effects", given.model_words(), given.task_words(), *words)
    listed = ", ".join(f'("{key}", {index})' for key, index in wanted)
    python = code(
        given.opening(
            "MatrixKey" + " load_mask" * (given.mask is not None),
            "from explorer.attribution.exact import exact_effects",
            "from explorer.measure.batches import batches",
        ),
        f"values = [(MatrixKey.parse(key), index) for key, index in [{listed}]]",
        f'examples = batches(view, task, task.split("train"{limit_argument(given.score_limit)}))',
        "",
        f"found = exact_effects(view, examples, svds, values, mode={given.mode!r}{_at(given)})",
        "for (key, index), one in found.values.items():",
        '    print(f"{key} {index}: {one.value:+} ± {one.stderr}")',
    )
    return Recipe(f"Exact effects of {len(wanted):,} values", python, command)


def study(given: Setting) -> Recipe:
    """How far the scorer can be trusted: exact effects of a stratified sample, on the examples that were scored."""
    words = given.matrices_words(), ["--scorer", given.scorer, "--mode", given.mode, "--limit", str(given.train)]
    seed = f", seed={given.task.seed}" if given.task.seed else ""
    python = code(
        given.opening("Kind matrices", "from explorer.experiments.study import StudyOptions, study_scorers"),
        f"options = StudyOptions(mode={given.mode!r}, limit={given.train}{seed})",
        f"study = study_scorers(view, task, svds, {given.keys_call()}, scorers=[{given.scorer!r}], options=options)",
        "",
        "for (scorer, kind, group), one in study.trust.items():",
        '    print(f"{scorer}, {kind}, {group}: n = {one.n}, Spearman {one.spearman}")',
    )
    title = "A study of the scorer, on values of all layers and ranks"
    return Recipe(title, python, given.command("study", "scorers", given.model_words(), given.task_words(), *words))


def _at(given: Setting) -> str:
    return "" if given.mask is None else f", mask={mask_call(given.mask)}"


def _grouped(values: Iterable[Value]) -> list[str]:
    """`L0.Q.H3:0,5`, one text per run of values of one matrix."""

    def matrix(value: Value) -> MatrixKey:
        return value[0]

    return [f"{key}:{','.join(str(index) for _, index in group)}" for key, group in groupby(values, matrix)]
