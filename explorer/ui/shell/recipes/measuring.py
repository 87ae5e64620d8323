"""Recipes of the Prune and Masks pages: what masks do, beside the unpruned model, chance and each other."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from explorer.search.controls import DEFAULT
from explorer.ui.shell.recipes.setting import Recipe, Setting, code, limit_argument, mask_call, needs_data


def evaluate(given: Setting) -> Recipe:
    """Accuracy and loss on the task, unpruned and with the mask."""
    words = given.mask_words(), given.examples_words(given.limit)
    command = given.command("eval", given.model_words(), given.task_words(), *words)
    shown = "accuracy {found.accuracy:.1%}, loss {found.mean_loss.value:.3f} nats, n = {found.n}"
    if given.mask is None:
        return Recipe(
            "Accuracy and loss",
            code(given.opening("evaluate"), "", f"found = evaluate(view, task, {given.where()})", f'print(f"{shown}")'),
            command,
        )
    python = code(
        given.opening("apply evaluate load_mask"),
        "",
        f"before = evaluate(view, task, {given.where()})",
        f"apply(view, {mask_call(given.mask)}, svds)",
        f"after = evaluate(view, task, {given.where()})",
        'for name, found in (("unpruned", before), ("with the mask", after)):',
        f'    print(f"{{name}}: {shown}")',
    )
    return Recipe("Accuracy and loss", python, command)


def controls(given: Setting, draws: int) -> Recipe:
    """Masks of the default control, beside the mask."""
    assert given.mask is not None
    drawn = ["--controls", str(draws), "--control", DEFAULT]
    words = given.mask_words(), given.examples_words(given.limit), drawn
    first = given.task.seed
    seeds = f"range({first}, {first + draws})" if first else f"range({draws})"
    python = code(
        given.opening("apply evaluate load_mask", "from explorer.search.controls import draws, means_of"),
        f"mask = {mask_call(given.mask)}",
        "means = means_of(view, task, svds, mask)",
        "",
        f'for draw, drawn in enumerate(draws(means, mask, "{DEFAULT}", {seeds})):',
        "    apply(view, drawn, svds)",
        f"    found = evaluate(view, task, {given.where()})",
        '    print(f"{draw}: accuracy {found.accuracy}, loss {found.mean_loss.value}")',
    )  # fmt: skip
    return Recipe(
        "Random masks of the same size",
        python,
        given.command("eval", given.model_words(), given.task_words(), *words),
    )


def curve(given: Setting, counts: Sequence[int], examples: int) -> Recipe:
    """The split's first `examples` under growing masks of the lowest-scored values."""
    stops = ["--counts", ",".join(map(str, counts)), "--split", given.split, "--eval-limit", str(examples)]
    words = given.matrices_words(), given.scoring_words(), given.gain_words(), stops
    python = code(
        given.opening(
            "Kind matrices score",
            "from explorer.measure.sampling import draw_sample",
            "from explorer.search.curve import curve",
        ),
        f"scores = score(view, task, svds, {given.keys_call()}, {given.scoring_arguments()})",
        f'sample = draw_sample(view, task, {given.split!r}, most={examples}, seconds=float("inf"))',
        "",
        f"for stop in curve(view, svds, scores, sample, {list(counts)}{given.gain_argument()}):",
        "    accuracy, change = stop.comparison.masked.accuracy, stop.comparison.loss_change",
        '    print(f"{stop.count}: accuracy {accuracy}, loss {change.value:+}, predicted {stop.predicted:+}")',
    )
    return Recipe(
        "The curve along the ranking",
        python,
        given.command("curve", given.model_words(), given.task_words(), *words),
    )


def own_damage(given: Setting) -> Recipe | None:
    """What the mask does to plain text and to the task as it is asked; None without a mask."""
    if given.mask is None:
        return None
    title = "Damage to plain text and to the task" if given.text else "Damage to the task"
    words = [*given.mask_words(), *given.examples_words(given.limit), *([] if given.text else ["--text", "none"])]
    command = given.command("mask", "damage", given.model_words(), given.task_words(), words)
    return Recipe(title, _damage(given, f"[{given.task_call()}]", given.mask, given.limit, text=given.text), command)


def damage(
    given: Setting, mask: Path, tasks: Sequence[str], limit: int | None, *, text: bool, data: Path | None = None
) -> Recipe:
    """What a mask does to other tasks, asked in their own words, and to plain text.

    `data` is the folder of the data of those that need some.
    """
    named = [word for task in tasks for word in ("--task", task)]
    named += ["--data", str(data)] if data is not None and any(map(needs_data, tasks)) else []
    words = ["--mask", str(mask), *named, *given.seed_words(), *([] if text else ["--text", "none"])]
    command = given.command("mask", "damage", given.model_words(), words, given.examples_words(limit))
    calls = ", ".join(given.other_task_call(task, data) for task in tasks)
    return Recipe("Damage elsewhere", _damage(given, f"[{calls}]", mask, limit, text=text), command)


def _damage(given: Setting, tasks: str, mask: Path, limit: int | None, *, text: bool) -> str:
    further = ("from explorer.measure.perplexity import read_text",) if text else ()
    names = "damage load_mask load_task" if "load_task" in tasks else "damage load_mask"
    return code(
        "import json",
        given.opening(names, *further, task=False),
        f"mask, tasks = {mask_call(mask)}, {tasks}",
        "",
        f"found = damage(view, mask, svds, tasks, {'read_text()' if text else 'None'}, "
        f"split={given.split!r}{limit_argument(limit)})",
        "print(json.dumps(found.as_dict(), indent=1))",
    )


def pair(given: Setting, first: Path | None, second: Path | None) -> Recipe:
    """Two masks, None for the unpruned model: what they share, how both do, and the paired test."""
    files = [path for path in (first, second) if path is not None]
    commands = [] if len(files) < 2 else [shlex.join(["eigenprune", "mask", "diff", *map(str, files), "--json"])]
    for path in (first, second):
        words = [] if path is None else ["--mask", str(path)]
        examples = given.examples_words(given.limit)
        commands.append(given.command("eval", given.model_words(), given.task_words(), words, examples))
    chosen = [f"{mask_call(path)}" if path is not None else "empty_mask(view.model)" for path in (first, second)]
    names = "Comparison apply evaluate load_mask" + (" empty_mask" if len(files) < 2 else "")
    shared = len(files) == 2
    sets = [
        "for key, one in overlaps(*masks).items():",
        '    print(f"{key}: {one.only_first} only in the first, {one.only_second} in the second, {one.both} in both")',
        "",
    ]
    python = code(
        given.opening(names, *(["from explorer.masks.sets import overlaps"] if shared else [])),
        f"masks = [{', '.join(chosen)}]",
        "",
        sets if shared else [],
        "found = []",
        "for mask in masks:",
        "    apply(view, mask, svds)",
        f"    found.append(evaluate(view, task, {given.where()}))",
        "both = Comparison(found[1], found[0])",
        'print(f"accuracy {found[0].accuracy} -> {found[1].accuracy}, McNemar p = {both.accuracy_test.p}")',
        'print(f"loss {found[0].mean_loss.value} -> {found[1].mean_loss.value}, {both.loss_interval()}")',
    )  # fmt: skip
    return Recipe("Two masks side by side", python, "\n".join(commands))
