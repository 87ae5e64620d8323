"""Every family under every switch: the loss of each example is plain transformers', or the model is refused by name.

The reference runs one example at a time, without a cache and without batches.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from explorer.core.errors import ModelError
from explorer.measure.evaluate import evaluate
from explorer.models import load
from explorer.tasks import Example, Task
from tests import plain, tiny
from tests.conformance import PADDED, SWITCHES, Case, ropes, rotated, table
from tests.families import FAMILIES

pytestmark = pytest.mark.slow

SHOTS = "w1 w2 w3 w4 w5 w6 w7 w8"
MIXED = (
    Example("w1 w2 w3", " w4"),
    Example("w2 w2 w19 w0 w3 w1 w5 w9 w9 w4 w11 w13", " w4 w14 w15"),
    Example("w2 w2 w19 w0 w3 w1", " w6"),
)
SHARED = tuple(Example(f"{SHOTS} {end}", " w4") for end in ("w9", "w3 w4", "w1 w6 w2"))


@pytest.fixture(autouse=True)
def _own_folders(isolated_folders: Path) -> None:
    """The cache of these tests is their own."""


def words(*, bos: bool) -> PreTrainedTokenizerFast:
    """The tests' words, with or without a token that begins a sequence."""
    tokenizer = tiny.tokenizer()
    if not bos:
        tokenizer.bos_token = None
    return tokenizer


def asked(examples: tuple[Example, ...]) -> Task:
    return Task("words", "", examples, examples[:1], examples[:1], seed=0)


def save(case: Case, folder: Path) -> None:
    case.built().build().to(getattr(torch, case.stored)).save_pretrained(folder)
    words(bos=case.bos).save_pretrained(folder)


def expected_losses(case: Case, model: Any, examples: tuple[Example, ...]) -> list[float]:
    found = []
    for example in examples:
        one = plain.encode_words(example)
        if not case.bos:
            one = plain.Encoded(one.prompt[1:], one.answer)
        ids = torch.tensor([one.read])
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits[0].log_softmax(dim=-1)
        found.append(-sum(float(logits[one.first + i, token]) for i, token in enumerate(one.answer)))
    return found


def check(case: Case, folder: Path) -> None:
    """Refused if and only if it must be; else right alone, in batches and with shots."""
    if case.refused:
        with pytest.raises(ModelError, match=r" is a \w+(ForCausalLM|LMHeadModel) "):
            load(str(folder), dtype="float32", device="cpu")
        return
    model = load(str(folder), dtype="float32", device="cpu")
    view = model.view()
    view.model = dataclasses.replace(model, tokenizer=words(bos=case.bos))  # some classes bring another one
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for examples in (MIXED, SHARED):
        expected = expected_losses(case, reference, examples)
        assert list(evaluate(view, asked(examples), "train").loss) == pytest.approx(expected, abs=1e-4), examples
        if examples is MIXED:
            alone = [evaluate(view, asked((example,)), "train").loss[0] for example in examples]
            assert alone == pytest.approx(expected, abs=1e-4)


def named(case: Case) -> str:
    changed = {**case.options, **({} if case.bos else {"bos": None})}
    changed |= {} if case.stored == "float32" else {"stored": case.stored}
    said = {
        name: value.get("rope_type", "by layer") if isinstance(value, dict) else value
        for name, value in changed.items()
    }
    return ",".join((case.family, *(f"{name}={value}" for name, value in said.items())))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_one_thing_changed_at_a_time(family: str, tmp_path: Path) -> None:
    wrong = []
    for place, case in enumerate(case for case in table() if case.family == family):
        folder = tmp_path / str(place)
        save(case, folder)
        try:
            check(case, folder)
        except (Exception, pytest.fail.Exception) as error:
            wrong.append(f"{named(case)}: {type(error).__name__}: {str(error)[:300]}")
    assert not wrong, "\n".join(wrong)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any family with any of its switches."""
    family = draw(st.sampled_from(sorted(FAMILIES)))
    case = Case(family, stored=draw(st.sampled_from(("float32", "bfloat16"))), bos=draw(st.booleans()))
    options: dict[str, Any] = {"tie_word_embeddings": draw(st.booleans())}
    options["vocab_size"] = draw(st.sampled_from((len(tiny.WORDS), PADDED)))
    options["is_causal"] = draw(st.sampled_from((True,) * 15 + (False,)))
    for option, values in SWITCHES[case.class_name].items():
        options[option] = draw(st.sampled_from(values))
    case = dataclasses.replace(case, options=options)
    kind = draw(st.sampled_from(("default", *ropes(case))))
    return case if kind == "default" else rotated(case, kind)


@given(case=cases())
@hypothesis_settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_any_switches_together(case: Case) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assume(case.possible)
        try:
            save(case, folder)
        except Exception:  # transformers itself cannot build or save such a model
            assume(False)
        check(case, folder)
