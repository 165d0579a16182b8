"""Batch normalisation over the clips of all processes.

A layer that normalised by the clips of its own process would train another network than one process does: with one clip a
process, its statistics would be those of a single clip. torch has such a layer for GPUs only.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, distributed, nn

_BatchNorm = nn.modules.batchnorm._BatchNorm


def share_batch_norm(model: nn.Module) -> None:
    """Let each batch normalisation of a model use the statistics of all processes while it trains.

    Parameters, buffers and their names stay, so checkpoints are those of one process. `unshare_batch_norm` undoes it.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.forward = partial(_forward, module)  # type: ignore[method-assign]


def unshare_batch_norm(model: nn.Module) -> None:
    """Undo `share_batch_norm`."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            vars(module).pop("forward", None)


def _forward(module: Any, x: Tensor) -> Tensor:
    if not module.training:
        return nnf.batch_norm(x, module.running_mean, module.running_var, module.weight, module.bias, eps=module.eps)
    weight = module.weight if module.affine else x.new_ones(x.shape[1])
    bias = module.bias if module.affine else x.new_zeros(x.shape[1])
    normalised, mean, variance = _Normalise.apply(x, weight, bias, module.eps)  # type: ignore[no-untyped-call]
    if module.track_running_stats:
        with torch.no_grad():
            module.num_batches_tracked += 1
            rate = module.momentum if module.momentum is not None else 1 / float(module.num_batches_tracked)
            n_values = x.numel() // x.shape[1] * distributed.get_world_size()
            module.running_mean.lerp_(mean, rate)
            # torch keeps the unbiased variance, and normalises by the biased one.
            module.running_var.lerp_(variance * (n_values / max(1, n_values - 1)), rate)
    return normalised  # type: ignore[no-any-return]


class _Normalise(torch.autograd.Function):
    """Normalise by mean and variance over the batches of all processes, which have the same size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        values, axes, shape = x.float(), _axes(x), _shape(x)
        own = torch.stack([values.mean(axes), values.var(axes, correction=0)])
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own)
        means, variances = torch.stack(parts).unbind(1)
        mean = means.mean(0)
        variance = variances.mean(0) + means.var(0, correction=0)
        scale = torch.rsqrt(variance + eps)
        normal = (values - mean.view(shape)) * scale.view(shape)
        ctx.save_for_backward(normal, weight, scale)
        ctx.mark_non_differentiable(mean, variance)
        out = normal * weight.float().view(shape) + bias.float().view(shape)
        return out.to(x.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        normal, weight, scale = ctx.saved_tensors
        given = gradients[0]
        d_out, axes, shape = given.float(), _axes(given), _shape(given)
        own = torch.stack([d_out.sum(axes), (d_out * normal).sum(axes)])
        # Gradients of the weights stay this process' own: they are averaged over the processes with all others.
        d_bias, d_weight = own.clone().unbind(0)
        distributed.all_reduce(own)
        n_values = d_out.numel() // d_out.shape[1] * distributed.get_world_size()
        # How far the gradient goes along the mean and along the normalised values, which a shift or a scale cannot change.
        mean, along = (own / n_values).unbind(0)
        d_x = (weight.float() * scale).view(shape) * (d_out - mean.view(shape) - normal * along.view(shape))
        return d_x.to(given.dtype), d_weight.to(weight.dtype), d_bias.to(weight.dtype), None


def _axes(x: Tensor) -> list[int]:
    """All axes but that of the channels."""
    return [0, *range(2, x.dim())]


def _shape(x: Tensor) -> list[int]:
    """The shape that spreads a value for each channel over a map."""
    return [1, -1, *[1] * (x.dim() - 2)]
