"""`activations` against the engine, and against plain transformers with the mask put onto it by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.actions.activations import ActivationsResult
from explorer.cli.activations import ACROSS
from explorer.core.keys import Kind
from explorer.masks.activations import answer_lens, contrast, written
from explorer.masks.apply import empty_mask
from explorer.masks.mask import Mask, load_mask
from explorer.models import Model
from explorer.search import prune
from explorer.spectra.cache import SvdCache
from explorer.tasks import Framing, Task
from tests import plain, removal, tiny
from tests.commands import keys_of, refused, report, run

PROMPT = "w3 w1 w4 w1 w5"
IDS = [0, *(tiny.IDS[word] for word in PROMPT.split())]
GAINS = pytest.mark.parametrize("gain", [0.0, 0.25])


@pytest.fixture
def common(folder: Path) -> tuple[str, ...]:
    return ("activations", "--model", str(folder), "--dtype", "float64", "--prompt", PROMPT)


@pytest.fixture(scope="module")
def made(model64: Model, tiny_task: Task, svds: SvdCache) -> Mask:
    return prune(model64.view(), tiny_task, svds, kinds=[Kind.K, Kind.V], count=4)


@pytest.fixture
def file(made: Mask, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The mask's file; with a gain in tests that have one."""
    gain = request.getfixturevalue("gain") if "gain" in request.fixturenames else 0.0
    made.scaled(gain).save(tmp_path / "mask.json")
    return tmp_path / "mask.json"


@GAINS
def test_everything_is_what_plain_transformers_does(
    common: tuple[str, ...], file: Path, plain64: Any, gain: float
) -> None:
    found = report(*common, "--mask", file, "--head", "L0", "--head", "L1", "--top", 4)
    runs = []
    for model in (copy.deepcopy(plain64), removal.masked(plain64, load_mask(file))):
        model.set_attn_implementation("eager")
        with torch.no_grad():
            runs.append(model(torch.tensor([IDS]), output_hidden_states=True, output_attentions=True))
    before, after = runs
    for side, one in zip(("baseline", "masked"), runs, strict=True):
        probabilities = one.logits[0, -1].softmax(dim=-1)
        assert [token["probability"] for token in found["next"][side]] == pytest.approx(
            sorted(probabilities.tolist(), reverse=True)[:4], abs=1e-6
        )
        for token in found["lens"]:
            assert token[side][-1] == pytest.approx(float(probabilities[token["id"]].log()), abs=1e-5)
        patterns = torch.cat([layer[0] for layer in one.attentions])
        assert [head[side] for head in found["attention"]] == [
            [pytest.approx(row, abs=1e-6) for row in head] for head in patterns.tolist()
        ]
    # The last of the plain model's hidden states is behind its final norm.
    for entry, x, y in zip(found["residual_change"], before.hidden_states[:-1], after.hidden_states[:-1], strict=False):
        assert entry == pytest.approx(((y - x).norm(dim=-1) / x.norm(dim=-1))[0].tolist(), abs=1e-6)
    for layer, x, y in zip(found["head_changes"], before.attentions, after.attentions, strict=True):
        assert layer == pytest.approx((y - x)[0].clamp(min=0).sum(-1).mean(-1).tolist(), abs=1e-6)
    assert found["first_changed_layer"] == min(key.layer for key in load_mask(file).by_matrix)


@GAINS
def test_it_is_what_the_engine_reads(common: tuple[str, ...], file: Path, model64: Model, gain: float) -> None:
    found = report(
        *common, "--mask", file, "--answer", " w7 w2", "--head", "L1.H2", "--head", "L1.H2", "--bos", "never"
    )
    mask, view, svds = load_mask(file), model64.view(), SvdCache(None)
    assert set(found) == set(keys_of(ActivationsResult))
    assert (found["mask_digest"], found["removed"], found["gain"]) == (mask.digest, 4, gain)
    assert [token["text"] for token in found["tokens"]] == PROMPT.split()
    assert [token["id"] for token in found["tokens"]] == IDS[1:]
    expected = contrast(view, mask, svds, PROMPT, Framing("never"))
    assert found["residual_change"] == expected.residual_change().tolist()
    assert found["lens"][0]["text"] == "w7"
    assert [token["id"] for token in found["lens"]][1:] == [
        token for token in expected.next_tokens(5) if token != found["lens"][0]["id"]
    ]
    for token in found["lens"]:
        assert token["baseline"] == answer_lens(expected.before, [token["id"]])
        assert token["masked"] == answer_lens(expected.after, [token["id"]])
    (head,) = found["attention"]
    assert head == {
        "layer": 1,
        "head": 2,
        "baseline": expected.before.attention[1][2].tolist(),
        "masked": expected.after.attention[1][2].tolist(),
    }
    wrote = written(view, mask, svds, PROMPT, Framing("never"))
    assert found["written"] == [
        {
            "matrix": wrote.values[place].matrix,
            "index": wrote.values[place].index,
            "sigma": wrote.values[place].sigma,
            "baseline": wrote.before[place].tolist(),
            "masked": wrote.after[place].tolist(),
        }
        for place in wrote.by_change()
    ]


def test_what_a_value_wrote_is_what_a_plain_hook_sees(common: tuple[str, ...], file: Path, plain64: Any) -> None:
    for one in report(*common, "--mask", file)["written"]:
        (removed,) = (each for each in load_mask(file).removed if (each.matrix, each.index) == tuple(one.values())[:2])
        where, (u, s, _) = plain.site(plain64, removed.key), plain.svd(plain64, removed.key)
        read: list[torch.Tensor] = []
        with torch.no_grad(), plain.on_output(where.module, lambda x, y, read=read: read.append(x) or y):
            plain64(torch.tensor([IDS]))
        expected = s[removed.index] * (read[0][0, :, where.rows].numpy() @ u[:, removed.index])
        assert one["baseline"] == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)
        assert one["masked"] == pytest.approx([s[removed.index] * removed.c] * len(IDS), rel=1e-4, abs=1e-5)


def test_without_a_mask_the_unpruned_model_is_read(common: tuple[str, ...], model64: Model) -> None:
    found = report(*common)
    assert (found["mode"], found["gain"], found["mask_digest"], found["removed"]) == (None, None, None, 0)
    assert found["first_changed_layer"] is None
    assert found["written"] == []
    expected = contrast(model64.view(), empty_mask(model64), SvdCache(None), PROMPT)
    assert found["next"]["masked"] == found["next"]["baseline"]
    assert [(one["id"], one["probability"]) for one in found["next"]["baseline"]] == expected.before.top(5)
    text = run(*common, "--head", "L0.H0").stdout
    assert "with the mask" not in text
    for title in ("Most likely next tokens", "Logit lens", "Attention of L0 head 0"):
        assert title in text


def test_the_tables_show_what_differs(common: tuple[str, ...], file: Path) -> None:
    words = (*common, "--mask", file, "--answer", " w7")
    found, text = report(*words), run(*words, "--values", 3).stdout
    assert f"6 tokens: '<bos>' · {' · '.join(map(repr, PROMPT.split()))}" in text
    assert "Mask: 4 removed (freeze)" in text
    assert "Logit lens: probability of 'w7'" in text
    assert f"The first block whose output differs is layer {found['first_changed_layer']}." in text
    (last,) = (line.split() for line in text.splitlines() if line.split()[:1] == ["L1"] and len(line.split()) == 13)
    assert last[1::2] == [f"{100 * share:.1f}" for share in found["residual_change"][-1]]
    assert text.count("Written by") == 3
    assert f"Written by {found['written'][0]['matrix']} value {found['written'][0]['index']}" in text
    assert "1 more of the mask's values not shown" in text
    long = run("activations", *common[1:5], "--prompt", " ".join(["w1"] * ACROSS), "--mask", file).stdout
    assert "Change of the residual stream, of its norm before, continued" in " ".join(long.split())


@pytest.mark.slow
def test_what_cannot_be_read_is_a_sentence(common: tuple[str, ...], arch: str, file: Path) -> None:
    heads = tiny.Q_HEADS[arch]
    said = refused(*common, "--head", f"L0.H{heads}")
    assert said == f"--head L0.H{heads}: the model has layers 0 to 1 and query heads 0 to {heads - 1}."
    assert "--head L2: the model has layers 0 to 1" in refused(*common, "--head", "L2")
    assert "type some text" in refused(*common[:-1], " ")
    assert "does not know all of the answer" in refused(*common, "--answer", " seven")
    mask = load_mask(file)
    foreign = mask.model.model_copy(update={"digest": f"sha256:{64 * '0'}"})
    mask.model_copy(update={"model": foreign}).save(file)
    assert "the mask was made for" in refused(*common, "--mask", file)
