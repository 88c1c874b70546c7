"""The network while it trains: Phi-3's architecture written for speed on a CPU, with the parameter names of `Phi3ForCausalLM`.

Here are the presets, the forward pass and the loss. Not here: the optimiser (`optimizer.py`), the loop (`train.py`) and the
conversion to Hugging Face (`export.py`, which proves that both give the same logits).
"""

# mypy: disable-error-code="no-untyped-call, import-untyped"
# torch, transformers and optimum are typed in part.
from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Preset:
    """Shape of a model. `d`: width; `ff`: width of the gated feed-forward layer; `context`: most positions, in tokens."""

    d: int
    layers: int
    heads: int
    ff: int
    vocabulary: int = 8192
    context: int = 1024
    rope_theta: float = 10_000.0
    epsilon: float = 1e-5


PRESETS = {
    "toy": Preset(d=64, layers=2, heads=2, ff=176, vocabulary=1024),
    "nano": Preset(d=256, layers=6, heads=4, ff=704),
    "small": Preset(d=512, layers=8, heads=8, ff=1376),
}

QUERY_BLOCK = 256
"""Rows of queries handled at once: skips most of the masked upper triangle; torch's CPU flash attention was 2 to 6 times slower."""

LOSS_CHUNK = 1024
"""Rows of logits alive at once: 1,024 x 8,192 in bf16 is 16 MiB, a whole step's would be 256."""


class Norm(nn.Module):
    def __init__(self, d: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return (wide * scale * self.weight).to(x.dtype)


def linear(x: Tensor, weight: nn.Parameter) -> Tensor:
    """The master weights stay fp32 for the optimiser; the product runs in x's type."""
    return F.linear(x, weight.to(x.dtype))


class Layer(nn.Module):
    def __init__(self, preset: Preset) -> None:
        super().__init__()
        d, ff = preset.d, preset.ff
        self.heads = preset.heads
        self.input_layernorm = Norm(d, preset.epsilon)
        self.post_attention_layernorm = Norm(d, preset.epsilon)
        self.qkv_proj = nn.Parameter(torch.randn(3 * d, d) * d**-0.5 * 0.5)
        self.o_proj = nn.Parameter(torch.zeros(d, d))
        self.gate_up_proj = nn.Parameter(torch.randn(2 * ff, d) * d**-0.5 * 0.5)
        self.down_proj = nn.Parameter(torch.zeros(d, ff))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, bias: Tensor) -> Tensor:
        """x: (B, T, d); cos, sin: (T, head width); bias: (B, 1, T, T), 0 where a query may look and very negative elsewhere."""
        batch, length, d = x.shape
        qkv = linear(self.input_layernorm(x), self.qkv_proj).view(batch, length, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q = rotate(q, cos, sin) * (1.0 / math.sqrt(d // self.heads))
        k = rotate(k, cos, sin)
        blocks = []
        for start in range(0, length, QUERY_BLOCK):
            end = min(start + QUERY_BLOCK, length)
            scores = q[:, :, start:end] @ k[:, :, :end].transpose(-1, -2)
            shares = torch.softmax(scores.float() + bias[:, :, start:end, :end], dim=-1).to(x.dtype)
            blocks.append(shares @ v[:, :, :end])
        mixed = torch.cat(blocks, dim=2).transpose(1, 2).reshape(batch, length, d)
        x = x + linear(mixed, self.o_proj)
        gate, up = linear(self.post_attention_layernorm(x), self.gate_up_proj).chunk(2, dim=-1)
        return x + linear(F.silu(gate) * up, self.down_proj)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, in the half-split layout that `Phi3ForCausalLM` uses."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Model(nn.Module):
    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.preset = preset
        self.embed_tokens = nn.Parameter(torch.randn(preset.vocabulary, preset.d) * 0.02)
        self.layers = nn.ModuleList(Layer(preset) for _ in range(preset.layers))
        self.norm = Norm(preset.d, preset.epsilon)
        half = preset.d // preset.heads // 2
        frequencies = preset.rope_theta ** (-torch.arange(half).float() / half)
        angles = torch.outer(torch.arange(preset.context).float(), frequencies).repeat(1, 2)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def hidden(self, tokens: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
        """tokens: (B, T); gives the last layer's normalised output, (B, T, d)."""
        length = tokens.shape[1]
        cos, sin = self.cos[:length].to(dtype), self.sin[:length].to(dtype)
        x = F.embedding(tokens, self.embed_tokens).to(dtype)
        for layer in self.layers:
            x = layer(x, cos, sin, bias)
        return self.norm(x)  # type: ignore[no-any-return]

    def logits(self, tokens: Tensor, bias: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        return linear(self.hidden(tokens, bias, dtype), self.embed_tokens)

    def loss_sum(self, tokens: Tensor, bias: Tensor, targets: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
        """Weighted sum of the cross-entropies in nats. targets, weights: (B, T); rows of weight 0 never meet the vocabulary."""
        hidden = self.hidden(tokens, bias, dtype).flatten(0, 1)
        rows = weights.flatten().nonzero().squeeze(1)
        return LinearCrossEntropy.apply(  # type: ignore[no-any-return]
            hidden[rows], self.embed_tokens, targets.flatten()[rows], weights.flatten()[rows]
        )


def document_bias(documents: Tensor, dtype: torch.dtype) -> Tensor:
    """documents: (B, T), one number a document; gives (B, 1, T, T): no query looks ahead or into another document of its row."""
    length = documents.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    allowed = (documents[:, :, None] == documents[:, None, :]) & causal
    return torch.where(allowed, 0.0, -30_000.0).to(dtype)[:, None]


def _loss_and_slope(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    wide = logits.float()
    peak = wide.amax(-1, keepdim=True)
    powers = torch.exp(wide - peak)
    total = powers.sum(-1, keepdim=True)
    chosen = wide.gather(1, targets[:, None])
    loss = ((peak + total.log() - chosen) * weights[:, None]).sum()
    columns = torch.arange(logits.shape[1], device=logits.device)
    slope = (powers / total - (columns == targets[:, None])) * weights[:, None]
    return loss, slope.to(logits.dtype)


loss_and_slope = torch.compile(_loss_and_slope, dynamic=True)


class LinearCrossEntropy(torch.autograd.Function):
    """Output layer and cross-entropy in one, chunk by chunk, gradients computed on the way, so that logits never lie in memory."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, weights):  # type: ignore[no-untyped-def]
        narrow = weight.to(hidden.dtype)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        d_hidden = torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight)
        for start in range(0, hidden.shape[0], LOSS_CHUNK):
            part = slice(start, start + LOSS_CHUNK)
            part_loss, slope = loss_and_slope(hidden[part] @ narrow.T, targets[part], weights[part])
            loss += part_loss
            d_hidden[part] = slope @ narrow
            d_weight += slope.T @ hidden[part]
        ctx.save_for_backward(d_hidden, d_weight)
        return loss

    @staticmethod
    def backward(ctx, d_loss):  # type: ignore[no-untyped-def]
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * d_loss, d_weight * d_loss, None, None
