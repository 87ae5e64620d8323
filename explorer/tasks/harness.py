"""Tasks of the lm-evaluation-harness (Gao et al., A framework for few-shot language model evaluation), by its package.

The harness itself makes every prompt, its shots too, and says what follows it, so that its own `HFLM` reads the same
tokens. A document of `multiple_choice` becomes an example with choices; accuracy (choice) is its `acc`, but that a tie
is nobody's where the harness takes the first. One of `loglikelihood` has an answer only; exact match is its `acc`.

Blanks at the end of a prompt begin the answer, as the harness reads them. A BOS stands in front where the tokenizer
puts one there itself. The test split is what the harness evaluates, in its order; train and validation are further
splits that the file names, and without any they are empty, so that nothing is searched on what is reported.
Templates are rendered in a sandbox.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

from explorer.core.errors import TaskError, in_a_line
from explorer.core.logs import silenced
from explorer.core.progress import Progress
from explorer.tasks import harness_data
from explorer.tasks.base import Example, Origin, Task
from explorer.tasks.cases import USUAL_CASES, VALIDATION_SHARE, Cases
from explorer.tasks.harness_yaml import ASKED_FIELDS, parse_fields, read_fields
from explorer.tasks.shots import MOST_SHOTS

PREFIX, LOGGER = "lm-eval:", "lm_eval"
SUFFIXES = (".yaml", ".yml")
SHOTS_SEED = 1234  # with which `lm_eval.simple_evaluate` draws shots if it is not told another one
MOST_TEXT = 1_000_000  # letters that a product in a template may have
_LOCK = RLock()  # around what is changed in the package for a while


def is_harness(name: str) -> bool:
    """Whether a task's name, or the path of its file, means one of the harness."""
    return name.startswith(PREFIX) or name.lower().endswith(SUFFIXES)


@dataclass(frozen=True)
class Shown:
    """How a task of the harness is asked.

    Attributes:
        shots: documents shown in front of every prompt; 0 leaves it to the file.
        template, cases: only as usual: these tasks have their own.
        progress: told (documents, all).
    """

    shots: int = 0
    template: str | None = None
    cases: Cases = USUAL_CASES
    progress: Progress | None = None


def read_harness(name: str, seed: int, asked: Shown) -> Task:
    """The task of a file, or the one that the harness calls `lm-eval:NAME`.

    Args:
        name: path of a YAML file, or PREFIX with a name.
        seed: of the validation split, where the file names none but one for training.
        asked: how it is asked.

    Raises:
        TaskError: the harness is not installed; no such task, one that cannot be represented, or data that are missing.
    """
    path = _path(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else Path(name).expanduser().resolve()
    called = name if name.startswith(PREFIX) else path.name
    return _Reader(called, read_fields(path), path.parent, asked=asked).task(seed)


def parse_harness(content: bytes, *, name: str, seed: int, asked: Shown) -> Task:
    """The task in the bytes of a file; the files of its data are looked for from the working folder on.

    Raises:
        TaskError: as `read_harness` does, and for a file that includes others.
    """
    return _Reader(name, parse_fields(content, name), None, asked=asked).task(seed)


@dataclass(frozen=True)
class _Reader:
    """Fields of a task file, and how they are asked."""

    name: str
    fields: Mapping[str, Any]
    folder: Path | None
    asked: Shown

    def task(self, seed: int) -> Task:
        """The task."""
        self._check()
        installed()
        documents = harness_data.documents(self.fields, self.name, self.folder)
        with _LOCK, sandbox(), silenced(LOGGER):
            shots = self._shots()
            made = self._made(documents)
            made.set_config("num_fewshot", shots)
            train, validation, test = self._splits(documents, seed)
            total, done = len(train) + len(validation) + len(test), 0
            found = []
            for part in (train, validation, test):
                found.append(self._examples(made, part, own=part is test, told=(done, total)))
                done += len(part)
        return Task(
            self.name,
            f"{total:,} documents of {self.fields['task']}, a task of the lm-evaluation-harness",
            found[0],
            validation=found[1],
            test=found[2],
            seed=seed,
            bos=None,
            shots=shots,
        )

    def _check(self) -> None:
        if self.asked.template is not None:
            raise TaskError(f"{self.name} has its own wording: leave out the template, or change doc_to_text.")
        if self.asked.cases != USUAL_CASES:
            raise TaskError(f"{self.name} names its splits and its wording itself: leave out how cases are split.")
        if not 0 <= self.asked.shots <= MOST_SHOTS:
            raise TaskError(f"{self.asked.shots} shots cannot be given: choose 0 to {MOST_SHOTS}.")

    def _shots(self) -> int:
        own = self.fields.get("num_fewshot")
        if own is not None and (isinstance(own, bool) or not isinstance(own, int) or not 0 <= own <= MOST_SHOTS):
            raise TaskError(f"{self.name} has num_fewshot {str(own)[:20]}: give 0 to {MOST_SHOTS}.")
        if own == 0 and self.asked.shots:
            raise TaskError(f"{self.name} is asked without shots (num_fewshot: 0): leave out the shots.")
        return self.asked.shots or own or 0

    def _made(self, documents: Any) -> Any:
        """The harness' own task over the documents."""
        from lm_eval.api.task import ConfigurableTask

        for field in ("training_split", "validation_split", "test_split", "fewshot_split"):
            split = self.fields.get(field)
            if split is not None and split not in documents:
                raise TaskError(
                    f"{self.name} has {field} {str(split)[:40]!r}, but its data have {', '.join(documents)}."
                )
        if self.fields.get("test_split") is None and self.fields.get("validation_split") is None:
            raise TaskError(f"{self.name} names neither test_split nor validation_split: say what is evaluated.")
        config = {field: value for field, value in self.fields.items() if field in ASKED_FIELDS}
        try:
            made = ConfigurableTask(config={**config, "custom_dataset": lambda **_: documents})
        except Exception as error:  # templates, fields and documents fail in their own ways
            raise TaskError(
                f"{self.name} is no task that the harness can make ({_said(error)}): check its fields, and "
                "its first document."
            ) from None
        if made.multiple_input:
            raise TaskError(
                f"{self.name} puts its choices into the prompt (doc_to_text gives a number): not read here."
            )
        if made.multiple_target:
            raise TaskError(f"{self.name} has several right answers to a document: not read here; keep one of them.")
        return made

    def _splits(self, documents: Any, seed: int) -> tuple[list[Any], list[Any], list[Any]]:
        """The documents of train, validation and test."""
        names = [self.fields.get(f"{split}_split") for split in ("training", "validation", "test")]
        training, validating, testing = names
        evaluated = testing or validating
        train = [] if training in (None, evaluated) else list(documents[training])
        validation = [] if validating in (None, evaluated, training) else list(documents[validating])
        random.Random(seed).shuffle(train)
        if train and not validation:
            count = max(1, round(VALIDATION_SHARE * len(train)))
            train, validation = train[count:], train[:count]
        elif validation and not train:
            random.Random(seed).shuffle(validation)
            count = max(1, round(VALIDATION_SHARE * len(validation)))
            train, validation = validation[count:], validation[:count]
        return train, validation, list(documents[evaluated])

    def _examples(
        self, made: Any, documents: Sequence[Any], *, own: bool, told: tuple[int, int]
    ) -> tuple[Example, ...]:
        """Documents as examples; the harness' `own` are shown what it shows them, others never themselves."""
        made.set_fewshot_seed(SHOTS_SEED)
        tested = made.config.test_split
        if not own:  # a document whose split is said to be the one that shots come from is not among its shots
            made.set_config("test_split", made.fewshot_cfg.split)
        try:
            return tuple(
                self._told_example(made, place, document, told=told) for place, document in enumerate(documents)
            )
        finally:
            made.set_config("test_split", tested)

    def _told_example(self, made: Any, place: int, document: Any, told: tuple[int, int]) -> Example:
        if self.asked.progress is not None:
            self.asked.progress(told[0] + place, told[1])
        try:
            return self._example(made, document)
        except Exception as error:  # templates and documents fail in their own ways
            raise TaskError(f"{self.name}, document {place} of its split: {_said(error)}") from None

    def _example(self, made: Any, document: Any) -> Example:
        shots = made.config.num_fewshot
        context = made.fewshot_context(document, num_fewshot=shots, gen_prefix=made.doc_to_prefix(document))
        requests = made.construct_requests(doc=document, ctx=context, metadata=(self.name, 0, 1))
        origin = Origin(made.doc_to_text(document), f"{made.doc_to_text(document)}\n{made.doc_to_target(document)}")
        if made.OUTPUT_TYPE == "loglikelihood":
            prompt, answer = _bordered(*requests.args)
            return Example(prompt, answer, origin=origin)
        pairs = [_bordered(*one.args) for one in requests]
        gold, choices = made.doc_to_target(document), made.doc_to_choice(document)
        if isinstance(gold, str) and gold in choices:
            gold = choices.index(gold)
        if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices):
            raise TaskError(f"its target {str(gold)[:40]!r} is none of its {len(choices)} choices.")
        answers = tuple(answer for _, answer in pairs)
        return Example(pairs[0][0], answers[gold], answers, origin=origin)


def _bordered(context: str, continuation: str) -> tuple[str, str]:
    """Prompt and answer as the harness cuts them: blanks at the end of the one begin the other."""
    prompt = context.rstrip()
    if not prompt:
        raise TaskError("its prompt is empty: give it words in doc_to_text, or a description.")
    if not continuation.strip():
        raise TaskError("an answer of it is empty: leave the document out.")
    return prompt, context[len(prompt) :] + continuation


def installed() -> None:
    """Raise TaskError unless the harness can be imported."""
    try:
        import lm_eval  # noqa: F401
    except ImportError:
        raise TaskError(
            "tasks of the lm-evaluation-harness need its package: pip install 'eigenprune-explorer[lm-eval]'."
        ) from None


@cache
def own_tasks() -> Mapping[str, Any]:
    """Its own tasks by name; no function that they name is looked up."""
    import lm_eval.tasks
    from lm_eval.tasks._index import TaskIndex

    with silenced(LOGGER):
        found: Mapping[str, Any] = TaskIndex.build([Path(lm_eval.tasks.__file__).parent])
    return found


def _path(name: str) -> Path:
    """The file of a task of the harness."""
    installed()
    entry = own_tasks().get(name)
    if entry is None:
        raise TaskError(f"the lm-evaluation-harness has no task {name[:60]!r}: see `lm-eval ls tasks`.")
    if entry.yaml_path is None or entry.kind.name != "TASK":
        kind = {"GROUP": "a group", "TAG": "a tag of several tasks", "PY_TASK": "written in Python"}
        raise TaskError(f"{name[:60]} is {kind.get(entry.kind.name, 'no task')}: name one of its tasks that is a file.")
    return Path(entry.yaml_path)


@contextmanager
def sandbox() -> Iterator[None]:
    """The harness' templates rendered where they reach nothing but the document, for the time of a block."""
    import lm_eval.utils

    usual = lm_eval.utils.env
    lm_eval.utils.env = _environment(usual)
    try:
        yield
    finally:
        lm_eval.utils.env = usual


def _environment(usual: Any) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        """Jinja without attributes of Python's own, and without products that fill the memory."""

        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            sizes = [len(one) if isinstance(one, (str, list, tuple)) else abs(one) for one in (left, right)]
            whole = all(isinstance(one, int) for one in (left, right))
            if (operator == "**" and max(sizes) > 100) or (not whole and sizes[0] * sizes[1] > MOST_TEXT):
                raise SecurityError("a product that is too large")
            return super().call_binop(context, operator, left, right=right)

    made = Sandbox(undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters["regex_replace"] = usual.filters["regex_replace"]
    return made


def _said(error: Exception) -> str:
    """What went wrong, for the end of a sentence."""
    from jinja2.exceptions import SecurityError, TemplateError

    if isinstance(error, TaskError):
        return str(error)
    what = in_a_line(error)
    if isinstance(error, SecurityError):
        return f"a template reaches for what templates may not use ({what})"
    if isinstance(error, TemplateError):
        return f"a template cannot be filled ({what})"
    return what
