"""The session as a notebook: made on the page of an uploaded task, run by Jupyter elsewhere, it prints the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from explorer.actions.notebook import notebook
from explorer.attribution import Scores
from tests.pages.app import Engine, click, mask_in, open_page, settled, upload, upload_task

LINES = "\n".join(json.dumps({"prompt": f"{i} * 3 =", "answer": f" {3 * i}"}) for i in range(2, 14))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_steps_of_a_session_run_elsewhere(
    engine: Engine, scores: Scores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def kept(*given: Any, files: Any) -> str:
        made.append(notebook(*given, files=files))
        return made[-1]

    monkeypatch.setattr("explorer.ui.shell.notebooks.notebook", kept)
    app = upload_task(open_page("Prune"), LINES, name="threes.jsonl")
    for count in (1, 3):
        app = upload(app, engine.lowest(scores, count).to_json().encode(), f"lowest{count}.json")
    app.session_state["share"] = True
    app = click(settled(app.run()), "notebook-go")
    assert [one.proto.label for one in app.get("download_button") if one.proto.label == "Download notebook"]
    found = nbformat.reads(made[-1], as_version=4)
    again = nbformat.reads(made[-1], as_version=4)
    NotebookClient(again, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert {one.name for one in tmp_path.iterdir()} >= {"threes.jsonl"}
    printed = [
        ["".join(output.text for output in cell.outputs) for cell in one.cells if cell.cell_type == "code"]
        for one in (found, again)
    ]
    assert printed[0] == printed[1]
    last = json.loads(printed[0][-1])
    assert last["mask_digest"] == mask_in(app).digest
    assert last["controls"]
    assert len(printed[0]) == 4  # files, scores, two masks
