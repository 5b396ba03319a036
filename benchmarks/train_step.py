"""The training step: against a plain static network, from its first call, its memory, and the input that feeds it.

    python benchmarks/train_step.py [--quick] [--channels] [--json FILE]

Figures, all of the 20-block `mobilenet_v3` space with 1,000 classes unless another is named:
`elastic_over_static_median`, `elastic_over_static_max`: time of one subnet's forward and backward pass with its
gradients accumulated, in the graph of all archs over that of a plain Keras model of the same arch in a `tf.function`
of its own; largest, smallest and two random archs at 32 px, batch 128 and at 128 px, batch 32; medians of interleaved
rounds. `elastic_over_fixed_median`, `elastic_over_fixed_max`: the same over the supernet's own layers with the arch
fixed in the graph, a fairer measure of what elasticity costs: Keras's batch norm is slower than a fused one.
`first_step_s`: the first step with teacher, subnet and update at 128 px, batch 32, in a fresh process, all three
functions traced and optimised. `traces` over the steps of several archs and resolutions. `memory_over_static`: peak
memory of steps (128 px, batch 32, largest arch among them) over that of the plain largest network's, each in a process
of its own and without what TensorFlow takes by itself. `images_per_s_32px` (`tiny` space, batch 128) and
`images_per_s_128px` (batch 32): images a second of the stage `kernel`. `input_over_training_…`: images a second of the
input pipeline alone, 45,000 images of 32 px in memory and 256 px JPEGs decoded on demand, over those of training.

With `--channels` only the ratios, as `channels_elastic_over_…`, of the same space with two choices of channels for each
stage.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from _common import report

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SIZES = ((32, 128), (128, 32))  # pixels, batch
CLASSES = 1000
CHANNELS = ((16, 24), (32, 40), (64, 80), (88, 112), (120, 160))  # of the stages, if they are elastic


def seconds(function: Callable) -> float:
    """Time of one call, to the end of its computation."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def make_step(space_name: str, n_classes: int, channels: bool = False):
    """A training step of a fresh supernet, with choices of channels for each stage if they are asked for."""
    from ofa_tf.spaces import get_space
    from ofa_tf.supernet import Supernet
    from ofa_tf.training.recipe import RECIPES
    from ofa_tf.training.step import TrainingStep

    space = get_space(space_name)
    if channels:
        stages = zip(space.stages, CHANNELS, strict=True)
        space = replace(space, stages=tuple(replace(stage, channels=of) for stage, of in stages))
    recipe = replace(RECIPES["imagenet"], dropout=0.0, mixed_precision=False)
    return space, TrainingStep(Supernet(space, n_classes), Supernet(space, n_classes), recipe)


def make_batch(size: int, batch: int, n_classes: int):
    """Random images and labels."""
    import tensorflow as tf

    images = tf.random.stateless_normal((batch, size, size, 3), (0, size))
    return images, tf.random.stateless_uniform((batch,), (1, size), 0, n_classes, tf.int32)


def compiled(model: Callable, weights: list, size: int, batch: int, n_classes: int) -> Callable:
    """Forward and backward pass of one network, gradients accumulated, in a function of its own."""
    import tensorflow as tf

    from ofa_tf.training.losses import distillation_loss

    totals = [tf.Variable(tf.zeros_like(weight), trainable=False) for weight in weights]
    soft, zero = tf.zeros((batch, n_classes)), tf.constant(0.0)
    signature = [tf.TensorSpec((batch, size, size, 3)), tf.TensorSpec((batch,), tf.int32)]

    @tf.function(input_signature=signature, autograph=False)
    def accumulate(images, labels):
        with tf.GradientTape() as tape:
            loss = distillation_loss(model(images), labels, soft, zero, 0.1)
        for total, gradient in zip(totals, tape.gradient(loss, weights), strict=True):
            if gradient is not None:
                total.assign_add(gradient)
        return loss

    return accumulate


def make_static(space, arch, size: int, batch: int, n_classes: int) -> Callable:
    """A plain Keras model of one arch."""
    from ofa_tf.subnet import build_subnet

    model = build_subnet(space, replace(arch, resolution=size), n_classes)
    weights = [weight.value for weight in model.trainable_weights]
    return compiled(lambda images: model(images, training=True), weights, size, batch, n_classes)


def make_fixed(supernet, arch, size: int, batch: int, n_classes: int) -> Callable:
    """The supernet's layers with one arch for good."""
    code = tuple(int(gene) for gene in supernet.space.encode(arch))
    weights = [weight.value for weight in supernet.trainable_weights]
    return compiled(lambda images: supernet(images, code=code, training=True), weights, size, batch, n_classes)


def answer(function, images, labels):
    """What a compiled function answers, as NumPy: it has ended then."""
    return function(images, labels).numpy()


def elastic_over_static(rounds: int, channels: bool = False) -> dict[str, float]:
    """The same archs in all three graphs, in turns."""
    import numpy as np

    space, step = make_step("mobilenet_v3", CLASSES, channels)
    random = space.decode(space.sample(np.random.default_rng(0), 4))
    ratios: dict[str, list[float]] = {"static": [], "fixed": []}
    for (size, batch), others in zip(SIZES, (random[:2], random[2:]), strict=True):
        images, labels = make_batch(size, batch, CLASSES)
        step.make_room(batch)
        archs = {"largest": space.largest(), "smallest": space.smallest(), "random 1": others[0], "random 2": others[1]}
        functions: dict[tuple[str, str], Callable] = {}
        for name, arch in archs.items():
            code = space.encode(arch)
            static = make_static(space, arch, size, batch, CLASSES)
            fixed = make_fixed(step.supernet, arch, size, batch, CLASSES)

            def elastic(code=code, images=images, labels=labels, batch=batch):
                step.accumulate(images, labels, 0, batch, code, 0.0, 1.0, False, 0, 0)
                return step.losses.numpy()

            functions[name, "elastic"] = elastic
            functions[name, "static"] = partial(answer, static, images, labels)
            functions[name, "fixed"] = partial(answer, fixed, images, labels)
        for function in functions.values():  # traces and warms up
            function()
        times: dict[tuple[str, str], list[float]] = {key: [] for key in functions}
        for _ in range(rounds):
            for key, function in functions.items():
                times[key].append(seconds(function))
        medians = {key: statistics.median(values) for key, values in times.items()}
        for name in archs:
            for kind, found in ratios.items():
                found.append(medians[name, "elastic"] / medians[name, kind])
            plain, own = ratios["static"][-1], ratios["fixed"][-1]
            said = f"{plain:.3f} of a plain network's, {own:.3f} of the same layers with the arch fixed"
            print(f"  {size} px, {name}: {medians[name, 'elastic']:.3f} s, {said}", file=sys.stderr)
    return {
        f"elastic_over_{kind}_{name}": function(found)
        for kind, found in ratios.items()
        for name, function in (("median", statistics.median), ("max", max))
    }


def first_step() -> dict[str, float]:
    """The first step and, after more of them, the traces; in this process, which must be fresh."""
    import numpy as np

    space, step = make_step("mobilenet_v3", CLASSES)
    rng = np.random.default_rng(0)
    images, labels = make_batch(128, 32, CLASSES)
    first = seconds(lambda: step.run(images, labels, 32, 32, space.sample(rng, 1), 0.01, True))
    for size in (96, 160):
        images, labels = make_batch(size, 8, CLASSES)
        codes = space.sample(rng, 2)
        codes[:, 0] = 0  # all at one resolution, so that no images are resized
        step.run(images, labels, 8, 8, codes, 0.01, True)
    return {"first_step_s": first, "traces": sum(step.traces.values())}


def peak_mb(kind: str) -> float:
    """Peak memory beyond TensorFlow's own, in this process, which must be fresh: "elastic" or "static"."""
    import tensorflow as tf

    tf.linalg.matmul(tf.ones((64, 64)), tf.ones((64, 64))).numpy()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images, labels = make_batch(128, 32, CLASSES)
    if kind == "elastic":
        import numpy as np

        space, step = make_step("mobilenet_v3", CLASSES)
        codes = np.concatenate([space.encode(space.largest())[None], space.sample(np.random.default_rng(0), 1)])
        codes[:, 0] = 0  # likewise
        for code in (codes, codes[::-1], codes):
            step.run(images, labels, 32, 32, code, 0.01, True)
    else:
        import keras

        from ofa_tf.spaces import get_space

        space = get_space("mobilenet_v3")
        from ofa_tf.subnet import build_subnet

        model = build_subnet(space, space.largest(128), CLASSES)
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
        optimizer.build(model.trainable_variables)
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        @tf.function
        def step(images, labels):
            with tf.GradientTape() as tape:
                loss = loss_of(labels, model(images, training=True))
            optimizer.apply(tape.gradient(loss, [w.value for w in model.trainable_weights]), model.trainable_weights)

        for _ in range(3):
            step(images, labels)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3


def training_rate(space_name: str, size: int, batch: int, n_classes: int, steps: int) -> dict[str, float]:
    """Images a second of the stages `full` and `kernel`, medians."""
    import numpy as np

    space, step = make_step(space_name, n_classes)
    images, labels = make_batch(size, batch, n_classes)
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {"full": [], "kernel": []}
    for number in range(steps + 1):
        for stage, times in found.items():
            codes = space.sample(
                rng, 1, kernel_choices=1 if stage == "full" else None, depth_choices=1, expand_choices=1
            )
            taken = seconds(lambda: step.run(images, labels, batch, batch, codes, 0.01, stage == "kernel"))  # noqa: B023
            if number:
                times.append(taken)
    return {stage: batch / statistics.median(times) for stage, times in found.items()}


def input_rate(images, size: int, batch: int, steps: int) -> float:
    """Images a second of the input pipeline alone."""
    from ofa_tf.data import Preprocessing
    from ofa_tf.data.batches import training_batches
    from ofa_tf.training.recipe import RECIPES

    augment = RECIPES["imagenet"].augment
    batches = training_batches(images, Preprocessing(), augment, batch, (0, 0), range(steps), lambda _: size)
    next(batches)
    return batch * (steps - 1) / seconds(lambda: list(batches))


def write_jpegs(folder: Path, n: int) -> list[Path]:
    """Files of 256 px, smooth with some grain, about as large as photographs of that size."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = []
    for index in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).resize(
            (256, 256), Image.Resampling.BICUBIC
        )
        grain = rng.normal(0, 12, (256, 256, 1))
        pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        paths.append(folder / f"{index}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def rates(quick: bool) -> dict[str, float]:
    """Training and input, at 32 px in memory and at 128 px from JPEGs."""
    import numpy as np

    from ofa_tf.data import ImageSet
    from ofa_tf.data.encoded import EncodedImageSet, Records
    from ofa_tf.data.images import Images

    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=45_000).astype(np.int32)
    small = ImageSet(rng.integers(0, 256, (45_000, 32, 32, 3), np.uint8), labels)
    steps = 8 if quick else 30
    found = {}
    for size, space, batch, n_classes in ((32, "tiny", 128, 10), (128, "mobilenet_v3", 32, CLASSES)):
        training = training_rate(space, size, batch, n_classes, steps if size == 32 else steps // 2)
        with tempfile.TemporaryDirectory() as folder:
            images: Images = small
            if size == 128:
                paths = write_jpegs(Path(folder), 500)
                images = EncodedImageSet(Records.of_files(paths), np.zeros(len(paths), np.int32))
            feeding = input_rate(images, size, batch, 200 if size == 32 else 40)
        print(f"  {size} px: training {training}, input {feeding:.0f} images/s", file=sys.stderr)
        found[f"images_per_s_{size}px"] = training["kernel"]
        found[f"input_over_training_{size}px"] = feeding / max(training.values())
    return found


def in_fresh_process(what: str) -> list[float]:
    """The numbers that this script prints when it is asked for one part."""
    command = [sys.executable, __file__, "--part", what]
    return [float(word) for word in subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()]


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--channels", action="store_true", help="only the ratios of a space with choices of channels")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--part", choices=("first", "elastic", "static"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "first":
        print(*first_step().values())
        return
    if options.part:
        print(peak_mb(options.part))
        return
    rounds = 5 if options.quick else 15
    if options.channels:
        ratios = elastic_over_static(rounds, channels=True)
        report({f"channels_{name}": value for name, value in ratios.items()}, seed=0, json_file=options.json)
        return
    first = [in_fresh_process("first") for _ in range(1 if options.quick else 3)]
    memory = {kind: statistics.median(in_fresh_process(kind)[0] for _ in range(3)) for kind in ("elastic", "static")}
    print(f"  peak memory {memory} MB, first steps {[f[0] for f in first]} s", file=sys.stderr)
    figures = {
        **elastic_over_static(rounds),
        "first_step_s": statistics.median(f[0] for f in first),
        "traces": max(f[1] for f in first),
        "memory_over_static": memory["elastic"] / memory["static"],
        **rates(options.quick),
    }
    report(figures, seed=0, json_file=options.json)


if __name__ == "__main__":
    main()
