"""Phones: a stand-in `adb` that runs its shell commands in a folder, a stand-in `benchmark_model`, recorded output.

The stand-ins follow what adb 29 and the official `benchmark_model` print; the real adb is asked too, with no phone.
"""

import shutil
import sys
import textwrap
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stand_in_phone import make_phone, write_program

from ofa_tf.blocks import Block
from ofa_tf.errors import DeviceError
from ofa_tf.export.convert import BlockConverter
from ofa_tf.latency import adb, adb_call
from ofa_tf.latency.adb import AdbDevice, choose_phone, phones
from ofa_tf.latency.backends import open_device
from ofa_tf.latency.benchmark_model import parse_ms
from ofa_tf.latency.device import Workload
from ofa_tf.latency.settings import Settings
from ofa_tf.latency.store import add_table
from ofa_tf.latency.table import LatencyTable
from ofa_tf.spaces import TINY

WARM_UP = "count=5 first=3512 curr=2391 min=2391 max=3512 avg=2700.4 std=400\n"
# As `am instrument -w` of AOSP: the arguments go to the app, which prints what the benchmark_model in it prints. The
# app is another user than the shell, and reads only what all may read.
AM = """\
#!/bin/sh
[ "$1 $2 $9" = "instrument -w {app}/.Bench" ] || {{
  echo "INSTRUMENTATION_STATUS: id=ActivityManagerService"
  echo "INSTRUMENTATION_STATUS: Error=Unable to find instrumentation info for: ComponentInfo{{$9}}"
  echo "INSTRUMENTATION_STATUS_CODE: -1"
  echo "android.util.AndroidException: INSTRUMENTATION_FAILED: $9"
  echo "	at com.android.commands.am.Instrument.run(Instrument.java:519)"; exit 1; }}
[ "$3 $4 $6 $7" = "-e cores -e flags" ] || {{
  echo "INSTRUMENTATION_RESULT: shortMsg=Process crashed."; echo "INSTRUMENTATION_CODE: 0"; exit 0; }}
case "$(stat -c %A "{root}"/data/local/tmp/*/ "{root}"/data/local/tmp/*/* | cut -c8)" in
*-*) echo "ERROR: Failed to load model"; exit 0 ;;
esac
{python} -m zipfile -e "{root}/app.apk" "{root}/app" && chmod +x "{root}"/app/lib/*/libbenchmark_model.so
mask="$5"; IFS='
'; set -- $8
exec taskset "$mask" "{root}"/app/lib/*/libbenchmark_model.so "$@"
"""
# Microseconds: a tenth of the file's size plus the height that it is resized to.
PROGRAM = """\
#!/bin/sh
height=0
for argument in "$@"; do
  case "$argument" in
  --graph=*) size=$(wc -c < "${argument#--graph=}") ;;
  --input_layer_shape=*) height=$(echo "${argument#*=}" | cut -d, -f2) ;;
  esac
done
time=$((size / 10 + height))
echo "STARTING!"
echo "count=5 first=9 curr=9 min=9 max=9 avg=9 std=0"
echo
echo "count=30 first=$time curr=$time min=$time max=$((time + 9)) avg=$time.5 std=2 p5=$time median=$time p95=$time"
echo
echo "Inference timings in us: Init: 1, First inference: 2, Warmup (avg): 9, Inference (avg): $time.5"
"""


@pytest.fixture
def phone(tmp_path, monkeypatch) -> Path:
    """The folder that stands for a phone; `adb` on the PATH reaches it."""
    root = make_phone(tmp_path, monkeypatch)
    write_program(root / "bin" / "am", AM.format(app=adb.APP, root=root, python=sys.executable))
    monkeypatch.setattr(adb, "COOLING_S", 0.0)
    return root


@pytest.fixture
def program(tmp_path) -> Path:
    """The stand-in benchmark_model."""
    return write_program(tmp_path / "benchmark_model", PROGRAM)


@pytest.fixture
def app(tmp_path, program) -> Path:
    """Of `android_bench/`, what matters here: the program in it."""
    path = tmp_path / "bench.apk"
    with zipfile.ZipFile(path, "w") as file:
        file.write(program, "lib/arm64-v8a/libbenchmark_model.so")
    return path


@pytest.fixture(scope="module")
def file() -> bytes:
    """A real file with one input."""
    block = Block("conv", "conv", in_size=32, in_channels=3, out_channels=16, kernel=3, activation="relu6")
    return BlockConverter(TINY, 10, "fp32").block(block)


# --- what benchmark_model prints --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected_ms"),
    [
        ("count=50 first=249042 curr=250889 min=247067 max=254474 avg=249684 std=1442", 249.684),
        ("count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798", 2950.34),
        ("INFO: count=50 first=9 curr=8 min=8 max=9 avg=8.25 std=0 p5=8 median=8 p95=9", 0.00825),
        ("count=1000 first=52162 curr=49785 min=49088 max=686105 avg=63743.2 std=60716 p5=49620 median=51891", 63.7432),
        ("count=50 curr=17(all same)", 0.017),
        ("count=1 curr=3512391", 3512.391),
        ("native : count=30 first=1 curr=1 min=1 max=2 avg=1e+00 std=0", 0.001),
    ],
)
def test_recorded_output_is_parsed(line, expected_ms):
    output = f"STARTING!\n{WARM_UP}\n{line}\n\nInference timings in us: Init: 17187, Inference (avg): 1\n"
    assert parse_ms(output) == pytest.approx(expected_ms, rel=1e-9)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("", "nothing"),
        ("\n\n", "nothing"),
        ("STARTING!\nERROR: Failed to load model", "Failed to load model"),
        (WARM_UP, "count=5"),
        (f"{WARM_UP}count=50 first=1 curr=1 min=1 max=1 avg=nan std=0", "avg=nan"),
        (f"{WARM_UP}count=50 first=1 curr=1 min=1 max=1 avg=-5 std=0", "avg=-5"),
        (f"{WARM_UP}count=50 curr=0(all same)", "all same"),
        (f"{WARM_UP}count=50 avg=12abc curr=", "avg=12abc"),
        (f"{WARM_UP}Aborted", "Aborted"),
        ("x" * 10_000, "x" * 200),
    ],
)
def test_output_without_times_is_refused(output, said):
    with pytest.raises(DeviceError, match="printed no times; it said") as caught:
        parse_ms(output)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


# --- which phone ------------------------------------------------------------------------------------------------------


def test_the_only_phone_is_chosen(phone):
    assert phones() == {"R58": "device"}
    assert choose_phone() == choose_phone("R58") == "R58"


@pytest.mark.parametrize(
    ("devices", "serial", "said"),
    [
        ("A\tdevice\nB\tdevice\n", "", "Several phones are attached: choose one with --device adb:SERIAL"),
        ("", "", "No phone is ready.*adb lists none"),
        ("A\tunauthorized\n", "", r"No phone is ready.*A \(unauthorized\)"),
        ("A\tdevice\n", "B", r"The phone 'B' is not ready; adb lists A \(device\)"),
        ("A\toffline\n", "A", r"The phone 'A' is not ready; adb lists A \(offline\)"),
    ],
)
def test_a_phone_that_is_not_clear_is_asked_for(phone, devices, serial, said):
    (phone / "devices").write_text(f"List of devices attached\n{devices}\n")
    with pytest.raises(DeviceError, match=said):
        choose_phone(serial)


def test_one_of_two_phones(phone):
    (phone / "devices").write_text("List of devices attached\nA\tdevice\nB\tdevice\n\n")
    assert choose_phone("B") == "B"


def test_without_adb(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="adb is not installed: on Debian and Ubuntu, `apt install adb`"):
        phones()


@pytest.mark.skipif(shutil.which("adb") is None, reason="needs the program adb")
def test_the_real_adb_without_a_phone(monkeypatch, tmp_path):
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "5999")
    monkeypatch.setenv("HOME", str(tmp_path))
    try:
        assert phones() == {}
        with pytest.raises(DeviceError, match="No phone is ready"):
            choose_phone()
        with pytest.raises(DeviceError, match=r"adb shell failed: .*'R58' not found"):
            adb_call.call(["-s", "R58", "shell", "true"])
    finally:
        adb_call.call(["kill-server"])


def test_the_program_must_be_named_and_there(phone, program, monkeypatch, tmp_path):
    with pytest.raises(DeviceError, match="--benchmark-model or the variable OFA_TF_BENCHMARK_MODEL"):
        open_device("adb")
    with pytest.raises(DeviceError, match="is not a file: name TFLite's benchmark_model"):
        open_device("adb", Settings(benchmark_model=str(tmp_path / "none")))
    monkeypatch.setenv(adb.PROGRAM_VARIABLE, str(program))
    assert open_device("adb:R58", Settings(threads=2)) == AdbDevice("R58", program, threads=2)
    with pytest.raises(DeviceError, match="`cores` is only for this machine"):
        open_device("adb", Settings(cores=(0,)))
    with pytest.raises(DeviceError, match="'pixel' cannot be measured from here"):
        open_device("pixel")


# --- measuring --------------------------------------------------------------------------------------------------------


def test_a_phone_tells_about_itself(phone, program):
    assert AdbDevice("R58", program, threads=2).facts() == {
        "name": "adb:R58",
        "model": "Acme One; rm -rf /",
        "soc": "sm1",
        "os": "Android 13",
        "cores": [6, 7],
    }
    runtime = AdbDevice("R58", program, delegate="none").runtime()
    assert runtime == {"name": "benchmark_model", "version": runtime["version"], "threads": 1, "delegate": "none"}
    assert len(runtime["version"]) == 12


def test_files_are_measured_in_few_calls_and_the_phone_is_left_as_it_was(phone, program, file, monkeypatch):
    monkeypatch.setattr(adb, "BATCH", 4)
    device = AdbDevice("R58", program, threads=3, rounds=2)
    work = [Workload(file), Workload(file, 64), Workload(file + bytes(1000))] * 3
    timings = device.measure(work)
    base = (len(file) // 10 + 0.5) / 1000
    longer = ((len(file) + 1000) // 10 + 0.5) / 1000
    for timing, expected in zip(timings, [base, base + 0.064, longer] * 3, strict=True):
        np.testing.assert_allclose(timing.runs_ms, [expected] * 2)
    assert set((phone / "masks").read_text().split()) == {"e0"}, "the three fastest cores"
    scripts = (phone / "scripts").read_text()
    assert scripts.count("--graph=") == 18
    assert (phone / "calls").read_text().splitlines().count("shell") == 11
    assert "--num_threads=3" in scripts
    assert "--use_xnnpack=true" in scripts
    assert list((phone / "data/local/tmp").iterdir()) == []
    settings = (phone / "settings").read_text().splitlines()
    assert settings[0] == "svc power stayon true"
    assert settings[-2:] == ["svc power stayon false", "cmd power set-fixed-performance-mode-enabled false"]


def test_an_app_measures_what_its_program_does(phone, program, app, file):
    work = [Workload(file), Workload(file, 64)]
    in_app, alone = (AdbDevice("R58", each, threads=2, rounds=2) for each in (app, program))
    assert in_app.runtime() == {**alone.runtime(), "name": "benchmark_app"}, "its version is that of the program"
    expected = [timing.runs_ms.tolist() for timing in alone.measure(work)]
    (phone / "settings").unlink()
    assert [timing.runs_ms.tolist() for timing in in_app.measure(work)] == expected
    assert set((phone / "masks").read_text().split()) == {"c0"}
    assert list((phone / "data/local/tmp").iterdir()) == []
    settings = (phone / "settings").read_text().splitlines()
    assert settings.index(f"install -r {app}") < settings.index(f"pm uninstall {adb.APP}")
    assert settings[-1] == "cmd power set-fixed-performance-mode-enabled false"


def test_an_app_that_was_there_stays(phone, app, file):
    (phone / "app.apk").write_text("an older one")
    AdbDevice("R58", app, rounds=1).measure([Workload(file)])
    assert (phone / "app.apk").read_bytes() == app.read_bytes()
    assert "uninstall" not in (phone / "settings").read_text()


def test_an_app_of_a_lost_measurement_goes(phone, app, file):
    """The phone was lost before the app could be removed: it is not the user's."""
    (phone / "app.apk").write_text("an older one")
    (phone / "data/local/tmp/ofa-tf-installed").touch()
    AdbDevice("R58", app, rounds=1).measure([Workload(file)])
    assert not (phone / "app.apk").exists()
    assert list((phone / "data/local/tmp").iterdir()) == []


def test_a_phone_that_cannot_say_what_is_installed_loses_nothing(phone, app, file):
    (phone / "app.apk").write_text("the user's")
    adb_program = phone.parent / "path" / "adb"
    text = adb_program.read_text()
    adb_program.write_text(text.replace("shell)\n", 'shell)\n  case "$2" in "pm list"*) exit 1 ;; esac\n', 1))
    with pytest.raises(DeviceError, match="adb shell failed"):
        AdbDevice("R58", app, rounds=1).measure([Workload(file)])
    assert (phone / "app.apk").read_text() == "the user's"


def test_an_app_that_is_not_installed(phone, app, file):
    (phone / "refuses").touch()
    with pytest.raises(DeviceError, match=r"adb install failed: .*INSTALL_FAILED"):
        AdbDevice("R58", app).measure([Workload(file)])
    assert list((phone / "data/local/tmp").iterdir()) == []
    assert "svc power stayon false" in (phone / "settings").read_text()


@pytest.mark.parametrize("content", ["nothing", "no zip", "no program", "two programs", "damaged"])
def test_an_app_without_the_program_is_refused(phone, app, tmp_path, content):
    path = tmp_path / "other.APK"
    path.write_bytes(b"PK?" * (content == "no zip"))
    if content in ("no program", "two programs"):
        with zipfile.ZipFile(path, "w") as file:
            for abi in ("x86", "arm64-v8a")[: 2 * (content == "two programs")]:
                file.writestr(f"lib/{abi}/libbenchmark_model.so", b"program")
    if content == "damaged":
        path.write_bytes(app.read_bytes().replace(b"STARTING", b"STORTING"))
    with pytest.raises(
        DeviceError, match=r"other\.APK' is not an app with benchmark_model: make one with `android_bench/`"
    ):
        AdbDevice("R58", path)


def test_an_app_that_the_phone_does_not_know(phone, app, file, monkeypatch):
    monkeypatch.setattr(adb, "APP", "another.app")
    with pytest.raises(DeviceError, match=r"printed no times; it said: '.*Unable to find instrumentation info"):
        AdbDevice("R58", app, rounds=1).measure([Workload(file)])


def test_a_throttled_call_is_made_again(phone, program, file):
    limit = phone / "sys/devices/system/cpu/cpu7/cpufreq/scaling_max_freq"
    limit.write_text("1500000\n")
    write_program(phone / "bin" / "dumpsys", f"#!/bin/sh\necho Thermal Status: 0; sleep 0; echo 2840000 > {limit}\n")
    (timing,) = AdbDevice("R58", program, rounds=1).measure([Workload(file)])
    assert timing.percentile_ms(50) > 0
    assert (phone / "scripts").read_text().count("--graph=") == 2


@pytest.mark.parametrize("how", ["speed", "heat"])
def test_a_phone_that_stays_throttled_is_given_up(phone, program, file, how):
    if how == "speed":
        (phone / "sys/devices/system/cpu/cpu7/cpufreq/scaling_max_freq").write_text("1500000\n")
    else:
        (phone / "heat").write_text("Thermal Status: 3\n")
    with pytest.raises(DeviceError, match="The phone R58 stays throttled: let it cool down"):
        AdbDevice("R58", program, rounds=1).measure([Workload(file)])
    assert list((phone / "data/local/tmp").iterdir()) == []


def test_a_slow_core_that_is_not_used_does_not_count(phone, program, file):
    (phone / "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq").write_text("300000\n")
    assert AdbDevice("R58", program, rounds=1).measure([Workload(file)])


def test_the_phone_gets_every_pause_and_a_call_after_it(phone, program, file, monkeypatch):
    (phone / "heat").write_text("Thermal Status: 3\n")
    pauses, sleep = 0, adb.time.sleep

    def cool(seconds):
        nonlocal pauses
        sleep(seconds)
        pauses += not seconds  # ours is COOLING_S; others sleep, too
        if pauses == adb.COOLINGS:
            (phone / "heat").write_text("Thermal Status: 0\n")

    monkeypatch.setattr(adb.time, "sleep", cool)
    assert AdbDevice("R58", program, rounds=1).measure([Workload(file)])
    assert pauses == adb.COOLINGS


def test_a_file_that_keeps_its_size_may_have_any_inputs(phone, program, monkeypatch):
    monkeypatch.setattr(adb, "_input_of", None)
    assert AdbDevice("R58", program, rounds=1).measure([Workload(b"of two inputs, say" * 100)])


def test_a_full_phone(phone, program, file):
    (phone / "full").touch()
    with pytest.raises(DeviceError, match=r"adb push failed: .*No space left on device"):
        AdbDevice("R58", program).measure([Workload(file)])


@pytest.mark.parametrize("calls", [0, 2, 5])
def test_a_phone_that_disappears(phone, program, file, calls):
    (phone / "gone-after").write_text(str(calls))
    with pytest.raises(DeviceError, match=r"adb .* failed"):
        AdbDevice("R58", program).measure([Workload(file)] * 30)


def test_a_call_that_ends_in_the_middle(phone, program, file):
    write_program(phone / "bin" / "taskset", "#!/bin/sh\nkill $PPID\n")
    with pytest.raises(DeviceError, match=r"adb shell failed|stopped answering: attach it again"):
        AdbDevice("R58", program).measure([Workload(file)])


@pytest.mark.parametrize("text", ["#!/bin/sh\n", "#!/bin/sh\necho Segmentation fault; exit 139\n"])
def test_a_program_that_prints_no_times(phone, program, file, text):
    program.write_text(text)
    with pytest.raises(DeviceError, match="printed no times"):
        AdbDevice("R58", program).measure([Workload(file)])


def test_a_phone_that_does_not_answer(phone, program, monkeypatch):
    monkeypatch.setattr(adb_call, "CALL_S", 0.2)
    write_program(phone / "bin" / "getprop", "#!/bin/sh\nsleep 5\n")
    with pytest.raises(DeviceError, match=r"adb gave no answer for 0\.2 s"):
        AdbDevice("R58", program).facts()


def test_garbage_to_be_resized_is_refused_before_it_reaches_the_phone(phone, program):
    with pytest.raises(DeviceError, match="refuses the file"):
        AdbDevice("R58", program).measure([Workload(b"garbage" * 100, 64)])
    assert "push" not in ((phone / "calls").read_text() if (phone / "calls").exists() else "")


# --- the commands -----------------------------------------------------------------------------------------------------


def test_a_table_of_a_phone(ofa, workdir, phone, program, monkeypatch):
    monkeypatch.setattr("ofa_tf.project.lut.CALIBRATION_SUBNETS", 3)
    monkeypatch.setattr("ofa_tf.project.lut.PASSES", 1)
    options = ["--workdir", workdir, "--device", "adb", "--benchmark-model", program]
    run = ofa("lut", "build", *options, "--resolution", 24)
    assert run.code == 0, run.err
    assert "adb:R58 (int8, measured)" in run.out
    assert ofa("lut", "validate", *options[:2], "--device", "adb:R58", *options[4:], "--subnets", 3).code == 0
    found = ofa("search", "--workdir", workdir, "--device", "adb:R58", "--latency", 1000)
    assert found.code == 0, found.err
    assert "adb:R58" in found.out
    run = ofa("lut", "validate", "--workdir", workdir, "--device", "adb:R58", "--benchmark-model", "/bin/sh")
    assert run.code == 2
    assert "was measured with another runtime than the device has" in run.err
    monkeypatch.setenv(adb.PROGRAM_VARIABLE, "/bin/sh")
    run = ofa("export", "--workdir", workdir, "--device", "adb", "--latency", 1000, "--name", "other", "--no-gate")
    assert run.code == 0, run.err
    assert "The file is not measured on adb: its table is of another runtime." in run.err
    (phone / "devices").write_text("List of devices attached\n\n")
    found = ofa("search", "--workdir", workdir, "--device", "adb", "--latency", 1000)
    assert found.code == 0, found.err
    (path,) = (workdir / "lut").glob("adb*.json")
    table = LatencyTable.load(path)
    add_table(path.parent, replace(table, device={**table.device, "name": "adb:S9"}))
    for command in (["search", "--latency", 1000], ["export", "--arch", workdir / "arch.json", "--no-gate"]):
        run = ofa(*command, "--workdir", workdir, "--device", "adb")
        assert run.code == 2
        assert run.last == "Error: Several phones have tables: choose one of adb:R58, adb:S9."


def test_commands_without_a_usable_phone(ofa, workdir, phone, program):
    (phone / "devices").write_text("List of devices attached\nA\tdevice\nB\tdevice\n")
    for arguments, said in (
        (["build", "--device", "adb", "--benchmark-model", program], "Several phones are attached"),
        (["build", "--device", "adb:C", "--benchmark-model", program], "The phone 'C' is not ready"),
        (["build", "--device", "adb:A"], "--benchmark-model"),
        (["build", "--device", "nexus"], "'nexus' cannot be measured from here"),
        (["validate", "--device", "adb:A"], "run `ofa-tf lut build --device adb:A`"),
        (["build", "--cores", "a,b"], "'a,b' is not a list of core numbers"),
        (["build", "--cores", "4096"], "core 4096 is not one of"),
    ):
        run = ofa("lut", *arguments, "--workdir", workdir)
        assert run.code == 2, arguments
        assert said in run.err, run.err
        assert "Traceback" not in run.err
    assert textwrap.shorten(run.last, 9999).startswith("Error:")
