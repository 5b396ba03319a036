"""The 1,000 classes of ImageNet (ILSVRC 2012), in the order of the outputs of every published network.

`imagenet.tsv` has a line per class: its WordNet id and its name. The names are those of torchvision 0.29.1
(`torchvision/models/_meta.py`, BSD 3-Clause, Copyright (c) Soumith Chintala 2016), the ids those of timm 1.0.31
(`timm/data/_info/imagenet_synsets.txt`, Apache 2.0). The order is the alphabetic one of the ids.
"""

from functools import cache
from pathlib import Path

N_CLASSES = 1000


@cache
def _rows() -> tuple[tuple[str, str], ...]:
    lines = (Path(__file__).parent / "imagenet.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t") for line in lines]
    return tuple((wordnet_id, name) for wordnet_id, name in pairs)


def class_names() -> tuple[str, ...]:
    """Names such as "tench", all different, by output."""
    return tuple(name for _, name in _rows())


def wordnet_ids() -> tuple[str, ...]:
    """WordNet ids such as "n01440764", which name the folders of ImageNet, by output."""
    return tuple(wordnet_id for wordnet_id, _ in _rows())
