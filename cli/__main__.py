"""`python -m ofa_tf.cli` is `ofa-tf`."""

from ofa_tf.cli.main import main

main()
