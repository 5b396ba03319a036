"""How well predictions agree with what was measured."""

import numpy as np


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation of two series, ties at their mean rank; 0 if one of them is constant."""
    ranks = np.stack([_mean_ranks(first), _mean_ranks(second)])
    return float(np.corrcoef(ranks)[0, 1]) if ranks.std(1).all() else 0.0


def _mean_ranks(series: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(series, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def latency_errors(predicted_ms: np.ndarray, measured_ms: np.ndarray) -> dict[str, float]:
    """The `validation` of a latency table.

    Returns:
        `subnets`; `mape`: mean absolute error as a share of the measured; `within_10pct`: share of subnets; `spearman`;
        `bias`: mean error, positive where the prediction is too slow.
    """
    error = predicted_ms / measured_ms - 1
    return {
        "subnets": len(error),
        "mape": float(np.abs(error).mean()),
        "within_10pct": float((np.abs(error) <= 0.1).mean()),
        "spearman": spearman(predicted_ms, measured_ms),
        "bias": float(error.mean()),
    }


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The interval that a share lies in with 95 % confidence (Wilson, JASA 22, 1927).

    Args:
        hits: how often it happened.
        n: how often it could have happened.

    Returns:
        Lower and upper end, from 0 to 1.
    """
    z = 1.96  # quantile of the normal distribution
    share, spread = hits / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * ((share * (1 - share) + spread / 4) / n) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
