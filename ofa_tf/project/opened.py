"""An opened workdir: what it was made with, and its images, loaded when they are first needed."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ofa_tf.data import Data, Preprocessing
from ofa_tf.data.arrays import SOURCES, STREET_DIGITS
from ofa_tf.data.class_names import composed
from ofa_tf.data.images import GOOD_IMAGES, LEAST_IMAGES
from ofa_tf.data.rules import NEWEST
from ofa_tf.errors import ArgumentError, DataError, FormatError, WorkdirError
from ofa_tf.jsonio import read_json
from ofa_tf.latency.host import HostDevice
from ofa_tf.progress import SILENT, Once, Progress
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.quiet import load_tensorflow
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import get_space
from ofa_tf.training.recipe import RECIPES, Recipe
from ofa_tf.zoo import imagenet

# Of a new workdir; space and recipe are those of a data set by name.
DEFAULTS: dict[str, Any] = {"space": "tiny", "data": STREET_DIGITS, "recipe": "demo", "seed": 0}
AUTO = "auto"
NPZ = ".npz"
ARRAYS = "arrays:"  # begins the data spec of a workdir that keeps its images itself


@dataclass(frozen=True, repr=False)
class OpenedWorkdir:
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
        if [*map(composed, data.classes)] != [*map(composed, self.config.classes)]:
            raise DataError(f"{self.config.data} has other classes than when {self.workdir} was made.")
        return data

    def require_data(self) -> str:
        """The data spec; refuses a workdir that has no images, before any work is wasted.

        Raises:
            DataError: there are none; the message says how many images of what kind are enough.
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
    space: Any = None,
    data: Any = None,
    recipe: Any = None,
    seed: int | None = None,
    progress: Progress = SILENT,
    create: bool = True,
    classes: Sequence[str] | None = None,
    hours: float | None = None,
) -> OpenedWorkdir:
    """Opens a workdir, or makes one.

    Args:
        path: the folder.
        space: a `SearchSpace`, the name of one, a JSON file, or "auto" to choose one that suits the images; default
            `tiny` for a data set in `SOURCES`, otherwise "auto". For a workdir that exists this and the next three are
            None or what it already has; space and recipe may also be "auto".
        data: data spec, default `street-digits`; or arrays or a dataset, as for `data.in_memory.take_in`, of which the
            workdir keeps a copy.
        recipe: a `Recipe`, the name of one, a JSON file, or "auto" to choose one that suits the images and `hours`;
            default `demo` for a data set in `SOURCES`, otherwise "auto".
        seed: seed for everything random; default 0.
        progress: where to report progress.
        create: whether to write the config of a new workdir; if not, nothing is written.
        classes: names of the classes, for arrays and datasets.
        hours: the longest that training should take, by an estimate, for what is chosen automatically; 2 by default.

    Raises:
        WorkdirError: the workdir was made with something else.
        OfaError: a name that is not known, or a file or an array that is not valid.
    """
    workdir = Workdir(path)
    given = {"space": space, "recipe": recipe, "seed": seed}
    if workdir.exists:
        config = workdir.config()
        for name, value in given.items():
            _refuse_other(workdir, config, name, value)
        spec, arrays = _spec(data, config, classes)
        _refuse_other(workdir, config, "data", spec if arrays else data)
        if hours is not None:
            progress.note(f"{workdir} keeps the recipe that it was made with: --hours has no effect.")
        return OpenedWorkdir(workdir, config, progress, keep=create)
    data = DEFAULTS["data"] if data is None else data
    once = Once(progress)  # images are looked at to choose, and again to be loaded
    chosen_space, chosen_recipe = _choose(space, recipe, data, hours, workdir.cache if create else None, once)
    config = Config(
        space=chosen_space,
        data=None,
        classes=(),
        preprocessing=Preprocessing(),
        recipe=chosen_recipe,
        seed=DEFAULTS["seed"] if seed is None else seed,
    )
    spec, arrays = _spec(data, config, classes)
    config = dataclasses.replace(config, data=spec)
    images = arrays.split(spec, config, once) if arrays else _load(spec, config, workdir, once, create)
    opened = OpenedWorkdir(workdir, dataclasses.replace(config, classes=images.classes), progress)
    opened.__dict__["data"] = images
    if not create:
        return opened
    with workdir.lock():
        if workdir.exists:
            raise WorkdirError(f"Another ofa-tf has just set up {workdir}: run the command again.")
        if arrays:
            arrays.write(workdir.images)
        workdir.create(opened.config)
    return opened


def open_existing(path: str | Path, progress: Progress = SILENT, data: str | Path | None = None) -> OpenedWorkdir:
    """Opens a workdir that was made before.

    Args:
        path: the folder.
        progress: where to report progress.
        data: a folder of images for a workdir with an imported network, which has none; it is remembered. For other
            workdirs: None, or what they have.

    Raises:
        WorkdirError: there is none, or it has other images.
        DataError: the images do not fit.
    """
    workdir = Workdir(path)
    config = workdir.config()
    if data is None or config.data is not None:
        _refuse_other(workdir, config, "data", data)
        return OpenedWorkdir(workdir, config, progress)
    config = dataclasses.replace(config, data=data_spec(str(data)), data_rules=NEWEST.number)
    opened = OpenedWorkdir(workdir, config, progress)
    images = opened.data
    with workdir.lock():
        workdir.create(opened.config)
    progress.note(f"{workdir} will now use the images in {images.spec}.")
    return opened


def _choose(
    space: Any, recipe: Any, data: Any, hours: float | None, cache: Path | None, progress: Progress
) -> tuple[SearchSpace, Recipe]:
    """The space and the recipe of a new workdir, with a note on what was chosen automatically and why."""
    named = isinstance(data, str) and data in SOURCES
    space, recipe = (
        (DEFAULTS[name] if named else AUTO) if value is None else value
        for name, value in (("space", space), ("recipe", recipe))
    )
    wanted_space = None if _is_auto(space) else _space(space)
    wanted_recipe = None if _is_auto(recipe) else _recipe(recipe)
    if wanted_recipe and hours is not None:
        raise ArgumentError(f"--hours is only for --recipe auto: the recipe {wanted_recipe.name} has a fixed length.")
    if wanted_space and wanted_recipe:
        return wanted_space, wanted_recipe
    load_tensorflow()
    from ofa_tf.data import in_memory, source
    from ofa_tf.project.automatic import HOURS, choose

    is_spec = isinstance(data, str | Path)
    survey = source.survey(data_spec(data), cache, progress) if is_spec else in_memory.survey(data)
    automatic = choose(survey, wanted_space, wanted_recipe, HOURS if hours is None else hours)
    for reason in automatic.reasons:
        progress.note(reason)
    return automatic.space, automatic.recipe


def _refuse_other(workdir: Workdir, config: Config, name: str, value: Any) -> None:
    """Refuses a value, if one is given, that is not what the workdir was made with."""
    parse: dict[str, Callable[[Any], Any]] = {"space": _space, "data": data_spec, "recipe": _recipe, "seed": int}
    here = getattr(config, name)
    if name in ("space", "recipe") and _is_auto(value):
        return
    if value is not None and here not in (None, parse[name](value)):
        shown, other = (getattr(item, "name", item) for item in (here, value))
        raise WorkdirError(
            f"The workdir {workdir} was made with --{name} {shown}, not {other}: leave the option out, or give another "
            "--workdir."
        )


def data_spec(spec: str | Path) -> str:
    """The spec as it is remembered: a folder or file by its whole path, unless it has the name of a data set."""
    spec = str(spec)
    is_place = os.path.isdir(spec) or (spec.endswith(NPZ) and os.path.isfile(spec))
    return str(Path(spec).resolve()) if spec not in SOURCES and is_place else spec


@dataclass(frozen=True)
class _Arrays:
    """Images that the workdir is to keep itself."""

    classes: tuple[str, ...]
    parts: Any

    def split(self, spec: str, config: Config, progress: Progress) -> Data:
        from ofa_tf.data.source import split_images

        size = config.space.resolutions[-1]
        return split_images(spec, self.classes, self.parts, size, config.seed, progress, config.rules)

    def write(self, path: Path) -> None:
        from ofa_tf.data.in_memory import write_npz

        write_npz(path, self.classes, self.parts)


def _spec(data: Any, config: Config, classes: Sequence[str] | None) -> tuple[Any, _Arrays | None]:
    """The spec of a data set, and its images where they are none that a later run could find again."""
    if data is None or isinstance(data, str | Path):
        if classes is not None:
            raise DataError("`classes` are for arrays and datasets: those of a folder are named after its folders.")
        return None if data is None else data_spec(data), None
    load_tensorflow()
    from ofa_tf.data.in_memory import digest, take_in

    names, parts = take_in(data, config.space.resolutions[-1], classes)
    return ARRAYS + digest(names, parts), _Arrays(names, parts)


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == AUTO


def _space(space: Any):
    return get_space(str(space)) if isinstance(space, str | Path) else space


def _recipe(recipe: Any) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    if recipe in RECIPES:
        return RECIPES[recipe]
    if not os.path.isfile(recipe):
        raise FormatError(f"There is no recipe {str(recipe)!r}: give one of {sorted([*RECIPES, AUTO])} or a JSON file.")
    return Recipe.from_document(read_json(recipe), str(recipe))


def _load(spec: str, config: Config, workdir: Workdir, progress: Progress, keep: bool) -> Data:
    load_tensorflow()
    from ofa_tf.data.in_memory import read_npz
    from ofa_tf.data.source import load_data, load_images, split_images

    size, cache = config.space.resolutions[-1], workdir.cache if keep else None
    if spec.startswith(ARRAYS):
        return split_images(spec, *read_npz(workdir.images), size, config.seed, progress, config.rules)
    if not workdir.ledger().imported:
        return load_data(spec, size, config.seed, cache, progress, config.rules)
    aliases = imagenet.wordnet_ids() if config.classes == imagenet.class_names() else ()
    return load_images(spec, config.classes, size, config.seed, cache, progress, aliases, config.rules)
