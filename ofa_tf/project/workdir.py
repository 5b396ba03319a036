"""The folder that holds one project of a user."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofa_tf.atomic import sweep
from ofa_tf.data import Preprocessing
from ofa_tf.data.rules import FIRST, NEWEST, RULES, Rules
from ofa_tf.errors import FormatError, WorkdirError
from ofa_tf.jsonio import SPACE_SCHEMA, check_keys, from_document, read_json, write_json
from ofa_tf.latency.store import FOLDER as TABLES
from ofa_tf.reading import strange_entry
from ofa_tf.space import SearchSpace
from ofa_tf.training.recipe import Recipe
from ofa_tf.training.stage_files import StageFiles


@dataclass(frozen=True)
class Config:
    """What a workdir was made with; it does not change afterwards.

    Args:
        space: the search space.
        data: the data spec; None in a workdir with an imported network until the user names images.
        classes: names of the classes, in the order of the labels.
        preprocessing: what is done to pixels.
        recipe: the hyper-parameters of the stages.
        seed: seed for everything random.
        data_rules: number of the rules by which the images are found and split.
        init: of pretrained weights that training begins with, `name`, `address` and `sha256`; None for random ones.
        crop: share of the side of an image's centre square that a network sees, above 0, at most 1; below 1 only where
            an import says so.
    """

    space: SearchSpace
    data: str | None
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: Recipe
    seed: int
    data_rules: int = NEWEST.number
    init: Mapping[str, str] | None = None
    crop: float = 1.0

    @property
    def n_classes(self) -> int:
        """Outputs of the classifier."""
        return len(self.classes)

    @property
    def rules(self) -> Rules:
        """How the images are found and split."""
        return RULES[self.data_rules]

    def to_document(self) -> dict[str, Any]:
        """The config as JSON values."""
        document = {
            "space": self.space.to_document(),
            "data": self.data,
            "classes": list(self.classes),
            "preprocessing": {key: list(value) for key, value in self.preprocessing.__dict__.items()},
            "recipe": self.recipe.to_document(),
            "seed": self.seed,
            "data_rules": self.data_rules,
        }
        init = {} if self.init is None else {"init": dict(self.init)}
        crop = {} if self.crop == 1 else {"crop": self.crop}
        return {**document, **init, **crop}

    @classmethod
    def load(cls, path: Path) -> "Config":
        """Reads `config.json`.

        Raises:
            FormatError: not a config, or one of a newer schema.
        """
        document = read_json(path, SPACE_SCHEMA)
        optional = {"data_rules", "init", "crop"}
        check_keys(document, set(cls.__dataclass_fields__) - optional, optional, str(path))
        classes, seed = document["classes"], document["seed"]
        if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(name, str) for name in classes):
            raise FormatError(f"{path}: `classes` must be a list of at least two names.")
        data_good = document["data"] is None or isinstance(document["data"], str)
        if not data_good or not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise FormatError(f"{path}: `data` must be a string or null, and `seed` an integer of at least 0.")
        rules = document.get("data_rules", FIRST.number)
        if not isinstance(rules, int) or isinstance(rules, bool) or rules not in RULES:
            raise FormatError(f"{path}: `data_rules` (={rules!r}) must be one of {list(RULES)}.")
        init = document.get("init")
        if init is not None:
            check_keys(init, {"name", "address", "sha256"}, set(), f"{path}, `init`,")
        crop = document.get("crop", 1.0)
        if isinstance(crop, bool) or not isinstance(crop, int | float) or not 0.1 <= crop <= 1:
            raise FormatError(f"{path}: `crop` (={crop!r}) must be a number from 0.1 to 1.")
        return cls(
            space=SearchSpace.from_document(document["space"], f"{path}, `space`,"),
            data=document["data"],
            classes=tuple(classes),
            preprocessing=from_document(Preprocessing, document["preprocessing"], f"{path}, `preprocessing`,"),
            recipe=Recipe.from_document(document["recipe"], f"{path}, `recipe`,"),
            seed=seed,
            data_rules=rules,
            init=init,
            crop=crop,
        )


class Workdir(StageFiles):
    """A workdir and the places in it: those of its training, and the others.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path):
        if not str(path):
            raise WorkdirError("--workdir is empty: name a folder, or leave it out for the current one.")
        super().__init__(path)
        if self.path.exists() and not self.path.is_dir():
            raise WorkdirError(f"The workdir {self.path} is not a folder.")
        self.config_path = self.path / "config.json"
        self.cache = self.path / "cache"
        self.converted = self.cache / "block-files"
        self.tables = self.path / TABLES
        self.accuracy = self.path / "accuracy"
        self.exports = self.path / "exports"
        self.finetuned = self.path / "finetuned"
        self.images = self.path / "data.npz"  # of a workdir that was made of arrays
        self._refuse_strange_entries()

    def _refuse_strange_entries(self) -> None:
        """Refuses a workdir of somebody who wants other files read, emptied or waited for.

        Raises:
            WorkdirError: one of its files is a pipe or a device, or a link leads out of it.
        """
        files = self.config_path, self.path / "ledger.json", self.images, self.path / ".lock"
        folders = self.cache, self.tables, self.accuracy, self.exports, self.finetuned, self.logs
        for path in (*files, *folders, self.path / "checkpoints"):
            strange = strange_entry(self.path, path.name)
            if strange:
                raise WorkdirError(f"{strange}, which a workdir may not have: put a copy in its place.")

    @property
    def exists(self) -> bool:
        """Whether it has been set up."""
        return self.config_path.exists()

    def config(self) -> Config:
        """What it was made with.

        Raises:
            WorkdirError: it has not been set up.
        """
        if not self.exists:
            raise WorkdirError(f"{self.path} is not a workdir yet: `ofa-tf train` makes one.")
        return Config.load(self.config_path)

    def create(self, config: Config) -> None:
        """Sets the workdir up."""
        self.path.mkdir(parents=True, exist_ok=True)
        if config.init is not None:
            self.ledger().begin_with(config.init)
        write_json(self.config_path, config.to_document(), SPACE_SCHEMA)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from changing the workdir meanwhile; a process that dies releases it.

        What a killed process left half-written is removed.

        Raises:
            WorkdirError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "r+", opener=_open_lock) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkdirError(
                    f"Another ofa-tf is at work in {self.path}: wait for it, or use another workdir."
                ) from None
            checkpoints = (*(self.path / "checkpoints").glob("*"), *self.finetuned.glob("*"))
            for folder in (self.path, self.cache, self.converted, self.tables, self.accuracy, *checkpoints):
                sweep(folder)
            for folder in (self.exports, self.path / "checkpoints", self.logs):
                sweep(folder, folders=True)
            yield


def _open_lock(path: str, _: int) -> int:
    """Makes the file if it is not there, for its owner, and neither empties it nor follows a link."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
