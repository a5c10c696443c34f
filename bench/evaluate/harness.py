"""lm-eval's model around ours: float, or with its linear layers rounded."""

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import datasets
import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from bench.errors import BenchError

Report = Callable[[int, int], None]  # requests done, of all


class Harness(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """The products and the context of training, and no token but the text's own."""

    def __init__(
        self, model: PreTrainedModel | str, tokenizer: PreTrainedTokenizerFast, context: int, batch: int, end: int,
        autocast: str | None = "bfloat16", **loading: Any,
    ) -> None:  # fmt: skip
        """Wrap a model, or read one from a folder; what is in memory comes out of it with the same logits.

        lm-eval ties the head to the embedding again where the config says that they are tied. A head that was rounded
        would then be float again, and nothing would say so; therefore the config is made to say what is.
        """
        before = None
        if not isinstance(model, str):
            head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
            model.config.tie_word_embeddings = head is embedding
            model.eval()
            before = probe(model, context)
        super().__init__(
            pretrained=model, tokenizer=tokenizer, backend="causal", max_length=context, batch_size=batch,
            prefix_token_id=end, add_bos_token=False, mixed_precision_dtype=autocast, softmax_dtype="float32",
            **loading,
        )  # fmt: skip
        if before is not None and not torch.equal(before, probe(self.model, context)):
            raise BenchError("lm-eval changed the model's logits when it took it over", "a fault of the harness")
        self.report: Report = lambda done, total: None
        self.cut = self.pieced = 0

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return answers

    def _loglikelihood_tokens(
        self, requests: list[Any], disable_tqdm: bool = True, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Return (nats, greedy) of each continuation; lm-eval refuses one that is longer than the context.

        Such a one is read in pieces of half a context, each after what stands before it: all its tokens have at least
        half a context in front of them but those that stand too near the text's start.
        """
        pieces, owners = [], []
        for place, (texts, context, continuation) in enumerate(requests):
            whole = len(continuation) <= self.max_length
            step = max(1, len(continuation)) if whole else self.max_length // 2
            self.pieced += not whole
            self.cut += whole and len(context) + len(continuation) > self.max_length + 1
            for start in range(0, len(continuation), step):
                pieces.append((texts, context + continuation[:start], continuation[start : start + step]))
                owners.append(place)
        self._done, self._total = 0, len(pieces)
        found = super()._loglikelihood_tokens(pieces, disable_tqdm=True, override_bs=override_bs)
        nats, greedy = [0.0] * len(requests), [True] * len(requests)
        for place, (value, is_greedy) in zip(owners, found, strict=True):
            nats[place] += value
            greedy[place] &= is_greedy
        self.report(self._total, self._total)
        return list(zip(nats, greedy, strict=True))

    def _model_call(self, inps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        logits: Tensor = super()._model_call(inps, *args, **kwargs)
        self._done += len(inps)
        self.report(self._done, self._total)
        return logits


@torch.no_grad()
def probe(model: PreTrainedModel, context: int) -> Tensor:
    """Return the logits of a fixed sequence."""
    tokens = torch.arange(min(context, 64), device=model.device)[None] % model.config.vocab_size
    logits: Tensor = model(tokens).logits
    return logits


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval from printing, and from starting processes to bootstrap a standard error."""
    log = logging.getLogger("lm_eval")
    level, bars = log.level, datasets.are_progress_bars_disabled()
    multiprocessing = os.environ.get("DISABLE_MULTIPROC")
    log.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
        if multiprocessing is None:
            del os.environ["DISABLE_MULTIPROC"]
