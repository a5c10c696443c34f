"""Other people's optimizers at an entry's values, to be timed against it, and why one of them may step otherwise.

Their dialects are mapped and compared in tests/baselines, often at values that only a test wants; here are those of the
entry. Where no reason is given (None) displacements should agree.
"""

from collections.abc import Callable

import adamp
import heavyball
import prodigyopt
import pytorch_optimizer
import torch
from adam_mini import Adam_mini
from pytorch_optimizer.optimizer.scion import LMONorm
from pytorch_optimizer.optimizer.shampoo import LayerWiseGrafting
from torch.nn import Parameter
from torch.optim import Optimizer

Weights = list[Parameter]
Library = tuple[Callable[[Weights, dict], Optimizer], str | None]


def prepared(compiled: bool) -> dict[str, list[Library]]:
    """Return the table; give heavyball's Muon the coefficients of the others, and let it compile only where asked."""
    heavyball.utils.zeropower_via_newtonschulz5 = heavyball.utils.legacy_zeropower_via_newtonschulz5
    if not compiled:
        heavyball.utils.compile_mode = None
    return LIBRARIES


def groups(weights: Weights, v: dict, matrices: dict | None = None, vectors: dict | None = None) -> list[dict]:
    """Return the matrices, which decay, and the vectors, which do not, with settings of their own."""
    found = [
        {"params": [w for w in weights if w.ndim == 2], "weight_decay": v["weight_decay"], **(matrices or {})},
        {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0, **(vectors or {})},
    ]
    return [group for group in found if group["params"]]


def betas(v: dict) -> tuple[float, float]:
    return v["beta1"], v["beta2"]


def muon(adjusted: bool) -> Callable[[Weights, dict], Optimizer]:
    return lambda w, v: pytorch_optimizer.Muon(
        groups(w, v, {"use_muon": True}), lr=v["lr"], momentum=v["momentum"], ns_steps=v["newton_schulz_steps"],
        use_adjusted_lr=adjusted,
    )  # fmt: skip


def normuon(w: Weights, v: dict) -> Optimizer:
    return pytorch_optimizer.NorMuon(
        groups(w, v, {"use_muon": True}), lr=v["lr"], momentum=v["momentum"], ns_steps=v["newton_schulz_steps"],
        beta2=v["beta2"], update_scale="match_rms",
    )  # fmt: skip


def torch_muon(size: str) -> Callable[[Weights, dict], Optimizer]:
    return lambda w, v: torch.optim.Muon(
        groups(w, v), lr=v["lr"], momentum=v["momentum"], ns_steps=v["newton_schulz_steps"], adjust_lr_fn=size
    )


def scion(w: Weights, v: dict) -> Optimizer:
    return pytorch_optimizer.SCION(
        groups(w, v, {"norm_type": LMONorm.SPECTRAL, "scale": v["hidden_radius"]},
               {"norm_type": LMONorm.BIAS, "scale": v["vector_radius"]}),
        lr=v["lr"], momentum=1 - v["momentum"], constraint=True,
    )  # fmt: skip


def schedule_free(make: Callable[..., Optimizer]) -> Callable[[Weights, dict], Optimizer]:
    def made(w: Weights, v: dict) -> Optimizer:
        optimizer = make(groups(w, v), lr=v["lr"], betas=betas(v), eps=v["eps"])
        optimizer.train()
        return optimizer

    return made


def shampoo(w: Weights, v: dict) -> Optimizer:
    return pytorch_optimizer.ScalableShampoo(
        groups(w, v), lr=v["lr"], betas=betas(v), moving_average_for_momentum=True, nesterov=False,
        decoupled_weight_decay=True, start_preconditioning_step=v["start_step"],
        preconditioning_compute_steps=v["precondition_frequency"], block_size=8192, shape_interpretation=False,
        graft_type=LayerWiseGrafting.RMSPROP, diagonal_eps=v["graft_eps"],
    )  # fmt: skip


def mars(w: Weights, v: dict) -> Optimizer:
    return pytorch_optimizer.MARS(
        w, lr=v["lr"], betas=betas(v), gamma=v["gamma"], weight_decay=v["weight_decay"], eps=v["eps"],
        lr_1d=v["lr"] * v["vector_lr_factor"], betas_1d=(v["vector_beta1"], v["vector_beta2"]), weight_decay_1d=0.0,
    )  # fmt: skip


def low_rank(make: Callable[..., Optimizer], scale: str) -> Callable[[Weights, dict], Optimizer]:
    """Each matrix is a group, as its rank is a part of its shorter side."""
    return lambda w, v: make(
        [{"params": [m], "rank": max(1, round(v["rank"] * min(m.shape))), "update_proj_gap": v["subspace_frequency"],
          "scale": v[scale], "projection_type": "std"} for m in w if m.ndim == 2],
        lr=v["lr"], betas=betas(v), eps=v["eps"], weight_decay=v["weight_decay"],
    )  # fmt: skip


def adam_mini(w: Weights, v: dict) -> Optimizer:
    """Return it with the names of rows for all matrices: the heads of queries and keys are in no weight's shape."""
    named = [(f"mlp{place}" if x.ndim == 2 else f"norm{place}", x) for place, x in enumerate(w)]
    return Adam_mini(named, lr=v["lr"], betas=betas(v), eps=v["eps"], weight_decay=v["weight_decay"], verbose=False)


def ademamix(make: Callable[..., Optimizer], **warmups: int) -> Callable[[Weights, dict], Optimizer]:
    return lambda w, v: make(
        groups(w, v),
        lr=v["lr"],
        betas=(*betas(v), 1 - 1 / v["slow_time_constant"]),
        eps=v["eps"],
        alpha=v["alpha"],
        **warmups,
    )  # fmt: skip


def prodigy(make: Callable[..., Optimizer], **corrected: bool) -> Callable[[Weights, dict], Optimizer]:
    return lambda w, v: make(
        groups(w, v), lr=v["lr"], betas=betas(v), d0=v["d0"], eps=v["eps"], safeguard_warmup=True, **corrected
    )


ADAMW: list[Library] = [
    (lambda w, v: torch.optim.AdamW(groups(w, v), lr=v["lr"], betas=betas(v), eps=v["eps"], fused=True), None),
    (lambda w, v: heavyball.AdamW(groups(w, v), lr=v["lr"], betas=betas(v), eps=v["eps"]), None),
]
BASES = "a singular factor leaves part of its basis open"
PROBES = "its probes are its own"
SIGNS = "a new basis has other signs, and comes a step earlier"
ROOT = "adds 1e-15 under the root"
LARGER = "eps enters otherwise"
WARMUP = "its steps of warm-up are not the task's"
LONG = 5_000  # steps of a warm-up
LIBRARIES: dict[str, list[Library]] = {  # by entry
    "adamw": ADAMW,
    "adamw-hybrid": ADAMW,
    "lion": [(lambda w, v: pytorch_optimizer.Lion(groups(w, v), lr=v["lr"], betas=betas(v)), None)],
    "signum": [(lambda w, v: pytorch_optimizer.SignSGD(groups(w, v), lr=v["lr"], momentum=v["momentum"]), None)],
    "sgd": [
        (lambda w, v: torch.optim.SGD(groups(w, v), lr=v["lr"], momentum=v["momentum"]), "adds decay to the gradient"),
        (lambda w, v: pytorch_optimizer.SGDW(groups(w, v), lr=v["lr"], momentum=v["momentum"]), None),
        (lambda w, v: heavyball.SGD(groups(w, v), lr=v["lr"], beta=v["momentum"]), None),
    ],
    "mars-adamw": [(mars, ROOT)],
    "nadamw": [
        (lambda w, v: torch.optim.NAdam(groups(w, v), lr=v["lr"], betas=betas(v), decoupled_weight_decay=True), None),
        (lambda w, v: heavyball.NAdam(groups(w, v), lr=v["lr"], betas=betas(v), decoupled_weight_decay=True), LARGER),
    ],
    "adafactor": [
        (lambda w, v: torch.optim.Adafactor(groups(w, v), lr=v["lr"], eps=(1e-15, 1e-3)), None),
        (lambda w, v: pytorch_optimizer.AdaFactor(groups(w, v), lr=v["lr"], betas=(None, 0.999), relative_step=False),
         None),
    ],
    "adam-mini": [(adam_mini, "has a number a row in queries and keys too, as here it is not told the heads")],
    "ademamix": [
        (ademamix(pytorch_optimizer.AdEMAMix, t_alpha_beta3=LONG, weight_decouple=True), WARMUP),
        (ademamix(heavyball.AdEMAMix, beta3_warmup=LONG, alpha_warmup=LONG), WARMUP),
    ],
    "adan": [
        (lambda w, v: pytorch_optimizer.Adan(
            groups(w, v), lr=v["lr"], betas=(*betas(v), v["beta3"]), eps=v["eps"], max_grad_norm=0.0), None),
    ],
    "cautious-adamw": [
        (lambda w, v: heavyball.AdamW(groups(w, v), lr=v["lr"], betas=betas(v), eps=v["eps"], caution=True), LARGER),
    ],
    "prodigy": [
        (prodigy(prodigyopt.Prodigy, use_bias_correction=True), None),
        (prodigy(pytorch_optimizer.Prodigy, bias_correction=True), None),
    ],
    "diffgrad": [
        (lambda w, v: pytorch_optimizer.DiffGrad(groups(w, v), lr=v["lr"], betas=betas(v), weight_decouple=True), ROOT),
    ],
    "adamp": [
        (lambda w, v: adamp.AdamP(groups(w, v), lr=v["lr"], betas=betas(v)), None),
        (lambda w, v: pytorch_optimizer.AdamP(groups(w, v), lr=v["lr"], betas=betas(v)), LARGER),
    ],
    "sgdp": [
        (lambda w, v: adamp.SGDP(groups(w, v), lr=v["lr"], momentum=v["momentum"]), "projects its momentum"),
        (lambda w, v: pytorch_optimizer.SGDP(groups(w, v), lr=v["lr"], momentum=v["momentum"]), None),
    ],
    "schedule-free-adamw": [
        (schedule_free(pytorch_optimizer.ScheduleFreeAdamW), None),
        (schedule_free(heavyball.SFAdamW), None),
    ],
    "muon": [
        (torch_muon("original"), None),
        (muon(adjusted=False), None),
        (lambda w, v: heavyball.Muon(groups(w, v), lr=v["lr"], betas=(v["momentum"], 0.0), heavyball_momentum=True),
         "rounds to bf16 at random"),
    ],
    "moonlight": [
        (torch_muon("match_rms_adamw"), None),
        (muon(adjusted=True), None),
    ],
    "normuon": [(normuon, None)],
    "mars-muon": [
        (lambda w, v: pytorch_optimizer.MARS(groups(w, v), lr=v["lr"], betas=(v["momentum"], 0.99), gamma=v["gamma"],
                                             mars_type="shampoo"), "MARS-Shampoo's size of a step"),
    ],
    "scion": [
        (scion, None),
        (lambda w, v: heavyball.Scion(groups(w, v, {"scale": v["hidden_radius"]}, {"scale": v["vector_radius"]}),
                                      lr=v["lr"], betas=(v["momentum"], 0.0)), "draws the weights anew at first"),
    ],
    "soap": [
        (lambda w, v: pytorch_optimizer.SOAP(
            groups(w, v), lr=v["lr"], betas=betas(v), eps=v["eps"], precondition_frequency=v["precondition_frequency"]
        ), BASES),
        (lambda w, v: heavyball.SOAP(
            groups(w, v), lr=v["lr"], betas=betas(v), shampoo_beta=v["beta2"], eps=v["eps"], merge_dims=False,
            precondition_frequency=v["precondition_frequency"], max_precond_dim=10_000
        ), BASES),
    ],
    "galore": [(low_rank(pytorch_optimizer.GaLore, "scale"), SIGNS)],
    "fira": [(low_rank(pytorch_optimizer.Fira, "alpha"), SIGNS)],
    "shampoo": [(shampoo, "its momentum comes after the factors, its graft has no bias correction")],
    "psgd-kron": [
        (lambda w, v: pytorch_optimizer.Kron(groups(w, v), lr=v["lr"], momentum=v["momentum"]), PROBES),
        (lambda w, v: heavyball.PSGDKron(groups(w, v), lr=v["lr"], beta=v["momentum"], max_size_triangular=8192,
                                         store_triu_as_line=False), PROBES),
    ],
}  # fmt: skip
