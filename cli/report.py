"""`ofa-tf report`."""

import click
from ofa_tf.cli.common import json_option, library, print_json, say, workdir_option


@click.command("report")
@workdir_option()
@click.option("--out", metavar="FILE", help="HTML file to write.  [default: report.html in the workdir]")
@json_option
def command(workdir, out, as_json):
    """Write everything that a workdir holds to one HTML page."""
    with library():
        from ofa_tf.project.report import write_report

        report = write_report(workdir, out)
    if as_json:
        print_json({**report.__dict__, "path": str(report.path)})
        return
    say(
        f"{report.path}: {report.stages} stages, {report.subnets} evaluated subnets, {report.devices} devices with a "
        f"front, {report.exports} exports ({report.size_bytes / 1e6:.2f} MB). It needs no other files and no network."
    )
