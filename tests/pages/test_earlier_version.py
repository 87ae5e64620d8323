"""Version 0.1's files and links, as it wrote them: masks, figures, a search's report, a workspace, an address.

What identifies a model is more since then (its configuration and tokenizer), so digests are others; all else is equal.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from explorer.core.config import settings
from explorer.masks.links import link_text
from explorer.masks.mask import load_mask
from tests import commands
from tests.pages.app import mask_in, open_page, sentences

WRITTEN = Path(__file__).parents[1] / "data" / "version-0.1"
SPLITS = ("--splits", "published")  # the only ones that there were
LINKS: dict[str, Any] = json.loads((WRITTEN / "links.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["four", "half"])
def test_a_mask_gives_the_figures_that_were_reported_under_the_same_keys(name: str) -> None:
    before = json.loads((WRITTEN / f"{name}.eval.json").read_text(encoding="utf-8"))
    asked = ("--model", "bundled", "--task", "int-mult", "--mask", WRITTEN / f"{name}.json", "--limit", "40")
    today = commands.report("eval", *asked, *SPLITS)
    for digest in ("model_digest", "mask_digest"):
        assert before.pop(digest) != today[digest]
    assert _common(before, today) == before


@pytest.mark.parametrize("name", ["four", "half"])
def test_a_links_mask_is_the_files(name: str) -> None:
    mask = load_mask(WRITTEN / f"{name}.json")
    assert link_text(mask) == LINKS["links"][name]
    app = open_page("Prune", model="bundled", task="int-mult", mask=LINKS["links"][name])
    assert mask_in(app).removed == mask.removed
    assert mask_in(app).gain == mask.gain


def test_an_address_brings_its_mask_and_its_view() -> None:
    asked = {name: text for name, text in LINKS["query"].items() if name != "session"}
    app = open_page("Prune", **asked)
    assert not sentences(app)
    assert mask_in(app).removed == load_mask(WRITTEN / "half.json").removed
    after = {name: text if isinstance(text, str) else text[-1] for name, text in app.query_params.items()}
    assert _values(after.pop("mask")) == _values(asked.pop("mask"))
    assert {name: after[name] for name in asked} == asked


def test_a_workspace_holds_its_session_its_library_and_its_models() -> None:
    shutil.copytree(WRITTEN / "workspace", settings().workspace_dir, dirs_exist_ok=True)
    app = open_page("Prune", session=LINKS["query"]["session"])
    assert mask_in(app).removed == load_mask(WRITTEN / "half.json").removed
    app = open_page("Masks", model="bundled")
    shown = "".join(table.value.to_csv() for table in app.dataframe)
    assert "four in Q and K" in shown


def test_a_search_is_shown_again() -> None:
    before = json.loads((WRITTEN / "search.report.json").read_text(encoding="utf-8"))
    today = commands.report("report", WRITTEN / "search.report.json")
    assert _common(before, today) == before


def _values(link: str) -> list[str]:
    """A mask in an address, but for the digest of its model."""
    return [part for i, part in enumerate(link.split("~")) if i != 1]


def _common(before: Any, after: Any) -> Any:
    """Of what is printed today, what was printed before: new keys are no loss."""
    if isinstance(before, dict) and isinstance(after, dict):
        return {key: _common(value, after[key]) for key, value in before.items() if key in after}
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [_common(*pair) for pair in zip(before, after, strict=True)]
    if isinstance(before, float):
        return pytest.approx(after, rel=1e-6)
    return after
