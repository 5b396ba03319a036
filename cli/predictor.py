"""`ofa-tf predictor`."""

import click
from ofa_tf.cli.common import json_option, library, print_json, workdir_option


@click.group("predictor")
def command():
    """Fit or show the accuracy predictor."""


@command.command("fit")
@workdir_option()
@click.option("--archs", type=click.IntRange(10), default=100, show_default=True, help="Subnets to evaluate in all.")
@json_option
def fit_command(workdir, archs, as_json):
    """Evaluate subnets on held-out training images and fit the predictor to them."""
    with library() as progress:
        from ofa_tf.pipeline import fit
        from ofa_tf.project import open_existing

        fitted = fit(open_existing(workdir, progress), archs)
    _print(fitted.errors, as_json)


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
    _print(fitted.errors, as_json)


def _print(errors, as_json: bool) -> None:
    if as_json:
        print_json(dict(errors))
    else:
        rmse, rank = errors["rmse_points"], errors["spearman"]
        click.echo(
            f"{errors['pairs']:.0f} subnets evaluated; on those a member had not seen: "
            f"error {rmse:.2f} points (RMSE), rank correlation {rank:.2f} (Spearman)."
        )
