"""Every family: what its checkpoint can hold comes out of plain transformers again, the rest is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from explorer.core.errors import ExportError
from explorer.core.keys import Kind
from explorer.export import FORMATS
from explorer.export.edit import zeroed
from explorer.export.run import Order, export
from explorer.masks.apply import apply
from explorer.models import load
from explorer.spectra.cache import SvdCache
from tests import tiny
from tests.families import FAMILIES
from tests.unit.export.conftest import MaskMaker, in_process

TOKENS = torch.tensor([[0, 5, 9, 3, 11, 7]])
ALL, MLP = "Q K V O IN GATE OUT", "IN GATE OUT"
# Kinds of which no checkpoint of the family can hold a frozen mean, from what the classes of transformers have.
HOMELESS = {
    "gpt-neo": "Q", "gpt-j": "Q K", "phi3": ALL, "mistral": ALL, "qwen2": "O IN GATE OUT", "qwen3": MLP,
    "qwen3-biased": MLP, "gemma": MLP, "gemma2": MLP, "gemma3": MLP, "olmo2": MLP,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_family_leaves_exactly_or_is_refused(
    name: str, svds: SvdCache, some_values: MaskMaker, tmp_path: Path
) -> None:
    view = load(str(FAMILIES[name].save(tmp_path / "model")), dtype="float32", device="cpu").view()
    homeless = [Kind(one) for one in HOMELESS.get(name, "").split() if Kind(one) in FAMILIES[name].kinds]
    held = [kind for kind in FAMILIES[name].kinds if kind not in homeless]
    for kind in homeless:
        order = Order("checkpoint", tmp_path / f"refused-{kind}", (tiny.task(),))
        with pytest.raises(ExportError, match=rf"stores no bias for {kind}, .*--zero.*lora"):
            export(view, some_values(view, [kind], count=2), svds, order=order, forms=FORMATS, run=in_process)
        assert not order.out.exists()
    every = some_values(view, list(FAMILIES[name].kinds), count=14)
    wanted = {
        "lora": every,
        "hooks": every,
        "dataset": every,
        "checkpoint": some_values(view, held, count=14) if held else zeroed(every),
    }
    for sort, mask in wanted.items():
        order = Order(sort, tmp_path / sort, (tiny.task(),))
        made = export(view, mask, svds, order=order, forms=FORMATS, run=in_process)
        assert made.checked.difference <= 1e-4
    apply(view, wanted["checkpoint"], svds)
    with torch.no_grad():
        plain_model = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint", attn_implementation="eager")
        loaded = plain_model(TOKENS).logits
    torch.testing.assert_close(loaded, view.logits(TOKENS), rtol=0, atol=1e-4)
