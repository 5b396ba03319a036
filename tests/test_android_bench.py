"""The Android app of `android_bench/`, built with the real tools; what needs no phone of it is run."""

import json
import os
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest
from android_tools import JAVA_TOOLS, copied_sources, run

from ofa_tf.latency.adb import APP
from ofa_tf.latency.adb_app import FACTS

TOOLS = (*JAVA_TOOLS, "keytool", "aapt2", "aapt", "zipalign", "apksigner", "dexdump")
PHONES = ("arm64-v8a", "armeabi-v7a", "x86_64")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A copy of the sources."""
    return copied_sources(tmp_path_factory.mktemp("android") / "bench", TOOLS)


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
def app(folder) -> Path:
    """The app as `make` makes it."""
    if not os.environ.get("CI") and not sdk_is_there(folder):
        pytest.skip("needs an Android SDK: a platform and a dex compiler")
    run("make", folder=folder)
    return shutil.copy(folder / "build" / "ofa-tf-bench.apk", folder.parent / "plain.apk")


@pytest.fixture(scope="module")
def app_with_program(app, folder, program) -> Path:
    """The app with benchmark_model in it."""
    run("make", f"BENCHMARK_MODEL={program}", folder=folder)
    return folder / "build" / "ofa-tf-bench.apk"


def sdk_is_there(folder: Path) -> bool:
    """Whether a dry run of `make` finds a platform and a dex compiler."""
    return subprocess.run(("make", "--dry-run"), cwd=folder, capture_output=True).returncode == 0


def signer(app: Path) -> str:
    lines = run("apksigner", "verify", "--print-certs", app).splitlines()
    return next(line for line in lines if "SHA-256" in line)


def test_the_app_is_what_a_phone_installs(app):
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in run("apksigner", "verify", "--verbose", app)
    run("zipalign", "-c", "4", app)
    badging = run("aapt", "dump", "badging", app)
    for said in (
        f"package: name='{APP}'",
        "sdkVersion:'26'",
        "targetSdkVersion:'34'",
        f"launchable-activity: name='{APP}.MainActivity'",
        "native-code: 'arm64-v8a' 'armeabi-v7a' 'x86_64'",
    ):
        assert said in badging
    assert "uses-permission" not in badging, "nothing leaves the phone"
    manifest = run("aapt", "dump", "xmltree", app, "AndroidManifest.xml")
    assert f'"{APP}.RUN"' in manifest
    provider = manifest[manifest.index("E: provider") :]
    assert "exported(0x01010010)=(type 0x12)0x0" in provider[: provider.index("E: instrumentation")]
    code = run("dexdump", app)
    for name, parent in (
        ("MainActivity", "android/app/Activity"),
        ("ResultsProvider", "android/content/ContentProvider"),
    ):
        assert f"'L{APP.replace('.', '/')}/{name};'" in code
        assert f"'L{parent};'" in code
    for name in ("ofatf/core/Run", "org/tensorflow/lite/Interpreter", "org/tensorflow/lite/nnapi/NnApiDelegate"):
        assert f"'L{name};'" in code
    with zipfile.ZipFile(app) as file:
        names = file.namelist()
        assert {name for name in names if name.startswith("lib/")} == {
            f"lib/{abi}/libtensorflowlite_jni.so" for abi in PHONES
        }
        assert not [name for name in names if name.endswith((".tflite", ".java", ".class"))]
        litert = json.loads(file.read(FACTS))["litert"].encode()
        assert b"\0" + litert + b"\0" in file.read("lib/x86_64/libtensorflowlite_jni.so"), "what it reports itself"
        assert file.getinfo("resources.arsc").compress_type == zipfile.ZIP_STORED, "Android 11 refuses it otherwise"


def test_the_app_with_benchmark_model(app_with_program, app, program):
    badging = run("aapt", "dump", "badging", app_with_program)
    assert "native-code: 'arm64-v8a'\n" in badging, "a phone unpacks the libraries of one processor alone"
    manifest = run("aapt", "dump", "xmltree", app_with_program, "AndroidManifest.xml")
    assert "extractNativeLibs(0x010104ea)=(type 0x12)0xffffffff" in manifest, "else nothing can be run"
    instrumentation = manifest[manifest.index("E: instrumentation") :]
    assert '=".Bench"' in instrumentation
    assert f'targetPackage(0x01010021)="{APP}"' in instrumentation
    with zipfile.ZipFile(app_with_program) as file:
        assert file.read("lib/arm64-v8a/libbenchmark_model.so") == program.read_bytes()
    assert signer(app_with_program) == signer(app), "a phone replaces an app by one of the same key alone"


def test_what_is_built_again_has_another_program(app_with_program, folder, tmp_path):
    before, other = signer(app_with_program), tmp_path / "other"
    other.write_bytes(elf(40))
    os.utime(other, (0, 0))
    run("make", f"BENCHMARK_MODEL={other}", folder=folder)
    assert signer(app_with_program) == before
    with zipfile.ZipFile(app_with_program) as file:
        libraries = sorted(name for name in file.namelist() if name.startswith("lib/"))
        assert libraries == [f"lib/armeabi-v7a/lib{name}.so" for name in ("benchmark_model", "tensorflowlite_jni")]
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
        (["BENCHMARK_MODEL=none"], "BENCHMARK_MODEL=none is no program for a phone's processor"),
        (["BENCHMARK_MODEL=Makefile"], "BENCHMARK_MODEL=Makefile is no program for a phone's processor"),
        (["ANDROID_HOME=/none"], "ANDROID_HOME (/none) has no platforms/android-*/android.jar"),
    ],
)
def test_what_is_missing_is_said(folder, arguments, said):
    assert said in run("make", *arguments, folder=folder, status=2)


def test_a_download_that_is_not_the_right_one_is_refused(folder, tmp_path):
    """Nothing is built from it, and nothing of it is kept under the name of the right one."""
    mirror = tmp_path / "org/tensorflow/tensorflow-lite/2.16.1"
    mirror.mkdir(parents=True)
    (mirror / "tensorflow-lite-2.16.1.aar").write_bytes(b"something else")
    kept = tmp_path / "kept"
    said = run("make", f"MAVEN=file://{tmp_path}", f"DOWNLOADS={kept}", folder=folder, status=2)
    assert "tensorflow-lite-2.16.1.aar.part: FAILED" in said
    assert not list(kept.glob("*.aar"))


def test_a_missing_tool_is_named(app, folder, tmp_path, monkeypatch):
    for tool in ("make", "sh", "ls", "sort", "od", "rm", "javac", "jar"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(tmp_path))
    said = run("make", folder=folder, status=2)
    assert "aapt2 is missing: install a JDK and the build tools of the Android SDK" in said
    assert (folder / "build" / "ofa-tf-bench.apk").exists(), "nothing is removed before all is there"
