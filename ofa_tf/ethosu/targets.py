"""What a file is compiled for: an Ethos-U by its name, the system around it, and where its memory is.

The names are Vela's own, as in `vela --list-configs Arm/vela.ini`, version 5.2.0.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from ofa_tf.errors import DeviceError

PREFIX = "ethos-u"
DEFAULT_NAME = "ethos-u55-128"
_MACS = {"ethos-u55": (32, 64, 128, 256), "ethos-u65": (256, 512), "ethos-u85": (128, 256, 512, 1024, 2048)}
ACCELERATORS = tuple(f"{family}-{macs}" for family, sizes in _MACS.items() for macs in sizes)
# Of each family, the first is what Vela takes where nothing is chosen.
SYSTEM_CONFIGS: Mapping[str, tuple[str, ...]] = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", "Ethos_U55_Deep_Embedded"),
    "ethos-u65": ("Ethos_U65_Client_Server", "Ethos_U65_Embedded", "Ethos_U65_Mid_End", "Ethos_U65_High_End"),
    "ethos-u85": (
        "Ethos_U85_SYS_DRAM_Mid",
        "Ethos_U85_SYS_DRAM_Low",
        "Ethos_U85_SYS_DRAM_High",
        "Ethos_U85_SYS_Flash_Low",
        "Ethos_U85_SYS_Flash_High",
    ),
}
WRITES_FLASH = "Dedicated_Sram"  # and what begins so: modes that write to the second memory, which must be a DRAM
_DEDICATED = ("Dedicated_Sram_384KB", "Dedicated_Sram", "Dedicated_Sram_256KB", "Dedicated_Sram_512KB")
MEMORY_MODES: Mapping[str, tuple[str, ...]] = {
    "ethos-u55": ("Shared_Sram", "Sram_Only"),
    "ethos-u65": (*_DEDICATED, "Shared_Sram", "Sram_Only"),
    "ethos-u85": (*_DEDICATED, "Shared_Sram", "Sram_Only"),
}
_DRAM = ("Dram", "DRAM", "Client_Server", "Mid_End", "U65_High_End")  # in names of systems that have one


@dataclass(frozen=True)
class NpuTarget:
    """An Ethos-U in a system.

    Args:
        accelerator: one of `ACCELERATORS`; the last number is multiply-accumulates per cycle.
        system_config: clock and memories, one of the family's `SYSTEM_CONFIGS`.
        memory_mode: which memory holds what, one of the family's `MEMORY_MODES`.
    """

    accelerator: str
    system_config: str
    memory_mode: str

    @property
    def family(self) -> str:
        """`ethos-u55`, `ethos-u65` or `ethos-u85`."""
        return self.accelerator.rpartition("-")[0]

    @property
    def name(self) -> str:
        """The name of the device, in which what Vela takes by itself is left out."""
        defaults = SYSTEM_CONFIGS[self.family][0], MEMORY_MODES[self.family][0]
        chosen = [
            word
            for word, default in zip((self.system_config, self.memory_mode), defaults, strict=True)
            if word != default
        ]
        return ":".join((self.accelerator, *chosen))


def parse_target(name: str) -> NpuTarget:
    """The target of a device's name, such as `ethos-u55-128` or `ethos-u55-128:Ethos_U55_Deep_Embedded:Sram_Only`.

    System and memory mode may be left out and may be in either order; upper and lower case, `-` and `_` are the
    same.

    Raises:
        DeviceError: there is no such Ethos-U, system or memory mode, or the two do not go together; names the nearest.
    """
    accelerator, *words = name.split(":")
    if accelerator.lower() not in ACCELERATORS:
        raise DeviceError(f"There is no Ethos-U {accelerator!r}: {_choose(accelerator.lower(), ACCELERATORS)}.")
    family = accelerator.lower().rpartition("-")[0]
    systems, modes = SYSTEM_CONFIGS[family], MEMORY_MODES[family]
    known = {_plain(word): word for word in (*systems, *modes)}
    chosen = []
    for word in words:
        if _plain(word) not in known:
            raise DeviceError(
                f"`device` (={name!r}): {word!r} is neither a system nor a memory mode of an {family}: "
                f"{_choose(word, known.values())}."
            )
        chosen.append(known[_plain(word)])
    of_system, of_mode = ([word for word in chosen if word in some] for some in (systems, modes))
    if len(of_system) > 1 or len(of_mode) > 1:
        raise DeviceError(f"`device` (={name!r}) must have at most one system and one memory mode.")
    target = NpuTarget(accelerator.lower(), (of_system or systems)[0], (of_mode or modes)[0])
    if target.memory_mode.startswith(WRITES_FLASH) and not any(word in target.system_config for word in _DRAM):
        raise DeviceError(
            f"`device` (={name!r}): {target.memory_mode} writes to the second memory, which is a flash in "
            f"{target.system_config}: add the memory mode Shared_Sram or Sram_Only."
        )
    return target


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def _choose(word: str, known) -> str:
    by_plain = {_plain(name): name for name in known}
    near = difflib.get_close_matches(_plain(word), by_plain, 3, 0.4) or list(by_plain)
    return f"choose one of {', '.join(by_plain[name] for name in near)}"
