"""Bundles: whole or absent, never over other things; pages show numbers of the engine, and no markup of others."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Any

import pytest

from explorer.actions.bundle import MARK, write_bundle
from explorer.core.errors import SettingsError
from explorer.core.keys import Kind
from explorer.masks.apply import apply
from explorer.masks.mask import load_mask
from explorer.measure.evaluate import Comparison, evaluate
from explorer.models import View
from explorer.plots.session_page import SharedSession, session_page
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Task
from tests.commands import refused, run

REPORT = Path(__file__).parents[1] / "data" / "search-report.json"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def shared(view: View, tiny_task: Task, svds: SvdCache) -> SharedSession:
    mask = prune(view, tiny_task, svds, kinds=[Kind.Q, Kind.OUT], count=3)
    plain = evaluate(view, tiny_task, "test")
    apply(view, mask, svds)
    comparison = Comparison(evaluate(view, tiny_task, "test"), plain)
    keys = tuple(mask.by_matrix)
    return SharedSession(
        (HOSTILE, "sha256:0"), (HOSTILE, "sha256:1"), "test", mask=mask, comparison=comparison, controls={},
        spectra={key: one.s.tolist() for key, one in svds.get_many(view, keys).items()},
        scores={(mask.removed[0].matrix, mask.removed[0].index): -0.25}, history=[("start", 0), (HOSTILE, 3)],
        commands=[(HOSTILE, f"eigenprune eval {HOSTILE}")], versions={"torch": HOSTILE}, files=["mask.json"],
    )  # fmt: skip


def test_a_page_says_what_was_measured_and_is_no_markup_of_others(shared: SharedSession) -> None:
    text = session_page(shared)
    assert text == session_page(shared)
    assert HOSTILE not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 7
    assert "default-src 'none'" in text
    assert not re.findall(
        r"""(?:src|href)=["'](?!mask\\.json)[^"']*["']""", text.split("</script>", 1)[1].split("<script")[0]
    )
    now, before = shared.comparison.masked, shared.comparison.baseline
    for one in (now, before):
        assert f"{one.mean_loss.value:.3f}" in text
    for one in shared.mask.removed:
        assert f"<td>{one.matrix}</td><td>{one.index}</td><td>{one.sigma:.5g}</td>" in text
    assert "<td>-0.2500</td>" in text
    for place in (*shared.comparison.repaired, *shared.comparison.broken):
        assert f"<td>{now.examples[place].prompt}</td>" in text


def test_a_report_becomes_a_folder_for_people_without_python(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run("report", REPORT, "--bundle", out)
    assert said.exit_code == 0, said.stderr
    assert f"{out}/index.html" in said.stdout.replace("\n", "")
    assert {one.name for one in out.iterdir()} == {"index.html", "mask.json", "report.json", MARK}
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    assert load_mask(out / "mask.json").digest == report["mask_digest"]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "eigenprune eval --model" in page
    assert run("report", out / "report.json", "--json").exit_code == 0
    assert "--force" in refused("report", REPORT, "--bundle", out)
    before = page
    (out / "note.txt").write_text("mine")
    assert "holds note.txt, which is no part of the bundle" in refused("report", REPORT, "--bundle", out, "--force")
    assert (out / "note.txt").read_text() == "mine"
    (out / "note.txt").unlink()
    assert run("report", REPORT, "--bundle", out, "--force").exit_code == 0
    assert (out / "index.html").read_text(encoding="utf-8") == before


def test_a_bundle_of_one_slice_is_measured_again_on_that_slice(tmp_path: Path) -> None:
    whole = json.loads(REPORT.read_text(encoding="utf-8"))
    (tmp_path / "report.json").write_text(json.dumps({**whole, "only": "i=3"}), encoding="utf-8")
    assert run("report", tmp_path / "report.json", "--bundle", tmp_path / "out").exit_code == 0
    assert "--only i=3" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_what_is_no_bundle_stays(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(SettingsError, match="holds other things than a bundle"):
            write_bundle(tmp_path, {"index.html": ""}, force=force)
    with pytest.raises(SettingsError, match="is no folder"):
        write_bundle(tmp_path / "thesis.txt", {"index.html": ""}, force=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="is no folder"):
        write_bundle(tmp_path / "link", {"index.html": ""}, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_full_disk_leaves_nothing_and_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, write = tmp_path / "out", Path.write_text
    write_bundle(out, {"index.html": "old", "mask.json": "{}"}, force=False)

    def full(path: Path, text: str, **options: Any) -> int:
        if path.name == "mask.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    for place, force in ((out, True), (tmp_path / "new", False)):
        with pytest.raises(SettingsError, match="No space left on device"):
            write_bundle(place, {"index.html": "new", "mask.json": "{}"}, force=force)
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert (out / "index.html").read_text() == "old"
