"""Recipes: the hyper-parameters of progressive shrinking as data, and the schedules that follow from them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ofa_tf.data.augment import Augment, require_number
from ofa_tf.errors import FormatError
from ofa_tf.jsonio import check_keys, from_document

# The stages of training, and the dimensions of a space that each opens, by name. The resolution is open in all.
OPENED: Mapping[str, tuple[str, ...]] = {
    "full": (),
    "kernel": ("kernel",),
    "depth": ("depth",),
    "width": ("expand", "channels"),
}
STAGES = tuple(OPENED)
SAMPLINGS = ("uniform", "sandwich")
IMPORTANCES = ("weights", "contribution")
DRAWS = ("choices", "macs")
MAX_SUBNETS = 64


def require_integer(name: str, value: Any, low: int, high: int) -> None:
    """Refuses what is not an integer within the bounds, naming the recipe's field."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise FormatError(f"Recipe: `{name}` (={value!r}) must be an integer from {low} to {high}.")


@dataclass(frozen=True)
class Phase:
    """One run of a stage with its own learning rate schedule.

    Args:
        stage: "full", "kernel", "depth" or "width".
        epochs: passes over the training images, warm-up not counted.
        warmup_epochs: passes before these, with a linearly growing learning rate.
        base_lr: peak learning rate for 64 images per step; it grows linearly with the batch.
        subnets: archs sampled per step; their gradients are summed.
        choices: how many of the largest choices are open in each dimension that the stage opens; 0 for all.
    """

    stage: str
    epochs: float
    warmup_epochs: float
    base_lr: float
    subnets: int = 1
    choices: int = 0

    def __post_init__(self):
        if self.stage not in STAGES:
            raise FormatError(f"Recipe: `stage` (={self.stage!r}) must be one of {list(STAGES)}.")
        require_number("epochs", self.epochs, 0, 1e6)
        require_number("warmup_epochs", self.warmup_epochs, 0, 1e6)
        require_number("base_lr", self.base_lr, 0, 1e3)
        require_integer("subnets", self.subnets, 1, MAX_SUBNETS)
        require_integer("choices", self.choices, 0, 64)

    def sampling(self) -> dict[str, int | None]:
        """Arguments of `SearchSpace.sample`: how many of the largest choices are open; None for all."""
        order = STAGES.index(self.stage)
        open_choices: dict[str, int | None] = {}
        for place, names in enumerate(OPENED.values()):
            choices = 1 if place > order else self.choices if place == order else 0
            open_choices |= {f"{name}_choices": choices or None for name in names}
        return open_choices

    @property
    def distils(self) -> bool:
        """Whether the largest network teaches: in every stage but the first."""
        return self.stage != "full"


@dataclass(frozen=True)
class Recipe:
    """All hyper-parameters of a training (Cai et al., ICLR 2020, section 4.1 and appendix A).

    Args:
        name: its name.
        batch: images per step, over all replicas.
        phases: in the order of the stages, of which they may leave some out, but not `width`.
        augment: random changes of the images.
        micro_batch: images that are computed at once and share batch norm statistics, as those of one GPU do in the
            paper; a step adds up as many groups as its batch has. 0 for all images of a replica.
        momentum: Nesterov momentum of SGD.
        weight_decay: added to the gradients of kernels, not of batch norm, biases and kernel matrices.
        head_rate: by what the learning rate is multiplied for the classifier.
        label_smoothing: share of the target spread over all classes.
        dropout: share of the classifier's inputs that is dropped.
        kd_ratio: weight of the soft cross-entropy with the teacher, added to the hard one; 0 for no teacher.
        clip_norm: largest norm of all gradients together; 0 for no limit.
        sampling: "uniform": archs are drawn uniformly and the frozen largest network teaches (the paper). "sandwich":
            the largest, the smallest and others in between, each at its own resolution, and the current largest one
            teaches the others (Yu and Huang, "Universally slimmable networks", ICCV 2019, but beside the labels, as in
            the paper); then every phase but the first stage's needs 3 subnets.
        sort_channels: whether channels are sorted by importance at the beginning of the stage that opens them: `width`,
            but `depth` for the middle channels of a coupled space.
        mixed_precision: whether to compute in bfloat16 where the device supports it (a GPU of 2020 or later, a TPU).
        evaluations: how often within a stage the accuracy of some subnets is measured, the last time at its end; 0 for
            never.
        epoch_images: largest number of images that count as an epoch, to limit the time on a large data set; 0 for all.
        importance: what channels are sorted by: "weights" (the paper) or "contribution", as for
            `layers.sorting.sort_channels`.
        draws: how the archs between the ends of a sandwich are drawn: "choices": each choice uniformly, so that most
            are of medium size. "macs": so that the logarithm of their multiply-accumulates is uniform.

    Examples:
        >>> recipe = ofa.open("work").config.recipe
        >>> recipe.name, recipe.batch
        ('few', 16)
        >>> recipe.overridden("full", epochs=3.0).phases[0].epochs
        3.0
    """

    name: str
    batch: int
    phases: tuple[Phase, ...]
    augment: Augment
    micro_batch: int = 0
    momentum: float = 0.9
    weight_decay: float = 3e-5
    head_rate: float = 1.0
    label_smoothing: float = 0.1
    dropout: float = 0.0
    kd_ratio: float = 1.0
    clip_norm: float = 0.0
    sampling: str = "uniform"
    sort_channels: bool = True
    mixed_precision: bool = False
    evaluations: int = 1
    epoch_images: int = 0
    importance: str = "weights"
    draws: str = "choices"

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name.isprintable() or not 0 < len(self.name) <= 100:
            raise FormatError(f"Recipe: `name` (={self.name!r}) must be 1 to 100 printable characters.")
        require_integer("batch", self.batch, 1, 1 << 20)
        require_integer("micro_batch", self.micro_batch, 0, 1 << 20)
        require_integer("evaluations", self.evaluations, 0, 10_000)
        require_integer("epoch_images", self.epoch_images, 0, 1 << 40)
        if self.micro_batch and self.batch % self.micro_batch:
            raise FormatError(
                f"Recipe: `batch` (={self.batch}) must be a multiple of `micro_batch` (={self.micro_batch})."
            )
        for name, high in (
            ("momentum", 0.999), ("weight_decay", 1), ("head_rate", 1e3), ("label_smoothing", 0.9), ("dropout", 0.9),
            ("kd_ratio", 100), ("clip_norm", 1e6),
        ):  # fmt: skip
            require_number(name, getattr(self, name), 0, high)
        for name, known in (("sampling", SAMPLINGS), ("importance", IMPORTANCES), ("draws", DRAWS)):
            if getattr(self, name) not in known:
                raise FormatError(f"Recipe: `{name}` (={getattr(self, name)!r}) must be one of {list(known)}.")
        if self.draws == "macs" and not self.sandwich:
            raise FormatError("Recipe: `draws` (='macs') needs `sampling` 'sandwich'.")
        for name in ("sort_channels", "mixed_precision"):
            if not isinstance(getattr(self, name), bool):
                raise FormatError(f"Recipe: `{name}` (={getattr(self, name)!r}) must be true or false.")
        order = [STAGES.index(phase.stage) for phase in self.phases]
        if order != sorted(order) or len(STAGES) - 1 not in order:
            stages = [phase.stage for phase in self.phases]
            raise FormatError(
                f"Recipe: the stages of its `phases` (={stages}) must be `{STAGES[-1]}` and others of {list(STAGES)}, "
                "in this order."
            )
        few = [phase.subnets for phase in self.phases if phase.distils and phase.subnets < 3]
        if self.sandwich and few:
            raise FormatError(f"Recipe: `subnets` (={few[0]}) must be at least 3 in every phase of a sandwich.")

    @property
    def sandwich(self) -> bool:
        """Whether steps sample the largest, the smallest and archs in between."""
        return self.sampling == "sandwich"

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that it has, in their order."""
        return tuple(stage for stage in STAGES if any(phase.stage == stage for phase in self.phases))

    def overridden(
        self, stage: str, epochs: float | None = None, batch: int | None = None, base_lr: float | None = None
    ) -> "Recipe":
        """The recipe with other values for one stage; None keeps what it says.

        Args:
            stage: whose phases change.
            epochs: of all its phases together, warm-up included, in the proportions that they have.
            batch: images per step, of the whole recipe; where it is not a multiple of `micro_batch` that becomes 0.
            base_lr: peak learning rate for 64 images of its last phase; the others keep their proportions to it.

        Raises:
            FormatError: a value out of its range.
        """
        if epochs is not None:
            require_number("epochs", epochs, 0, 1e6)
        phases = list(self.phases)
        chosen = [index for index, phase in enumerate(phases) if phase.stage == stage]
        longest = sum(phases[index].epochs + phases[index].warmup_epochs for index in chosen)
        peak = phases[chosen[-1]].base_lr
        for index in chosen:
            phase = phases[index]
            if epochs is not None:
                scale = epochs / longest if longest else 0
                phase = replace(phase, epochs=phase.epochs * scale, warmup_epochs=phase.warmup_epochs * scale)
            if base_lr is not None:
                phase = replace(phase, base_lr=phase.base_lr * base_lr / peak if peak else base_lr)
            phases[index] = phase
        batch = self.batch if batch is None else batch
        micro_batch = 0 if self.micro_batch and batch % self.micro_batch else self.micro_batch
        return replace(self, phases=tuple(phases), batch=batch, micro_batch=micro_batch)

    def to_document(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], where: str = "The recipe") -> "Recipe":
        """Reads a recipe from JSON values.

        Raises:
            FormatError: unknown or missing keys, or a value out of its range.
        """
        required = {"name", "batch", "phases", "augment"}
        check_keys(document, required, set(cls.__dataclass_fields__) - required, where)
        if not isinstance(document["phases"], list | tuple):
            raise FormatError(f"{where}: `phases` (={document['phases']!r}) must be a list.")
        phases = tuple(from_document(Phase, phase, f"{where}, phase,") for phase in document["phases"])
        augment = from_document(Augment, document["augment"], f"{where}, `augment`,")
        return cls(**{**document, "phases": phases, "augment": augment})


@dataclass(frozen=True)
class Span:
    """The steps of one phase within its stage, counted from 0: `start <= step < stop`.

    Args:
        phase: the phase.
        start: its first step.
        warmup: steps of its warm-up.
        stop: the first step that is not its own.
        sandwich: whether archs are sampled as a sandwich.
        draws: as in the recipe.
    """

    phase: Phase
    start: int
    warmup: int
    stop: int
    sandwich: bool = False
    draws: str = "choices"

    def learning_rate(self, step: int, batch: int) -> float:
        """Linear warm-up from 0, then a half cosine to 0; scaled linearly with the batch.

        Args:
            step: step of the stage, within this span.
            batch: images per step.
        """
        peak = self.phase.base_lr * batch / 64
        done = step - self.start
        if done < self.warmup:
            return peak * (done + 1) / self.warmup
        return peak * 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / (self.stop - self.start - self.warmup)))


def spans(recipe: Recipe, stage: str, n_images: int) -> list[Span]:
    """The phases of a stage laid out in steps, for a training set of `n_images`; each has at least one step."""
    per_epoch = min(n_images, recipe.epoch_images or n_images) / recipe.batch
    result, start = [], 0
    for phase in recipe.phases:
        if phase.stage == stage:
            warmup = round(phase.warmup_epochs * per_epoch)
            stop = start + warmup + max(1, round(phase.epochs * per_epoch))
            result.append(Span(phase, start, warmup, stop, recipe.sandwich and phase.distils, recipe.draws))
            start = stop
    return result


def span_of(layout: list[Span], step: int) -> Span:
    """The span that a step belongs to."""
    return next(span for span in layout if span.start <= step < span.stop)


def _published(full: float, kernel: float, depth: float, width: float) -> tuple[Phase, ...]:
    """Phases in the published proportions, each argument scaling the epochs of one stage."""
    return (
        Phase("full", 180 * full, 0, 0.08),
        Phase("kernel", 120 * kernel, 5 * kernel, 0.03),
        Phase("depth", 25 * depth, 0, 0.0025, subnets=2, choices=2),
        Phase("depth", 120 * depth, 5 * depth, 0.0075, subnets=2),
        Phase("width", 25 * width, 0, 0.0025, subnets=4, choices=2),
        Phase("width", 120 * width, 5 * width, 0.0075, subnets=4),
    )


def recipe_for(n_images: int, passes: float) -> Recipe:
    """The recipe `auto`, for a number of training images and of passes over them.

    Half of the passes train the largest network, and nearly all the others are the stage `width`.

    Args:
        n_images: number of training images.
        passes: passes over the training images in all stages together, at least 8.
    """
    batch = max((size for size in (8, 16, 32, 64) if size * 8 <= n_images), default=8)
    width = round(passes * 0.45, 1)
    return Recipe(
        "auto",
        batch=batch,
        phases=(
            Phase("full", round(passes - width - 4, 1), 1, 0.1),
            Phase("kernel", 1, 0, 0.03, subnets=3),
            Phase("depth", 1, 0, 0.03, subnets=3),
            Phase("width", width, 1, 0.05, subnets=3),
        ),
        augment=Augment(area=(0.3, 1.0), brightness=0.2, saturation=0.3),
        weight_decay=1e-4,
        sampling="sandwich",
        mixed_precision=True,
    )


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "imagenet",
            batch=2048,  # 32 GPUs with 64 images each
            phases=_published(1, 1, 1, 1),
            augment=Augment(brightness=32 / 255, saturation=0.5),
            micro_batch=64,
            dropout=0.1,
            mixed_precision=True,
            evaluations=20,
        ),
        Recipe(
            "cifar",
            batch=128,
            phases=(
                Phase("full", 13, 1, 0.2),
                Phase("kernel", 2, 0, 0.2, subnets=3),
                Phase("depth", 2, 0, 0.2, subnets=3),
                Phase("width", 33, 1, 0.2, subnets=3),
            ),
            augment=Augment(area=(0.7, 1.2)),
            weight_decay=1e-4,
            sampling="sandwich",
            mixed_precision=True,
        ),
        Recipe(
            "demo",
            batch=64,
            phases=(
                Phase("full", 2, 0.5, 0.3),
                Phase("kernel", 0.25, 0, 0.1, subnets=3),
                Phase("depth", 0.25, 0, 0.1, subnets=3),
                Phase("width", 3, 0.5, 0.3, subnets=3),
            ),
            augment=Augment(area=(1.0, 1.0), aspect=(1.0, 1.0), flip=False),  # the images are random enough
            weight_decay=1e-4,
            sampling="sandwich",
            epoch_images=4000,
        ),
    )
}
