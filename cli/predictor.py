"""`ofa-tf predictor`."""

import click
from ofa_tf.cli.common import Whole, images_option, json_option, library, print_json, workdir_option


@click.group("predictor")
def command():
    """Fit or show the accuracy predictor."""


@command.command("fit")
@workdir_option()
@click.option("--archs", type=Whole(10, 10**6), default=100, show_default=True, help="Subnets to evaluate in all.")
@images_option
@json_option
def fit_command(workdir, archs, data, as_json):
    """Evaluate subnets on held-out training images and fit the predictor to them."""
    with library() as progress:
        from ofa_tf.pipeline import fit
        from ofa_tf.project import open_existing

        fitted = fit(open_existing(workdir, progress, data), archs)
    print_predictor(fitted, as_json)


@command.command("show")
@workdir_option()
@json_option
def show_command(workdir, as_json):
    """Show how good the predictor is on subnets it has not seen."""
    with library() as progress:
        from ofa_tf.pipeline import load_predictor
        from ofa_tf.project import open_existing

        fitted = load_predictor(open_existing(workdir, progress))
    if fitted is None:
        raise click.ClickException(f"{workdir} has no predictor yet: run `ofa-tf predictor fit`.")
    print_predictor(fitted, as_json)


def print_predictor(fitted, as_json: bool) -> None:
    """Prints what is known about a predictor."""
    errors = fitted.errors
    if as_json:
        print_json({**errors, "origin": fitted.origin, "source": dict(fitted.source)})
    elif fitted.origin == "imported":
        click.echo(
            f"Imported from {fitted.source['address']}; as published: {errors['pairs']:.0f} subnets evaluated, error "
            f"{errors['rmse_points']:.2f} points (RMSE) on 10,000 held-out training images of ImageNet. On the "
            "validation images, accuracies are several points lower."
        )
    else:
        rmse, rank = errors["rmse_points"], errors["spearman"]
        click.echo(
            f"{errors['pairs']:.0f} subnets evaluated; on those a member had not seen: "
            f"error {rmse:.2f} points (RMSE), rank correlation {rank:.2f} (Spearman)."
        )
