"""The Android app of `android_bench/`, built with the real tools; what needs no phone of it is run."""

import os
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest

from ofa_tf.latency.adb import APP

SOURCE = Path(__file__).resolve().parents[1] / "android_bench"
TOOLS = ("make", "javac", "jar", "keytool", "aapt2", "aapt", "zipalign", "apksigner", "dexdump")


def run(*command, folder: Path | None = None, status: int = 0) -> str:
    """What a command prints."""
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A copy of the sources; tests skip where they cannot be built, except in CI, where they fail."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing and "CI" not in os.environ:
        pytest.skip(f"needs {', '.join(missing)}")
    path = tmp_path_factory.mktemp("android") / "bench"
    shutil.copytree(SOURCE, path, ignore=shutil.ignore_patterns("build"))
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """Stands for benchmark_model: the header of a program for 64-bit ARM; of a name that a shell must not split."""
    path = tmp_path_factory.mktemp("program") / "benchmark model"
    path.write_bytes(elf(183))
    return path


def elf(machine: int) -> bytes:
    """As much of an ELF header as tells the processor."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine) + b"program"


@pytest.fixture(scope="module")
def app(folder, program) -> Path:
    """The app as `make` makes it."""
    if not os.environ.get("CI") and not sdk_is_there(folder, program):
        pytest.skip("needs an Android SDK: a platform and a dex compiler")
    run("make", f"BENCHMARK_MODEL={program}", folder=folder)
    return folder / "build" / "ofa-tf-bench.apk"


def sdk_is_there(folder: Path, program: Path) -> bool:
    """Whether a dry run of `make` finds a platform and a dex compiler."""
    command = "make", "--dry-run", f"BENCHMARK_MODEL={program}"
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


def test_the_app_is_what_a_phone_installs(app, program):
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in run("apksigner", "verify", "--verbose", app)
    run("zipalign", "-c", "4", app)
    badging = run("aapt", "dump", "badging", app)
    for said in (f"package: name='{APP}'", "sdkVersion:'23'", "targetSdkVersion:'34'", "native-code: 'arm64-v8a'"):
        assert said in badging
    manifest = run("aapt", "dump", "xmltree", app, "AndroidManifest.xml")
    assert "extractNativeLibs(0x010104ea)=(type 0x12)0xffffffff" in manifest, "else nothing can be run"
    instrumentation = manifest[manifest.index("E: instrumentation") :]
    assert '=".Bench"' in instrumentation
    assert f'targetPackage(0x01010021)="{APP}"' in instrumentation
    code = run("dexdump", app)
    for name, parent in (("Bench", "android/app/Instrumentation"), ("Front", "android/app/Activity")):
        assert f"'L{APP.replace('.', '/')}/{name};'" in code
        assert f"'L{parent};'" in code
    with zipfile.ZipFile(app) as file:
        assert file.read("lib/arm64-v8a/libbenchmark_model.so") == program.read_bytes()
        assert file.getinfo("resources.arsc").compress_type == zipfile.ZIP_STORED, "Android 11 refuses it otherwise"


def test_what_is_built_again_has_the_same_key_and_another_program(app, folder, tmp_path):
    def signer() -> str:
        lines = run("apksigner", "verify", "--print-certs", app).splitlines()
        return next(line for line in lines if "SHA-256" in line)

    before, other = signer(), tmp_path / "other"
    other.write_bytes(elf(40))
    os.utime(other, (0, 0))
    run("make", f"BENCHMARK_MODEL={other}", folder=folder)
    assert signer() == before, "a phone replaces an app by one of the same key alone"
    with zipfile.ZipFile(app) as file:
        libraries = [name for name in file.namelist() if name.startswith("lib/")]
        assert libraries == ["lib/armeabi-v7a/libbenchmark_model.so"]
        assert file.read(libraries[0]) == elf(40)


def test_the_program_is_run_as_it_is_asked_for(app, folder):
    java = ("java", "-cp", folder / "build" / "classes", "ofatf.bench.Program")
    assert run(*java, "printf", "<%s>", "--graph=a b", "--x='$y'") == "<--graph=a b><--x='$y'>"
    assert run(*java, "sh", "-c", "echo out; echo err >&2; exit 3") == "exit status 3\nout\nerr\n"
    long = run(*java, "sh", "-c", "yes 1234567 | head -n 100000; echo end")
    assert len(long) == 100_000
    assert long.endswith("1234567\nend\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["BENCHMARK_MODEL="], "Name the program: make BENCHMARK_MODEL=FILE"),
        (["BENCHMARK_MODEL=none"], "BENCHMARK_MODEL=none is no program for a phone's processor"),
        (["BENCHMARK_MODEL=Makefile"], "BENCHMARK_MODEL=Makefile is no program for a phone's processor"),
        (["ANDROID_HOME=/none"], "ANDROID_HOME (/none) has no platforms/android-*/android.jar"),
    ],
)
def test_what_is_missing_is_said(folder, program, arguments, said):
    assert said in run("make", f"BENCHMARK_MODEL={program}", *arguments, folder=folder, status=2)


def test_a_missing_tool_is_named(app, folder, program, tmp_path, monkeypatch):
    for tool in ("make", "sh", "ls", "sort", "od", "rm", "javac", "jar"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(tmp_path))
    said = run("make", f"BENCHMARK_MODEL={program}", folder=folder, status=2)
    assert "aapt2 is missing: install a JDK and the build tools of the Android SDK" in said
    assert app.exists(), "nothing is removed before all is there"
