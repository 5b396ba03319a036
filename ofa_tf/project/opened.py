"""A project of a user: a workdir, what it was made with, and its images."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ofa_tf.data import Data, Preprocessing
from ofa_tf.data.arrays import SOURCES
from ofa_tf.data.images import GOOD_IMAGES, LEAST_IMAGES
from ofa_tf.errors import DataError, FormatError, WorkdirError
from ofa_tf.jsonio import read_json
from ofa_tf.latency.host import HostDevice
from ofa_tf.progress import SILENT, Progress
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.quiet import load_tensorflow
from ofa_tf.spaces import get_space
from ofa_tf.training.recipe import RECIPES, Recipe
from ofa_tf.zoo import imagenet

DEFAULTS: dict[str, Any] = {"space": "tiny", "data": "digits", "recipe": "demo", "seed": 0}


@dataclass(frozen=True)
class Project:
    """A workdir with its config; images are loaded when they are first needed, and kept in its cache with `keep`."""

    workdir: Workdir
    config: Config
    progress: Progress = SILENT
    keep: bool = True

    @cached_property
    def data(self) -> Data:
        """The images.

        Raises:
            DataError: they are not those that the workdir was made with, or it was imported and has none.
        """
        data = _load(self.require_data(), self.config, self.workdir, self.progress, self.keep)
        if data.classes != self.config.classes:
            raise DataError(f"{self.config.data} has other classes than when {self.workdir} was made.")
        return data

    def require_data(self) -> str:
        """The data spec; refuses a workdir that has no images, before any work is done for nothing.

        Raises:
            DataError: says how many images of what kind are enough.
        """
        if self.config.data is None:
            raise DataError(
                f"{self.workdir} holds an imported network and no images: name a folder with --data that has "
                f"train/<class>/*.jpg, about {GOOD_IMAGES} images of the kind that the network will see (at least "
                f"{LEAST_IMAGES}), and, to measure the accuracy on, val/<class>/*.jpg."
            )
        return self.config.data

    @cached_property
    def host(self) -> HostDevice:
        """This machine as a device."""
        return HostDevice()


def open_project(
    path: str | Path,
    space: str | None = None,
    data: str | None = None,
    recipe: str | None = None,
    seed: int | None = None,
    progress: Progress = SILENT,
    create: bool = True,
) -> Project:
    """Opens a workdir, or makes one.

    Args:
        path: the folder.
        space: name of a space or a JSON file; default `tiny`. For a workdir that exists: None, or what it has.
        data: data spec, default `digits`; likewise.
        recipe: name of a recipe or a JSON file, default `demo`; likewise.
        seed: seed of everything random, default 0; likewise.
        progress: told about the work.
        create: whether to write the config of a new workdir; without, nothing is written.

    Raises:
        WorkdirError: the workdir was made with something else.
        OfaError: a name that is not known, or a file that is not valid.
    """
    workdir = Workdir(path)
    given = {"space": space, "data": data, "recipe": recipe, "seed": seed}
    if workdir.exists:
        config = workdir.config()
        for name, value in given.items():
            if value is not None:
                _refuse_other(workdir, config, name, value)
        return Project(workdir, config, progress, keep=create)
    chosen: dict[str, Any] = {name: DEFAULTS[name] if value is None else value for name, value in given.items()}
    spec = data_spec(chosen["data"])
    config = Config(
        space=get_space(chosen["space"]),
        data=spec,
        classes=(),
        preprocessing=Preprocessing(),
        recipe=_recipe(chosen["recipe"]),
        seed=chosen["seed"],
    )
    project = Project(workdir, config, progress)
    images = _load(spec, config, workdir, progress, create)
    project = dataclasses.replace(project, config=dataclasses.replace(config, classes=images.classes))
    project.__dict__["data"] = images
    if not create:
        return project
    with workdir.lock():
        if workdir.exists:
            raise WorkdirError(f"Another ofa-tf has just set up {workdir}: run the command again.")
        workdir.create(project.config)
    return project


def open_existing(path: str | Path, progress: Progress = SILENT, data: str | None = None) -> Project:
    """Opens a workdir that was made before.

    Args:
        path: the folder.
        progress: told about the work.
        data: a folder of images for a workdir with an imported network, which has none; it is remembered. For other
            workdirs: None, or what they have.

    Raises:
        WorkdirError: there is none, or it has other images.
        DataError: the images do not fit.
    """
    workdir = Workdir(path)
    config = workdir.config()
    if data is None:
        return Project(workdir, config, progress)
    if config.data is not None:
        _refuse_other(workdir, config, "data", data)
        return Project(workdir, config, progress)
    project = Project(workdir, dataclasses.replace(config, data=data_spec(data)), progress)
    images = project.data
    with workdir.lock():
        workdir.create(project.config)
    project.progress.note(f"{workdir} remembers its images: {images.spec}.")
    return project


def _refuse_other(workdir: Workdir, config: Config, name: str, value: str | int) -> None:
    parse: dict[str, Callable[[Any], Any]] = {"space": get_space, "data": data_spec, "recipe": _recipe, "seed": int}
    here = getattr(config, name)
    if here not in (None, parse[name](value)):
        shown = here if name in ("data", "seed") else here.name
        raise WorkdirError(
            f"The workdir {workdir} was made with --{name} {shown}, not {value}: leave the option out, or give another "
            "--workdir."
        )


def data_spec(spec: str) -> str:
    """The spec as it is remembered: a folder by its whole path, unless it is called like a data set."""
    return str(Path(spec).resolve()) if spec not in SOURCES and os.path.isdir(spec) else spec


def _recipe(name: str) -> Recipe:
    if name in RECIPES:
        return RECIPES[name]
    if not os.path.isfile(name):
        raise FormatError(f"There is no recipe {name!r}: give one of {sorted(RECIPES)} or a JSON file.")
    return Recipe.from_document(read_json(name), name)


def _load(spec: str, config: Config, workdir: Workdir, progress: Progress, keep: bool) -> Data:
    load_tensorflow()
    from ofa_tf.data.source import load_data, load_images

    size, cache = config.space.resolutions[-1], workdir.cache if keep else None
    if not workdir.ledger().imported:
        return load_data(spec, size, config.seed, cache, progress)
    aliases = imagenet.wordnet_ids() if config.classes == imagenet.class_names() else ()
    return load_images(spec, config.classes, size, config.seed, cache, progress, aliases)
