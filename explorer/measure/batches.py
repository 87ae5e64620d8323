"""Examples as batches of tokens: padded on the right, answer positions known.

Padding on the right needs no attention mask in a causal model: no real token can see a padding token. It is computed
all the same, so examples of like length are batched together, and each batch knows where its examples stood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from explorer.core.errors import SettingsError, TaskError
from explorer.measure.tokens import Encoded, encode_for
from explorer.models import View
from explorer.tasks import Example, Task

BATCH_SIZE, WIDE_BATCH_SIZE = 64, 16  # wide models gain nothing from more, and can be stopped sooner with less
WIDE = 512
ACTIVATION_BYTES = {"cpu": 1 << 30, "cuda": 8 << 30}  # that a backward pass may hold of a large model's batch
SHORTEST_SHARED, WORTH_SHARING = 8, 0.25  # tokens, and share of all tokens, that make reading them once worth it


@dataclass(frozen=True, eq=False)
class Readers:
    """Texts whose tokens are read off the rows of a batch, where one row serves several (`explorer.measure.readers`).

    Attributes:
        sources: for each of their tokens, at which of the batch's answer tokens the model predicts it.
        rows, targets: for each of their tokens its text's number in this batch, and its id.
        places: for each text its place among all texts.
    """

    sources: Int[Tensor, " text_token"]
    rows: Int[Tensor, " text_token"]
    targets: Int[Tensor, " text_token"]
    places: Int[Tensor, " text"]

    def __len__(self) -> int:
        return len(self.places)

    def same_as(self, other: Readers | None) -> bool:
        """Whether both read the same texts at the same places."""
        names = ("sources", "rows", "targets", "places")
        return other is not None and all(torch.equal(getattr(self, name), getattr(other, name)) for name in names)


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples run together.

    Attributes:
        tokens: prompt and answer without the answer's last token, padded on the right with 0.
        real: which tokens are not padding.
        keep: positions at which the model predicts an answer token of any example.
        rows, columns, targets: for each answer token its example in the batch, its index in `keep`, and its id.
        places: for each example its place among the examples that were cut into batches.
        shared: how many tokens at the beginning, the same for all examples, are worth reading once; 0 for none.
        readers: what is measured instead of the examples' own answers; None for these. It is lost where examples are
            picked, repeated or merged.
    """

    tokens: Int[Tensor, "batch position"]
    real: Bool[Tensor, "batch position"]
    keep: Int[Tensor, " kept"]
    rows: Int[Tensor, " answer_token"]
    columns: Int[Tensor, " answer_token"]
    targets: Int[Tensor, " answer_token"]
    places: Int[Tensor, " batch"]
    shared: int = 0
    readers: Readers | None = None

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def measured(self) -> Batch | Readers:
        """What is measured on it: `readers`, or its examples."""
        return self if self.readers is None else self.readers

    def same_as(self, other: Batch) -> bool:
        """Whether both hold the same examples in the same order, and measure the same on them."""
        names = ("tokens", "real", "rows", "positions", "targets", "places")
        if not all(torch.equal(getattr(self, name), getattr(other, name)) for name in names):
            return False
        return other.readers is None if self.readers is None else self.readers.same_as(other.readers)

    @property
    def positions(self) -> Int[Tensor, " answer_token"]:
        """For each answer token the position at which the model predicts it."""
        return self.keep[self.columns]

    def repeated(self, copies: int) -> Batch:
        """This batch `copies` times, one after the other: example e of copy c is row `c * len(self) + e`."""
        offsets = torch.arange(copies, device=self.rows.device).repeat_interleave(len(self.rows)) * len(self)
        return replace(
            self,
            tokens=self.tokens.repeat(copies, 1),
            real=self.real.repeat(copies, 1),
            rows=self.rows.repeat(copies) + offsets,
            columns=self.columns.repeat(copies),
            targets=self.targets.repeat(copies),
            places=self.places.repeat(copies),
            readers=None,
        )

    def only(self, wanted: Bool[Tensor, " batch"]) -> Batch:
        """The wanted examples of this batch."""
        chosen = wanted[self.rows]
        return replace(
            self,
            tokens=self.tokens[wanted],
            real=self.real[wanted],
            rows=(wanted.cumsum(0) - 1)[self.rows[chosen]],
            columns=self.columns[chosen],
            targets=self.targets[chosen],
            places=self.places[wanted],
            readers=None,
        )

    @property
    def prefix(self) -> Int[Tensor, "1 shared"]:
        """The shared beginning."""
        return self.tokens[:1, : self.shared]

    @property
    def rest(self) -> Batch:
        """This batch without its shared beginning."""
        cut = self.shared
        tokens, real = self.tokens[:, cut:], self.real[:, cut:]
        return replace(self, tokens=tokens, real=real, keep=self.keep - cut, shared=0)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            tokens=self.tokens.to(device),
            real=self.real.to(device),
            keep=self.keep.to(device),
            rows=self.rows.to(device),
            columns=self.columns.to(device),
            targets=self.targets.to(device),
            places=self.places.to(device),
        )


def batches(
    view: View,
    task: Task,
    examples: Sequence[Example],
    batch_size: int | None = None,
    *,
    portions: Sequence[int] | None = None,
    encoded: Sequence[Encoded] | None = None,
) -> tuple[Batch, ...]:
    """Cut some examples of a task into batches for this view (by default of a size that suits it), the shortest first.

    Examples of one length stay in their order. Of a large model, batches are as small as `ACTIVATION_BYTES` asks. Where
    prompts share a beginning that is worth reading once, those with and without it are batched apart, and so are those
    on different sides of a rotary limit (`View.side`).

    Args:
        view: the view that will run them.
        task: the task.
        examples: the examples.
        batch_size: most examples of one batch.
        portions: for each example the number of the portion that it is batched with, ascending: what has been run at
            any time is then the beginning of a shuffled split, a random sample, and not its shortest examples.
        encoded: the examples' tokens, where they are known.

    Raises:
        TaskError: no examples, one that is longer than the model reads, or one that `encode_for` refuses.
    """
    if not examples:
        raise TaskError("there are no examples to run: choose a split that has some.")
    longest = int(view.config.n_ctx)
    encoded = encode_for(view.model, task, examples) if encoded is None else encoded
    for example, one in zip(examples, encoded, strict=True):
        if one.length > longest:
            raise TaskError(
                f"the example {example.prompt[:40]!r} has {one.length} tokens: this model reads 1 to {longest}; "
                "shorten it."
            )
    size = batch_size or (WIDE_BATCH_SIZE if view.config.d_model >= WIDE else BATCH_SIZE)
    tokens = _tokens(view) if batch_size is None and view.model.is_large else None
    shared = shared_prefix(encoded)

    def apart(place: int) -> tuple[int, int, int]:
        """Portion, side of the rotary limits, and length of the shared beginning."""
        turned = view.side(encoded[place].length)
        begins = bool(shared) and encoded[place].prompt[: len(shared)] == shared and view.side(len(shared)) == turned
        return 0 if portions is None else portions[place], turned, len(shared) if begins else 0

    found = []
    order = sorted(range(len(encoded)), key=lambda place: (apart(place), encoded[place].length))
    for (_, _, length), group in groupby(order, apart):
        same = list(group)
        cuts = _cuts(same, [encoded[one].length for one in same], size, tokens=tokens)
        found += [_batch([encoded[one] for one in cut], cut, length).to(view.device) for cut in cuts]
    return tuple(found)


def _cuts(places: Sequence[int], lengths: Sequence[int], size: int, tokens: int | None) -> list[list[int]]:
    """Cut examples of ascending lengths where a batch has its `size`, or would have more than so many tokens."""
    cuts: list[list[int]] = []
    for place, length in zip(places, lengths, strict=True):
        count = len(cuts[-1]) if cuts else size
        if count == size or (tokens is not None and (count + 1) * length > tokens):
            cuts.append([])
        cuts[-1].append(place)
    return cuts


def _tokens(view: View) -> int:
    """How many tokens of a model may run together, by what autograd holds for one of them in all blocks."""
    config = view.config
    widths = 12 * int(config.d_model) + 6 * int(config.d_mlp)
    size = int(next(view.bridge.original_model.parameters()).element_size())
    allowed = ACTIVATION_BYTES.get(view.device.type, ACTIVATION_BYTES["cpu"])
    return max(1, allowed // (int(config.n_layers) * widths * size))


def shared_prefix(encoded: Sequence[Encoded]) -> tuple[int, ...]:
    """The beginning shared by most examples, if reading it once is worth it; else empty.

    It never holds an example's whole prompt. A few examples may begin otherwise: a few-shot task never shows an example
    to itself.
    """
    best, saved = 0, 0
    begin: tuple[int, ...] = ()
    for reference in (encoded[0], encoded[len(encoded) // 2], encoded[-1]):
        common = sorted((_common(one.prompt[:-1], reference.prompt[:-1]) for one in encoded), reverse=True)
        for others, length in enumerate(common):  # so many others share this much
            if length * others > saved:
                best, saved, begin = length, length * others, reference.prompt
    total = sum(one.length for one in encoded)
    return begin[:best] if best >= SHORTEST_SHARED and saved >= WORTH_SHARING * total else ()


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def answer_logits(view: View, batch: Batch) -> Float[Tensor, "answer_token vocabulary"]:
    """The view's logits for every answer token of the batch; the unembedding runs on each example's own only."""
    return view.logits_at(batch.tokens, batch.rows, batch.positions)


def one_token(batch: Batch, wanted: int = 0, begins: int | None = None) -> Batch:
    """The prompts alone, of each answer only token `wanted`, and that asked for where the first one is predicted.

    Args:
        batch: prompts and answers.
        wanted: which token, from 0.
        begins: a token that is counted in front of every answer.

    Raises:
        SettingsError: an answer without that token.
    """
    counts, ahead = batch.rows.bincount(minlength=len(batch)), int(begins is not None)
    shortest = int(counts.min()) + ahead
    if shortest <= wanted:
        raise SettingsError(f"an answer has {shortest} tokens, answer_token is {wanted}: give {shortest - 1} or less.")
    first = counts.cumsum(0) - counts
    ends = batch.positions[first]
    keep = torch.tensor(sorted(set(ends.tolist())), device=ends.device)
    length = int(keep[-1]) + 1
    return replace(
        batch,
        tokens=batch.tokens[:, :length],
        real=batch.real[:, :length] & (torch.arange(length, device=ends.device) <= ends[:, None]),
        keep=keep,
        rows=torch.arange(len(batch), device=ends.device),
        columns=torch.searchsorted(keep, ends),
        targets=batch.targets[first + wanted - ahead] if wanted >= ahead else torch.full_like(first, begins or 0),
    )


def merged(batches: Sequence[Batch]) -> Batch:
    """Batches with equally long shared beginnings as one, padded to the longest of their examples."""
    if len(batches) == 1:
        return batches[0]
    counts = torch.tensor([len(batch) for batch in batches])
    starts = zip((counts.cumsum(0) - counts).tolist(), batches, strict=True)
    positions = torch.cat([batch.positions for batch in batches])
    keep = positions.unique()  # type: ignore[no-untyped-call]
    width = max(batch.tokens.shape[1] for batch in batches)

    def wide(values: Tensor) -> Tensor:
        return torch.nn.functional.pad(values, (0, width - values.shape[1]))

    return replace(
        batches[0],
        tokens=torch.cat([wide(batch.tokens) for batch in batches]),
        real=torch.cat([wide(batch.real) for batch in batches]),
        keep=keep,
        rows=torch.cat([batch.rows + start for start, batch in starts]),
        columns=torch.searchsorted(keep, positions),
        targets=torch.cat([batch.targets for batch in batches]),
        places=torch.cat([batch.places for batch in batches]),
        readers=None,
    )


def _batch(encoded: Sequence[Encoded], places: Sequence[int], shared: int) -> Batch:
    sequences = [(*one.prompt, *one.answer[:-1]) for one in encoded]
    tokens = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.long)
    real = torch.zeros_like(tokens, dtype=torch.bool)
    rows, positions, targets = [], [], []
    for row, (sequence, one) in enumerate(zip(sequences, encoded, strict=True)):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
        real[row, : len(sequence)] = True
        for offset, target in enumerate(one.answer):
            rows.append(row)
            positions.append(len(one.prompt) - 1 + offset)
            targets.append(target)
    keep = sorted(set(positions))
    columns = [keep.index(position) for position in positions]
    return Batch(
        tokens=tokens,
        real=real,
        keep=torch.tensor(keep),
        rows=torch.tensor(rows),
        columns=torch.tensor(columns),
        targets=torch.tensor(targets),
        places=torch.tensor(places),
        shared=shared,
    )
