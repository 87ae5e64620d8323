"""The lm-evaluation-harness on pruned models in memory: what it says of plain transformers pruned by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import explorer as ep
from explorer.core.errors import TaskError
from explorer.masks.mask import Mask
from explorer.models.plain import plain_model
from tests import harness_files, plain, removal, tiny
from tests.commands import refused, report, run
from tests.harness_files import NAMES

VALUES = ("L0.Q.H1", "L0.V.H0", "L1.O.H0", "L1.IN", "L1.OUT")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return harness_files.write(tmp_path_factory.mktemp("harness"))


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def letters(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that reads any text, with room for shots."""
    folder = tiny.save_letters(tmp_path_factory.mktemp(request.param), request.param)
    config = AutoConfig.from_pretrained(folder)
    setattr(config, "n_positions" if request.param == "gpt2" else "max_position_embeddings", 1024)
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def made_mask(folder: Path, mode: str = "freeze") -> Mask:
    """The largest value of some matrices, with frozen means that were made up."""
    model = ep.load(str(folder))
    values = [
        {"matrix": key, "index": 0, "sigma": float(model.svd(key).s[0]), "c": 0.3 - 0.1 * place}
        for place, key in enumerate(VALUES)
    ]
    return Mask.model_validate({**ep.empty_mask(model).model_dump(), "mode": mode, "removed": values})


def evaluated(model: Any, folder: Path, files: Path) -> dict[str, Any]:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    harness = HFLM(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(folder), batch_size=8)
    manager = TaskManager(include_path=str(files), include_defaults=False)
    found: dict[str, Any] = simple_evaluate(
        harness, tasks=list(NAMES.values()), task_manager=manager, bootstrap_iters=0
    )
    return found


@pytest.mark.parametrize("mode", ["freeze", "zero"])
def test_both_sides_are_the_harness_s_of_models_pruned_by_hand(letters: Path, files: Path, mode: str) -> None:
    mask = made_mask(letters, mode)
    model = ep.load(str(letters))
    before = model.current_digest()
    figures = model.lm_eval(mask, list(NAMES.values()), folder=files)
    assert model.current_digest() == before
    by_hand = plain.load_plain(letters)
    expected = [evaluated(one, letters, files)["results"] for one in (by_hand, removal.masked(by_hand, mask))]
    assert {one.task for one in figures} == set(NAMES.values())
    for one in figures:
        sides = [side[one.task][f"{one.metric},none"] for side in expected]
        assert [one.baseline, one.masked] == pytest.approx(sides, rel=1e-4)
        assert one.change == one.masked - one.baseline
    changed = [one for one in figures if one.change]
    assert changed
    for one in figures:
        if one.metric == "perplexity":  # no mean of documents
            assert (one.change_interval, one.p) == (None, None)
            continue
        assert one.change_interval is not None
        assert one.repaired is not None
        assert one.broken is not None
        assert one.change_interval[0] <= one.change <= one.change_interval[1]
        assert one.repaired - one.broken == pytest.approx(one.n * one.change)


def test_the_plain_model_shares_its_weights_and_has_the_mask_s_biases(letters: Path) -> None:
    model = ep.load(str(letters))
    mask = made_mask(letters)
    tokens = torch.tensor([[0, 5, 9, 20, 7]])
    with model.pruned(mask) as pruned:
        found = plain_model(pruned.view)
        torch.testing.assert_close(found(tokens).logits, pruned.view.logits(tokens), rtol=0, atol=1e-6)
    shared = {one.data_ptr() for one in model.weights().values()}
    assert found.get_input_embeddings().weight.data_ptr() in shared


def test_the_command_measures_a_mask_file(letters: Path, files: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    made_mask(letters).save(path)
    words = ("lm-eval", "--model", letters, "--mask", path, "--tasks", "sciq_like", "--include-path", files)
    found = report(*words, "--limit", 5)
    assert [(one["metric"], one["n"]) for one in found["figures"]] == [("acc", 5), ("acc_norm", 5)]
    assert (found["removed"], found["limit"], found["harness"]) == (len(VALUES), 5, "0.4.13")
    assert "sciq_like" in run(*words).stdout


def test_task_files_that_run_code_are_refused(tmp_path: Path) -> None:
    letters = tiny.save_letters(tmp_path / "model")
    harness_files.write(tmp_path)
    told = tmp_path / "told.txt"
    (tmp_path / "utils.py").write_text(f"from pathlib import Path\nPath({str(told)!r}).write_text('ran')\n")
    text = (tmp_path / "sciq.yaml").read_text()
    (tmp_path / "coded.yaml").write_text(text.replace("sciq_like", "coded") + "process_docs: !function utils.docs\n")
    (tmp_path / "pickled.yaml").write_text(text.replace("sciq_like", "pickled").replace("path: json", "path: pandas"))
    (tmp_path / "reaching.yaml").write_text(
        text.replace("sciq_like", "reaching").replace("{{question}}", "{{question.__class__.__mro__}}")
    )
    asked = ("lm-eval", "--model", letters, "--include-path", tmp_path, "--tasks")
    assert "coded.yaml runs code for process_docs (!function utils.docs)" in refused(*asked, "coded")
    assert "pickled.yaml has dataset_path 'pandas'" in refused(*asked, "pickled")
    assert "cannot run reaching" in refused(*asked, "reaching")
    assert "coded.yaml runs code" in refused(*asked, "arc_easy,truthfulqa")  # a group may hold any of the folder
    assert report(*asked, "sciq_like", "--limit", 2)["figures"]
    assert not told.exists()
    assert "is no folder" in refused(*asked[:4], tmp_path / "gone", "--tasks", "sciq_like")
    assert "names none" in refused(*asked, ",")


def test_random_numbers_go_on_as_if_it_had_not_run(letters: Path, files: Path) -> None:
    import random

    model = ep.load(str(letters))
    random.seed(5)
    torch.manual_seed(5)
    expected = random.random(), torch.rand(1).item()
    random.seed(5)
    torch.manual_seed(5)
    model.lm_eval(ep.empty_mask(model), ["sciq_like"], folder=files, limit=1)
    assert (random.random(), torch.rand(1).item()) == expected
    with pytest.raises(TaskError, match="has no task"):
        model.lm_eval(ep.empty_mask(model), ["no such thing"])
