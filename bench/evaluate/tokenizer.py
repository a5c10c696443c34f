"""The task's tokenizer as an object of transformers, which the evaluation harness asks for: the ids of training."""

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from bench.data.corpus import mirror
from bench.data.encoding import tokenizer_of
from bench.errors import BenchError
from bench.task import HubText, SyntheticText

END = "<|endoftext|>"  # of bytes: a name for id 256


def harness_tokenizer(data: HubText | SyntheticText) -> PreTrainedTokenizerFast:
    """Return the tokenizer with the end token as eos and pad; a text that spells the end token out does not end."""
    if isinstance(data, SyntheticText):
        raise BenchError(
            "no downstream task can be put to a model of generated words, which reads no English",
            'choose a record of a task on real text, such as one with tokenizer = "bytes"',
        )
    end = tokenizer_of(data).end  # refuses in one line what cannot be loaded
    if data.tokenizer == "bytes":
        loaded = byte_tokenizer(end)
    elif (folder := mirror()) is not None:
        loaded = Tokenizer.from_file(str(folder / data.tokenizer / "tokenizer.json"))
    else:
        loaded = Tokenizer.from_pretrained(data.tokenizer, revision=data.tokenizer_revision or "main")
    name = loaded.id_to_token(end)
    return PreTrainedTokenizerFast(
        tokenizer_object=loaded, eos_token=name, pad_token=name, split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def byte_tokenizer(end: int) -> Tokenizer:
    """Return what gives a text's UTF-8 bytes as ids 0..255: no character is known, so each falls back to its bytes."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(end)}
    loaded = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    loaded.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    loaded.add_special_tokens([END])
    assert loaded.token_to_id(END) == end
    return loaded
