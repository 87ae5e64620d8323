"""Tasks of the lm-evaluation-harness: what its own HFLM and simple_evaluate say of the same model and documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from explorer.core.errors import TaskError
from explorer.measure.choices import measure
from explorer.models import Model, load
from explorer.tasks import Shown, load_task, parse_harness
from tests import harness_files, tiny
from tests.commands import refused, report
from tests.harness_files import NAMES, SCIQ

CLOSE = 1e-4  # nats


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return harness_files.write(tmp_path_factory.mktemp("harness"))


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def letters(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a context that is long enough for three shots."""
    return long_letters(request.param, tmp_path_factory.mktemp(request.param))


def long_letters(name: str, folder: Path) -> Path:
    from transformers import AutoConfig

    tiny.save_letters(folder, name)
    config = AutoConfig.from_pretrained(folder)
    setattr(config, "n_positions" if name == "gpt2" else "max_position_embeddings", 1024)
    torch.manual_seed(7)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def evaluated(folder: Path | str, files: Path, name: str, shots: int | None = None) -> dict[str, Any]:
    """What the harness itself says, by plain transformers: figures and samples."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    harness = HFLM(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(folder), batch_size=4)
    manager = TaskManager(include_path=str(files), include_defaults=False)
    found: dict[str, Any] = simple_evaluate(
        harness, tasks=[NAMES[name]], task_manager=manager, num_fewshot=shots, bootstrap_iters=0, verbosity="ERROR"
    )
    return {"figures": found["results"][NAMES[name]], "samples": found["samples"][NAMES[name]]}


def check_agreement(folder: Path | str, files: Path, name: str, shots: int = 0) -> None:
    theirs = evaluated(folder, files, name, shots or None)
    task = load_task(str(files / f"{name}.yaml"), shots=shots)
    view = load(str(folder), dtype="float32", device="cpu").view()
    found, alternatives = measure(view, task, "test")
    assert found.n == len(theirs["samples"])
    assert found.accuracy == pytest.approx(theirs["figures"]["acc,none"], abs=1e-12)
    samples = sorted(theirs["samples"], key=lambda one: one["doc_id"])
    for place, (example, sample) in enumerate(zip(found.examples, samples, strict=True)):
        expected = [float(answer[0][0]) for answer in sample["resps"]]
        if not example.choices:
            assert -found.loss[place] == pytest.approx(expected[0], abs=CLOSE)
            continue
        assert alternatives is not None
        ours = dict(zip(alternatives.texts[place], alternatives.logprobs[place], strict=True))
        assert [ours[choice] for choice in example.choices] == pytest.approx(expected, abs=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shots"), [("sciq", 0), ("sciq", 3), ("piqa", 0), ("boolq", 0), ("last-word", 0)])
def test_log_probabilities_and_accuracy_are_the_harness_s(letters: Path, files: Path, name: str, shots: int) -> None:
    check_agreement(letters, files, name, shots)


@pytest.mark.slow
def test_they_are_on_a_tokenizer_that_puts_a_bos_in_front(files: Path, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    long_letters("llama", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("a")["input_ids"][0] == 0
    check_agreement(tmp_path, files, "boolq")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sciq", "piqa", "boolq"])
def test_they_are_on_a_real_model(smollm2: Model, files: Path, name: str) -> None:
    check_agreement(str(smollm2.source.folder), files, name)


def test_a_file_s_documents_come_in_its_splits(files: Path) -> None:
    sciq = load_task(str(files / "sciq.yaml"))
    assert [len(sciq.split(one)) for one in ("train", "validation", "test")] == [12, 12, 12]
    piqa = load_task(str(files / "piqa.yaml"))  # evaluated on its validation split, so that ours is cut from train
    assert [len(piqa.split(one)) for one in ("train", "validation", "test")] == [11, 1, 12]
    assert (piqa.shots, sciq.shots, load_task(str(files / "sciq.yaml"), shots=3).shots) == (2, 0, 3)
    alone = load_task(str(files / "last-word.yaml"))
    with pytest.raises(TaskError, match=r"the train split of last-word\.yaml is empty"):
        alone.split("train")


def test_no_train_document_is_among_its_own_shots(files: Path) -> None:
    task = load_task(str(files / "sciq.yaml"), shots=11)
    for one in task.train:
        assert one.prompt.count(one.prompt.rpartition("\n\n")[2]) == 1


def test_prompts_and_answers_join_as_the_harness_cuts_them(files: Path) -> None:
    task = load_task(str(files / "boolq.yaml"))
    for one in task.test:
        assert one.prompt.startswith("Answer the question.\n\n")
        assert one.prompt.endswith("Answer:")
        assert one.choices == (" no", " yes")


def parsed(text: str, files: Path, **replaced: str) -> str:
    """The sentence with which a changed file is refused."""
    text = text.replace("FOLDER", str(files))
    for before, after in replaced.items():
        text = text.replace(before, after)
    with pytest.raises(TaskError) as refusal:
        parse_harness(text.encode(), name="mine.yaml", seed=0, asked=Shown())
    return str(refusal.value)


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("process_docs: !function utils.process_docs", "runs code for process_docs (!function utils.process_docs)"),
        ("fewshot_config: {samples: !function u.list}", "runs code for fewshot_config.samples (!function u.list)"),
        ("process_docs: utils.process", "has process_docs (code that changes the documents)"),
        ("class: !!python/name:os.system", "is no YAML that can be read as data"),
        ("output_type: generate_until", "has output_type generate_until"),
        ("output_type: loglikelihood_rolling", "has output_type loglikelihood_rolling"),
        ("use_prompt: promptsource:all", "has use_prompt"),
        ("doc_to_image: picture", "has doc_to_image (images)"),
        ("group: several", "has group (a group of tasks"),
        ("task: [one, two]", "names no single task"),
        ("include: other.yaml", "includes 'other.yaml', which did not come with it"),
        ("bogus: 1", "has the field 'bogus'"),
        ("repeats: 3", "repeats its documents 3 times"),
        ("test_split: nothing", "has test_split 'nothing', but its data have train, validation, test"),
        ("dataset_path: pandas", "has dataset_path 'pandas', which is not read here"),
        ("dataset_kwargs: {data_files: https://x/y.json}", "give the path of a file of this machine"),
        ("dataset_kwargs: {data_files: gone.jsonl}", "the data file 'gone.jsonl' of mine.yaml is not there"),
        ("doc_to_target: 7", "is no task that the harness can make (list index out of range)"),
        ("doc_to_target: none of them", "document 0 of its split: its target 'none of them' is none of its 4 choices"),
        ('doc_to_text: "{{nothing}}"', "a template cannot be filled ('nothing' is undefined)"),
        ('doc_to_text: "{{question.__class__.__mro__}}"', "a template reaches for what templates may not use"),
        ('doc_to_text: "{{ question * 10000000 }}"', "a template reaches for what templates may not use"),
        ('doc_to_text: "{{ cycler.__init__.__globals__.os }}"', "a template reaches for what templates may not use"),
        ('doc_to_text: "1"', "puts its choices into the prompt"),
        ('doc_to_text: ""', "its prompt is empty"),
        ('doc_to_choice: ["yes", "yes", "no", "no"]', "a choice comes twice"),
        ("num_fewshot: 13", "document 0 of its split"),
        ("num_fewshot: many", "has num_fewshot many"),
    ],
)
def test_what_no_task_can_represent_is_refused_by_name(files: Path, added: str, said: str) -> None:
    field = added.split(":")[0]
    kept = "\n".join(line for line in SCIQ.splitlines() if not line.startswith(f"{field}:"))
    if field == "dataset_kwargs":
        kept = kept.replace(SCIQ.splitlines()[3], "")
    assert said in parsed(f"{kept}\n{added}\n", files)


def test_the_command_line_reads_them_and_refuses_what_does_not_go_with_them(files: Path) -> None:
    path = files / "piqa.yaml"
    shown = report("tasks", "show", path, "--split", "test", "--limit", 2)
    assert (shown["task"], shown["shots"], shown["n"]) == ("piqa.yaml", 2, 12)
    assert "has its own wording" in refused("tasks", "show", path, "--template", "{prompt}!")
    assert "names its splits" in refused("tasks", "show", path, "--hold-out", "answers")
    assert "not as a chat" in refused("tasks", "show", path, "--chat")
    assert "has no task 'nothing-like-it'" in refused("tasks", "show", "lm-eval:nothing-like-it")
