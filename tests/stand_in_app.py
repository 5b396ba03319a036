"""A stand-in phone that runs the Java code of the app; in the place of LiteRT, a file "runs" as long as its size says.

The app's part of the protocol (reading the job, the run, its status and results) is that of the phone.
"""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
from android_tools import JAVA_TOOLS, copied_sources, run
from stand_in_phone import make_phone, write_program

from ofa_tf.blocks import Block, walk
from ofa_tf.data import Preprocessing
from ofa_tf.latency import adb_app
from ofa_tf.latency.adb_app import ANSWERS, APP_VERSION, FACTS
from ofa_tf.latency.adb_call import APP
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.space import Arch
from ofa_tf.spaces import TINY
from ofa_tf.training.recipe import RECIPES

# As `am start` of AOSP, which returns once the app runs. The app is another user than the shell. `kills` of the first
# runs end in the middle, as Android ends an app that is in its way.
AM = """\
#!/bin/sh
[ "$*" = "start -n {app}/.MainActivity -a {app}.RUN --es job $8 --es name ${{11}}" ] || {{
  echo "Error: Activity class {{$3}} does not exist."; exit 1; }}
answers="{root}{answers}/${{11}}"
mkdir -p "$answers"
kills=$(cat "{root}/kills" 2>/dev/null || echo 0)
case "$(stat -c %A "$8" "$8"/* | cut -c8)" in
*-*) echo '{{"schema": 1, "state": "failed", "done": 0, "total": 0, "message": "Permission denied."}}' \
  > "$answers/status.json"; exit 0 ;;
esac
if [ "$kills" -gt 0 ]; then
  echo $((kills - 1)) > "{root}/kills"
  echo '{{"schema": 1, "state": "rounds", "done": 1, "total": 2, "message": ""}}' > "$answers/status.json"
  exit 0
fi
{java} > "{root}/app-said" 2>&1 &
echo $! > "{root}/process"
echo "Starting: Intent {{ act={app}.RUN cmp={app}/.MainActivity (has extras) }}"
"""
PIDOF = """\
#!/bin/sh
kill -0 "$(cat "{root}/process" 2>/dev/null)" 2>/dev/null && cat "{root}/process"
"""


def compiled_app(folder: Path) -> str:
    """Compiles the app's code; returns the command that runs it on the folder of a job and that of its answers."""
    copied_sources(folder, JAVA_TOOLS)
    run("make", "jvm", folder=folder)
    said = run("make", "--dry-run", "test", folder=folder)
    (classes,) = re.findall(r"-cp '(.*?)'", said)
    options = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"
    return f"cd '{folder}' && exec java {options} -cp '{classes}' ofatf.core.StandIn \"$8\" \"$answers\""


def run_app(java: str, job: Path, answers: Path) -> None:
    """Runs a job as the app does that it was chosen in."""
    run("sh", "-c", java.replace('"$8"', f"'{job}'").replace('"$answers"', f"'{answers}'"))


def make_app_phone(tmp_path: Path, monkeypatch, java: str) -> Path:
    """The folder that stands for a phone; `java` is what `am start` runs."""
    root = make_phone(tmp_path, monkeypatch)
    program = f"( {java} )"
    write_program(root / "bin" / "am", AM.format(app=APP, root=root, answers=ANSWERS, java=program))
    write_program(root / "bin" / "pidof", PIDOF.format(root=root))
    monkeypatch.setattr(adb_app, "POLL_S", 0.05)
    return root


def make_app(path: Path, **facts) -> Path:
    """Of the APK, what matters here."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(FACTS, json.dumps({"schema": 1, "app_version": APP_VERSION, "litert": "2.16.1", **facts}))
        for abi in ("arm64-v8a", "x86_64"):
            file.writestr(f"lib/{abi}/libtensorflowlite_jni.so", b"library")
    return path


def content(microseconds: int) -> bytes:
    """A file that takes so long."""
    return microseconds.to_bytes(4, "little") + bytes(10 * microseconds - 4)


class PutIn:
    """A converter whose files take as long as they are told, and those of a network as long as its blocks."""

    def __init__(self, blocks: dict[str, Block]):
        rng = np.random.default_rng(3)
        self.microseconds = {key: int(us) for key, us in zip(blocks, rng.integers(100, 900, len(blocks)), strict=True)}
        self.blocks = blocks

    def convert(self, wanted, progress=None) -> list[bytes]:
        by_shape: dict[str, str] = {}
        for key, block in self.blocks.items():
            by_shape.setdefault(self.shape(block), key)
        return [
            content(self.microseconds[by_shape[self.shape(one)]] if isinstance(one, Block) else self.whole_us(one))
            for one in wanted
        ]

    def whole_us(self, arch: Arch) -> int:
        return round(1000 * sum(self.expected_ms(block.key) for block in walk(TINY, arch, 10)))

    @staticmethod
    def shape(block: Block) -> str:
        """A block at another resolution is the same file."""
        return re.sub(r"\d+x\d+x", "", block.key)

    def expected_ms(self, key: str) -> float:
        block = self.blocks[key]
        first = next(k for k in self.blocks if self.shape(self.blocks[k]) == self.shape(block))
        return (self.microseconds[first] + (block.in_size if block.takes_images else 0)) / 1000


def bare_workdir(path: Path) -> Workdir:
    """A workdir with nothing in it but its config."""
    workdir = Workdir(path)
    workdir.create(Config(TINY, "digits", tuple("0123456789"), Preprocessing(), RECIPES["imagenet"], seed=0))
    return workdir
