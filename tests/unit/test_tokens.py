"""Special tokens, chats, unknown words and padded vocabularies, against plain transformers, one example at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from explorer.core.errors import SettingsError, TaskError
from explorer.core.keys import MatrixKey
from explorer.masks.activations import read_prompt
from explorer.measure.choices import alternatives
from explorer.measure.evaluate import evaluate
from explorer.measure.perplexity import perplexity
from explorer.measure.readout import readouts
from explorer.measure.tokens import decoded, encode, encode_prompt, task_notice, token_texts, unknown_share
from explorer.models import Model, load
from explorer.spectra.cache import SvdCache
from explorer.tasks import Example, Framing, Task, as_framing, with_shots
from tests import tiny

CHATML = (
    "{% for m in messages %}{{ '<u> ' if m['role'] == 'user' else '<s> ' if m['role'] == 'system' else '<a> ' }}"
    "{{ m['content'] }}{{ ' <e> ' }}{% endfor %}{% if add_generation_prompt %}{{ '<a> ' }}{% endif %}"
)
WORDS = ("<bos>", "<unk>", "<eos>", "<u>", "<a>", "<s>", "<e>", *(f"w{i}" for i in range(20)))
IDS = {word: place for place, word in enumerate(WORDS)}


def words(template: str | None = None, *, special: bool = True, bos: bool = True, **more: Any) -> Any:
    reader = Tokenizer(models.WordLevel(IDS, unk_token="<unk>" if special else None))
    reader.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    named = {"unk_token": "<unk>", "eos_token": "<eos>"} if special else {}
    named |= {"bos_token": "<bos>"} if bos and special else {}
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=reader, chat_template=template, **named, **more)


def save(folder: Path, tokenizer: Any, rows: int = len(WORDS)) -> Path:
    torch.manual_seed(3)
    shape = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "max_position_embeddings": 64}
    config = LlamaConfig(vocab_size=rows, num_attention_heads=4, initializer_range=0.6, **shape)  # type: ignore[arg-type]
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def opened(folder: Path, tokenizer: Any, rows: int = len(WORDS)) -> Model:
    return load(str(save(folder, tokenizer, rows)), dtype="float32", device="cpu")


def task(*examples: Example, framing: Framing | None = None) -> Task:
    made = Task("words", "", examples, examples, examples, seed=0)
    return made if framing is None else made.framed(framing)


def plain_loss(folder: Path, prompt: list[int], answer: list[int]) -> float:
    """The summed loss of one answer, as plain transformers gives it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
    return -sum(float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))


ROWS = (Example("w1 w2 w3", " w4"), Example("w5", " w7 w8"), Example("w9 w10", " w14 w15 w16"))


@pytest.mark.parametrize(
    ("tokenizer", "bos", "front"),
    [
        (words(), "auto", [0]),
        (words(), "always", [0]),
        (words(), "never", []),
        (words(bos=False), "auto", []),
        (words(bos=False), "never", []),
        (words(special=False), "auto", []),
    ],
    ids=["with", "with, always", "with, never", "without", "without, never", "no special tokens"],
)
def test_losses_are_those_of_plain_transformers(tmp_path: Path, tokenizer: Any, bos: str, front: list[int]) -> None:
    """TransformerLens gives a tokenizer without BOS its EOS; one without any special token stopped it."""
    model = opened(tmp_path, tokenizer)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert model.tokenizer.special_tokens_map == again.special_tokens_map
    assert len(model.tokenizer) == len(again)
    found = evaluate(model.view(), task(*ROWS, framing=as_framing(bos)), "test")
    for example, loss in zip(ROWS, found.loss, strict=True):
        ids = [[IDS[word] for word in text.split()] for text in (example.prompt, example.answer)]
        assert loss == pytest.approx(plain_loss(tmp_path, front + ids[0], ids[1]), abs=1e-4)


def test_plain_text_has_no_bos_in_front_where_the_tokenizer_has_none(tmp_path: Path) -> None:
    model = opened(tmp_path, words(bos=False))
    ids = [IDS[f"w{i}"] for i in range(8)]
    found = perplexity(model.view(), " ".join(f"w{i}" for i in range(8)), window=16)
    assert found.tokens == 7
    assert found.nll[0] == pytest.approx(plain_loss(tmp_path, ids[:1], ids[1:]), abs=1e-4)


def test_always_is_refused_where_there_is_no_bos() -> None:
    with pytest.raises(TaskError, match="has no BOS token to put in front: choose auto or never"):
        encode(words(bos=False), ROWS[0], Framing("always"))


def test_a_task_that_wants_no_bos_gets_one_if_always_is_asked_for() -> None:
    wants_none = replace(task(*ROWS), bos=False)
    fronts = {
        bos: encode(words(), ROWS[0], wants_none.framed(as_framing(bos)).around).prompt[0] for bos in ("auto", "always")
    }
    assert fronts == {"auto": IDS["w1"], "always": 0}


@pytest.mark.parametrize("template", [CHATML, "{{ bos_token + ' ' }}" + CHATML])
@pytest.mark.parametrize("system", [None, "w19 w18"])
@pytest.mark.parametrize("shots", [0, 2])
def test_chats_are_those_of_plain_transformers(tmp_path: Path, template: str, system: str | None, shots: int) -> None:
    rows = (*ROWS, Example("w0 w1", " w2"))
    parts = Task("words", "", rows, (), (Example("w6 w2", " w3 w1"), Example("w8", " w4")), seed=0)
    asked = with_shots(parts.framed(Framing(chat=True, system=system)), shots)
    model = opened(tmp_path, words(template))
    found = evaluate(model.view(), asked, "test")
    reader = AutoTokenizer.from_pretrained(tmp_path)
    for example, loss in zip(parts.test, found.loss, strict=True):
        messages = [] if system is None else [{"role": "system", "content": system}]
        for shown in rows[:shots]:
            messages += [
                {"role": "user", "content": shown.prompt},
                {"role": "assistant", "content": shown.answer.strip()},
            ]
        messages.append({"role": "user", "content": example.prompt})
        ids = reader.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert ids.count(0) == template.startswith("{{ bos")
        answer = reader(example.answer.strip(), add_special_tokens=False)["input_ids"]
        assert loss == pytest.approx(plain_loss(tmp_path, ids, answer), abs=1e-4)


def test_bos_in_a_chat_is_the_templates_own_unless_it_is_said_otherwise() -> None:
    bare, begun, spelled = (words(front + CHATML) for front in ("", "{{ bos_token + ' ' }}", "<bos> "))
    fronts = {
        (name, bos): encode_prompt(tokenizer, "w1", as_framing(bos, chat=True))
        for name, tokenizer in (("bare", bare), ("begun", begun), ("spelled", spelled))
        for bos in ("auto", "always", "never")
    }
    turn = [IDS["<u>"], IDS["w1"], IDS["<e>"], IDS["<a>"]]
    assert fronts == {
        ("bare", "auto"): turn,
        ("bare", "always"): [0, *turn],
        ("bare", "never"): turn,
        ("begun", "auto"): [0, *turn],
        ("begun", "always"): [0, *turn],
        ("begun", "never"): turn,
        ("spelled", "auto"): [0, *turn],
        ("spelled", "always"): [0, *turn],
        ("spelled", "never"): turn,
    }


@pytest.mark.parametrize(
    ("template", "system", "said"),
    [
        (None, None, "has no chat template"),
        (
            "{{ raise_exception('no system') if messages[0]['role'] == 'system' }}" + CHATML,
            "w1",
            r"cannot be used .*no system",
        ),
        ("{{ messages[0]['content'] }} {% if %}", None, "cannot be used like this"),
        ("{{ 1 / 0 }}", None, "cannot be used like this"),
        ("{{ ''.__class__.__mro__ }}{{ messages[-1]['content'] }}", None, "cannot be used like this"),
        ("<u> {{ messages[-1]['content'] }} <a> ", "w1", "leaves out the system's message"),
        ("<u> <a> ", None, "leaves out the user's message"),
        ("<u> {{ messages[-1]['content'] | upper }} <a> ", None, "changes the user's message"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_in_a_sentence(
    template: str | None, system: str | None, said: str
) -> None:
    with pytest.raises(TaskError, match=said) as caught:
        encode(words(template), ROWS[0], Framing(chat=True, system=system))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("front", ["", "a", "b", "0", "a0", "[a]"])
@pytest.mark.parametrize("end", ["", "\n", " ", "a", "b", "0", "b0", "]"])
def test_a_template_of_the_last_message_alone_adds_nothing_to_it(front: str, end: str) -> None:
    """Nothing that the template is tried with becomes part of a prompt."""
    letters = " []uab012\n"
    made: Any = PreTrainedTokenizerFast
    reader = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, merges=[]))
    template = "{{ %r }}{{ messages[-1].content }}{{ %r }}" % (front, end)  # noqa: UP031 (a template has braces itself)
    tokenizer = made(tokenizer_object=reader, chat_template=template)
    messages = [{"role": "user", "content": "u1"}]
    wanted = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert list(encode(tokenizer, Example("u1", " 2"), Framing(chat=True)).prompt) == wanted


def test_an_answer_has_the_blanks_that_the_template_writes() -> None:
    """Llama 2 writes a space before what the assistant says, ChatML none."""
    template = "{% for m in messages %}{{ '[' + m.content + ']' if m.role == 'user' else ' ' + m.content }}{% endfor %}"
    letters = " []uab12"
    made: Any = PreTrainedTokenizerFast
    reader = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, merges=[]))
    spaced = made(tokenizer_object=reader, chat_template=template)
    found = encode(spaced, Example("a", " 12"), Framing(chat=True))
    assert ["".join(letters[token] for token in ids) for ids in (found.prompt, found.answer)] == ["[a]", " 12"]
    assert encode(words(CHATML), Example("w1", "  w2"), Framing(chat=True)).answer == (IDS["w2"],)


@pytest.mark.parametrize("shots", [0, 2])
def test_a_template_that_begins_no_turn_when_asked_has_the_assistants_own_beginning(shots: int) -> None:
    """The answer stands where the template puts what the assistant says in a whole chat."""
    reader = words(CHATML.partition("{% if add")[0])
    example = Example("w1", " w2", shown=(("w3", " w4"),) * shots)
    turns = [message for asked, said in example.shown for message in (asked, said.strip())]
    messages = [
        {"role": "assistant" if place % 2 else "user", "content": text}
        for place, text in enumerate([*turns, "w1", "w2"])
    ]
    whole = reader.apply_chat_template(messages, return_dict=False)
    found = encode(reader, example, Framing(chat=True, bos="never"))
    assert [*found.prompt, *found.answer, IDS["<e>"]] == whole
    assert found.answer == (IDS["w2"],)


def test_a_system_message_without_a_chat_and_an_unknown_rule_are_refused() -> None:
    with pytest.raises(SettingsError, match="a system message belongs to a chat"):
        Framing(system="w1")
    with pytest.raises(SettingsError, match="bos 'maybe' is not known: choose one of auto, always, never"):
        as_framing("maybe")


def test_what_stands_around_the_prompts_is_part_of_what_a_task_asks() -> None:
    usual = task(*ROWS)
    framings = [
        Framing("always"),
        Framing("never"),
        Framing(chat=True),
        Framing(chat=True, system="w1"),
        Framing("never", chat=True),
    ]
    digests = [usual.digest, *(usual.framed(one).digest for one in framings)]
    assert len(set(digests)) == len(digests)
    assert usual.framed(Framing()).digest == usual.digest
    with pytest.raises(TaskError, match="shots already"):
        replace(usual, shots=1).framed(Framing(chat=True))


# ---- beyond the embedding, and beyond the tokenizer


def test_a_token_beyond_the_embedding_is_named(tmp_path: Path) -> None:
    tokenizer = words()
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    model = opened(tmp_path, tokenizer)
    bad = task(*ROWS, Example("w1 <pad> w2", " w3"))
    with pytest.raises(TaskError, match=r"token '<pad>' \(27\) of 'w1 <pad> w2 w3' is beyond the 27 rows"):
        evaluate(model.view(), bad, "test")
    with pytest.raises(TaskError, match="token '<pad>'"):
        read_prompt(model.view(), "w1 <pad>")
    with pytest.raises(TaskError, match="token '<pad>'"):
        perplexity(model.view(), "w1 <pad> w2", window=8)
    assert evaluate(model.view(), task(*ROWS), "test").n == 3


def test_a_bos_token_beyond_the_embedding_is_named(tmp_path: Path) -> None:
    tokenizer = words(bos=False)
    tokenizer.add_special_tokens({"bos_token": "<begin>"})
    model = opened(tmp_path, tokenizer)
    with pytest.raises(TaskError, match=r"token '<begin>' \(27\) .*: leave out BOS, or"):
        evaluate(model.view(), task(*ROWS), "test")
    assert evaluate(model.view(), task(*ROWS, framing=Framing("never")), "test").n == 3
    assert perplexity(model.view(), "w1 w2 w3", window=8).tokens == 2


def test_rows_of_a_padded_vocabulary_are_never_listed_and_an_answer_there_is_shown_by_its_number(
    tmp_path: Path,
) -> None:
    folder = save(tmp_path, words(), rows=40)
    with torch.no_grad():
        model: Any = AutoModelForCausalLM.from_pretrained(folder)
        model.lm_head.weight[27:] *= 50
        model.save_pretrained(folder)
    loaded = load(str(folder), dtype="float32", device="cpu")
    view = loaded.view()
    with torch.no_grad():
        logits = model.eval()(torch.tensor([[0, *(IDS[word] for word in ROWS[0].prompt.split())]])).logits[0, -1]
    most = int(logits.argmax())
    assert most >= 27
    assert evaluate(view, task(*ROWS), "test").answers[0] == f"[row {most}]"
    listed = read_prompt(view, ROWS[0].prompt).top(100)
    assert sorted(token for token, _ in listed) == list(range(27))
    assert listed[0][1] == pytest.approx(float(logits.softmax(-1)[:27].max()), rel=1e-4)
    key = MatrixKey.parse("L1.OUT")
    for one in readouts(view, key, SvdCache(None).get(view, key), [0], k=100):
        assert sorted(token.id for token in one.plus) == list(range(27))
    assert token_texts(loaded.tokenizer, [most, IDS["w1"]]) == [f"[row {most}]", "w1"]
    assert decoded(loaded.tokenizer, [IDS["w1"], 30, 31]) == "w1[row 30][row 31]"


# ---- words


def test_choices_that_are_the_same_tokens_are_refused(tmp_path: Path) -> None:
    lower = words()
    lower._tokenizer.normalizer = normalizers.Lowercase()
    model = opened(tmp_path, lower)
    same = Example("w1", " w2", choices=(" w2", " W2"))
    with pytest.raises(TaskError, match="' w2' and ' W2', answers to 'w1', are the same tokens"):
        alternatives(model.view(), task(same), "test")
    with pytest.raises(TaskError, match="are the same tokens"):
        alternatives(model.view(), task(Example("w1", " w2", distractor=" W2")), "test")
    assert alternatives(model.view(), task(Example("w1", " w2", choices=(" w2", " w2 w3"))), "test").picked()


def test_the_share_of_unknown_words_is_said_above_five_percent() -> None:
    tokenizer = words()
    known, strange = Example("w1 w2 w3 w4", " w1"), Example("w1 two three four", " w1")
    assert unknown_share(tokenizer, [known.prompt, strange.prompt]) == 3 / 8
    assert task_notice(tokenizer, task(known), [known]) is None
    said = task_notice(tokenizer, task(known), [known, strange])
    assert said == (
        "the model's tokenizer does not know 38 % of the prompts of words: its figures say little about the model."
    )


def test_letters_that_a_tokenizer_drops_without_a_token_are_unknown() -> None:
    letters = Tokenizer(models.BPE({"a": 0, "b": 1}, merges=[]))
    made: Any = PreTrainedTokenizerFast
    assert unknown_share(made(tokenizer_object=letters), ["ab xyz", "a b"]) == pytest.approx(3 / 7)
    assert unknown_share(tiny.tokenizer(), []) == 0.0


def test_an_unknown_token_that_is_not_named_is_known_all_the_same() -> None:
    tokenizer = words(special=False)
    assert tokenizer.unk_token_id is None
    assert unknown_share(tokenizer, ["unheard w1"]) == 1 / 2
    with pytest.raises(TaskError, match="does not know all of the answer ' w1 unheard'"):
        encode(tokenizer, Example("w2", " w1 unheard"))


def test_a_prompt_of_no_token_is_refused_where_nothing_stands_in_front() -> None:
    """Else the answer's first token would be read off the padding of a longer neighbour."""
    dropping = words()
    dropping.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    empty = Example("\u200b", "w1 w2")
    with pytest.raises(TaskError, match="is no token for this tokenizer, and no BOS stands in front"):
        encode(dropping, empty, Framing("never"))
    found = encode(dropping, empty, Framing("always"))
    assert (found.prompt, found.answer) == ((0,), (IDS["w1"], IDS["w2"]))


def test_an_unknown_token_that_is_written_out_is_known() -> None:
    """GPT-2's unknown token is its EOS."""
    tokenizer = words(unk_token="<eos>", eos_token="<eos>", special=False)
    assert tokenizer.unk_token_id == IDS["<eos>"]
    assert encode(tokenizer, Example("w2", " w1<eos>")).answer == (IDS["w1"], IDS["<eos>"])
    assert unknown_share(tokenizer, ["w1 <eos> w2"]) == 0.0
    with pytest.raises(TaskError, match="does not know all of the answer ' unheard'"):
        encode(words(), Example("w2", " unheard"))
    assert encode(words(), Example("w2", " w1 <unk>")).answer == (IDS["w1"], IDS["<unk>"])
    with pytest.raises(TaskError, match="does not know all of the answer ' unheard <unk>'"):
        encode(words(), Example("w2", " unheard <unk>"))


def test_prompt_and_answer_that_are_one_unknown_word_are_said_to_be() -> None:
    said = "prompt '3x4=' and answer '12' are together one word that the tokenizer does not know: begin the answer with"
    for prompt in ("3x4=", "w1"):
        with pytest.raises(TaskError, match=said.replace("3x4=", prompt)):
            encode(words(), Example(prompt, "12"))
    with pytest.raises(TaskError, match="cannot separate answer '2' from prompt 'w1': move the space"):
        encode(words(), Example("w1", "2"))


def test_an_answer_of_which_letters_are_dropped_is_refused() -> None:
    made: Any = PreTrainedTokenizerFast
    letters = made(tokenizer_object=Tokenizer(models.BPE({"a": 0, "b": 1}, merges=[])))
    assert encode(letters, Example("a", "b")).answer == (1,)
    with pytest.raises(TaskError, match="does not know all of the answer 'bx'"):
        encode(letters, Example("a", "bx"))


def test_a_chat_that_changes_by_day_is_noticed() -> None:
    dated = words("{{ strftime_now('%d') }} " + CHATML)
    chat = task(*ROWS, framing=Framing(chat=True))
    assert task_notice(dated, chat, ROWS) == "The chat template writes today's date: figures change from day to day."
    assert task_notice(dated, task(*ROWS), ROWS) is None
    assert task_notice(words(CHATML), chat, ROWS) is None
