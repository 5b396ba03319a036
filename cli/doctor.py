"""`ofa-tf doctor`."""

import click
from ofa_tf.cli.common import json_option, print_json, print_table


@click.command("doctor")
@json_option
def command(as_json):
    """Show what this machine has and what is missing."""
    from ofa_tf.project.doctor import examine

    checks = examine()
    if as_json:
        print_json({"checks": [check.__dict__ for check in checks]})
    else:
        print_table(["", "what", "found"], [("ok" if c.good else "--", c.name, c.detail) for c in checks])
