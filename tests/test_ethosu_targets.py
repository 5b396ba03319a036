"""Names of Ethos-Us, and what they stand for."""

import configparser
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ethosu_files import require_vela

from ofa_tf.errors import DeviceError
from ofa_tf.ethosu.targets import ACCELERATORS, MEMORY_MODES, SYSTEM_CONFIGS, NpuTarget, parse_target
from ofa_tf.latency.backends import TABLE_ONLY, backend_of, is_reserved


def test_a_name_alone_is_what_vela_takes_by_itself():
    target = parse_target("ethos-u55-128")
    assert target == NpuTarget("ethos-u55-128", "Ethos_U55_High_End_Embedded", "Shared_Sram")
    assert (target.name, target.family) == ("ethos-u55-128", "ethos-u55")
    assert parse_target("ethos-u85-256").memory_mode == "Dedicated_Sram_384KB"


@pytest.mark.parametrize("name", ACCELERATORS)
def test_every_accelerator_has_its_own_name(name):
    assert parse_target(name).name == name
    assert is_reserved(name)


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("ethos-u55-128:sram-only", "ethos-u55-128:Sram_Only"),
        ("ethos-u55-128:Shared_Sram", "ethos-u55-128"),
        ("ethos-u55-64:sram_only:ethos-u55-deep-embedded", "ethos-u55-64:Ethos_U55_Deep_Embedded:Sram_Only"),
        ("ETHOS-U65-512:Shared_Sram", "ethos-u65-512:Shared_Sram"),
        ("ethos-u85-128:Ethos_U85_SYS_Flash_High:shared_sram", "ethos-u85-128:Ethos_U85_SYS_Flash_High:Shared_Sram"),
    ],
)
def test_ways_to_write_a_name(name, same):
    target = parse_target(name)
    assert target.name == same
    assert parse_target(target.name) == target


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("ethos-u55-120", "There is no Ethos-U 'ethos-u55-120': choose one of ethos-u55-128"),
        ("ethos-u55", "There is no Ethos-U 'ethos-u55': choose one of ethos-u55-"),
        ("ethos-u", "There is no Ethos-U 'ethos-u'"),
        ("ethos-u55-128:", "'' is neither a system nor a memory mode of an ethos-u55"),
        ("ethos-u55-128:sram", "'sram' is neither.*choose one of Sram_Only|Shared_Sram"),
        ("ethos-u55-128:Dedicated_Sram", "neither a system nor a memory mode of an ethos-u55"),
        ("ethos-u55-128:Sram_Only:Shared_Sram", "at most one system and one memory mode"),
        ("ethos-u65-256:Ethos_U65_Embedded", "Dedicated_Sram_384KB writes to the second memory, which is a flash"),
        ("ethos-u85-256:Ethos_U85_SYS_Flash_Low", "add the memory mode Shared_Sram or Sram_Only"),
    ],
)
def test_a_wrong_name_is_one_sentence_with_the_nearest(name, match):
    with pytest.raises(DeviceError, match=match) as caught:
        parse_target(name)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_other_names_are_not_of_this_kind():
    for name in ("ethos", "my-ethos-u55-128", "corstone"):
        assert backend_of(name) is TABLE_ONLY


ASK = """
import json
from ethosu.vela import architecture_features as features
print(json.dumps([features.Accelerator.member_list(), features.CONFIG_FILES_PATH]))
"""


def test_the_names_are_those_of_vela(tmp_path):
    """Of the version that is installed: its accelerators and the sections of its configuration."""
    require_vela()
    asked = subprocess.run([sys.executable, "-c", ASK], cwd=tmp_path, check=True, capture_output=True, text=True)
    accelerators, folder = json.loads(asked.stdout)
    assert set(ACCELERATORS) == set(accelerators)
    config = configparser.ConfigParser()
    config.read(Path(folder) / "Arm" / "vela.ini")
    sections: dict[str, set[str]] = {"System_Config": set(), "Memory_Mode": set()}
    for section in config.sections():
        kind, _, name = section.partition(".")
        sections[kind].add(name)
    assert {name for names in SYSTEM_CONFIGS.values() for name in names} == sections["System_Config"]
    assert {name for names in MEMORY_MODES.values() for name in names} == sections["Memory_Mode"]
    for family, names in SYSTEM_CONFIGS.items():
        for name in names:
            dram = "dram" in config[f"System_Config.{name}"]["axi1_port"].lower()
            if family == "ethos-u55" or dram:
                assert parse_target(f"{family}-256:{name}").system_config == name
            else:
                with pytest.raises(DeviceError, match="is a flash"):
                    parse_target(f"{family}-256:{name}")
