"""What the doctor looks for."""

import configparser
import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path


def test_doctor_looks_for_all_that_is_needed(ofa, monkeypatch):
    names = {line.split()[3] for line in ofa("doctor").out.splitlines() if line.startswith("│")}
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).resolve().parents[1] / "setup.cfg")
    needed = {re.split("[<>=]", line)[0] for line in setup["options"]["install_requires"].split()}
    assert len(needed) >= 14
    assert needed < names

    def version(package):
        if package == "pyyaml":
            raise PackageNotFoundError
        return "1.0"

    monkeypatch.setattr("ofa_tf.packages.version", version)
    assert "missing: pip install pyyaml" in ofa("doctor").out
