"""The rules by which images are found and a data set is split; a workdir keeps those that it was made with."""

from collections.abc import Mapping
from dataclasses import dataclass

SIDECARS = {"__macosx", "@eadir", "thumbs.db", "desktop.ini"}  # of macOS, Synology and Windows, in lower case
FIRST_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
SUFFIXES = FIRST_SUFFIXES | {".jfif", ".jif", ".jpe", ".pjp", ".pjpeg", ".apng"}  # browsers on Windows save JPEGs so


@dataclass(frozen=True)
class Rules:
    """How images are found and a data set is split.

    Other rules would move images between training and validation, so a workdir never changes its own: `config.json` has
    their number as `data_rules`.

    Args:
        number: of these rules.
        suffixes: of the files that are images, in lower case.
        val: what a folder, the shards or the split of images for validation may be called; the first that is there is.
        strict: whether files and folders that only an operating system needs are passed over, names of classes are
            compared in Unicode's composed form, and a class without an image that can be read is refused.
        by_class: whether each class is split by itself, instead of all images at random.
    """

    number: int
    suffixes: frozenset[str] = SUFFIXES
    val: tuple[str, ...] = ("val", "validation", "valid", "test")
    strict: bool = True
    by_class: bool = True

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """What each part of a data set may be called."""
        return {"train": ("train",), "val": self.val}

    def passes_over(self, name: str) -> bool:
        """Whether a file or folder in the folder of a class is left out because of its name."""
        return self.strict and is_sidecar(name)


def is_sidecar(name: str) -> bool:
    """Whether a file or folder is hidden, or one that only an operating system needs."""
    return name.startswith(".") or name.lower() in SIDECARS


# Those of workdirs whose config has no `data_rules`.
FIRST = Rules(1, FIRST_SUFFIXES, ("val", "validation", "test"), strict=False, by_class=False)
NEWEST = Rules(2)
RULES = {rules.number: rules for rules in (FIRST, NEWEST)}
