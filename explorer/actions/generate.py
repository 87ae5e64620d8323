"""`generate`: what the model says after a prompt, unpruned and with a mask, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from explorer.actions.activations import of_mask, turns_of
from explorer.actions.choices import UNFRAMED, FramingChoice, ModelChoice, OfModel, identity, own_mask, read_mask
from explorer.actions.request import ALONE, Arg, Request, Tools
from explorer.core.config import settings
from explorer.core.errors import SettingsError
from explorer.tasks import Example, load_task
from explorer.tasks.template import typed

if TYPE_CHECKING:
    from explorer.experiments.reply_controls import ReplyControls
    from explorer.masks.mask import Mask
    from explorer.masks.replies import ReplyPair
    from explorer.measure.generation import Decoding
    from explorer.models import View
    from explorer.tasks import Task


@dataclass(frozen=True)
class GenerateResult(OfModel):
    """Replies to some prompts.

    Attributes:
        turns: earlier turns of the chat, which stand before every prompt.
        mode, gain, mask_digest: null without a mask.
        new_tokens, temperature, top_k, top_p, seed: how tokens were taken.
        replies: per prompt how many tokens were `read` and how many are the `same` before the replies part; `parting`,
            the first token that differs, with the probability that either side gives to either token; `baseline` and
            `masked`, null without a mask: text, why it ended, mean loss per token by either side, and the tokens.
        controls: how many replies part under random masks of the same size, and how much of the unpruned ones comes
            before that, beside the same of the mask; null without `--controls`.
    """

    bos: str
    chat: bool
    system: str | None
    turns: Sequence[str]
    mode: str | None
    gain: float | None
    mask_digest: str | None
    removed: int
    new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    replies: Sequence[ReplyPair]
    controls: ReplyControls | None


@dataclass(frozen=True, kw_only=True)
class Generate(Request):
    """Let the model go on after a prompt, unpruned and with a mask, and show where the two part.

    Both take the most probable token (--temperature 0), or draw with the same seed; a reply is what `generate` of
    transformers says of the exported checkpoint. At the first token that differs it shows how probable either side
    finds either token. Several prompts, each --prompt or line of --prompts, give a table.

    Example: `eigenprune generate --model smollm2-135m --mask mask.json --chat --prompt "What is 3 times 4?"`
    """

    command: ClassVar[str] = "generate"

    model: ModelChoice
    prompt: Annotated[tuple[str, ...], Arg("The text that the model reads; repeatable.")] = ()
    prompts: Annotated[
        Path | None, Arg("UTF-8 text file with a prompt in each line; \\n in a line breaks the prompt's line.")
    ] = None
    mask: Annotated[Path | None, Arg("Mask file; without it the unpruned model speaks alone.")] = None
    new_tokens: Annotated[int, Arg("Tokens said after each prompt, at most.", least=1)] = 64
    temperature: Annotated[
        float, Arg("0 takes the most probable token; above, tokens are drawn, more evenly the higher.", least=0)
    ] = 0.0
    top_k: Annotated[int, Arg("Draw from the N most probable tokens; 0 from all.", least=0)] = 0
    top_p: Annotated[float, Arg("Draw from the fewest tokens with so much probability; 1 from all.")] = 1.0
    seed: Annotated[int, Arg("Of what is drawn, the same for both sides and every prompt.", least=0)] = 0
    around: FramingChoice = UNFRAMED
    turn: Annotated[
        tuple[str, ...], Arg("An earlier turn of the chat, the user's or the assistant's by turns; repeatable.")
    ] = ()
    controls: Annotated[
        int, Arg("Also let it speak under N random masks of the same size (random-per-matrix).", least=0)
    ] = 0
    control_task: Annotated[
        str | None, Arg("Task whose train examples give their frozen means; the mask's own if not given.")
    ] = None

    @property
    def decoding(self) -> Decoding:
        """How tokens are taken; raises SettingsError for a value out of its range."""
        from explorer.measure.generation import Decoding

        return Decoding(self.new_tokens, self.temperature, self.top_k, top_p=self.top_p, seed=self.seed)

    def run(self, tools: Tools = ALONE) -> GenerateResult:
        """Let it speak.

        Raises:
            ExplorerError: a model or mask that cannot be had, no prompt, or one that this model cannot take.
        """
        framing = self.around.framing
        shown, texts = turns_of(self.turn, framing), [*self.prompt, *_lines(self.prompts)]
        if not texts:
            raise SettingsError("there is nothing to go on from: give a --prompt, or a file of --prompts.")
        from explorer.masks.apply import empty_mask
        from explorer.masks.replies import replies
        from explorer.measure.tokens import words_notice
        from explorer.spectra.cache import default_cache

        decoding, mask = self.decoding, None if self.mask is None else read_mask(self.mask)
        task = self._control_task(mask)
        view = self.model.open(tools)
        mask = None if mask is None else own_mask(view, mask, tools)
        if (sentence := words_notice(view.model.tokenizer, texts, "the prompts")) is not None:
            tools.notice(sentence)
        with tools.working("Generating") as progress:
            found = replies(
                (view, view.model.view()), mask or empty_mask(view.model), default_cache(tools.notice),
                prompts=[Example(text, "", shown=shown) for text in texts], framing=framing, decoding=decoding,
                progress=progress,
            )  # fmt: skip
        return GenerateResult(
            **identity(view),
            **framing.as_dict(),
            turns=list(self.turn),
            **of_mask(mask),
            **vars(decoding),
            replies=found,
            controls=None if task is None else self._controls(view, mask, task, found=found, tools=tools),
        )

    def _control_task(self, mask: Mask | None) -> Task | None:
        """The task of the control masks' frozen means; None where none are asked for."""
        if not self.controls:
            return None
        if mask is None or not len(mask):
            raise SettingsError("--controls needs a --mask that removes at least 1 value to compare with.")
        from explorer.masks.belonging import source_task

        task = source_task(mask) if self.control_task is None else load_task(self.control_task, settings().seed)
        if task is None:
            raise SettingsError(
                "the mask does not say on which task it was made, which gives the frozen means of --controls: give a "
                "--control-task."
            )
        return task

    def _controls(
        self, view: View, mask: Mask | None, task: Task, *, found: Sequence[ReplyPair], tools: Tools
    ) -> ReplyControls:
        from explorer.experiments.reply_controls import reply_controls
        from explorer.measure.generation import prompt_ids
        from explorer.spectra.cache import default_cache

        assert mask is not None
        shown, framing = turns_of(self.turn, self.around.framing), self.around.framing
        heard = [(prompt_ids(view, Example(one.prompt, "", shown=shown), framing), one) for one in found]
        with tools.working("Random masks") as progress:
            return reply_controls(
                view, mask, default_cache(tools.notice), task=task, heard=heard, decoding=self.decoding,
                count=self.controls, progress=progress,
            )  # fmt: skip


def _lines(path: Path | None) -> list[str]:
    """The prompts of a file.

    Raises:
        SettingsError: it cannot be read, or holds none.
    """
    if path is None:
        return []
    try:
        lines = [typed(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({error}): give a UTF-8 text file, a prompt per line.") from None
    if not lines:
        raise SettingsError(f"{path} holds no prompts: write one into each line.")
    return lines
