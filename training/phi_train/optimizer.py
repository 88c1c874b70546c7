"""Muon for the matrices inside the layers, AdamW for embeddings and norms. Both decay weights, neither knows the schedule."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from phi_train.model import Model

MUON_RATE, MUON_MOMENTUM, MUON_DECAY = 0.02, 0.95, 0.05
ADAM_RATE, ADAM_BETAS, ADAM_EPSILON = 3e-3, (0.9, 0.95), 1e-10
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalized(updates: Tensor) -> Tensor:
    """updates: (N, rows, columns); the nearest matrices with singular values near 1, by five Newton-Schulz steps in bf16."""
    a, b, c = NEWTON_SCHULZ
    x = updates.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


class Optimizer:
    """`state` holds everything that a resumed run needs beside the weights."""

    def __init__(self, model: Model) -> None:
        # qkv and gate/up are several matrices in one; Muon must orthogonalise each alone.
        self.matrices: list[tuple[nn.Parameter, int]] = []
        for layer in model.layers:
            for name, parts in (("qkv_proj", 3), ("o_proj", 1), ("gate_up_proj", 2), ("down_proj", 1)):
                self.matrices.append((getattr(layer, name), parts))
        inside = {id(matrix) for matrix, _ in self.matrices}
        self.others = [p for p in model.parameters() if id(p) not in inside]
        self.state: dict[str, list[Tensor]] = {
            "momentum": [torch.zeros_like(m) for m, _ in self.matrices],
            "first": [torch.zeros_like(p) for p in self.others],
            "second": [torch.zeros_like(p) for p in self.others],
        }
        self.steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """rate: the schedule's share of the full learning rates, in [0, 1]. Gradients are used up."""
        self.steps += 1
        pieces: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for (matrix, parts), momentum in zip(self.matrices, self.state["momentum"], strict=True):
            gradient = matrix.grad
            assert gradient is not None
            momentum.lerp_(gradient, 1 - MUON_MOMENTUM)
            update = gradient.lerp_(momentum, MUON_MOMENTUM)  # Nesterov
            matrix.mul_(1 - rate * MUON_RATE * MUON_DECAY)
            for piece, change in zip(matrix.chunk(parts), update.chunk(parts), strict=True):
                pieces.setdefault(tuple(piece.shape), []).append((piece, change))
            matrix.grad = None
        for (rows, columns), pairs in pieces.items():
            # All matrices of one shape at once: one by one they are too small to keep two cores busy.
            changes = orthogonalized(torch.stack([change for _, change in pairs]))
            for (piece, _), change in zip(pairs, changes, strict=True):
                piece.sub_(change, alpha=rate * MUON_RATE * max(1.0, rows / columns) ** 0.5)
        first_weight, second_weight = (1 - beta**self.steps for beta in ADAM_BETAS)
        for parameter, first, second in zip(self.others, self.state["first"], self.state["second"], strict=True):
            gradient = parameter.grad
            assert gradient is not None
            first.lerp_(gradient, 1 - ADAM_BETAS[0])
            second.lerp_(gradient.square(), 1 - ADAM_BETAS[1])
            size = (second / second_weight).sqrt_().add_(ADAM_EPSILON)
            parameter.addcdiv_(first / first_weight, size, value=-rate * ADAM_RATE)
            parameter.grad = None
