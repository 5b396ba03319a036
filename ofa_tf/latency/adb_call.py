"""The program `adb`: which phones it sees, what it answers, and our app on a phone."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ofa_tf.errors import DeviceError

ADB = "adb"
REMOTE = "/data/local/tmp/ofa-tf"
INSTALLED = f"{REMOTE}-installed"  # is there while the app is, if a measurement has installed it
OURS = "installed-by-ofa-tf"
APP = "ofatf.bench"  # that of android_bench/
CALL_S = 900  # after which a call counts as lost
# Where a phone has no such mode, it is measured as it is.
STAY_AWAKE = "svc power stayon true; cmd power set-fixed-performance-mode-enabled true; true"
STOP_STAYING_AWAKE = "svc power stayon false; cmd power set-fixed-performance-mode-enabled false; true"
INSTALLING = {
    "INSTALL_FAILED_INSUFFICIENT_STORAGE": "has not enough space for the app: make room on it",
    "INSTALL_FAILED_NO_MATCHING_ABIS": "has another processor than the app was built for",
    "INSTALL_FAILED_OLDER_SDK": "is too old for the app: it needs Android 8",
    "INSTALL_FAILED_USER_RESTRICTED": "did not allow the installation: allow it in its developer options",
    "INSTALL_FAILED_UPDATE_INCOMPATIBLE": "has the app signed with another key: save its exports and results, then run "
    f"`adb uninstall {APP}`",
    "INSTALL_FAILED_VERSION_DOWNGRADE": "has a newer version of the app: save its exports and results, then run "
    f"`adb uninstall {APP}`",
}


def phones() -> dict[str, str]:
    """The phones that adb sees: serial number -> state, such as `device` or `unauthorized`.

    Raises:
        DeviceError: there is no adb.
    """
    lines = call(["devices"]).splitlines()
    return dict(line.split("\t", 1) for line in lines if "\t" in line)


def choose_phone(serial: str = "") -> str:
    """The serial number of the phone to use.

    Args:
        serial: the one wanted; empty for the only one there is.

    Raises:
        DeviceError: there is no phone, several and none is chosen, or it does not allow debugging.
    """
    states = phones()
    shown = ", ".join(f"{name} ({state})" for name, state in states.items()) or "none"
    if not serial:
        usable = [name for name, state in states.items() if state == "device"]
        if len(usable) > 1:
            raise DeviceError(f"Several phones are attached: choose one with --device adb:SERIAL; there are {shown}.")
        if not usable:
            raise DeviceError(f"No phone is ready: attach one and allow debugging over USB; adb lists {shown}.")
        return usable[0]
    if states.get(serial) != "device":
        raise DeviceError(f"The phone {serial!r} is not ready; adb lists {shown}.")
    return serial


def phone_facts(serial: str) -> Mapping[str, Any]:
    """What a phone reports about itself: `name`, `model`, `soc` and `os`."""

    def told(name: str) -> str:
        return call(["-s", serial, "shell", f"getprop {name}"]).strip()

    return {
        "name": f"{ADB}:{serial}",
        "model": f"{told('ro.product.manufacturer')} {told('ro.product.model')}".strip(),
        "soc": told("ro.soc.model") or told("ro.board.platform"),
        "os": f"Android {told('ro.build.version.release')}",
    }


@contextmanager
def app_on(serial: str, apk: Path) -> Iterator[None]:
    """The app on a phone for a while; one that was there before is updated, and stays with its exports and results.

    Raises:
        DeviceError: the phone refuses it; why is in the message.
    """
    ask = f"pm list packages {APP}; status=$?; [ -e {INSTALLED} ] && echo {OURS}; exit $status"
    known = call(["-s", serial, "shell", ask]).split()
    ours = f"package:{APP}" not in known or OURS in known  # what a measurement left that lost the phone is ours, too
    try:
        if ours:
            call(["-s", serial, "shell", f"touch {INSTALLED}"])
        _install(serial, apk)
        yield
    finally:
        with suppress(DeviceError):  # a phone that is gone cannot be tidied
            tidy = f"pm uninstall {APP}; rm -f {INSTALLED}" if ours else f"am force-stop {APP}; true"
            call(["-s", serial, "shell", tidy])


def _install(serial: str, apk: Path) -> None:
    try:
        call(["-s", serial, "install", "-r", str(apk)])
    except DeviceError as error:
        for code, what in INSTALLING.items():
            if code in str(error):
                raise DeviceError(f"The phone {serial} {what} ({code}).") from None
        raise


def number(word: str) -> int | None:
    """A whole number of at most 15 digits, as a phone prints it; None for anything else."""
    return int(word) if word.isdecimal() and len(word) <= 15 else None


def call(arguments: Sequence[str]) -> str:
    """What adb prints.

    Raises:
        DeviceError: adb is not there, fails, or hangs; its own words are in the message.
    """
    try:
        run = subprocess.run(["adb", *arguments], capture_output=True, timeout=CALL_S, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise DeviceError("adb is not installed: on Debian and Ubuntu, `apt install adb`.") from None
    except subprocess.TimeoutExpired:
        raise DeviceError(f"adb gave no answer for {CALL_S} s; is the phone still attached?") from None
    output = run.stdout.decode(errors="replace").replace("\r\n", "\n")
    if run.returncode:
        said = (run.stderr.decode(errors="replace").strip() or output.strip()).splitlines()[-1:]
        raise DeviceError(f"adb {arguments[0] if arguments[0] != '-s' else arguments[2]} failed: {''.join(said)[:300]}")
    return output
