"""Tokens, padding and answer positions, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import explorer.measure.batches
from explorer.core.errors import TaskError
from explorer.measure.batches import answer_logits, batches, merged
from explorer.measure.tokens import encode, encode_all, encode_prompt, token_texts
from explorer.models import Model, View
from explorer.models.model import LARGE
from explorer.tasks import Example, Framing, Task, load_task
from explorer.tasks.framing import Bos
from tests import tiny

W = tiny.IDS


@pytest.fixture(scope="module")
def words() -> Any:
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def merging() -> Any:
    """A byte-pair tokenizer that knows `ab` as one token."""
    pairs = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, " ": 3, "<s>": 4}, [("a", "b")], unk_token="<s>"))
    pairs.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=pairs, bos_token="<s>", unk_token="<s>")


def of(*rows: tuple[str, str], bos: bool = True) -> Task:
    examples = tuple(Example(*row) for row in rows)
    return Task("by hand", "", examples, examples, examples, seed=0, bos=bos)


def test_answers_of_several_tokens_are_read_up_to_the_last_but_one(view: View) -> None:
    task = of(("w1 w2", " w3"), ("w4", " w5 w6 w7"))
    (batch,) = batches(view, task, task.test)
    assert batch.tokens.tolist() == [[0, W["w1"], W["w2"], 0], [0, W["w4"], W["w5"], W["w6"]]]
    assert batch.real.tolist() == [[True, True, True, False], [True] * 4]
    # the first answer is predicted at position 2, the three tokens of the second at 1, 2 and 3
    assert batch.keep.tolist() == [1, 2, 3]
    assert batch.rows.tolist() == [0, 1, 1, 1]
    assert batch.columns.tolist() == [1, 0, 1, 2]
    assert batch.targets.tolist() == [W["w3"], W["w5"], W["w6"], W["w7"]]
    assert len(batch) == 2


def test_the_logits_are_those_of_every_answer_token(view: View, tiny_task: Task) -> None:
    (batch,) = batches(view, tiny_task, tiny_task.train)
    found = answer_logits(view, batch)
    place = 0
    assert sorted(batch.places.tolist()) == list(range(len(tiny_task.train)))
    for example in (tiny_task.train[one] for one in batch.places.tolist()):
        prompt = [0, *(W[word] for word in example.prompt.split())]
        answer = [W[word] for word in example.answer.split()]
        alone = view.logits(torch.tensor([prompt + answer[:-1]]))[0]
        for k, token in enumerate(answer):
            assert int(batch.targets[place]) == token
            torch.testing.assert_close(found[place], alone[len(prompt) - 1 + k], rtol=1e-5, atol=1e-5)
            place += 1
    assert place == len(found)


def test_examples_of_like_length_are_batched_together_and_know_their_places(view: View) -> None:
    prompts = ["w1 w2 w3 w4", "w5", "w6 w7 w8", "w9", "w10 w11", "w12"]
    task = of(*((prompt, " w0") for prompt in prompts))
    cut = batches(view, task, task.test, batch_size=2)
    assert [batch.places.tolist() for batch in cut] == [[1, 3], [5, 4], [2, 0]]  # one length: in their order
    assert [batch.tokens.shape[1] for batch in cut] == [2, 3, 5]
    for batch in cut:
        for place, tokens, real in zip(batch.places.tolist(), batch.tokens, batch.real, strict=True):
            assert tokens[real].tolist() == [0, *(W[word] for word in prompts[place].split())]


def test_portions_are_run_one_after_the_other(view: View) -> None:
    task = of(*((" ".join(["w1"] * (1 + 5 * place % 7)), " w0") for place in range(20)))
    cut = batches(view, task, task.test, batch_size=3, portions=[place // 8 for place in range(20)])
    places = [place for batch in cut for place in batch.places.tolist()]
    for start in (0, 8, 16):
        portion = places[start : start + 8]
        assert sorted(portion) == [*range(start, min(start + 8, 20))]
        lengths = [len(task.test[place].prompt) for place in portion]
        assert lengths == sorted(lengths)


def test_a_large_models_batches_hold_as_many_tokens_as_memory_allows(
    view: View, tiny_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = batches(view, tiny_task, tiny_task.train)
    config = view.config
    per_token = config.n_layers * (12 * config.d_model + 6 * config.d_mlp) * 4  # bytes of float32
    view = replace(view.model, parameters_count=LARGE + 1).view()
    monkeypatch.setitem(explorer.measure.batches.ACTIVATION_BYTES, "cpu", 24 * per_token)
    cut = batches(view, tiny_task, tiny_task.train)
    assert len(cut) > len(usual)
    assert all(batch.tokens.numel() <= 24 or len(batch) == 1 for batch in cut)
    assert max(len(batch) for batch in cut) > 1
    assert sorted(place for batch in cut for place in batch.places.tolist()) == [*range(len(tiny_task.train))]
    (whole,) = batches(view, tiny_task, tiny_task.train, batch_size=64)  # who asks for a size gets it
    assert len(whole) == len(tiny_task.train)


def test_some_examples_of_a_batch_are_those_examples(view: View, tiny_task: Task) -> None:
    (whole,) = batches(view, tiny_task, tiny_task.train)
    wanted = whole.places % 2 == 0
    some = whole.only(wanted)
    (alone,) = batches(view, tiny_task, [tiny_task.train[place] for place in some.places.tolist()])
    assert some.rows.tolist() == alone.rows.tolist()
    assert some.targets.tolist() == alone.targets.tolist()
    assert some.positions.tolist() == alone.positions.tolist()
    torch.testing.assert_close(answer_logits(view, some), answer_logits(view, alone))


def test_merged_batches_give_the_logits_of_their_examples(view: View, tiny_task: Task) -> None:
    parts = batches(view, tiny_task, tiny_task.train, batch_size=2)
    whole = merged(parts)
    assert len(whole) == len(tiny_task.train)
    assert whole.places.tolist() == [place for part in parts for place in part.places.tolist()]
    expected = torch.cat([answer_logits(view, part) for part in parts])
    torch.testing.assert_close(answer_logits(view, whole), expected)


@pytest.mark.parametrize(
    ("prompt", "bos", "expected"),
    [
        ("w1 w2", "auto", [0, W["w1"], W["w2"]]),
        ("w1 w2", "never", [W["w1"], W["w2"]]),
        ("<bos> w1", "auto", [0, W["w1"]]),
        ("<bos> w1", "never", [0, W["w1"]]),
    ],
)
def test_bos_comes_once_at_most(words: Any, prompt: str, bos: Bos, expected: list[int]) -> None:
    assert encode_prompt(words, prompt, Framing(bos)) == expected
    found = encode(words, Example(prompt, " w9"), Framing(bos))
    assert (list(found.prompt), found.answer) == (expected, (W["w9"],))


def test_a_tokenizer_that_adds_bos_itself_does_not_double_it(words: Any) -> None:
    from tokenizers import processors

    adding = tiny.tokenizer()
    adding._tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    assert adding("w1")["input_ids"] == [0, W["w1"]]
    assert encode_prompt(adding, "w1") == [0, W["w1"]]
    assert encode_prompt(adding, "w1", Framing("never")) == [W["w1"]]


def test_a_tokenizer_without_bos_adds_none() -> None:
    words = Tokenizer(models.WordLevel({"a": 1, "<unk>": 0}, unk_token="<unk>"))
    assert encode_prompt(PreTrainedTokenizerFast(tokenizer_object=words), "a") == [1]


@pytest.mark.parametrize("example", [Example("a", "b"), Example("b a", "b a"), Example("a b", "")])
def test_an_answer_that_merges_with_the_prompt_is_refused(merging: Any, example: Example) -> None:
    with pytest.raises(TaskError, match=r"cannot separate answer .* from prompt .*: move the space") as caught:
        encode(merging, example, Framing("never"))
    assert repr(example.answer) in str(caught.value)
    assert repr(example.prompt) in str(caught.value)


def test_an_answer_that_does_not_merge_is_taken(merging: Any) -> None:
    found = encode(merging, Example("b", "ab a"))
    assert (found.prompt, found.answer) == ((4, 1), (2, 3, 0))


def test_many_examples_are_encoded_as_each_alone(merging: Any, bundled: Model) -> None:
    task = load_task("int-mult", shots=2)
    for tokenizer, examples in ((bundled.tokenizer, task.train), (merging, [Example("b", "ab a"), Example("b", "b")])):
        assert encode_all(tokenizer, examples) == [encode(tokenizer, one) for one in examples]
    assert encode_all(merging, []) == []


def test_an_answer_in_words_that_the_tokenizer_does_not_know_is_refused(words: Any) -> None:
    """The model would be asked for the unknown token, and any unknown word would do."""
    assert words.unk_token_id in encode_prompt(words, "unheard", Framing("never"))
    assert encode(words, Example("unheard", " w1"), Framing("never")).answer == (W["w1"],)
    with pytest.raises(TaskError, match="the tokenizer does not know all of the answer ' w1 unheard'; reword it"):
        encode(words, Example("w2", " w1 unheard"), Framing("never"))


def test_no_examples_are_refused(view: View) -> None:
    with pytest.raises(TaskError, match="there are no examples to run"):
        batches(view, of(), ())


def test_examples_as_long_as_the_model_reads_are_taken_and_longer_ones_refused(view: View) -> None:
    longest = " ".join(["w1"] * (tiny.POSITIONS - 1))  # with BOS, and the answer's only token not read
    task = of((longest, " w2"))
    assert batches(view, task, task.test)[0].tokens.shape == (1, tiny.POSITIONS)
    for row in ((longest + " w1", " w2"), (longest, " w2 w3")):
        task = of(row)
        with pytest.raises(TaskError, match=f"has 17 tokens: this model reads 1 to {tiny.POSITIONS}; shorten it"):
            batches(view, task, task.test)


def test_an_example_without_any_token_to_read_is_refused(view: View) -> None:
    task = of(("", "w1"), bos=False)
    with pytest.raises(TaskError, match="is no token for this tokenizer, and no BOS stands in front"):
        batches(view, task, task.test)


def test_batches_move_between_devices_whole(view: View, tiny_task: Task) -> None:
    (batch,) = batches(view, tiny_task, tiny_task.train)
    moved = batch.to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert len(tensors) == 7
    assert moved.tokens.shape == batch.tokens.shape


def test_token_texts_show_what_the_tokenizer_cut(words: Any) -> None:
    assert token_texts(words, [0, W["w3"], W["w17"]]) == ["<bos>", "w3", "w17"]


def test_copies_are_the_same_examples_again(view: View, tiny_task: Task) -> None:
    (batch,) = batches(view, tiny_task, tiny_task.train)
    copies = batch.repeated(3)
    assert len(copies) == 3 * len(batch)
    for name in ("tokens", "real"):
        assert torch.equal(getattr(copies, name), torch.cat([getattr(batch, name)] * 3))
    assert copies.rows.tolist() == [row + copy * len(batch) for copy in range(3) for row in batch.rows.tolist()]
    assert copies.positions.tolist() == batch.positions.tolist() * 3
    torch.testing.assert_close(answer_logits(view, copies), answer_logits(view, batch).repeat(3, 1))


def test_the_unembedding_runs_on_answer_positions_only(view: View, tiny_task: Task) -> None:
    (batch,) = batches(view, tiny_task, tiny_task.train)
    seen: list[tuple[int, ...]] = []
    with view.bridge.hooks(fwd_hooks=[("unembed.hook_in", lambda x, hook: seen.append(tuple(x.shape[:-1])))]):
        found = answer_logits(view, batch)
    assert seen == [(1, len(batch.targets))]
    whole = view.logits(batch.tokens)[batch.rows, batch.positions]
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)


def test_batches_know_whether_they_hold_the_same_examples(view: View, tiny_task: Task) -> None:
    (train,), (again,) = (batches(view, tiny_task, tiny_task.train) for _ in range(2))
    (test,) = batches(view, tiny_task, tiny_task.test)
    assert train.same_as(again)
    assert not train.same_as(test)
    assert not train.same_as(train.only(train.places < 3))
