"""A saved mask exported on the Masks page: the folder is there, its client has read it; the command does the same."""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from explorer.attribution import Scores
from explorer.core.config import ASSETS, settings
from explorer.masks.apply import apply
from explorer.ui.masks.folders import _zipped
from tests.commands import report
from tests.pages.app import Engine, captions, choose, click, copied, open_page
from tests.pages.test_masks import filled, select

pytestmark = pytest.mark.usefixtures("empty_library")
TOKENS = torch.tensor([[0, 5, 9, 3]])


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's own
def test_an_adapter_leaves_by_the_page(engine: Engine, scores: Scores, tmp_path: Path) -> None:
    (mask,) = filled(engine, scores, 4)
    app = select(open_page("Masks"), 0)
    choose(app, "export-format", "LoRA adapter")
    click(app, "export-go")
    (found,) = (one.value for one in app.success if "Read again by peft" in one.value)
    assert "1e-04 allowed in float32" in found
    assert "adapter_model.safetensors" in captions(app)
    (folder,) = (settings().workspace_dir / "exports").iterdir()
    record = json.loads((folder / "eigenprune.json").read_text(encoding="utf-8"))
    assert record["eigenprune"]["mask_digest"] == mask.digest
    base = AutoModelForCausalLM.from_pretrained(ASSETS / "bundled", attn_implementation="eager")
    apply(engine.view, mask, engine.svds)
    with torch.no_grad():
        said = PeftModel.from_pretrained(base, folder).eval()(TOKENS).logits
    torch.testing.assert_close(said, engine.view.logits(TOKENS), rtol=0, atol=1e-4)
    apply(engine.view, mask.without_all(), engine.svds)
    with zipfile.ZipFile(io.BytesIO(_zipped(folder))) as archive:
        assert {Path(name).name for name in archive.namelist()} == {one.name for one in folder.iterdir()}
    (command,) = copied(app, "export").commands
    words = shlex.split(command)
    assert words[:2] == ["eigenprune", "export"]
    place = words.index("--out") + 1
    words[place] = str(tmp_path / "out")
    told = report(*words[1:])
    assert told["mask_digest"] == mask.digest
    assert told["checked"]["difference"] <= told["checked"]["limit"]
