"""The `tasks` commands: what there is to ask, what can be fetched, and how a model's tokenizer reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from explorer.actions.choices import DataFolder, RawModelChoice, Split, TaskArgument, usable, wording
from explorer.actions.request import ALONE, Arg, Request, Result, Tools
from explorer.core.config import settings
from explorer.core.errors import TaskError
from explorer.tasks import SPLITS, TASKS, Example, Task, load_task
from explorer.tasks.relations import PREFIX, fetch_relations, fetched_folder

if TYPE_CHECKING:
    from explorer.models import View

UNFIT = 1
RELATIONS = "relations"
Tokenizer = Annotated[str | None, Arg("Cut the text as this model's tokenizer does.")]


@dataclass(frozen=True)
class TasksResult(Result):
    """The built-in tasks.

    Attributes:
        tasks: name, description, template, placeholders (that another template may use), wordings (further templates
            for searches), unseen (templates that no search uses), symmetric (whether cases have twins), needs_data,
            sizes (examples of each split) and sample; sizes and sample are null for a task whose data were not given
            and are not fetched for a list.
    """

    tasks: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class FetchedTasks(Result):
    """The data of tasks that are on this machine now: `pairs` has how many each relation holds, by the task's name."""

    folder: str
    pairs: Mapping[str, int]


@dataclass(frozen=True)
class _Described(Result):
    """Which task it is, and how it is asked."""

    task: str
    description: str
    task_digest: str
    shots: int
    template: str | None
    bos: str
    chat: bool
    system: str | None
    splits: str
    hold_out: str | None
    wordings: int
    only: str | None


@dataclass(frozen=True)
class TaskResult(_Described):
    """The first examples of a split of `n`.

    Attributes:
        examples: prompt, answer, choices, distractor, prompt_tokens and answer_tokens (as the model's tokenizer cuts
            them, null without a model), and problem (why the model cannot take it, or null).
    """

    split: str
    seed: int
    n: int
    examples: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ValidateResult(_Described):
    """What a task holds by split, and what a model makes of it; the last four are null without a model.

    Attributes:
        seen: prompts that an earlier split has.
        answers: how many distinct ones there are, the most_common, and the accuracy of always giving that (majority).
        notices: what is probably not meant.
        longest: the longest example in tokens, of which the model reads `context`.
        unknown: share of the prompts that the tokenizer does not know.
        problems: examples that the model cannot take, by split and index (from 0).
    """

    seed: int
    sizes: Mapping[str, int]
    seen: Mapping[str, int]
    with_choices: Mapping[str, int]
    with_distractor: Mapping[str, int]
    answers: Mapping[str, Mapping[str, Any] | None]
    notices: Sequence[str]
    longest: int | None
    context: int | None
    unknown: Mapping[str, float] | None
    problems: Sequence[Mapping[str, Any]] | None

    def unknown_sentences(self) -> list[str]:
        """A sentence per split of which the tokenizer does not know enough."""
        from explorer.measure.tokens import MAX_UNKNOWN, unknown_sentence

        shares = (self.unknown or {}).items()
        return [unknown_sentence(share, f"the {split} prompts") for split, share in shares if share > MAX_UNKNOWN]

    @property
    def exit_code(self) -> int:
        """1 if there are examples that the model cannot take."""
        return UNFIT if self.problems else 0


@dataclass(frozen=True, kw_only=True)
class ListTasks(Request):
    """List the built-in tasks with the sizes of their splits and one example.

    A .jsonl or .csv file with `prompt`, `answer`, and perhaps `choices`, `distractor`, `split` and `group` (rows of one
    group stay in one split), is a task, too; and so is a relation, a .csv file with `input` and `output`.

    Example: `eigenprune tasks list --json`
    """

    command: ClassVar[str] = "tasks list"

    data: DataFolder = None

    def run(self, tools: Tools = ALONE) -> TasksResult:
        """List them.

        Raises:
            TaskError: the data cannot be read.
        """
        return TasksResult([self._entry(name) for name in TASKS])

    def _entry(self, name: str) -> dict[str, Any]:
        spec = TASKS[name]
        here = not spec.needs_data or self.data is not None
        task = load_task(name, settings().seed, data=self.data if spec.needs_data else None) if here else None
        return {
            "name": name,
            "description": spec.description,
            "template": spec.template,
            "placeholders": list(spec.placeholders),
            "wordings": list(spec.wordings),
            "unseen": list(spec.unseen),
            "symmetric": spec.symmetric,
            "needs_data": spec.needs_data,
            "sizes": None if task is None else {split: len(task.split(split)) for split in SPLITS},
            "sample": None if task is None else {"prompt": task.train[0].prompt, "answer": task.train[0].answer},
        }


@dataclass(frozen=True, kw_only=True)
class FetchTasks(Request):
    """Bring the data of tasks onto this machine, once: word pairs of relations, such as `walk, walked`.

    They are the first 1,200 pairs of each relation of Todd et al. (Function Vectors in Large Language Models, ICLR
    2024; MIT licence), from the paper's public repository or from a folder, and are checked. Then `--task
    relation:present-past` works, and so do the others that are listed.

    Example: `eigenprune tasks fetch relations`
    """

    command: ClassVar[str] = "tasks fetch"

    name: Annotated[str, Arg("What to fetch: relations.", positional=True)]
    data: Annotated[Path | None, Arg("Folder of the CSV files; the public repository if not given.")] = None

    def run(self, tools: Tools = ALONE) -> FetchedTasks:
        """Fetch them.

        Raises:
            TaskError: no such data, or data that cannot be had or are other ones than expected.
        """
        if self.name != RELATIONS:
            raise TaskError(f"{self.name[:40]!r} cannot be fetched: give {RELATIONS}.")
        with tools.working(f"Fetching {self.name}") as progress:
            sizes = fetch_relations(self.data, progress)
        return FetchedTasks(str(fetched_folder()), {f"{PREFIX}{name}": size for name, size in sizes.items()})


@dataclass(frozen=True, kw_only=True)
class ShowTask(Request):
    """Show examples of a task, with a model cut into tokens as its tokenizer cuts them.

    Example: `eigenprune tasks show int-mult --model bundled --shots 2`
    """

    command: ClassVar[str] = "tasks show"

    task: TaskArgument
    model: Tokenizer = None
    split: Split = "train"
    limit: Annotated[int, Arg("How many examples to show.", least=1)] = 5

    def run(self, tools: Tools = ALONE) -> TaskResult:
        """Read, and cut.

        Raises:
            ExplorerError: a task, split or model that cannot be had.
        """
        task = usable(self.task.read(tools), self.split, None, tools=tools)
        view = None if self.model is None else RawModelChoice(self.model).open_for(task, self.split, None, tools=tools)
        examples = task.split(self.split)
        return TaskResult(
            **_described(task),
            split=self.split,
            seed=task.seed,
            n=len(examples),
            examples=[_tokenised(view, task, example) for example in examples[: self.limit]],
        )


@dataclass(frozen=True, kw_only=True)
class ValidateTask(Request):
    """Check a task: every line of a file, what its splits share, and, with a model, every boundary and length.

    Exit code 1 if there are examples that the model cannot take.

    Example: `eigenprune tasks validate int-mult --model bundled`
    """

    command: ClassVar[str] = "tasks validate"

    task: TaskArgument
    model: Tokenizer = None

    def run(self, tools: Tools = ALONE) -> ValidateResult:
        """Check it.

        Raises:
            ExplorerError: a task or a model that cannot be had.
        """
        task = self.task.read(tools)
        view = None if self.model is None else RawModelChoice(self.model).open(tools)
        parts: dict[str, tuple[Example, ...]] = {split: getattr(task, split) for split in SPLITS}
        return ValidateResult(
            **_described(task),
            seed=task.seed,
            sizes={split: len(part) for split, part in parts.items()},
            seen={split: task.seen(split) for split in SPLITS},
            with_choices={split: sum(bool(one.choices) for one in part) for split, part in parts.items()},
            with_distractor={split: sum(one.distractor is not None for one in part) for split, part in parts.items()},
            answers={split: _answers(part) for split, part in parts.items()},
            notices=list(task.notices),
            **_of_model(view, task, parts),
        )


def _described(task: Task) -> dict[str, Any]:
    """The fields of `_Described`."""
    return {"task": task.name, "description": task.description, **wording(task)}


def _of_model(view: View | None, task: Task, parts: Mapping[str, tuple[Example, ...]]) -> dict[str, Any]:
    """What a model makes of the task."""
    if view is None:
        return {"longest": None, "context": None, "unknown": None, "problems": None}
    from explorer.measure.tokens import unknown_share

    checked = [(split, index, *_problem(view, task, one)) for split in SPLITS for index, one in enumerate(parts[split])]
    prompts = {split: list(dict.fromkeys(one.prompt for one in part)) for split, part in parts.items()}
    return {
        "longest": max(length for _, _, length, _ in checked),
        "context": int(view.config.n_ctx),
        "unknown": {split: unknown_share(view.model.tokenizer, texts) for split, texts in prompts.items()},
        "problems": [
            {"split": split, "index": index, "problem": problem} for split, index, _, problem in checked if problem
        ],
    }


def _tokenised(view: View | None, task: Task, example: Example) -> dict[str, Any]:
    prompt, answer, problem = None, None, None
    if view is not None:
        from explorer.measure.tokens import encode_for, token_texts

        tokenizer = view.model.tokenizer
        problem = _problem(view, task, example)[1]
        if problem is None:
            (encoded,) = encode_for(view.model, task, [example])
            prompt, answer = token_texts(tokenizer, encoded.prompt), token_texts(tokenizer, encoded.answer)
    return {
        "prompt": example.prompt,
        "answer": example.answer,
        "choices": list(example.choices),
        "distractor": example.distractor,
        "prompt_tokens": prompt,
        "answer_tokens": answer,
        "problem": problem,
    }


def _problem(view: View, task: Task, example: Example) -> tuple[int, str | None]:
    """The example's length in tokens, and why the model cannot take it with each of its answers, if it cannot."""
    from explorer.measure.tokens import Encoded, check_different, encode_for

    longest = int(view.config.n_ctx)
    others = [one for one in (*example.choices, example.distractor) if one is not None]
    found: list[tuple[str, Encoded]] = []
    try:
        for text in dict.fromkeys((example.answer, *others)):
            found += [(text, one) for one in encode_for(view.model, task, [example.answered(text)])]
        check_different(example, found)
    except TaskError as error:
        return max((one.length for _, one in found), default=0), str(error)
    length = max(one.length for _, one in found)
    if length > longest:
        return length, f"the example has {length} tokens: this model reads 1 to {longest}; shorten it."
    return length, None


def _answers(examples: tuple[Example, ...]) -> dict[str, Any] | None:
    if not examples:
        return None
    counts = Counter(example.answer for example in examples)
    ((most_common, count),) = counts.most_common(1)
    return {"distinct": len(counts), "most_common": most_common, "majority": count / len(examples)}
