"""Tokenizers: documents in, one run of token ids out, each document closed by the end token."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import synthetic
from bench.data.corpus import GAP, Batch, mirror
from bench.digest import digest_of, digest_of_sources
from bench.errors import BenchError
from bench.task import HubText, SyntheticText

Tokens = NDArray[np.unsignedinteger[Any]]

AHEAD = 2  # batches: while one is encoded on all cores, another's ids are copied out on one
END_NAMES = ("<|endoftext|>", "</s>", "<|end_of_text|>")  # of GPT-2, T5 and Llama 3: the first that is known ends


@dataclass(frozen=True)
class Tokenizer:
    vocabulary: int  # ids are below it
    end: int
    digest: str  # of all that decides the ids
    pack: Callable[[Sequence[Any]], Tokens]  # a batch of documents, in a row


def packed(tokenizer: Tokenizer, batches: Iterable[Batch]) -> Iterator[tuple[Tokens, Batch]]:
    """Yield each batch's ids beside it, in order; the next batches are packed meanwhile."""
    with ThreadPoolExecutor(AHEAD) as pool:
        waiting: deque[tuple[Future[Tokens], Batch]] = deque()
        for batch in batches:
            waiting.append((pool.submit(tokenizer.pack, batch.documents), batch))
            if len(waiting) > AHEAD:
                ids, first = waiting.popleft()
                yield ids.result(), first
        for ids, first in waiting:
            yield ids.result(), first


def tokenizer_of(data: HubText | SyntheticText) -> Tokenizer:
    if isinstance(data, SyntheticText):
        return _words(data)
    return _bytes() if data.tokenizer == "bytes" else _hub(data.tokenizer, data.tokenizer_revision)


def _words(data: SyntheticText) -> Tokenizer:
    dtype = np.uint16 if data.words < 2**16 else np.uint32
    end_1 = np.array([data.words], dtype)

    def pack(documents: Sequence[NDArray[np.int32]]) -> Tokens:
        return np.concatenate([part for words in documents for part in (words.astype(dtype), end_1)])

    source = digest_of_sources([Path(synthetic.__file__)])  # the text is made by it
    return Tokenizer(data.words + 1, data.words, digest_of({"words": source}), pack)


def _bytes() -> Tokenizer:
    end = 256

    def pack(texts: Sequence[str]) -> Tokens:
        ids = np.frombuffer(b"".join(text.encode() + GAP for text in texts), np.uint8).astype(np.uint16)
        ids[ids == GAP[0]] = end
        return ids

    return Tokenizer(end + 1, end, digest_of("bytes"), pack)


def _hub(name: str, revision: str | None) -> Tokenizer:
    """Return a tokenizer of the hub, or of the mirror, that adds nothing but the end token."""
    import tokenizers

    loaded = _load(name, revision)
    end = next((loaded.token_to_id(token) for token in END_NAMES if loaded.token_to_id(token) is not None), None)
    if end is None:
        raise BenchError(f"data.tokenizer: {name} has no end token", f"known names of one: {', '.join(END_NAMES)}")
    digest = digest_of(json.loads(loaded.to_str()))
    loaded.no_padding()
    loaded.no_truncation()
    # A text that spells the end token out must not end its document. (T5's is an ordinary piece too, and still does.)
    loaded.encode_special_tokens = True
    vocabulary = loaded.get_vocab_size()
    dtype = np.uint16 if vocabulary <= 2**16 else np.uint32

    def ids_of(encoding: tokenizers.Encoding) -> Tokens:
        return np.array([*encoding.ids, end], dtype)

    def pack(texts: Sequence[str]) -> Tokens:
        return np.concatenate([ids_of(e) for e in loaded.encode_batch_fast(list(texts), add_special_tokens=False)])

    return Tokenizer(vocabulary, end, digest, pack)


def _load(name: str, revision: str | None) -> Any:
    from tokenizers import Tokenizer as Loaded

    folder = mirror()
    try:
        if folder is None:
            return Loaded.from_pretrained(name, revision=revision or "main")
        file = folder / name / "tokenizer.json"
        if not file.is_file():
            raise BenchError(
                f"{file}: the mirror has no such file", "copy it there, or unset BENCH_MIRROR to read the hub"
            )
        return Loaded.from_file(str(file))
    except BenchError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        where = f"tokenizer {name}" if folder is None else str(folder / name / "tokenizer.json")
        hint = "check the name and the network, or set BENCH_MIRROR" if folder is None else "fetch the file again"
        raise BenchError(f"{where}: cannot be loaded: {str(error).strip().splitlines()[0]}", hint) from error
