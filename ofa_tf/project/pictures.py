"""What a file gets wrong on the validation images, as pictures: `ofa-tf export --pictures`."""

from collections.abc import Mapping, Sequence

from ofa_tf.export.verified import VerifiedFile
from ofa_tf.report.pictures import CONFUSION, WORST, confusion_of, draw_confusion, draw_worst, worst_images
from ofa_tf.space import Arch


def draw_mistakes(file: VerifiedFile, arch: Arch, classes: Sequence[str]) -> Mapping[str, bytes]:
    """The confusion matrix and the worst images, from the answers that the file gave when it was verified.

    Args:
        file: with its answers for labelled images.
        arch: its subnet, at whose resolution the images are shown.
        classes: names.

    Returns:
        PNG files by name.
    """
    labels, predicted = file.images.labels, file.logits.argmax(1)
    confusion = confusion_of(labels, predicted, classes)
    worst, probabilities = worst_images(file.logits, labels)
    titles = [
        (classes[predicted[index]], float(probability), classes[labels[index]])
        for index, probability in zip(worst, probabilities, strict=True)
    ]
    pixels = file.images.take(worst).resized(arch.resolution).images if len(worst) else ()
    return {
        CONFUSION: draw_confusion(confusion, float((predicted == labels).mean()), len(labels), len(classes)),
        WORST: draw_worst(pixels, titles),
    }
