"""`--space auto` and `--recipe auto`: a choice that suits the images and the time that training may take."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from ofa_tf.data.images import Survey
from ofa_tf.latency.host import n_cores
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import EDGE, PHOTOS, TINY
from ofa_tf.training.recipe import Recipe, recipe_for
from ofa_tf.training.transfer import transfer_recipe
from ofa_tf.training.work import elastic_macs
from ofa_tf.zoo.pretrained_sources import Pretrained

HOURS = 2.0
FIRST_SIDES = {TINY: 1, PHOTOS: 56, EDGE: 192}  # smallest shorter side of images, in pixels, that suits a space
MANY = 10_000  # images from which on a large space is worth its time
# 90 passes train well on 3,000 images; on others their number grows with the inverse square root of the images'.
PASSES, IMAGES = 90, 3000
FEWEST, MOST = 20, 400
LEAST_PASSES = 10  # however little time there is
# MACs per second of forward passes in training: for a core three quarters of what one without AVX-512 did, to be on the
# safe side; for a GPU a guess, not measured.
SPEEDS = {"core": 1.1e9, "GPU": 60e9}
# With pretrained weights: passes in the stages `full` and `width` over 3,000 images, by what they may be multiplied for
# other numbers, and how much faster a core is at these larger networks.
TRANSFER_HOURS = 1.0
TRANSFER_PASSES = 6.0, 9.0
TRANSFER_SCALES = 0.2, 4.0
TRANSFER_SPEED = 1.7
TRANSFER_SHARE = 0.8  # of these passes that must fit into the time for larger images to be chosen
STRIDE = 32


@dataclass(frozen=True)
class Automatic:
    """What was chosen.

    Args:
        space: the search space.
        recipe: the recipe.
        reasons: one sentence for each choice: what was chosen, why, and how to choose something else.
    """

    space: SearchSpace
    recipe: Recipe
    reasons: tuple[str, ...]


def choose(survey: Survey, space: SearchSpace | None, recipe: Recipe | None, hours: float = HOURS) -> Automatic:
    """Chooses a space and a recipe.

    Args:
        survey: the images.
        space: the space, or None to choose it.
        recipe: the recipe, or None to choose it.
        hours: the longest that training should take, by an estimate.
    """
    n, reasons = max(survey.n_train, 1), []
    wanted = round(float(np.clip(PASSES * (IMAGES / n) ** 0.5, FEWEST, MOST)))
    if space is None:
        suited = [candidate for candidate, first in FIRST_SIDES.items() if survey.side >= first] or [TINY]
        if suited[-1] is EDGE and (n < MANY or _hours(EDGE, n, recipe or recipe_for(n, wanted)) > hours):
            suited.pop()  # a large network that is barely trained is worse than a smaller one
        space = suited[-1]
        reasons.append(
            f"The images are about {survey.side} px: the space `{space.name}` ({space.resolutions[0]} to "
            f"{space.resolutions[-1]} px) was chosen; --space chooses another."
        )
    if recipe is None:
        of_wanted = _hours(space, n, recipe_for(n, wanted))
        passes = max(min(wanted, int(wanted * hours / of_wanted)), LEAST_PASSES)
        recipe = recipe_for(n, passes)
        more = f" ({wanted} would be better and take {of_wanted:.1f} h)" if passes < wanted else ""
        reasons.append(
            f"There are about {n:,} training images: {passes} passes over them were chosen{more}, estimated to take "
            f"{_hours(space, n, recipe):.1f} h on {_machine()[1]}; --hours sets another limit, --recipe another recipe."
        )
    return Automatic(space, recipe, tuple(reasons))


def choose_transfer(
    survey: Survey, pretrained: Pretrained, space: SearchSpace | None, recipe: Recipe | None, hours: float
) -> Automatic:
    """Chooses the image sizes and a recipe for a training that begins with pretrained weights.

    Args:
        survey: the images.
        pretrained: the weights.
        space: the space, or None for that of the weights, at image sizes to choose.
        recipe: the recipe, or None to choose it.
        hours: the longest that training should take, by an estimate.
    """
    n, reasons = max(survey.n_train, 1), []
    more = float(np.clip((IMAGES / n) ** 0.5, *TRANSFER_SCALES))
    full, width = (max(1.0, round(passes * more, 1)) for passes in TRANSFER_PASSES)

    def shortened(share: float) -> Recipe:
        return transfer_recipe(max(0.5, full * share), max(0.5, width * share), pretrained.elastic)

    def hours_of(space: SearchSpace, recipe: Recipe) -> float:
        return _hours(space, n, recipe) / TRANSFER_SPEED

    if space is None:
        network = pretrained.space
        suited = [dataclasses.replace(network, resolutions=sizes) for sizes in _image_sizes(network, survey.side)]
        in_time = [
            candidate for candidate in suited if hours_of(candidate, recipe or shortened(TRANSFER_SHARE)) <= hours
        ]
        space = in_time[-1] if in_time else suited[0]
        reasons.append(
            f"The space `{space.name}` contains {pretrained.name} as its largest subnet; for images of about "
            f"{survey.side} px and the time that there is, {space.resolutions[0]} to {space.resolutions[-1]} px were "
            "chosen; --space chooses another that contains it."
        )
    if recipe is None:
        share = min(1.0, hours / hours_of(space, shortened(1)))
        recipe = shortened(share)
        stages = " and ".join(f"{phase.epochs + phase.warmup_epochs:.3g} of `{phase.stage}`" for phase in recipe.phases)
        reasons.append(
            f"There are about {n:,} training images: {stages} passes over them were chosen, estimated to take "
            f"{hours_of(space, recipe):.1f} h on {_machine()[1]}; --hours sets another limit, --recipe another recipe."
        )
    return Automatic(space, recipe, tuple(reasons))


def _image_sizes(space: SearchSpace, side: int) -> list[tuple[int, ...]]:
    """Image sizes to choose from, in pixels, the smaller sets first: each reaches down to two thirds of its largest.

    The largest is not above the images' own, nor the space's, and a multiple of the network's stride, at which fewest
    pixels are wasted.
    """
    known = space.resolutions
    tops = [size for size in known if size <= side and (size % STRIDE == 0 or size == known[-1])] or [known[0]]
    return [tuple(size for size in known if 2 * top <= 3 * size and size <= top) for top in tops]


def _hours(space: SearchSpace, n_images: int, recipe: Recipe) -> float:
    """Estimated time of training, from the MACs of its forward passes."""
    return n_images * elastic_macs(space, recipe) / _machine()[0] / 3600


def _machine() -> tuple[float, str]:
    """Estimated MACs per second, and the hardware that computes them."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return SPEEDS["GPU"], "a GPU"
    return n_cores() * SPEEDS["core"], f"{n_cores()} processor cores"
