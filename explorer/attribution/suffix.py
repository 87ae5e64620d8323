"""Many single values at once on plain arithmetic: what follows from a change is run, and nothing else.

For families of `explorer.models.arithmetic.PLAIN`, on a forest of the examples (`explorer.measure.forest`):

1. The kept state is held at one block at a time, with all that is inside it: Q, K, V and patterns, what O, IN, GATE and
   OUT read. Values are taken layer by layer, so that it only ever moves on.
2. A change is rank one (`explorer.attribution.singles`), y <- y + (x . u - c) write. In its own block only what depends
   on it is computed: a value of Q, K or V changes the patterns of its heads and what O makes of them; one of O what the
   MLP reads; one of IN or GATE what OUT reads; one of OUT the residual stream alone. No weight is edited, and copies
   are shared up to there.
3. From the next block on copies run together. The last block runs at answer nodes only, but for its keys and values;
   the unembedding there, too, and of its logits only the sum of exponentials and the answers' are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from explorer.attribution.singles import Flip
from explorer.core.keys import Kind, MatrixKey
from explorer.measure.forest import Forest
from explorer.models.arithmetic import Arithmetic, PlainBlock
from explorer.models.matrices import parts_of

VOCABULARY = 8192  # logits at a time
Rotation = tuple[Tensor, Tensor] | None


@dataclass(frozen=True, eq=False)
class _Inside:
    """The kept state inside one block; n is the answer nodes in the last block, all nodes in every other.

    Attributes:
        read: what each kind of matrix reads, [n or nodes, d_in].
        q, k, v: as the matrices give them, [n or nodes, d_out].
        up, gate: what IN and GATE give, [n, inner]; no gate in a model without.
        mixed: what O reads, [n, heads * d_head].
        middle, after: the residual stream behind attention and behind the MLP, [n, d_model].
    """

    layer: int
    read: Mapping[Kind, Tensor]
    q: Tensor
    k: Tensor
    v: Tensor
    up: Tensor
    gate: Tensor | None
    mixed: Tensor
    middle: Tensor
    after: Tensor


class Suffix:
    """Losses of the examples of a forest under changes of single values; the view must stay as it is meanwhile."""

    def __init__(self, model: Arithmetic, forest: Forest) -> None:
        self.model, self.forest = model, forest
        like = model.unembedding.W[:1, :1].T
        self._turn = model.rotation(forest.positions, like)
        self._turn_answers = model.rotation(forest.positions[forest.answers], like)
        self._gathers = not torch.equal(forest.paths.flatten(), torch.arange(forest.nodes, device=forest.paths.device))
        self._layer, self._x = 0, model.embedded(forest.tokens, forest.positions)
        self._inside: _Inside | None = None

    def unchanged(self) -> Float[Tensor, " example"]:
        """Losses in the kept state."""
        self._move(len(self.model.blocks) - 1)
        return self._losses(self._kept().after[None])[0]

    def changed(self, changes: Sequence[Flip]) -> Float[Tensor, "change example"]:
        """Losses under each change alone, nats.

        Args:
            changes: of one layer, those of one matrix side by side.
        """
        layer = changes[0].key.layer
        self._move(layer)
        x = self._own(changes)
        for later in range(layer + 1, len(self.model.blocks)):
            x = self._block(later, x)
        return self._losses(x)

    def work(self, key: MatrixKey) -> float:
        """Floating-point operations of matrix products for one value of a matrix; attention itself is not counted."""
        n, answers, last = self.forest.nodes, len(self.forest.answers), len(self.model.blocks) - 1

        def size(layer: int, *of: Kind) -> int:
            return sum(self.model.blocks[layer][kind].W.numel() for kind in of)

        mlp = (Kind.GATE, Kind.IN, Kind.OUT) if self.model.gated else (Kind.IN, Kind.OUT)
        own = size(key.layer, *mlp) if key.kind.has_heads else 0
        own = size(key.layer, Kind.OUT) if key.kind in (Kind.IN, Kind.GATE) else own
        if key.kind in (Kind.Q, Kind.K, Kind.V):
            queries, _ = self._heads(key)
            own += size(key.layer, Kind.O) * (queries.stop - queries.start) // self.model.heads
        total = own * (answers if key.layer == last else n)
        total += sum(size(later, *self.model.blocks[later].matrices) for later in range(key.layer + 1, last)) * n
        if key.layer < last:
            total += size(last, Kind.K, Kind.V) * n + size(last, Kind.Q, Kind.O, *mlp) * answers
        return 2.0 * (total + self.model.unembedding.W.numel() * answers)

    def _move(self, layer: int) -> None:
        """Go on with the kept state to the input of a block, or begin anew for one before."""
        if layer < self._layer:
            self._layer, self._x = 0, self.model.embedded(self.forest.tokens, self.forest.positions)
            self._inside = None
        while self._layer < layer:
            self._x = self._kept().after
            self._layer, self._inside = self._layer + 1, None

    def _kept(self) -> _Inside:
        """The kept state inside the block that it has come to."""
        if self._inside is not None:
            return self._inside
        block, at = self.model.blocks[self._layer], self._at(self._layer)
        h = block.before_attention(self._x)
        q, k, v = block[Kind.Q](h[at]), block[Kind.K](h), block[Kind.V](h)
        mixed = self._attention(self._layer, q[None], k[None], v=v[None])[0]
        middle = self._x[at].clone()
        block[Kind.O].add(middle, mixed)
        m = block.before_mlp(middle)
        up, gate = block[Kind.IN](m), block[Kind.GATE](m) if self.model.gated else None
        hidden = self.model.hidden(up, gate)
        after = middle.clone()
        block[Kind.OUT].add(after, hidden)
        read = {Kind.Q: h[at], Kind.K: h, Kind.V: h, Kind.O: mixed, Kind.IN: m, Kind.GATE: m, Kind.OUT: hidden}
        self._inside = _Inside(
            self._layer, read, q=q, k=k, v=v, up=up, gate=gate, mixed=mixed, middle=middle, after=after
        )
        return self._inside

    def _own(self, changes: Sequence[Flip]) -> Tensor:
        """The residual stream behind the changes' own block, one copy each, in their order: [change, n, d_model]."""
        inside = self._kept()
        block = self.model.blocks[inside.layer]
        middles: list[tuple[int, Tensor]] = []
        hiddens: list[tuple[int, Tensor]] = []
        afters: list[tuple[int, Tensor]] = []
        start = 0
        for key, group in groupby(changes, key=lambda change: change.key):
            same = list(group)
            if key.kind in (Kind.IN, Kind.GATE):
                hiddens.append((start, self._hidden(inside, key, same)))
            elif key.kind is Kind.OUT:
                afters.append((start, inside.after + self._moved(inside, key, same)))
            else:
                middles.append((start, self._middle(inside, key, same)))
            start += len(same)
        if middles:
            x = torch.cat([copies for _, copies in middles])
            self._mlp(block, x)
            afters = [*_split(x, middles), *afters]
        if hiddens:
            hidden = torch.cat([copies for _, copies in hiddens])
            x = inside.middle.repeat(len(hidden), 1, 1)
            block[Kind.OUT].add(x, hidden)
            afters = [*_split(x, hiddens), *afters]
        return torch.cat([copies for _, copies in sorted(afters, key=lambda part: part[0])])

    def _moved(self, inside: _Inside, key: MatrixKey, changes: Sequence[Flip]) -> Tensor:
        """What each change adds to the columns of its matrix: [change, n, width]."""
        rows, _ = parts_of(self.model.view, key)
        x = inside.read[key.kind][:, rows]
        u, write = (torch.stack([getattr(change, name) for change in changes]).to(x) for name in ("u", "write"))
        c = torch.tensor([change.c for change in changes], dtype=x.dtype, device=x.device)
        read = (x @ u.T - c).T
        return read[..., None] * write[:, None, :]

    def _hidden(self, inside: _Inside, key: MatrixKey, changes: Sequence[Flip]) -> Tensor:
        """What OUT reads under changes of IN or GATE: [change, n, inner]."""
        moved = self._moved(inside, key, changes)
        if inside.gate is None:
            return self.model.hidden(moved.add_(inside.up), None)
        if key.kind is Kind.GATE:
            return self.model.hidden(inside.up, moved.add_(inside.gate))
        return self.model.hidden(moved.add_(inside.up), inside.gate)

    def _middle(self, inside: _Inside, key: MatrixKey, changes: Sequence[Flip]) -> Tensor:
        """The residual stream behind attention under changes of Q, K, V or O: [change, n, d_model], contiguous."""
        moved, width = self._moved(inside, key, changes), self.model.d_head
        if key.kind is Kind.O:
            return inside.middle + moved
        queries, groups = self._heads(key)
        columns = {Kind.Q: _wide(queries, width), Kind.K: _wide(groups, width), Kind.V: _wide(groups, width)}
        states = {Kind.Q: inside.q, Kind.K: inside.k, Kind.V: inside.v}
        parts = {kind: states[kind][None, :, columns[kind]] for kind in states}
        parts[key.kind] = parts[key.kind] + moved
        mixed = self._attention(inside.layer, parts[Kind.Q], parts[Kind.K], v=parts[Kind.V])
        rows = columns[Kind.Q]
        changed = (mixed - inside.mixed[:, rows]).flatten(0, 1)
        x = inside.middle.repeat(len(changes), 1, 1)
        return self.model.blocks[inside.layer][Kind.O].added(x.flatten(0, 1), changed, rows).view_as(x)

    def _heads(self, key: MatrixKey) -> tuple[slice, slice]:
        """The query heads and the KV heads that a matrix of Q, K or V has a part in."""
        if key.head is None:
            return slice(0, self.model.heads), slice(0, self.model.kv_heads)
        per = self.model.heads // self.model.kv_heads
        group = key.head // per if key.kind is Kind.Q else key.head
        queries = slice(key.head, key.head + 1) if key.kind is Kind.Q else slice(group * per, (group + 1) * per)
        return queries, slice(group, group + 1)

    def _block(self, layer: int, x: Tensor) -> Tensor:
        """Copies [copy, node, d_model] through a block, the last one at answer nodes only; x may be overwritten."""
        block, at = self.model.blocks[layer], self._at(layer)
        h = block.before_attention(x)
        k, v = block[Kind.K](h), block[Kind.V](h)
        mixed = self._attention(layer, block[Kind.Q](h[:, at]), k, v=v)
        x = x[:, at].contiguous()
        block[Kind.O].add(x, mixed)
        self._mlp(block, x)
        return x

    def _mlp(self, block: PlainBlock, x: Tensor) -> None:
        """Add what the MLP writes to [copy, n, d_model], in place."""
        m = block.before_mlp(x)
        gate = block[Kind.GATE](m) if self.model.gated else None
        block[Kind.OUT].add(x, self.model.hidden(block[Kind.IN](m), gate))

    def _at(self, layer: int) -> Tensor | slice:
        """At which nodes a block runs."""
        return self.forest.answers if self._is_last(layer) else slice(None)

    def _is_last(self, layer: int) -> bool:
        return layer == len(self.model.blocks) - 1

    def _attention(self, layer: int, q: Tensor, k: Tensor, *, v: Tensor) -> Tensor:
        """What heads mix in a block, from what Q, K and V give, [copies, n, heads * d_head]; copies may be 1 for some.

        Queries are at all nodes, in the last block at the answer nodes; keys and values are at all nodes.
        """
        copies, width, forest, last = max(len(q), len(k), len(v)), self.model.d_head, self.forest, self._is_last(layer)
        q, k, v = (one.reshape(*one.shape[:2], -1, width) for one in (q, k, v))
        norms = self.model.blocks[layer].of_heads
        q, k = (norms[kind](one) if kind in norms else one for kind, one in ((Kind.Q, q), (Kind.K, k)))
        q, k = _rotated(q, self._turn_answers if last else self._turn), _rotated(k, self._turn)
        if last:
            paths, mask = forest.paths[forest.routes], forest.seen[:, None, None].repeat(copies, 1, 1, 1)
            queries = q[:, :, None]
        else:
            paths, mask = forest.paths, None
            queries = self._along(q, paths)
        keys, values = (self._along(one, paths) for one in (k, v))
        queries, keys, values = (
            one.expand(copies, *one.shape[1:]).flatten(0, 1).transpose(1, 2) for one in (queries, keys, values)
        )
        mixed = scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=queries.shape[1] != keys.shape[1]
        )
        mixed = mixed.transpose(1, 2).reshape(copies, -1, queries.shape[1] * width)
        return mixed[:, forest.first] if self._gathers and not last else mixed

    def _along(self, x: Tensor, paths: Tensor) -> Tensor:
        """[copy, node, ...] along paths: [copy, path, position, ...]."""
        return (
            x[:, paths]
            if self._gathers or paths is not self.forest.paths
            else x.reshape(len(x), *paths.shape, *x.shape[2:])
        )

    def _losses(self, x: Float[Tensor, "copy answer d_model"]) -> Float[Tensor, "copy example"]:
        """Losses of the examples from the residual stream at the answer nodes."""
        forest, unembed = self.forest, self.model.unembedding
        h = self.model.final(x)
        total = torch.stack(list(self._sums(h.flatten(0, 1)))).logsumexp(dim=0).view(x.shape[:2])
        chosen = (h[:, forest.sources] * unembed.W.T[forest.targets]).sum(dim=-1)
        chosen = chosen if unembed.b is None else chosen + unembed.b[forest.targets]
        return forest.example_losses(total[:, forest.sources] - chosen)

    def _sums(self, h: Tensor) -> Iterator[Tensor]:
        """Logarithms of the summed exponentials of a part of the vocabulary each, [copy * answer]."""
        W, b = self.model.unembedding.W, self.model.unembedding.b
        for start in range(0, W.shape[1], VOCABULARY):
            part = slice(start, start + VOCABULARY)
            logits = h @ W[:, part] if b is None else torch.addmm(b[part], h, W[:, part])
            yield logits.logsumexp(dim=-1)


def _rotated(x: Tensor, turn: Rotation) -> Tensor:
    """Heads [copy, n, head, d_head] turned by the angles of their positions."""
    if turn is None:
        return x
    cos, sin = turn
    half = x.shape[-1] // 2
    turned = x * cos
    turned[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return turned


def _wide(heads: slice, width: int) -> slice:
    """The columns of some heads."""
    return slice(heads.start * width, heads.stop * width)


def _split(x: Tensor, parts: Sequence[tuple[int, Tensor]]) -> list[tuple[int, Tensor]]:
    """Copies that ran together, apart again."""
    pieces = torch.split(x, [len(copies) for _, copies in parts])
    return [(start, piece) for (start, _), piece in zip(parts, pieces, strict=True)]
