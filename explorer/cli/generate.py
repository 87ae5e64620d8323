"""`generate` for people."""

from __future__ import annotations

from explorer.actions.generate import Generate, GenerateResult
from explorer.cli.console import model_name, say, show_table
from explorer.core.columns import cells, names
from explorer.masks.gain import state_of


def show(request: Generate, result: GenerateResult) -> None:
    """Print a result: one prompt as it was said, several as a table."""
    from explorer.masks.replies import REPLY_COLUMNS, Reply, parting_sentence, summary_sentence  # need torch

    how = (
        "the most probable tokens" if not result.temperature else f"drawn at {result.temperature:g}, seed {result.seed}"
    )
    say(f"{model_name(result.model)} ({result.dtype}), {'chat, ' * result.chat}{how}")
    if result.gain is not None:
        say(f"Mask: {result.removed:,} {state_of(result.gain)} ({result.mode})")
    if result.controls is not None:
        from explorer.experiments.reply_controls import controls_sentence

        say(controls_sentence(result.controls))
    if len(result.replies) > 1:
        columns = REPLY_COLUMNS if result.mask_digest is not None else (REPLY_COLUMNS[0], REPLY_COLUMNS[-2])
        show_table("Replies", names(columns), cells(columns, result.replies))
        if result.mask_digest is not None:
            say(summary_sentence(result.replies))
        return

    def spoken(name: str, reply: Reply) -> None:
        loss = "" if reply.loss is None else f", {reply.loss:.3f} nats per token"
        other = "" if reply.loss_elsewhere is None else f" ({reply.loss_elsewhere:.3f} by the other side)"
        say(f"\n{name}: {len(reply.tokens):,} tokens, ended: {reply.ended}{loss}{other}\n{reply.text}")

    (pair,) = result.replies
    spoken("Unpruned", pair.baseline)
    if pair.masked is not None:
        spoken("With the mask", pair.masked)
        say(f"\n{parting_sentence(pair)}")
