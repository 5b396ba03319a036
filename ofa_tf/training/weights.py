"""The weights of a supernet by name."""

from typing import Any

from ofa_tf.supernet import Supernet


def weights_of(supernet: Supernet) -> dict[str, Any]:
    """The weights of a supernet by names that do not depend on its own."""
    weights = {variable.path: variable for variable in supernet.variables}
    assert len(weights) == len(supernet.variables), "every weight has a name of its own"
    return weights
