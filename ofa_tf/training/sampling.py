"""What is drawn for a step: its resolution and its archs, a pure function of seed, stage and step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from ofa_tf.costs import ArchCosts, arch_costs
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.training.recipe import Span

CANDIDATES = 64  # of which the one is drawn whose MACs are nearest to those wanted
SKEW = 2.0  # the logarithm of the largest and smallest power that their genes are raised to
CLASSES = 10  # hardly changes how MACs compare


@dataclass(frozen=True)
class StepPlan:
    """All that is drawn for one step.

    Args:
        resolution: of the images, in pixels, the highest of the archs; the same for all replicas.
        codes: the archs, int32 of shape (subnets, genes).
        seed: seed of the dropout.
    """

    resolution: int
    codes: np.ndarray
    seed: int


def plan_step(space: SearchSpace, span: Span, seed: tuple[int, ...], step: int) -> StepPlan:
    """Draws a step: archs uniformly, as in the paper, or the largest, the smallest and the rest in between (sandwich).

    As in the paper, archs that are drawn uniformly have one resolution, which is drawn first. In a sandwich each has
    its own, the largest arch the highest and the smallest the lowest (Yu et al., "BigNAS", ECCV 2020).

    Args:
        space: the space.
        span: the phase that the step belongs to.
        seed: seed of the stage.
        step: its number within the stage.
    """
    rng = np.random.default_rng([*seed, 0, step])
    resolution = int(rng.integers(len(space.resolutions)))
    phase = span.phase
    codes = draw(space, rng, phase.subnets, span.draws, **phase.sampling())
    if span.sandwich:
        codes[0] = space.encode(space.largest())
        codes[1] = space.lowest_code(**phase.sampling())
    else:
        codes[:, 0] = resolution
    return StepPlan(space.resolutions[codes[:, 0].max()], codes, int(rng.integers(2**31)))


def draw(space: SearchSpace, rng: np.random.Generator, n: int, draws: str, **open_choices: int | None) -> np.ndarray:
    """Draws archs; arguments and codes as for `SearchSpace.sample`, which draws each gene uniformly.

    In this way hardly any arch is nearly as small as the smallest or as large as the largest. With `draws` "macs", the
    logarithm of their multiply-accumulates is uniform: candidates lean to small genes or to large ones, each to another
    degree, and the one is taken that is nearest to the number wanted.
    """
    if draws == "choices":
        return space.sample(rng, n, **open_choices)
    macs, lowest = _macs(space), space.lowest_genes(**open_choices)
    ends = np.log(macs(np.stack([space.canonical(lowest[None])[0], space.encode(space.largest())])))
    wanted = rng.uniform(ends[0], ends[1], (n, 1))
    powers = np.exp(rng.uniform(-SKEW, SKEW, (n * CANDIDATES, 1)))
    shares = rng.random((n * CANDIDATES, space.n_genes)) ** powers
    codes = space.canonical((lowest + shares * (space.gene_sizes - lowest)).astype(np.int32))
    off = np.abs(np.log(macs(codes)).reshape(n, CANDIDATES) - wanted)
    return codes.reshape(n, CANDIDATES, -1)[np.arange(n), off.argmin(1)]


@lru_cache(8)
def _macs(space: SearchSpace) -> ArchCosts:
    return arch_costs(space, lambda block: block.n_macs, CLASSES)


def trained_widths(space: SearchSpace, layout: Sequence[Span], span: Span) -> list[Arch]:
    """Archs that have, together, every width below the largest that earlier phases of the stage have trained.

    Args:
        space: the space.
        layout: the phases of the stage.
        span: one of them.
    """
    most = int(space.gene_sizes.max())
    opened = max((earlier.phase.choices or most for earlier in layout if earlier.stop <= span.start), default=1)
    archs = []
    for expands, channels in list(product(range(1, min(opened, most) + 1), repeat=2))[1:]:
        choices = {"kernel": 1, "depth": expands if space.coupled else 1, "expand": expands, "channels": channels}
        code = space.lowest_code(**{f"{name}_choices": number for name, number in choices.items()})
        archs.append(space.decode_one(code))
    return archs


def probe_archs(space: SearchSpace, seed: int) -> dict[str, np.ndarray]:
    """The archs whose accuracy is watched, the same for all stages: codes by name.

    The smallest and the largest, four random ones, all at the largest resolution, and the largest at the smallest and
    at the middle resolution.
    """
    top = len(space.resolutions) - 1
    codes = {"smallest": space.encode(space.smallest()), "largest": space.encode(space.largest())}
    random = space.sample(np.random.default_rng([seed, 0x9206E]), 4)
    codes.update({f"random{number}": code for number, code in enumerate(random, start=1)})
    for code in codes.values():
        code[0] = top
    for index in sorted({0, top // 2} - {top}):
        code = codes["largest"].copy()
        code[0] = index
        codes[f"largest_{space.resolutions[index]}px"] = code
    return codes
