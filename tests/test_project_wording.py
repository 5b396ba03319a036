"""Sentences of the command line, said to those who call the library."""

import pytest

from ofa_tf.errors import InfeasibleError
from ofa_tf.project.wording import in_arguments, library_wording


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("run `ofa-tf lut build --device pi4`.", "run `project.lut.build(device='pi4')`."),
        ("fit it with `ofa-tf predictor fit --archs N`.", "fit it with `project.predictor.fit(archs=N)`."),
        ("`ofa-tf train --stage width --restart`", "`project.train(stage='width', restart=True)`"),
        ("`ofa-tf search` and `ofa-tf export`", "`project.search()` and `project.export()`"),
        ("`ofa-tf lut import FILE --as pi4`", "`project.lut.import_(FILE, name='pi4')`"),
        ("with --name, or replace it with --force.", "with `name`, or replace it with `force=True`."),
        ("search with --latency, not --macs", "search with `latency_ms`, not `macs_millions`"),
        ("export it anyway with --no-gate.", "export it anyway with `gate=False`."),
        ("--space tiny, not edge: leave the option out", "`space='tiny'`, not edge: leave the argument out"),
        ("--precision must be int8", "`precision` must be int8"),
        ("nothing to say differently", "nothing to say differently"),
    ],
)
def test_options_and_commands_become_arguments_and_methods(sentence, said):
    assert in_arguments(sentence) == said


def test_an_error_keeps_its_class_and_what_it_knows():
    def infeasible():
        raise InfeasibleError("Nothing within --latency 3.", {"binds": ["latency"]})

    with pytest.raises(InfeasibleError, match="Nothing within `latency_ms` 3") as error:
        library_wording(infeasible)()
    assert error.value.details == {"binds": ["latency"]}


def test_what_is_returned_and_other_errors_pass():
    assert library_wording(lambda value: value)(3) == 3
    with pytest.raises(KeyError, match="--latency"):
        library_wording({}.__getitem__)("--latency")
