"""Starts of a search by gradients: every choice becomes a mixture of its options, which sharpens as the scores rise.

The idea is that of differentiable architecture search (Liu et al., "DARTS", ICLR 2019), with the predictor in the place
of the network: a step costs as much as two scores, and all chains take it at once.
"""

from collections.abc import Callable
from functools import reduce
from typing import Protocol, runtime_checkable

import numpy as np

from ofa_tf.search.problem import Problem

RATE = 0.3  # of a step, in logits
MOMENTUM, SCALE_DECAY = 0.8, 0.95  # of the gradients' means and of those of their squares
TEMPERATURES = (1.0, 0.15)  # at the first step and at the last
PRICE_STEP, PRICE_RANGE = 0.3, 30.0
FAVOUR = 1.0  # of the choices of `near`, in logits


@runtime_checkable
class Differentiable(Protocol):
    """A score that also takes mixtures of options, and knows its slope."""

    def mixed(
        self, resolutions: np.ndarray, kernels: np.ndarray, expands: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores of mixtures, and their derivatives.

        Args:
            resolutions: indices of the resolutions, shape (archs,).
            kernels: share of each kernel size in each block, shape (archs, blocks, kernels); they add up to the share
                in which the block is used.
            expands: likewise of the expand ratios.

        Returns:
            Scores of shape (archs,), derivatives of the shape of `kernels`, and of that of `expands`.
        """
        ...


def relax(
    problem: Problem,
    score: Differentiable,
    n: int,
    steps: int,
    price: float,
    rng: np.random.Generator,
    near: np.ndarray | None = None,
) -> np.ndarray:
    """Follows the slope of the score from random mixtures; each budget has a price, which rises while it is exceeded.

    Args:
        problem: the problem.
        score: its score.
        n: chains.
        steps: of each chain.
        price: of a load of 1 at first, in score.
        rng: the source of randomness.
        near: archs whose choices the first mixtures favour, one per chain, shape (n, genes); None for no favour.

    Returns:
        The archs of the largest shares at the end, some of them over the limit: codes of shape (n, genes).
    """
    space, n_depths = problem.space, problem.n_depths
    shape = (space.n_blocks, len(space.resolutions), len(space.kernels), len(space.expands))
    resolutions = rng.choice(problem.resolutions, n) if near is None else near[:, 0]
    fixed = np.stack([fixed[resolutions] for fixed, _ in problem.relative_costs])
    costs = np.stack([blocks.reshape(shape)[:, resolutions].swapaxes(0, 1) for _, blocks in problem.relative_costs])
    costs = costs.astype(np.float32)
    used_at = problem.used_at.reshape(space.n_blocks, space.n_stages, n_depths).astype(np.float32)
    sizes = ((space.n_blocks, shape[2]), (space.n_blocks, shape[3]), (space.n_stages, n_depths))
    logits = [rng.normal(size=(n, *size)).astype(np.float32) for size in sizes]
    if near is not None:
        for logit, genes in zip(logits, (space.kernel_genes, space.expand_genes, space.depth_genes), strict=True):
            logit += FAVOUR * np.eye(logit.shape[2], dtype=np.float32)[near[:, genes]]
    for stage, choices in enumerate(space.stages):
        logits[2][:, stage, len(choices.depths) :] = -np.inf
    means, squares = ([np.zeros_like(logit) for logit in logits] for _ in range(2))
    prices = np.full(fixed.shape, price)
    for step in range(steps):
        temperature = TEMPERATURES[0] * (TEMPERATURES[1] / TEMPERATURES[0]) ** (step / max(1, steps - 1))
        shares = [_softmax(logit / temperature) for logit in logits]
        kernel, expand, depth = shares
        used = np.einsum("nsd,bsd->nb", depth, used_at)
        _, by_kernel, by_expand = score.mixed(resolutions, used[..., None] * kernel, used[..., None] * expand)

        of_kernel = np.einsum("lnbke,nbe->lnbk", costs, expand)
        of_expand = np.einsum("lnbke,nbk->lnbe", costs, kernel)
        of_block = np.einsum("lnbk,nbk->lnb", of_kernel, kernel)
        over = fixed + (used * of_block).sum(2) - 1
        prices *= np.exp(np.clip(3 * over, -PRICE_STEP, PRICE_STEP))
        np.clip(prices, price / PRICE_RANGE, price * PRICE_RANGE, out=prices)

        paid = prices.astype(np.float32)
        gain = (by_kernel * kernel).sum(2) + (by_expand * expand).sum(2) - np.einsum("ln,lnb->nb", paid, of_block)
        slopes = (
            used[..., None] * (by_kernel - np.einsum("ln,lnbk->nbk", paid, of_kernel)),
            used[..., None] * (by_expand - np.einsum("ln,lnbe->nbe", paid, of_expand)),
            np.einsum("nb,bsd->nsd", gain, used_at),
        )
        for logit, share, slope, mean, square in zip(logits, shares, slopes, means, squares, strict=True):
            slope = share * (slope - _over_options(np.add, share * slope)) / temperature
            mean += (1 - MOMENTUM) * (slope - mean)
            square += (1 - SCALE_DECAY) * (slope**2 - square)
            logit += RATE * mean / (np.sqrt(square) + 1e-6 * price)
    kernel, expand, depth = (logit.argmax(2) for logit in logits)
    return space.canonical(np.concatenate([resolutions[:, None], depth, kernel, expand], axis=1).astype(np.int32))


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Shares that add up to 1 over the last axis."""
    powers = np.exp(logits - _over_options(np.maximum, logits))
    return powers / _over_options(np.add, powers)


def _over_options(operation: Callable, values: np.ndarray) -> np.ndarray:
    """Reduces the last axis, which is so short that NumPy is slow at it; it stays, of length 1."""
    return reduce(operation, np.moveaxis(values, -1, 0))[..., None]
