"""The command line under the settings of others: locale, time zone, names of folders, ordinary users, read-only disks.

Every command runs in a separate process, in a folder with spaces and a newline, on a workdir whose name begins with a
dash.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from commands import OFA, Run, assert_refused, contents

DATA = Path(__file__).parent / "data" / "version_0_1"
WORK = "-my work\nfolder é"
AT = f"--workdir={WORK}"
SEARCH = ["search", AT, "--macs", "0.5"]
PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
NOBODY = "65534"
READ = "-all,+dac_read_search"  # the interpreter may be in a folder of root's
AS_ROOT = ["setpriv", "--bounding-set=-dac_override"]
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", f"--inh-caps={READ}",
             f"--ambient-caps={READ}"]  # fmt: skip


@pytest.fixture
def place():
    """A folder that everybody may write, with a copy of a workdir that everybody may write."""
    with tempfile.TemporaryDirectory(prefix="ofa tf\n") as outer:
        folder = Path(outer, "-a b\nc")
        shutil.copytree(DATA, folder / WORK)
        (folder / "home").mkdir()
        for path in (Path(outer), *Path(outer).rglob("*")):
            path.chmod(path.stat().st_mode | 0o777 if path.is_dir() else 0o666)
        yield folder


def as_others(name: str) -> list[str]:
    """What a command begins with to run as somebody else; nothing where the tests are an ordinary user's."""
    if os.geteuid():
        return []
    stop = pytest.fail if os.environ.get("CI") else pytest.skip
    if shutil.which("setpriv") is None:
        stop("setpriv, of util-linux, is not there to give up what root may do")
    begin = {"root": AS_ROOT, "nobody": AS_NOBODY}[name]
    if subprocess.run([*begin, sys.executable, "-c", ""], capture_output=True).returncode:
        pytest.skip("this container does not let root change what it may do, or others reach the interpreter")
    return begin


def run(place: Path, command: list[str], who: list[str] | None = None, **env: str) -> Run:
    """Runs `ofa-tf` there, in a separate process."""
    home = {"HOME": str(place / "home"), "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "100"}
    done = subprocess.run(
        [*(who or []), *OFA, *command], cwd=place, env={**os.environ, **home, **env}, capture_output=True, timeout=300
    )
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


def flow(place: Path, who: list[str] | None = None, **env: str) -> list[str]:
    """What a small flow prints; every command of it works."""
    table = next((place / WORK / "lut").iterdir())
    said = []
    for command in (
        ["space", "show", "tiny"],
        ["doctor"],
        [*SEARCH, "--out", "found é.json"],
        ["lut", "show", f"./{table.relative_to(place)}", AT],
        ["show", f"./{WORK}/exports/first/model.tflite"],
    ):
        done = run(place, command, who, **env)
        assert (done.code, "Traceback" in done.err) == (0, False), done.err
        said.append(done.out)
    assert json.loads((place / "found é.json").read_text())["space"] == "small"
    return said


def refused(place: Path, who: list[str] | None = None, **env: str) -> None:
    """What cannot be done ends in one line."""
    assert_refused(run(place, ["search", AT, "--macs", "0.000001"], who, **env), "No subnet of `small`")
    nowhere = run(place, ["search", "--workdir", "-no\nwork", "--macs", "1"], who, **env)
    assert_refused(nowhere, "-no\\nwork is not a workdir yet")


@pytest.mark.slow
@pytest.mark.parametrize("env", [PLAIN, {"TZ": "Pacific/Kiritimati"}], ids=["locale", "zone"])
def test_other_locales_and_zones(place, env):
    usual = flow(place)
    other = flow(place, **env)
    assert [len(said.splitlines()) for said in other] == [len(said.splitlines()) for said in usual]
    refused(place, **env)


@pytest.mark.slow
@pytest.mark.parametrize("who", ["root", "nobody"])
def test_other_users(place, who):
    flow(place, as_others(who))
    refused(place, as_others(who))


@pytest.mark.slow
@pytest.mark.parametrize("who", ["root", "nobody"])
def test_a_workdir_that_cannot_be_written(place, who):
    """What only reads works, and what would write is one line."""
    before = contents(place / WORK)
    for path in (place / WORK, *(place / WORK).rglob("*")):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
    try:
        flow(place, as_others(who))
        for command in (SEARCH, ["predictor", "fit", AT]):
            assert_refused(run(place, command, as_others(who)), "There is no permission", "use another folder")
    finally:
        for path in (place / WORK, *(place / WORK).rglob("*")):
            path.chmod(path.stat().st_mode | 0o700)
    assert contents(place / WORK) == before
