"""What a training, and whatever evaluates or converts its subnets, must know of a project."""

from collections.abc import Mapping
from typing import Protocol

from ofa_tf.data import Preprocessing
from ofa_tf.space import SearchSpace
from ofa_tf.training.recipe import Recipe


class Setup(Protocol):
    """The network, its inputs and how it is trained; a workdir's `Config` is one."""

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        ...

    @property
    def n_classes(self) -> int:
        """Outputs of the classifier."""
        ...

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to pixels."""
        ...

    @property
    def recipe(self) -> Recipe:
        """The hyper-parameters of the stages."""
        ...

    @property
    def seed(self) -> int:
        """Seed for everything random."""
        ...

    @property
    def init(self) -> Mapping[str, str] | None:
        """Where the weights that it begins with come from; None for random ones."""
        ...
