"""Models: a transformers architecture with random weights, and the one loss function of training and evaluation.

Shapes: B sequences, T tokens predicted, S = T + 1 tokens in a window, D width, V padded vocabulary.
"""

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.pytorch_utils import Conv1D

from bench.task import Model

LARGE_VOCABULARY = 8192  # above it the logits are made in pieces and made again in the backward pass
PIECE_TOKENS = 1024

# SDPA told "causal" instead of given a causal mask, which transformers builds under torch.compile: the mask costs
# memory, and rules the flash kernel out.
CAUSAL_SDPA = "causal-sdpa"
AttentionInterface.register(CAUSAL_SDPA, sdpa_attention_forward)
AttentionMaskInterface.register(CAUSAL_SDPA, lambda *args, **kwargs: None)


def build_model(spec: Model, context: int, seed: int, activation_checkpointing: bool = False) -> PreTrainedModel:
    """Return the model with the initial weights of a seed: fp32, drawn on the CPU, the same for every entry."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _random(spec, context)
    for module in model.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, Conv1D):
                setattr(module, name, linear_of(child))
    if activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _random(spec: Model, context: int) -> PreTrainedModel:
    """Return the architecture as transformers initialises it; no dropout, no special tokens, no cache."""
    common = {
        "vocab_size": spec.padded_vocabulary,
        "tie_word_embeddings": spec.tied,
        "attn_implementation": CAUSAL_SDPA if spec.attention == "sdpa" else spec.attention,
        "use_cache": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if spec.family == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                n_positions=context,
                n_embd=spec.width,
                n_inner=spec.ffn,
                n_layer=spec.layers,
                n_head=spec.heads,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                **common,
            )
        )
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=spec.width,
            intermediate_size=spec.ffn,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
            max_position_embeddings=context,
            **common,
        )
    )


def linear_of(conv: Conv1D) -> nn.Linear:
    """Return the same function with its weight as (out, in), so that every matrix of every family lies alike."""
    linear = nn.Linear(conv.nx, conv.nf, device="meta")
    linear.weight = nn.Parameter(conv.weight.detach().mT.contiguous())
    linear.bias = nn.Parameter(conv.bias.detach())
    return linear


def export_model(model: PreTrainedModel, folder: Path) -> None:
    """Write config and weights as AutoModelForCausalLM.from_pretrained reads them; Conv1D gets its own way back."""
    transposed = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    head = "lm_head.weight"
    state = {
        name: weight.mT.contiguous() if model.config.model_type == "gpt2" and name in transposed - {head} else weight
        for name, weight in model.state_dict().items()
        if not (name == head and model.config.tie_word_embeddings)
    }
    model.save_pretrained(folder, state_dict=state)


def weights_digest(model: nn.Module) -> str:
    """Return the digest of all parameters' bits, in the order of their names."""
    total = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        total.update(name.encode())
        total.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def sequence_losses(model: PreTrainedModel, tokens_BS: Tensor) -> Tensor:
    """Return the mean loss of each sequence in nats per token, shape (B,), fp32, from bf16 products."""
    with torch.autocast(tokens_BS.device.type, dtype=torch.bfloat16):
        hidden_BTD = model.base_model(input_ids=tokens_BS[:, :-1]).last_hidden_state
        head = model.get_output_embeddings()
        losses_BT = _token_losses(hidden_BTD, head, tokens_BS[:, 1:])
    return losses_BT.mean(dim=1)


def _token_losses(hidden_BTD: Tensor, head: nn.Linear, targets_BT: Tensor) -> Tensor:
    if head.out_features <= LARGE_VOCABULARY:
        return _piece(hidden_BTD, head, targets_BT)
    hidden, targets = hidden_BTD.flatten(0, 1), targets_BT.flatten()
    pieces = [
        checkpoint(_piece, h, head, t, use_reentrant=False)
        for h, t in zip(hidden.split(PIECE_TOKENS), targets.split(PIECE_TOKENS), strict=True)
    ]
    return torch.cat(pieces).view_as(targets_BT)


def sampled_losses(model: PreTrainedModel, tokens_BS: Tensor, uniform_BT: Tensor) -> Tensor:
    """Return the mean loss of each sequence, shape (B,), at labels that the model itself would write.

    Labels are drawn without a gradient; uniform_BT, in [0, 1), decides them.
    """
    with torch.autocast(tokens_BS.device.type, dtype=torch.bfloat16):
        hidden_BTD = model.base_model(input_ids=tokens_BS[:, :-1]).last_hidden_state
        head = model.get_output_embeddings()
        losses_BT = _token_losses(hidden_BTD, head, _sampled(hidden_BTD, head, uniform_BT))
    return losses_BT.mean(dim=1)


@torch.no_grad()
def _sampled(hidden_BTD: Tensor, head: nn.Linear, uniform_BT: Tensor) -> Tensor:
    """Invert the distribution function, whose sums are integers: their order moves no bit, on a GPU neither."""
    labels = []
    for hidden, uniform in zip(
        hidden_BTD.flatten(0, 1).split(PIECE_TOKENS), uniform_BT.flatten().split(PIECE_TOKENS), strict=True
    ):
        up_to = head(hidden).float().softmax(dim=-1).double().mul_(2.0**40).long().cumsum(dim=-1)
        drawn = (uniform.double() * up_to[:, -1].double()).long()
        labels.append((up_to <= drawn[:, None]).sum(dim=-1))
    return torch.cat(labels).view_as(uniform_BT)


def _piece(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """Return the loss of every token; logits are fp32 from here on."""
    logits = head(hidden).float()
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").view_as(targets)
