"""The registered search spaces, and how to get one by name or from a file."""

import os

from ofa_tf.errors import SpaceError
from ofa_tf.jsonio import SPACE_SCHEMA, read_json
from ofa_tf.space import SearchSpace
from ofa_tf.spaces.edge import EDGE
from ofa_tf.spaces.mobilenet_v3 import MOBILENET_V3
from ofa_tf.spaces.photos import PHOTOS
from ofa_tf.spaces.proxyless import PROXYLESS
from ofa_tf.spaces.resnet50d import RESNET50D
from ofa_tf.spaces.tiny import TINY

SPACES = {space.name: space for space in (MOBILENET_V3, PROXYLESS, RESNET50D, EDGE, PHOTOS, TINY)}

__all__ = ["EDGE", "MOBILENET_V3", "PHOTOS", "PROXYLESS", "RESNET50D", "SPACES", "TINY", "get_space"]


def get_space(name: str) -> SearchSpace:
    """A registered space by its name, or a space read from a JSON file.

    Raises:
        SpaceError: neither a registered name nor a file, or a file that breaks a rule.
        FormatError: the file is not a space.

    Examples:
        >>> ofa.get_space("mobilenet_v3").resolutions[-1]
        224
    """
    if name in SPACES:
        return SPACES[name]
    if not os.path.isfile(name):
        raise SpaceError(f"There is no space {name!r}: give one of {sorted(SPACES)} or a JSON file.")
    return SearchSpace.from_document(read_json(name, SPACE_SCHEMA), name)
