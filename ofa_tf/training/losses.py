"""The loss of a subnet: the labels, and the softened answer of a larger network."""

import tensorflow as tf


def distillation_loss(
    logits: tf.Tensor,
    labels: tf.Tensor,
    soft_targets: tf.Tensor,
    kd_ratio: tf.Tensor,
    label_smoothing: float,
) -> tf.Tensor:
    """The cross-entropy with smoothed labels plus `kd_ratio` times that with the soft targets.

    Both are means over the batch (Hinton et al., 2015, at temperature 1; Cai et al., ICLR 2020, appendix A).

    Args:
        logits: of the subnet, shape (batch, classes).
        labels: class indices, shape (batch,).
        soft_targets: probabilities from the teacher, shape (batch, classes); not differentiated.
        kd_ratio: scalar; 0 leaves the teacher out.
        label_smoothing: share of the target spread over all classes.

    Returns:
        A scalar.
    """
    n_classes = tf.shape(logits)[-1]
    smooth = tf.cast(label_smoothing, logits.dtype)
    targets = tf.one_hot(labels, n_classes, dtype=logits.dtype) * (1 - smooth) + smooth / tf.cast(
        n_classes, logits.dtype
    )
    # Both terms are linear in the target, so their sum is one cross-entropy with the summed targets.
    targets = targets + kd_ratio * tf.stop_gradient(soft_targets)
    return -tf.reduce_mean(tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=-1))
