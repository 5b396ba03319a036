"""A stand-in for `adb` and a phone: it runs the shell's commands in a folder, and follows what adb 29 prints."""

import os
import stat
from pathlib import Path

from ofa_tf.latency.adb import PROGRAM_VARIABLE
from ofa_tf.latency.adb_app import VARIABLE

ADB = """\
#!/bin/sh
root="{root}"
[ "$1" = devices ] && {{ cat "$root/devices"; exit 0; }}
serial="$2"; shift 2
echo "$1" >> "$root/calls"
grep -q "^$serial	device" "$root/devices" || {{ echo "error: device '$serial' not found" >&2; exit 1; }}
case "$1" in
push)
  if [ -e "$root/full" ]; then
    echo "adb: error: failed to copy '$2' to '$3': remote couldn't create file: No space left on device" >&2; exit 1
  fi
  cp -r "$2" "$root$3" ;;
install)
  echo "$*" >> "$root/settings"
  [ -e "$root/refuses" ] && {{ echo "adb: failed to install $3: Failure [INSTALL_FAILED]" >&2; exit 1; }}
  cp "$3" "$root/app.apk"; echo Success ;;
shell)
  [ -e "$root/gone-after" ] && {{ n=$(cat "$root/gone-after"); [ "$n" -le 0 ] && {{ : > "$root/devices"; exit 255; }}
    echo $((n - 1)) > "$root/gone-after"; }}
  echo "$2" >> "$root/scripts"
  printf '%s' "$2" | sed -e "s#/data/local/tmp#$root/data/local/tmp#g" -e "s#/sys/devices#$root/sys/devices#g" \
    -e "s#/sdcard/#$root/sdcard/#g" > "$root/run.sh"
  (umask 077; PATH="$root/bin:$PATH" sh "$root/run.sh") | sed 's/$/\\r/' ;;
esac
"""
PROPERTIES = {
    "ro.product.manufacturer": "Acme",
    "ro.product.model": "One; rm -rf /",
    "ro.board.platform": "sm1",
    "ro.build.version.release": "13",
}
PM = """\
#!/bin/sh
case "$1" in
list) [ -e "{root}/app.apk" ] && echo "package:ofatf.bench"; exit 0 ;;
uninstall) rm -rf "{root}/app.apk" "{root}/sdcard/Android/data/$2" ;;
esac
echo "pm $*" >> "{root}/settings"
"""
SPEEDS = (1800, 1800, 1800, 1800, 2400, 2400, 2400, 2840)


def write_program(path: Path, text: str) -> Path:
    """Writes a program that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def make_phone(tmp_path: Path, monkeypatch) -> Path:
    """The folder that stands for a phone; `adb` on the PATH reaches it. It has no `am` yet."""
    root = tmp_path / "phone"
    write_program(tmp_path / "path" / "adb", ADB.format(root=root))
    cases = "".join(f"{name}) echo '{value}' ;;\n" for name, value in PROPERTIES.items())
    write_program(root / "bin" / "getprop", f'#!/bin/sh\ncase "$1" in\n{cases}esac\n')
    write_program(root / "bin" / "taskset", f'#!/bin/sh\necho "$1" >> "{root}/masks"\nshift\nexec "$@"\n')
    write_program(root / "bin" / "pm", PM.format(root=root))
    for name in ("svc", "cmd"):
        write_program(root / "bin" / name, f'#!/bin/sh\necho "{name} $*" >> "{root}/settings"\n')
    write_program(root / "bin" / "dumpsys", f'#!/bin/sh\ncat "{root}/heat"\n')
    (root / "heat").write_text("IsStatusOverride: false\nThermal Status: 0\nCached temperatures:\n")
    for core, speed in enumerate(SPEEDS):
        folder = root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{speed}000\n")
        (folder / "scaling_max_freq").write_text(f"{speed}000\n")
    (root / "data/local/tmp").mkdir(parents=True)
    (root / "devices").write_text("List of devices attached\nR58\tdevice\n\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    for variable in (PROGRAM_VARIABLE, VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return root
