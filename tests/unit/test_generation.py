"""What a model says, against plain transformers' `generate`, on the model masked by hand and on its export."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from explorer.actions import Generate
from explorer.actions.generate import GenerateResult
from explorer.actions.loaded import LoadedModel
from explorer.core.errors import SettingsError, Stopped, TaskError
from explorer.core.keys import Kind
from explorer.experiments.reply_controls import reply_controls
from explorer.masks.apply import apply, empty_mask
from explorer.masks.mask import Mask
from explorer.masks.replies import ReplyPair, parting_sentence, replies, summary_sentence
from explorer.measure.generation import Decoding, ending, logprobs, prompt_ids, stream
from explorer.models import Model, View, load
from explorer.search import prune
from explorer.search.controls import draws, means_of
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Framing, Task, load_task
from tests import removal, tiny
from tests.commands import keys_of, refused, report, run

PROMPT = "w3 w1 w4 w1 w5"
IDS = [0, *(tiny.IDS[word] for word in PROMPT.split())]
GREEDY, DRAWN = Decoding(8), Decoding(8, temperature=0.8, top_k=9, top_p=0.95, seed=5)
DECODINGS = pytest.mark.parametrize("decoding", [GREEDY, DRAWN], ids=["greedy", "drawn"])


@pytest.fixture(scope="module")
def mask(model64: Model, tiny_task: Task, svds: SvdCache) -> Mask:
    return prune(model64.view(), tiny_task, svds, kinds=[Kind.V, Kind.O], count=6)


def generated(model: Any, ids: Sequence[int], decoding: Decoding) -> list[int]:
    """What plain transformers says."""
    drawn = {"temperature": decoding.temperature, "top_k": decoding.top_k, "top_p": decoding.top_p}
    torch.manual_seed(decoding.seed)
    found = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=decoding.new_tokens, pad_token_id=0, do_sample=decoding.draws,
        **(drawn if decoding.draws else {}),
    )  # fmt: skip
    return list(found[0, len(ids) :].tolist())


def ids_of(view: View, ids: Sequence[int], decoding: Decoding) -> list[int]:
    return [one.id for one in stream(view, ids, decoding)]


def said(pair: ReplyPair) -> tuple[list[int], list[int]]:
    assert pair.masked is not None
    return [one.id for one in pair.baseline.tokens], [one.id for one in pair.masked.tokens]


def both(model: Model, mask: Mask, svds: SvdCache, *prompts: str, **how: Any) -> tuple[ReplyPair, ...]:
    return replies((model.view(), model.view()), mask, svds, prompts, **how)


@DECODINGS
def test_both_sides_say_what_plain_transformers_does(
    model64: Model, plain64: Any, mask: Mask, svds: SvdCache, decoding: Decoding
) -> None:
    (pair,) = both(model64, mask, svds, PROMPT, decoding=decoding)
    masked = removal.masked(plain64, mask)
    assert said(pair) == (generated(plain64, IDS, decoding), generated(masked, IDS, decoding))
    assert model64.current_digest() == model64.digest


@pytest.mark.slow
@DECODINGS
def test_the_exported_checkpoint_says_the_same_token_by_token(
    bundled: Model, tmp_path: Path, decoding: Decoding
) -> None:
    model, task = LoadedModel.of(bundled), load_task("int-mult")
    mask = model.prune(task, model.score(task, kinds="QK", limit=32), 4)
    model.export(mask, "checkpoint", tmp_path / "pruned", tasks=[task])
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned", dtype=torch.float32).eval()
    decoding = replace(decoding, new_tokens=20)
    prompts = [one.prompt for one in task.test[:6]]
    found = model.generate(prompts, mask, decoding=decoding)
    for prompt, pair in zip(prompts, found, strict=True):
        ids = prompt_ids(model.view(), prompt)
        assert said(pair)[1] == generated(plain, ids, decoding)
    assert any(pair.parting for pair in found)


def test_what_is_drawn_follows_from_the_seed(view: View) -> None:
    one, other = Decoding(8, temperature=1.5, seed=1), Decoding(8, temperature=1.5, seed=2)
    assert ids_of(view, IDS, one) == ids_of(view.model.view(), IDS, one)
    assert ids_of(view, IDS, one) != ids_of(view, IDS, other)


def test_sides_that_share_distributions_draw_the_same(model64: Model, mask: Mask, svds: SvdCache) -> None:
    """A mask that keeps nearly all of its values: hardly any token differs, although every one is drawn."""
    close = mask.scaled(1 - 1e-9)
    for seed in range(8):
        (pair,) = both(model64, close, svds, PROMPT, decoding=replace(DRAWN, seed=seed))
        assert pair.parting is None
        assert pair.verdict == "same"
        assert f"The same {len(pair.baseline.tokens)} tokens" in parting_sentence(pair)


@DECODINGS
def test_each_side_thinks_of_the_others_words_what_plain_transformers_does(
    model64: Model, plain64: Any, mask: Mask, svds: SvdCache, decoding: Decoding
) -> None:
    (pair,) = both(model64, mask, svds, PROMPT, decoding=decoding)
    assert pair.masked is not None
    models = plain64, removal.masked(plain64, mask)
    for reply, own, other in ((pair.baseline, *models), (pair.masked, *models[::-1])):
        ids = [one.id for one in reply.tokens]
        for model, found in (
            (own, [t.probability for t in reply.tokens]),
            (other, [t.elsewhere for t in reply.tokens]),
        ):
            with torch.no_grad():
                logits = model(torch.tensor([[*IDS, *ids]])).logits[0, len(IDS) - 1 : -1]
            wanted = logits.softmax(dim=-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
            assert found == pytest.approx(wanted.tolist(), rel=1e-5, abs=1e-8)
        own_loss = -torch.tensor([one.probability for one in reply.tokens], dtype=torch.float64).log().mean()
        assert reply.loss == pytest.approx(float(own_loss))


def test_the_first_token_that_differs_is_the_parting(model64: Model, mask: Mask, svds: SvdCache) -> None:
    soft = mask.scaled(0.8)
    pairs = [both(model64, soft, svds, PROMPT, decoding=replace(DRAWN, seed=seed))[0] for seed in range(12)]
    assert {pair.parting is None for pair in pairs} == {True, False}, "the seeds show both"
    for pair in pairs:
        one, other = said(pair)
        differing = [place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
        if pair.parting is None:
            assert not differing
            continue
        assert (pair.parting.at, pair.same) == (differing[0], differing[0])
        assert (pair.parting.baseline.id, pair.parting.masked.id) == (one[differing[0]], other[differing[0]])
        assert f"part at token {differing[0] + 1}:" in parting_sentence(pair)
    assert summary_sentence(pairs).startswith(f"{sum(pair.parting is not None for pair in pairs)} of 12 replies part")


def test_without_a_mask_the_unpruned_model_speaks_alone(model64: Model, plain64: Any, svds: SvdCache) -> None:
    (pair,) = both(model64, empty_mask(model64), svds, PROMPT, decoding=GREEDY)
    assert pair.masked is None
    assert [one.id for one in pair.baseline.tokens] == generated(plain64, IDS, GREEDY)
    assert {one.elsewhere for one in pair.baseline.tokens} == {None}


@pytest.mark.parametrize("tokens", [1, 3, 6])
def test_stopped_in_the_middle_it_keeps_what_has_been_said(
    model64: Model, mask: Mask, svds: SvdCache, tokens: int
) -> None:
    def stop(done: int, total: int) -> None:
        assert total == 2 * 2 * GREEDY.new_tokens
        if done >= tokens:
            raise Stopped

    whole = both(model64, mask, svds, PROMPT, decoding=GREEDY)[0]
    (pair,) = both(model64, mask, svds, PROMPT, "w2 w3", decoding=GREEDY, progress=stop)
    for part, full in zip(said(pair), said(whole), strict=True):
        assert part == full[: len(part)]
        assert 0 < len(part) < len(full)
    assert pair.masked is not None
    assert (pair.baseline.ended, pair.masked.ended) == ("stopped", "stopped")
    assert all(one.elsewhere is not None for one in (*pair.baseline.tokens, *pair.masked.tokens))
    assert pair.verdict in ("parted", "same so far")


def test_words_are_told_as_they_are_said(model64: Model, mask: Mask, svds: SvdCache) -> None:
    told: list[tuple[ReplyPair, ...]] = []
    last = both(model64, mask, svds, PROMPT, "w2 w3", decoding=GREEDY, so_far=told.append)
    lengths = [sum(len(pair.baseline.tokens) for pair in pairs) for pairs in told]
    assert all(after - before in (0, 1) for before, after in pairwise(lengths))
    assert lengths[-1] == sum(len(pair.baseline.tokens) for pair in last)
    for pairs in told:
        for pair, whole in zip(pairs, last, strict=False):
            ids = [one.id for one in pair.baseline.tokens]
            assert ids == [one.id for one in whole.baseline.tokens][: len(ids)]


def test_a_model_whose_keys_and_values_cannot_be_kept_says_the_same(model: Model) -> None:
    whole = load(str(model.source.folder), dtype="float32", device="cpu")
    careful = type(whole)(**{**vars(whole), "fidelity": replace(whole.fidelity, prefixes=False), "_ready": []})
    for decoding in (GREEDY, DRAWN):
        found = ids_of(careful.view(), IDS, decoding)
        assert found == ids_of(model.view(), IDS, decoding)
        assert logprobs(careful.view(), IDS, found) == pytest.approx(logprobs(model.view(), IDS, found), abs=1e-5)


def test_the_checkpoints_own_generation_settings_hold(folder: Path, tmp_path: Path) -> None:
    settings = json.loads((folder / "generation_config.json").read_text())
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    first = generated(plain, IDS, GREEDY)
    further = {"eos_token_id": [0, first[2]], "repetition_penalty": 1.8, "do_sample": True, "temperature": 0.5}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings | further))
    view = load(str(tmp_path), dtype="float32", device="cpu").view()
    penal = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    for decoding in (GREEDY, replace(DRAWN, top_k=0)):
        assert ids_of(view, IDS, decoding) == generated(penal, IDS, decoding)
    short = json.dumps(settings | {"eos_token_id": [0, first[2]]})
    (tmp_path / "generation_config.json").write_text(short)
    view = load(str(tmp_path), dtype="float32", device="cpu").view()
    found = ids_of(view, IDS, GREEDY)
    assert found == first[: first.index(first[2]) + 1]
    assert ending(view, IDS, found, GREEDY) == "end token"


def test_it_ends_where_the_model_reads_no_more(view: View) -> None:
    """As many tokens as it has positions, and one more, which is not read."""
    found = ids_of(view, IDS, replace(GREEDY, new_tokens=100))
    if found[-1] != 0:
        assert len(IDS) + len(found) == tiny.POSITIONS + 1
        assert ending(view, IDS, found, replace(GREEDY, new_tokens=100)) == "context"
    with pytest.raises(TaskError, match="1 to 16 tokens"):
        prompt_ids(view, "w1 " * 40)


def test_logits_that_are_no_numbers_end_a_reply(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(View, "logits_at", lambda *_, **__: torch.full((1, len(tiny.WORDS)), torch.nan))
    assert ids_of(view, IDS, DRAWN) == []
    assert ending(view, IDS, [], DRAWN) == "not finite"


def test_a_chat_is_read_through_the_template(folder: Path, tmp_path: Path, svds: SvdCache) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    template = "{% for m in messages %}{{ 'w1 ' if m.role == 'user' else 'w2 ' }}{{ m.content }} {% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(template + "{% if add_generation_prompt %}w2 {% endif %}")
    model = load(str(tmp_path), dtype="float32", device="cpu")
    example = Example("w7", "", shown=(("w5", "w6"),))
    pair = replies(
        (model.view(), model.view()), empty_mask(model), svds, [example], Framing(chat=True), decoding=GREEDY
    )[0]
    ids = [tiny.IDS[word] for word in ["w1", "w5", "w2", "w6", "w1", "w7", "w2"]]
    assert pair.read == len(ids)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert [one.id for one in pair.baseline.tokens] == generated(plain, ids, GREEDY)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"new_tokens": 0}, "new-tokens 0"),
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"top_k": -1}, "top-k -1"),
        ({"top_p": 0.0}, "top-p 0.0"),
        ({"top_p": 1.5}, "top-p 1.5"),
        ({"seed": 1 << 63}, "seed 9223372036854775808"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Decoding(**wrong)


# ---- as a command


def test_the_command_says_what_the_engine_does(
    folder: Path, mask: Mask, model: Model, svds: SvdCache, tmp_path: Path
) -> None:
    mask.save(tmp_path / "m.json")
    (tmp_path / "more.txt").write_text("w2 w3\n\nw4 w5\n")
    words = ("generate", "--model", str(folder), "--mask", tmp_path / "m.json", "--prompt", PROMPT)
    drawn = ("--new-tokens", 8, "--temperature", 0.8, "--top-k", 9, "--top-p", 0.95, "--seed", 5)
    found = report(*words, "--prompts", tmp_path / "more.txt", *drawn)
    assert list(found) == keys_of(GenerateResult)
    loaded = load(str(folder))
    expected = both(loaded, mask, svds, PROMPT, "w2 w3", "w4 w5", decoding=DRAWN)
    assert found["replies"] == json.loads(json.dumps([one.as_dict() for one in expected]))
    assert LoadedModel.of(loaded).generate([PROMPT, "w2 w3", "w4 w5"], mask, decoding=DRAWN) == expected
    shown = run(*words, "--prompts", tmp_path / "more.txt", *drawn).stdout
    assert summary_sentence(expected) in shown
    alone = run(*words, *drawn).stdout
    assert parting_sentence(expected[0]) in alone
    assert expected[0].baseline.text in alone


def test_random_masks_are_those_of_the_control(model: Model, mask: Mask, svds: SvdCache, tiny_task: Task) -> None:
    """Each draw generated in full, beside the unpruned reply."""
    prompts, count = [PROMPT, "w2 w3"], 4
    pairs = both(model, mask, svds, *prompts, decoding=DRAWN)
    view = model.view()
    heard = [(prompt_ids(view, prompt), pair) for prompt, pair in zip(prompts, pairs, strict=True)]
    found = reply_controls(view, mask, svds, task=tiny_task, heard=heard, decoding=DRAWN, count=count)
    drawn = draws(means_of(view, tiny_task, svds, mask), mask, "random-per-matrix", seeds=range(count))
    assert all(len(one) == len(mask) for one in drawn)
    for one, parted, kept in zip(drawn, found.drawn_parted, found.drawn_kept, strict=True):
        same = both(model, one, svds, *prompts, decoding=DRAWN)
        assert parted == sum(pair.parting is not None for pair in same)
        assert kept == pytest.approx(sum(pair.same / len(pair.baseline.tokens) for pair in same) / len(prompts))
    assert found.parted == sum(pair.parting is not None for pair in pairs)
    below = sum(kept < found.kept for kept in found.drawn_kept) + sum(k == found.kept for k in found.drawn_kept) / 2
    assert found.percentile == pytest.approx(100 * below / count)


def test_controls_need_a_mask_and_a_task(folder: Path, mask: Mask, tmp_path: Path) -> None:
    mask.save(tmp_path / "m.json")
    words = ("generate", "--model", str(folder), "--prompt", PROMPT, "--new-tokens", 4, "--controls", 2)
    assert "needs a --mask" in refused(*words)
    assert "give a --control-task" in refused(*words, "--mask", tmp_path / "m.json")
    rows = [json.dumps({"prompt": f"w{i} w{j}", "answer": " w3"}) for i in range(4) for j in range(4)]
    (tmp_path / "own.jsonl").write_text("\n".join(rows))
    own = ("--mask", tmp_path / "m.json", "--control-task", tmp_path / "own.jsonl")
    assert len(report(*words, *own)["controls"]["drawn_kept"]) == 2
    assert "random masks of the same size" in run(*words, *own).stdout


def test_what_cannot_be_asked_is_refused(folder: Path, tmp_path: Path) -> None:
    words = ("generate", "--model", str(folder))
    assert "give a --prompt" in refused(*words)
    assert "is a turn of a chat" in refused(*words, "--prompt", "w1", "--turn", "w2")
    assert "top-p 2.0" in refused(*words, "--prompt", "w1", "--top-p", 2)
    assert "cannot be read" in refused(*words, "--prompts", tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("\n \n")
    assert "holds no prompts" in refused(*words, "--prompts", tmp_path / "empty.txt")
    assert "type some text" in refused(*words, "--prompt", " ")
    assert Generate.from_query("model=m&prompt=a&prompt=b&top-p=0.5").prompt == ("a", "b")


def test_a_view_under_a_mask_goes_on_as_it_is(view64: View, mask: Mask, svds: SvdCache, plain64: Any) -> None:
    apply(view64, mask, svds)
    assert ids_of(view64, IDS, GREEDY) == generated(removal.masked(plain64, mask), IDS, GREEDY)
    apply(view64, mask.without_all(), svds)
