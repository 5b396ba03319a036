"""`ofa-tf predictor`."""

import click
from ofa_tf.cli.common import Whole, images_option, json_option, library, print_caution, print_json, say, workdir_option


@click.group("predictor")
def command():
    """Fit or show the accuracy predictor."""


@command.command("fit")
@workdir_option()
@click.option(
    "--archs", type=Whole(10, 10**6), default=100, show_default=True, help="Total number of subnets to evaluate."
)
@click.option(
    "--target",
    type=click.Choice(["float", "int8"]),
    default="float",
    show_default=True,
    help="Whether to predict the accuracy of the float network or of its int8 file.",
)
@click.option(
    "--int8-archs", type=Whole(5, 10**6), default=24, show_default=True, help="Subnets to convert, for --target int8."
)
@images_option
@json_option
def fit_command(workdir, archs, target, int8_archs, data, as_json):
    """Evaluate subnets on held-out training images and fit the predictor to the results."""
    with library() as progress:
        from ofa_tf.project.opened import open_existing
        from ofa_tf.project.predictor import fit

        fitted = fit(open_existing(workdir, progress, data), archs, target=target, n_int8=int8_archs)
    print_predictor(fitted, as_json)


@command.command("show")
@workdir_option()
@json_option
def show_command(workdir, as_json):
    """Show how good the predictor is on subnets that it has not seen."""
    from ofa_tf.project.opened import open_existing
    from ofa_tf.project.predictor import show

    print_predictor(show(open_existing(workdir)), as_json)


def print_predictor(fitted, as_json: bool) -> None:
    """Prints what is known about a predictor."""
    errors = fitted.errors
    if as_json:
        facts = {"origin": fitted.origin, "target": fitted.target, "useful": not fitted.says_nothing}
        print_json({**errors, **facts, "source": dict(fitted.source)})
        print_caution(fitted.caution, as_json)
        return
    if fitted.origin == "imported":
        published = "its error is not published"
        if {"rmse_points", "pairs"} <= errors.keys():
            error = f"{errors['rmse_points']:.2f} points (RMSE)"
            published = f"as published: {errors['pairs']:.0f} subnets evaluated, error {error}"
        say(
            f"Imported from {fitted.source['address']}; {published}. Its accuracies are those on 10,000 held-out "
            "training images of ImageNet. On the validation images, accuracies are several points lower."
        )
        return
    evaluated = f"{errors['pairs']:.0f} subnets evaluated"
    if fitted.target == "int8":
        evaluated += (
            f", {errors['int8_pairs']:.0f} of them as int8 files too, which lose {errors['int8_drop_points']:.2f} "
            "points on average; the figures that follow are for int8 files"
        )
    worst = f", {errors['worst_points']:.2f} at worst" if "worst_points" in errors else ""
    say(
        f"{evaluated}; on those left out of a fit: error {errors['rmse_points']:.2f} points (RMSE){worst}, "
        f"rank correlation {errors['spearman']:.2f} (Spearman)."
    )
    if {"mean_rmse_points", "noise_points"} <= errors.keys():
        say(
            f"Always predicting the mean would be off by {errors['mean_rmse_points']:.2f} points. With so few images, "
            f"each accuracy has a standard error of {errors['noise_points']:.2f} points."
        )
    print_caution(fitted.caution, as_json)
