"""ofa-tf: train one elastic network, then hand every device the sub-network that fits it, without training again."""

from ofa_tf._version import VERSION as __version__

__all__ = ["__version__"]
