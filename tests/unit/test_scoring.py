"""Choices and leads against a loop over plain transformers, one prompt with one alternative at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from explorer.core.errors import TaskError
from explorer.measure.choices import RULES, Alternatives, alternatives, has_alternatives, measure
from explorer.measure.evaluate import Evaluation, evaluate
from explorer.models import Model, View
from explorer.tasks import Example, Task
from tests import plain

EXAMPLES = (
    Example("w1 w2 w3", " w4", (" w5", " w4", " w6 w7 w8")),
    Example("w5 w6", " w7 w8", (" w7 w8", " w1"), " w3"),
    Example("w9", " w1", distractor=" w2"),
    Example("w9 w10 w11", " w12"),
    Example("w17", " w18 w1 w2", (" w18", " w18 w1 w2", " w18 w1 w3", " w4")),
)
TASK = Task("choices", "", EXAMPLES, (), EXAMPLES, seed=0)


def slow(model: Any, prompt: str, answer: str) -> float:
    """log p of the answer's tokens, each from a run of its own."""
    one = plain.encode_words(Example(prompt, answer))
    total, read = 0.0, list(one.prompt)
    for token in one.answer:
        with torch.no_grad():
            logits = model(torch.tensor([read])).logits[0, -1].double()
        total += float(logits[token] - torch.logsumexp(logits, dim=0))
        read.append(token)
    return total


def test_log_probabilities_are_those_of_plain_transformers(view64: View, plain64: Any) -> None:
    found = alternatives(view64, TASK)
    assert found.texts[0] == (" w4", " w5", " w6 w7 w8")
    assert found.texts[1] == (" w7 w8", " w1", " w3")
    for example, texts, logprobs, tokens in zip(EXAMPLES, found.texts, found.logprobs, found.tokens, strict=True):
        assert tokens == tuple(len(text.split()) for text in texts)
        for text, logprob in zip(texts, logprobs, strict=True):
            assert logprob == pytest.approx(slow(plain64, example.prompt, text), rel=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_the_most_probable_choice_is_picked(rule: Any, view64: View, plain64: Any) -> None:
    found = alternatives(view64, TASK)
    expected = []
    for example in EXAMPLES:
        best, most = None, -math.inf
        for choice in example.choices:
            score = slow(plain64, example.prompt, choice) / (len(choice.split()) if rule == "mean" else 1)
            if score > most:
                best, most = choice, score
        expected += [best] if example.choices else []
    asked = [example for example in EXAMPLES if example.choices]
    assert list(found.picked(rule)) == expected
    assert list(found.correct(rule)) == [one == example.answer for one, example in zip(expected, asked, strict=True)]
    figures = found.as_dict()["choice"][rule]
    assert figures["n"] == 3
    assert figures["accuracy"] == pytest.approx(sum(found.correct(rule)) / 3)


def test_exact_match_comes_from_the_same_run(view64: View) -> None:
    found, expected = alternatives(view64, TASK).exact, evaluate(view64, TASK)
    assert (found.examples, found.correct, found.answers) == (EXAMPLES, expected.correct, expected.answers)
    assert found.loss == pytest.approx(expected.loss, rel=1e-9)
    assert measure(view64, TASK, limit=2)[1] == alternatives(view64, TASK, limit=2)
    open_ended = replace(TASK, test=EXAMPLES[3:4])
    assert measure(view64, open_ended) == (evaluate(view64, open_ended), None)


def test_leads_are_differences_of_logits_for_single_tokens(view64: View, plain64: Any) -> None:
    found = alternatives(view64, TASK)
    first = slow(plain64, "w5 w6", " w7 w8") - slow(plain64, "w5 w6", " w3")
    one = plain.encode_words(EXAMPLES[2])
    logits = plain64(torch.tensor([one.prompt])).logits[0, -1].detach()
    (other,) = plain.encode_words(Example("", " w2")).answer
    assert found.leads == pytest.approx((first, float(logits[one.answer[0]] - logits[other])), rel=1e-5)
    lead = found.as_dict()["lead"]
    assert lead["value"] == pytest.approx(sum(found.leads) / 2)
    assert lead["ahead"]["accuracy"] == sum(one > 0 for one in found.leads) / 2


def test_rules_and_ties_by_hand() -> None:
    example = Example("p", " b", (" a", " b"), " a")
    found = Alternatives(
        (example,), ((" b", " a"),), ((-3.0, -2.0),), ((3, 1),), Evaluation((example,), (3.0,), (False,), ("",))
    )
    assert (found.picked("sum"), found.correct("sum")) == ((" a",), (False,))
    assert (found.picked("mean"), found.correct("mean")) == ((" b",), (True,))
    assert found.leads == (-1.0,)
    tie = replace(found, logprobs=((-2.0, -2.0),), tokens=((1, 1),))
    assert (tie.picked(), tie.correct()) == ((None,), (False,))


def test_limits_and_tasks_without_alternatives(view: View) -> None:
    assert len(alternatives(view, TASK, "train", limit=2).examples) == 2
    open_ended = replace(TASK, test=EXAMPLES[3:4])
    assert not has_alternatives(open_ended.test)
    with pytest.raises(TaskError, match="the test split of choices has neither choices nor distractors"):
        alternatives(view, open_ended)
    empty = alternatives(view, replace(TASK, test=EXAMPLES[2:4])).as_dict()
    assert empty["choice"] is None
    assert alternatives(view, replace(TASK, test=EXAMPLES[:1])).as_dict()["lead"] is None


def test_a_choice_that_merges_with_the_prompt_is_refused(model: Model) -> None:
    pairs = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, " ": 3, "<s>": 4}, [("a", "b")], unk_token="<s>"))
    pairs.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    view = model.view()
    view.model = replace(model, tokenizer=PreTrainedTokenizerFast(tokenizer_object=pairs, unk_token="<s>"))
    task = Task("merging", "", (), (), (Example("b a", " a", (" a", "b")),), seed=0)
    with pytest.raises(TaskError, match="cannot separate answer 'b' from prompt 'b a': move the space"):
        alternatives(view, task)


def test_what_reads_the_same_is_run_once(view64: View, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    run = View.logits_at

    def counted(self: View, tokens: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        ran.append(len(tokens))
        return run(self, tokens, *args, **options)

    monkeypatch.setattr(View, "logits_at", counted)
    assert sum(map(len, alternatives(view64, TASK).texts)) == 13
    assert sum(ran) == len(EXAMPLES)  # of each example one alternative reads what all the others do
    ran.clear()
    apart = Example("w1", " w2 w3", (" w2 w3", " w4 w5", " w4 w6"))
    alternatives(view64, replace(TASK, test=(apart,)))
    assert sum(ran) == 2
