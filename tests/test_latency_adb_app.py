"""Phones timed by the app: a stand-in `adb`, and the app's own Java code, in which only LiteRT is replaced."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from android_tools import SOURCE
from model_files import tint_file
from stand_in_app import AM, PutIn, bare_workdir, content, make_app, make_app_phone
from stand_in_phone import write_program

from ofa_tf.errors import DeviceError
from ofa_tf.latency import adb_app
from ofa_tf.latency.adb_app import ANSWERS, APP_VERSION, FACTS, KIND, AppDevice, check_results
from ofa_tf.latency.adb_call import APP
from ofa_tf.latency.backends import open_device
from ofa_tf.latency.device import Workload
from ofa_tf.latency.measure import build_table
from ofa_tf.latency.settings import Settings
from ofa_tf.latency.table import LatencyTable, distinct_blocks
from ofa_tf.project.workdir import Workdir
from ofa_tf.spaces import TINY


@pytest.fixture
def phone(tmp_path, monkeypatch, java) -> Path:
    return make_app_phone(tmp_path, monkeypatch, java)


@pytest.fixture
def app(tmp_path) -> Path:
    return make_app(tmp_path / "bench.apk")


def set_answers(phone: Path, status: str, results: str | None = None) -> None:
    """Has the app answer so, and stay."""
    program = (
        f'echo \'{status}\' > "$answers/status.json"; sleep 30 >/dev/null 2>&1 </dev/null & echo $! > "{phone}/process"'
    )
    if results is not None:
        program = f"echo '{results}' > \"$answers/results.json\"; {program}"
    text = AM.format(app=APP, root=phone, answers=ANSWERS, java="true")
    write_program(phone / "bin" / "am", text[: text.index("kills=")] + program + "\n")


def status(state: str, done: int = 0, message: str = "") -> str:
    return json.dumps({"schema": 1, "state": state, "done": done, "total": 1, "message": message})


def test_files_are_measured_and_the_phone_is_left_as_it_was(phone, app, monkeypatch):
    seen = []
    monkeypatch.setattr(adb_app, "check_results", lambda *given: seen.append(given[0]) or check_results(*given))
    device = AppDevice("R58", app, threads=2, rounds=2, runs=3)
    timings = device.measure([Workload(content(50)), Workload(content(50), 64), Workload(content(900))] * 2)
    for timing, expected in zip(timings, [0.05, 0.114, 0.9] * 2, strict=True):
        np.testing.assert_allclose(timing.runs_ms, [expected] * 6)
    assert list((phone / "data/local/tmp").iterdir()) == []
    settings = (phone / "settings").read_text().splitlines()
    assert settings[0] == "svc power stayon true"
    assert settings.index(f"install -r {app}") < settings.index(f"pm uninstall {APP}")
    assert "svc power stayon false" in settings
    scripts = (phone / "scripts").read_text()
    assert scripts.count("am start") == 2, "a job for each round"
    names = re.findall(r"--es name (\w+)-(\d)-0 ", scripts)
    assert [number for _, number in names] == ["0", "1"]
    assert len({name for name, _ in names}) == 1
    assert [results["turns"] for results in seen] == [6, 6]
    assert seen[0]["benchmarks"][0]["runtime"] == dict(device.runtime())
    assert not (phone / "app.apk").exists()


def test_an_app_that_was_there_stays(phone, app):
    """With its exports and its results; only what was installed for the measurement is removed."""
    files = phone / "sdcard/Android/data" / APP / "files"
    for name in ("exports/first/model.tflite", "runs/mine/results.json"):
        (files / name).parent.mkdir(parents=True)
        (files / name).write_text("the user's")
    (phone / "app.apk").write_text("an older one")
    AppDevice("R58", app, rounds=1, runs=2).measure([Workload(content(50))])
    left = sorted(str(path.relative_to(files)) for path in files.rglob("*") if path.is_file())
    assert left == ["exports/first/model.tflite", "runs/mine/results.json"]
    assert (phone / "app.apk").read_bytes() == app.read_bytes()
    assert "uninstall" not in (phone / "settings").read_text()
    assert f"am force-stop {APP}" in (phone / "scripts").read_text(), "it does not keep the screen on"


def test_a_phone_and_its_runtime_tell_about_themselves(phone, app):
    device = AppDevice("R58", app, delegate="none")
    facts = {"name": "adb:R58", "model": "Acme One; rm -rf /", "soc": "sm1", "os": "Android 13"}
    assert device.facts() == facts
    assert device.runtime() == {"name": "litert_app", "version": "2.16.1", "threads": 1, "delegate": "none"}


@pytest.mark.parametrize("kills", [1, 3])
def test_a_killed_app_is_started_again(phone, app, kills):
    (phone / "kills").write_text(str(kills))
    (timing,) = AppDevice("R58", app, rounds=1, runs=2).measure([Workload(content(50))])
    np.testing.assert_allclose(timing.runs_ms, [0.05] * 2)
    assert (phone / "scripts").read_text().count("am start") == kills + 1


def test_an_app_that_is_killed_again_and_again(phone, app):
    (phone / "kills").write_text("9")
    with pytest.raises(DeviceError, match=r"The app on the phone R58 was killed 4 times: leave the phone alone"):
        AppDevice("R58", app, rounds=1).measure([Workload(content(50))])
    assert list((phone / "data/local/tmp").iterdir()) == []


def test_a_file_that_the_phones_runtime_cannot_run(phone, app):
    lacking = b"LACKING" + bytes(500)
    with pytest.raises(
        DeviceError, match=r"The app cannot run 1\.tflite: The file needs the operator GELU in version 2"
    ):
        AppDevice("R58", app, rounds=1, runs=2).measure([Workload(content(50)), Workload(lacking)])
    with pytest.raises(DeviceError, match=r"says: No file can be measured; the first says: .* GELU .* LiteRT lacks\.$"):
        AppDevice("R58", app, rounds=1, runs=2).measure([Workload(lacking)])


@pytest.mark.parametrize(
    ("answer", "results", "said"),
    [
        (status("cancelled"), "{}", "The measurement was cancelled on the phone R58"),
        (status("failed", message="It\u001b[2J is hot"), None, r"says: It \[2J is hot\.$"),
        (status("finished"), None, "results cannot be read"),
        (status("finished"), "[1]", "results cannot be read"),
        (status("finished"), "{}", "results are none of this version"),
        ("{", None, "status cannot be read"),
        ('{"state": 3, "done": "x", "message": ""}', None, "gives a status that is none"),
        (status("rounds", -1), None, "gives a status that is none"),
        (status("rounds", 10**400), None, "gives a status that is none"),
    ],
)
def test_answers_that_are_no_results(phone, app, answer, results, said):
    set_answers(phone, answer, results)
    with pytest.raises(DeviceError, match=said):
        AppDevice("R58", app, rounds=1).measure([Workload(content(50))])
    assert list((phone / "data/local/tmp").iterdir()) == []


def test_an_app_that_hangs(phone, app, monkeypatch):
    monkeypatch.setattr(adb_app, "SILENT_S", 0.3)
    set_answers(phone, status("rounds"))
    with pytest.raises(DeviceError, match="has made no progress for 0 s: look at its screen"):
        AppDevice("R58", app, rounds=1).measure([Workload(content(50))])


def results(**changes) -> dict:
    one = {"file": "0.tflite", "in_size": 64, "runs_ms": [1, 2.5]}
    return {"kind": KIND, "app_version": APP_VERSION, "errors": [], "benchmarks": [{**one, **changes}]}


def test_results_are_checked():
    assert check_results(results(), [("0.tflite", 64)], 2) == [[1, 2.5]]
    for changes in (
        {"runs_ms": [1]},
        {"runs_ms": [1, -2]},
        {"runs_ms": [1, "2"]},
        {"runs_ms": [1, True]},
        {"runs_ms": [1, 1e400]},
        {"runs_ms": [1, 10**400]},
        {"runs_ms": None},
        {"file": "1.tflite"},
        {"in_size": None},
    ):
        with pytest.raises(DeviceError, match=r"results for 0\.tflite are not those of the job"):
            check_results(results(**changes), [("0.tflite", 64)], 2)
    for found in ([], None, {**results(), "app_version": 1}, {**results(), "kind": "other"}):
        with pytest.raises(DeviceError, match="none of this version"):
            check_results(found, [("0.tflite", 64)], 2)
    for measured in ([], None, 3, [results()["benchmarks"][0]] * 2):
        with pytest.raises(DeviceError, match="are not those of the job"):
            check_results({**results(), "benchmarks": measured}, [("0.tflite", 64)], 2)
    for errors in ([3], {"a": 1}, "x"):
        with pytest.raises(DeviceError, match=r"cannot run|are not those"):
            check_results({**results(), "errors": errors}, [("0.tflite", 64)], 2)


# --- the app on this machine, and the phone's side of it --------------------------------------------------------------


def test_both_sides_are_of_one_version():
    packed = json.loads((SOURCE / "assets/ofa-tf.json").read_text())
    java_side = (SOURCE / "core/ofatf/core/Results.java").read_text()
    assert f"int APP_VERSION = {APP_VERSION};" in java_side
    assert f'KIND = "{KIND}"' in java_side
    assert packed["app_version"] == APP_VERSION
    assert f"tensorflow-lite-{packed['litert']}.aar" in (SOURCE / "Makefile").read_text()
    assert f'android:versionCode="{APP_VERSION}"' in (SOURCE / "AndroidManifest.xml").read_text()


@pytest.mark.parametrize("what", ["nothing", "no zip", "no facts", "no libraries", "no version"])
def test_an_apk_that_is_not_ours(tmp_path, what):
    path = tmp_path / "other.apk"
    path.write_bytes(b"PK?" * (what == "no zip"))
    if what.startswith("no ") and what != "no zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("lib/x86_64/libtensorflowlite_jni.so" if what != "no libraries" else "classes.dex", b"")
            if what != "no facts":
                file.writestr(FACTS, "[]" if what == "no version" else '{"app_version": 2, "litert": "1"}')
    with pytest.raises(DeviceError, match=r"other\.apk' is not the benchmark app of ofa-tf: build it with `make -C"):
        AppDevice("R58", path)


def test_an_app_of_another_version(tmp_path):
    old = make_app(tmp_path / "old.apk", app_version=1)
    with pytest.raises(DeviceError, match="is version 1 of the benchmark app, and this ofa-tf works with version 2"):
        AppDevice("R58", old)


def test_an_app_with_another_runtime_than_it_names(phone, tmp_path):
    """What it names is in the table's runtime, so it must be what ran."""
    other = make_app(tmp_path / "other.apk", litert="2.17.0")
    said = r"The app on the phone R58 runs LiteRT 2\.16\.1, and .*other\.apk. names 2\.17\.0: build it again with `make"
    with pytest.raises(DeviceError, match=said):
        AppDevice("R58", other, rounds=1, runs=2).measure([Workload(content(50))])


def test_an_app_that_is_not_there(tmp_path):
    with pytest.raises(DeviceError, match="is not a file: name the app that `make -C android_bench` builds with --app"):
        AppDevice("R58", tmp_path / "none.apk")


def test_the_app_is_chosen(phone, app, monkeypatch):
    assert open_device("adb", Settings(app=str(app), threads=2)) == AppDevice("R58", app, threads=2)
    monkeypatch.setenv("OFA_TF_BENCHMARK_MODEL", "/none")
    assert open_device("adb", Settings(app=str(app))) == AppDevice("R58", app)
    monkeypatch.delenv("OFA_TF_BENCHMARK_MODEL")
    monkeypatch.setenv(adb_app.VARIABLE, str(app))
    assert open_device("adb") == AppDevice("R58", app)
    with pytest.raises(DeviceError, match="Give `app` or `benchmark_model`, not both"):
        open_device("adb", Settings(app=str(app), benchmark_model="/bin/sh"))


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ("INSTALL_FAILED_INSUFFICIENT_STORAGE", "The phone R58 has not enough space for the app"),
        ("INSTALL_FAILED_NO_MATCHING_ABIS", "The phone R58 has another processor"),
        ("INSTALL_FAILED_UPDATE_INCOMPATIBLE", "The phone R58 has the app signed with another key: save its exports"),
        ("INSTALL_FAILED_OTHER", "adb install failed: .*INSTALL_FAILED_OTHER"),
    ],
)
def test_an_app_that_is_not_installed(phone, app, failure, said, tmp_path):
    path = tmp_path / "path" / "adb"
    path.write_text(path.read_text().replace("INSTALL_FAILED", failure))
    (phone / "refuses").touch()
    with pytest.raises(DeviceError, match=said):
        AppDevice("R58", app).measure([Workload(content(50))])
    assert list((phone / "data/local/tmp").iterdir()) == []
    assert "svc power stayon false" in (phone / "settings").read_text()


def test_a_phone_of_another_processor(phone, app):
    write_program(phone / "bin" / "getprop", "#!/bin/sh\necho x86,mips\n")
    with pytest.raises(DeviceError, match="The phone R58 runs x86, mips, and the app is for arm64-v8a, x86_64"):
        AppDevice("R58", app).measure([Workload(content(50))])
    write_program(phone / "bin" / "getprop", "#!/bin/sh\necho x86,arm64-v8a\n")
    assert AppDevice("R58", app, rounds=1, runs=2).measure([Workload(content(50))])


def test_an_app_that_does_not_start(phone, app):
    write_program(phone / "bin" / "am", "#!/bin/sh\necho 'Error type 3'; exit 1\n")
    with pytest.raises(DeviceError, match=r"The app does not start on the phone R58: Error type 3\."):
        AppDevice("R58", app).measure([Workload(content(50))])


# --- the whole loop ---------------------------------------------------------------------------------------------------


def test_a_table_is_the_one_that_was_put_in(phone, app, tmp_path):
    """It survives a killed app and a lost phone, and is resumed."""
    resolution = TINY.resolutions[0]
    put_in = PutIn(distinct_blocks(TINY, [resolution], 10))
    device, journal = AppDevice("R58", app, rounds=1, runs=4), tmp_path / "table.journal"

    def build() -> LatencyTable:
        how = {"resolutions": [resolution], "calibration_subnets": 0, "journal": journal, "passes": 3}
        return build_table(TINY, 10, "int8", device, put_in, **how)

    devices = (phone / "devices").read_text()
    (phone / "kills").write_text("1")
    program = (phone / "bin" / "am").read_text()
    lost = (
        f'[ "$(grep -c . "{phone}/started" 2>/dev/null)" = 2 ] && : > "{phone}/devices"\necho x >> "{phone}/started"\n'
    )
    write_program(phone / "bin" / "am", program.replace("#!/bin/sh\n", f"#!/bin/sh\n{lost}"))
    with pytest.raises(DeviceError, match="'R58' not found"):
        build()
    assert len(journal.read_text().splitlines()) == 1, "the first pass is kept"
    (phone / "devices").write_text(devices)
    (phone / "started").write_text("")
    write_program(phone / "bin" / "am", program)
    shutil.rmtree(phone / "data/local/tmp")
    (phone / "data/local/tmp").mkdir()
    table = build()
    assert table.runtime["name"] == "litert_app"
    for key, entry in table.entries.items():
        assert entry["median_ms"] == pytest.approx(put_in.expected_ms(key), rel=1e-12)
        assert entry["runs"] == 12
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == table
    assert (phone / "scripts").read_text().count("am start") == 2 + 1 + 2


@pytest.fixture
def project(tmp_path) -> Workdir:
    return bare_workdir(tmp_path / "work")


def test_commands_measure_with_the_app(ofa, phone, app, project, monkeypatch):
    resolution = TINY.resolutions[0]
    put_in = PutIn(distinct_blocks(TINY, [resolution], 10))
    monkeypatch.setattr("ofa_tf.project.lut._converter", lambda *_: put_in)
    monkeypatch.setattr("ofa_tf.project.lut.CALIBRATION_SUBNETS", 3)
    monkeypatch.setattr("ofa_tf.project.lut.PASSES", 1)
    options = ["--workdir", project.path, "--device", "adb:R58", "--app", app]
    built = ofa("lut", "build", *options, "--resolution", resolution)
    assert built.code == 0, built.err
    assert "adb:R58 (int8, measured)" in built.out
    assert "runtime: name litert_app, version 2.16.1, threads 1, delegate xnnpack" in built.out
    (path,) = project.tables.glob("adb*.json")
    table = LatencyTable.load(path)
    for key, entry in table.entries.items():
        assert entry["median_ms"] == pytest.approx(put_in.expected_ms(key), rel=1e-12)
        assert entry["runs"] == 150
    assert table.calibration.subnets == 3
    assert ofa("lut", "validate", *options, "--subnets", 3).code == 0
    validation = LatencyTable.load(path).validation
    assert validation["subnets"] == 3
    assert validation["mape"] < 0.01, "networks take as long as their blocks"


def test_a_file_is_timed_with_the_app(ofa, phone, app, tmp_path):
    """What the app's results say is what is printed."""
    path = tmp_path / "tints.tflite"
    path.write_bytes(tint_file())
    expected_ms = len(path.read_bytes()) // 10 / 1000
    command = ["benchmark", path, "--device", "adb", "--app", app, "--threads", 2]
    found = json.loads(ofa(*command, "--json").out)
    assert found["device"]["name"] == "adb:R58"
    assert found["runtime"] == {"name": "litert_app", "version": "2.16.1", "threads": 2, "delegate": "xnnpack"}
    assert found["n_runs"] == 150
    assert found["p10_ms"] == found["p99_ms"] == pytest.approx(expected_ms, rel=1e-12)
    assert (found["load_ms"], found["peak_bytes"]) == (None, None), "which a phone does not report"
    printed = ofa(*command).out
    assert "name litert_app, version 2.16.1, threads 2, delegate xnnpack" in printed
    assert f"{expected_ms:.3g}" in printed
    (phone / "kills").write_text("9")
    run = ofa(*command)
    assert run.code == 2
    assert "The app on the phone R58 was killed 4 times" in run.last


def test_commands_without_a_usable_phone_or_app(ofa, phone, app, project, tmp_path):
    for devices, device, apk, said in (
        ("", "adb", app, "No phone is ready: attach one and allow debugging over USB; adb lists none."),
        ("A\tunauthorized\n", "adb", app, "adb lists A (unauthorized)."),
        ("A\tdevice\nB\tdevice\n", "adb", app, "Several phones are attached: choose one with --device adb:SERIAL"),
        (
            "A\tdevice\n",
            "adb",
            tmp_path / "none",
            "none' is not a file: name the app that `make -C android_bench` builds",
        ),
        ("A\tdevice\n", "adb", __file__, "is not the benchmark app of ofa-tf: build it with `make -C android_bench`."),
        ("A\tdevice\n", "edgetpu", app, "An Edge TPU has no settings"),
    ):
        (phone / "devices").write_text(f"List of devices attached\n{devices}\n")
        run = ofa("lut", "build", "--workdir", project.path, "--device", device, "--app", apk)
        assert run.code == 2
        assert said in run.last, run.err
        assert not project.tables.exists()
