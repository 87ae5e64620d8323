"""Recipe of a mask that is carried over to another task, or to a sibling of its model."""

from __future__ import annotations

from pathlib import Path

from explorer.ui.shell.recipes.setting import Recipe, Setting, code, limit_argument, mask_call

TRANSFERRED = "transferred.mask.json"


def transfer(given: Setting, mask: Path, *, sibling: bool) -> Recipe:
    """A mask carried over to the setting's task and, if that is a sibling of its own, model; and what it does there."""
    how = ["--to-sibling" if sibling else "--new-means", "--out", TRANSFERRED]
    words = ["--mask", str(mask), *how, *given.examples_words(given.limit)]
    carry = "transfer" if sibling else "refreeze"
    python = code(
        "import json",
        given.opening("damage load_mask", f"from explorer.experiments.transfer import {carry}"),
        f"mask = {carry}(view, {mask_call(mask)}, svds, task{limit_argument(given.limit)})",
        f'mask.save(Path("{TRANSFERRED}"))',
        "",
        f"found = damage(view, mask, svds, [task], split={given.split!r}{limit_argument(given.limit)})",
        "print(json.dumps(found.as_dict(), indent=1))",
    )
    command = given.command("mask", "transfer", given.model_words(), given.task_words(), words)
    return Recipe("The mask on its target", python, command)
