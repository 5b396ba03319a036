"""The checkpoint reader: what PyTorch writes is read, and nothing else; hostile files cost neither time nor memory."""

import os
import pickle
import pickletools
import struct
import time
import tracemalloc
from collections import Counter
from typing import Any

import numpy as np
import pytest
from torch_writer import (
    CONTAINERS,
    Raw,
    Tensor,
    as_stream,
    as_zip,
    deflated,
    instructions,
    overlapping,
    patched,
    pickled,
    storages_of,
)

from ofa_tf.errors import FormatError, OfaError
from ofa_tf.zoo import read_checkpoint, state_dict

ALLOWED_OVERHEAD = 32 << 20


@pytest.fixture(params=CONTAINERS)
def container(request):
    return CONTAINERS[request.param]


@pytest.fixture
def read(tmp_path):
    """Reads a checkpoint from its bytes."""

    def read_bytes(content: bytes, reader=read_checkpoint):
        path = tmp_path / "net.pth"
        path.write_bytes(content)
        return reader(path)

    return read_bytes


BASE = np.arange(24, dtype="<f4")
VALID: dict[str, Any] = {
    "state_dict": {
        "module.conv.weight": Tensor(BASE, (2, 3, 4), (12, 4, 1)),
        "module.conv.scale": Tensor(np.array([2.5], "<f4"), (), (), key="1", parameter=True),
    },
    "epoch": 7,
    "rates": [0.5, -(2**70), None, True, ("a", "é")],
}


def save(container, value) -> bytes:
    return container(pickled(value), storages_of(value))


# --- what is read ----------------------------------------------------------------------------------------------------


def test_containers_and_plain_values(container, read):
    root = read(save(container, VALID))
    assert root["epoch"] == 7
    assert root["rates"] == [0.5, -(2**70), None, True, ("a", "é")]
    np.testing.assert_array_equal(root["state_dict"]["module.conv.weight"], BASE.reshape(2, 3, 4))
    scale = root["state_dict"]["module.conv.scale"]
    assert scale.shape == ()
    assert scale == np.float32(2.5)


@pytest.mark.parametrize(
    ("kind", "stored", "expected"),
    [
        ("DoubleStorage", np.array([1.5, -2], "<f8"), np.array([1.5, -2], "f8")),
        ("HalfStorage", np.array([1.5, -2], "<f2"), np.array([1.5, -2], "f2")),
        ("BFloat16Storage", np.array([0x3FC0, 0xC000, 0x7F80], "<u2"), np.array([1.5, -2, np.inf], "f4")),
        ("LongStorage", np.array([2**40, -1], "<i8"), np.array([2**40, -1], "i8")),
        ("IntStorage", np.array([70000, -1], "<i4"), np.array([70000, -1], "i4")),
        ("ShortStorage", np.array([300, -1], "<i2"), np.array([300, -1], "i2")),
        ("CharStorage", np.array([100, -1], "i1"), np.array([100, -1], "i1")),
        ("ByteStorage", np.array([200, 1], "u1"), np.array([200, 1], "u1")),
        ("BoolStorage", np.array([0, 1, 2], "u1"), np.array([False, True, True])),
    ],
)
def test_types(container, read, kind, stored, expected):
    found = read(save(container, [Tensor(stored, (len(stored),), (1,), kind=kind)]))[0]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (Tensor(BASE, (4, 6), (1, 4)), BASE.reshape(6, 4).T),
        (Tensor(BASE, (2, 3), (12, 2), 5), BASE.reshape(2, 12)[:, 5:11:2]),
        (Tensor(BASE, (1, 2), (1 << 50, 1), 22), BASE[None, 22:]),
        (Tensor(BASE, (), (), 3), BASE[3]),
        (Tensor(BASE, (0, 5), (5, 1)), np.zeros((0, 5), "f4")),
        (Tensor(BASE[:0], (0,), (1,)), np.zeros(0, "f4")),
    ],
)
def test_views(container, read, tensor, expected):
    found = read(save(container, [tensor]))[0]
    assert found.shape == np.shape(expected)
    np.testing.assert_array_equal(found, expected)


def test_shared_storages_share_memory(container, read):
    first, second = read(save(container, [Tensor(BASE, (24,), (1,)), Tensor(BASE, (4,), (1,), 20)]))
    assert np.shares_memory(first, second)
    np.testing.assert_array_equal(second, BASE[20:])


def test_storage_larger_than_one_read(container, read):
    values = np.random.default_rng(0).integers(0, 1 << 16, 200_001, "<u2")
    found = read(save(container, [Tensor(values, (200_001,), (1,), kind="BFloat16Storage")]))[0]
    np.testing.assert_array_equal(found.view("u4"), values.astype("u4") << 16)


def test_other_protocols(read):
    """Names on the stack, frames, memoisation without numbers, short and old strings, sizes, attributes."""
    stack = b"\x80\x04\x95" + struct.pack("<Q", 9) + b"}\x94(\x8c\x01a\x94\x8c\x05torch\x94\x8c\x04Size\x94\x93\x94"
    stack += b"K\x01K\x02\x86\x94\x85R\x94U\x01bh\x00u."
    with pytest.raises(FormatError, match="unfolds"):  # a dict that holds itself
        read(as_zip(stack, {}))
    assert read(as_zip(stack.replace(b"h\x00u", b"h\x01u"), {})) == {"a": (1, 2), "b": "a"}
    attributes = b"ccollections\nOrderedDict\n)R}" + instructions("_metadata") + b"}sb"
    assert read(as_zip(pickled([Raw(attributes)]), {})) == [{}]


def test_state_dict(container, read):
    names = ["conv.weight", "conv.scale"]
    assert list(read(save(container, VALID), state_dict)) == names
    assert list(read(save(container, VALID["state_dict"]), state_dict)) == names
    mixed = {**VALID["state_dict"], "fc": Tensor(BASE, (24,), (1,))}
    assert list(read(save(container, mixed), state_dict)) == [*VALID["state_dict"], "fc"]


@pytest.mark.parametrize(
    ("value", "message"),
    [([1], "not list"), ({}, "by name"), ({"epoch": 7}, "'epoch' must be a tensor, not int"), ({1: None}, "'1'")],
)
def test_state_dict_refuses(read, value, message):
    with pytest.raises(FormatError, match=message):
        read(save(as_zip, value), state_dict)


@pytest.mark.fixtures
@pytest.mark.parametrize("name", ["mbv3_w0.25.pth", "mbv3_w0.25_legacy.pth"])
def test_published_layout(fixtures_dir, name):
    found = state_dict(fixtures_dir / "torch_parity" / name)
    with np.load(fixtures_dir / "torch_parity" / "mbv3_w0.25.npz") as arrays:
        expected = {key.removeprefix("state_dict/"): arrays[key] for key in arrays if key.startswith("state_dict/")}
    assert set(found) == set(expected)
    assert len(found) == 475
    for key, array in expected.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array, err_msg=key)


# --- what is refused -------------------------------------------------------------------------------------------------


def touch(path, function: bytes) -> dict[str, bytes]:
    """Instructions that create a file when they are executed, by every way that a pickle has to call something."""
    command = instructions(f"touch {path}") if b"system" in function else instructions(f"open({str(path)!r}, 'w')")
    module, name = function.split(b" ")
    by_name = b"c" + module + b"\n" + name + b"\n"
    return {
        "REDUCE": by_name + command + b"\x85R",
        "STACK_GLOBAL": instructions(module.decode()) + instructions(name.decode()) + b"\x93" + command + b"\x85R",
        "INST": b"(" + command + b"i" + module + b"\n" + name + b"\n",
        "OBJ": b"(" + by_name + command + b"o",
        "NEWOBJ": by_name + command + b"\x85\x81",
    }


FUNCTIONS = [b"os system", b"posix system", b"builtins eval", b"builtins exec"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_is_executed(container, read, tmp_path, function):
    canary = tmp_path / "canary"
    for way, code in touch(canary, function).items():
        with pytest.raises(FormatError, match=rf"asks for '{function.decode().replace(' ', '.')}'|instruction 'INST"):
            read(container(pickled({"a": Raw(code)}), {}))
        assert not canary.exists(), way
    pickle.loads(pickled(Raw(touch(canary, function)["REDUCE"])))
    assert canary.exists(), "these instructions do nothing even where they are executed, so the test proves nothing"


LENGTH = struct.pack("<Q", 1 << 63)
HOSTILE = {
    "unicode of 2^63": b"\x8d" + LENGTH,
    "unicode of 2^62": b"\x8d" + struct.pack("<Q", 1 << 62),
    "bytes of 2^63": b"\x8e" + LENGTH,
    "bytearray of 2^63": b"\x96" + LENGTH,
    "string of 2^31": b"T" + struct.pack("<i", (1 << 31) - 1),
    "string of -1": b"T" + struct.pack("<i", -1),
    "integer of 2^31": b"\x8b" + struct.pack("<i", (1 << 31) - 1),
    "text integer": b"L" + b"9" * 100_000 + b"\n",
    "extension": b"\x84\xff\xff\xff\x7f",
    "persistent text": b"Pos.system\n",
    "buffer": b"\x97",
    "set": b"\x8f",
    "fetch of nothing": b"j\xff\xff\xff\xff",
    "mark of nothing": b"ttt",
    "too many takes": b"\x87\x87\x87",
    "global of no names": b"NN\x93",
    "global of one name": instructions("torch.Size") + b"N\x93",
    "call of a string": instructions("torch.Size") + b")R",
    "key that is a list": b"}]Ns",
    "key that is a tuple": b"})Ns",
    "key without value": b"}(Ku",
    "append to a tuple": b")Na",
    "size of a size": b"ctorch\nSize\n" + instructions((Raw(b"ctorch\nSize\n"),)) + b"R",
    "attributes": b"}}" + instructions("__class__") + b"Nsb",
    "a class as value": b"ctorch\nFloatStorage\n",
    "a storage as value": instructions(("storage", Raw(b"ctorch\nFloatStorage\n"), "9", "cpu", 0)) + b"Q",
    "a module": instructions(("module", "net", "source.py", "code")) + b"Q",
    "an unknown type": instructions(("storage", Raw(b"ctorch\nQInt8Storage\n"), "9", "cpu", 0)) + b"Q",
    "nesting": b")" + b"\x85" * 5000,
    "doubling": b")" + b"\x94h\x00\x86" + b"".join(b"\x94h%c\x86" % i for i in range(1, 60)),
    "repeated instruction": b"}" * 300_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_instructions(container, read, name):
    with pytest.raises(FormatError, match=r"net.pth .*\.$") as caught:
        read(container(pickled([Raw(HOSTILE[name])]), {}))
    assert len(str(caught.value)) < 400 + len(str(caught.value).split(" ")[0])


TENSORS = {
    "more than stored": Tensor(BASE, (25,), (1,)),
    "offset beyond the end": Tensor(BASE, (24,), (1,), 1),
    "negative offset": Tensor(BASE, (4,), (1,), -1),
    "negative size": Tensor(BASE, (-4,), (1,)),
    "negative stride": Tensor(BASE, (4,), (-1,)),
    "expanded": Tensor(BASE, (1 << 30,), (0,)),
    "shape without values": Tensor(BASE, (0, 1 << 59), (1, 1)),
    "overflowing": Tensor(BASE, (1 << 40, 1 << 40), (1 << 40, 1)),
    "stride of 2^70": Tensor(BASE, (1, 1), (1 << 70, 1)),
    "fewer strides": Tensor(BASE, (2, 3), (1,)),
    "40 dimensions": Tensor(BASE, (1,) * 40, (1,) * 40),
    "size of strings": Tensor(BASE, ("a",), (1,)),
    "claims more than the file": Tensor(BASE, (24,), (1,), n_values=1 << 40),
    "claims a negative number": Tensor(BASE, (1,), (1,), n_values=-1),
    "claims less than is there": Tensor(BASE, (20,), (1,), n_values=20),
    "another type": Tensor(BASE, (12,), (1,), kind="DoubleStorage"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_fit_are_named(container, read, name):
    with pytest.raises(FormatError, match=r"tensor 'conv\.weight'"):
        read(save(container, {"conv.weight": TENSORS[name]}))


def test_missing_and_disputed_storages_are_named(container, read):
    with pytest.raises(FormatError, match="lacks the values of the tensor 'b'"):
        read(container(pickled({"b": Tensor(BASE, (24,), (1,))}), {}))
    claims = {"a": Tensor(BASE, (24,), (1,)), "b": Tensor(BASE, (12,), (1,), kind="IntStorage")}
    with pytest.raises(FormatError, match="the tensor 'b' and the tensor 'a' differ"):
        read(save(container, claims))


def test_damaged_values_are_named(read):
    content = save(as_zip, VALID)
    with pytest.raises(FormatError, match=r"the tensor 'module.conv.weight' \(Bad CRC"):
        read(content.replace(BASE.tobytes(), BASE[::-1].tobytes()))
    stream = save(as_stream, VALID)
    with pytest.raises(FormatError, match=r"ends in the middle of the tensor 'module.conv.scale'"):
        read(stream[:-1])
    with pytest.raises(FormatError, match=r"ends before the tensor 'module.conv.scale'"):
        read(stream[:-5])
    with pytest.raises(FormatError, match="goes on after its last tensor"):
        read(stream + b"\0")


def test_big_endian_is_refused(read):
    with pytest.raises(FormatError, match="big-endian"):
        read(as_zip(pickled([]), {}, order="big"))
    with pytest.raises(FormatError, match="big-endian"):
        read(as_stream(pickled([]), {}, little=False))


def test_not_a_file(tmp_path):
    with pytest.raises(FormatError, match="There is no file"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(FormatError, match="is a folder"):
        read_checkpoint(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FormatError, match="is not a file"):
            read_checkpoint(tmp_path / "pipe")


# --- archives --------------------------------------------------------------------------------------------------------


def archives() -> dict[str, tuple[bytes, str]]:
    good = save(as_zip, VALID)
    content, storages = pickled(VALID), storages_of(VALID)
    paths = ("net/../../x", "/net/x", "net//x", "net/./x", "net/a\\..\\x", "x", "net/x/")
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = as_zip(content, storages, [("net/data.pkl", pickled({}))])
    return {
        **{path: (as_zip(content, storages, [(path, b"")]), "no path below the archive's top") for path in paths},
        "NUL in a name": (good.replace(b"net/byteorder", b"net/byte\0rder"), "no path below the archive's top"),
        "second top folder": (as_zip(content, storages, [("other/data.pkl", b"")]), "second top folder"),
        "entry twice": (twice, "is there twice"),
        "zip bomb": (deflated(2_000_000), "compressed or encrypted"),
        "encrypted": (patched(good, 8, b"\x01"), "compressed or encrypted"),
        "unknown compression": (patched(good, 10, b"\x63"), "compressed or encrypted"),
        "of a version to come": (patched(good, 6, b"\xff"), r"damaged \(NotImplementedError: zip file version 25.5"),
        "claimed as compressed": (patched(good, 24, b"\xff\xff\xff\x7f"), "compressed or encrypted"),
        "larger than the file": (patched(good, 20, b"\xff\xff\xff\x7f" * 2), "more bytes than the file has"),
        "offset beyond the end": (patched(good, 42, b"\xff\xff\xff\x7f"), "damaged"),
        "directory of 4 GB": (good[:-10] + b"\xff\xff\xff\xff" + good[-6:], "damaged"),
        "without data.pkl": (good.replace(b"data.pkl", b"data.txt"), "lacks `data.pkl`"),
        "pickle with more behind": (as_zip(content + b"N", storages), "goes on after its end"),
        "empty archive": (b"PK\x05\x06" + bytes(18), "lacks `data.pkl`"),
        "only the start": (good[:4], "damaged"),
    }


TRICKS = archives()


@pytest.mark.parametrize("name", TRICKS)
def test_archive_tricks(read, name):
    content, message = TRICKS[name]
    with pytest.raises(FormatError, match=rf"net.pth .*{message}.*\.$"):
        read(content)


def test_entries_that_share_their_bytes(read):
    with pytest.raises(FormatError, match="unfolds to far more memory"):
        read(overlapping(1000))
    assert len(read(overlapping(1))) == 1


# --- bounds ----------------------------------------------------------------------------------------------------------


def bounded(read, content: bytes):
    """Reads under a meter; returns the result or the error. The peak and the time must stay within the contract."""
    tracemalloc.reset_peak()
    before, start = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        result = read(content)
    except OfaError as error:
        result = error
    seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1] - before
    assert peak <= 2 * len(content) + ALLOWED_OVERHEAD, (peak, len(content))
    assert seconds < 20, seconds
    return result


@pytest.fixture
def metered():
    tracemalloc.start()
    yield
    tracemalloc.stop()


AMPLIFIERS = {
    "empty dicts": b"}" * 1_000_000,
    "dicts of one": b"}K\x01Ns" * 300_000,
    "memo": b"N" + b"\x94" * 1_000_000,
    "memo far apart": b"N" + b"".join(b"r" + struct.pack("<I", i * 9973) for i in range(300_000)),
    "nested tuples": b")" + b"\x85" * 1_000_000,
    "wide characters": instructions("\U0001f600" + "a" * 900_000) * 30,
    "tensors of 32 dimensions": instructions(Tensor(BASE, (1,) * 32, (1,) * 32))[:-1]
    + b"\x94ctorch._utils\n_rebuild_tensor_v2\n\x94"
    + b"h\x01h\x00R" * 300_000,
    "lists to weigh": b"(" + b"]Na" * 100_000 + b"l",
}


@pytest.mark.usefixtures("metered")
@pytest.mark.parametrize("name", AMPLIFIERS)
def test_small_instructions_that_leave_much(read, name):
    result = bounded(read, as_stream(pickled(Raw(AMPLIFIERS[name])), {"0": BASE}))
    assert isinstance(result, FormatError)


@pytest.mark.usefixtures("metered")
@pytest.mark.parametrize(("kind", "dtype"), [("BFloat16Storage", "<u2"), ("FloatStorage", "<f4")])
def test_large_tensors_take_twice_their_size_at_most(container, read, kind, dtype):
    values = np.ones(20_000_000, dtype)
    content = save(container, [Tensor(values, (20_000_000,), (1,), kind=kind)])
    before = tracemalloc.get_traced_memory()[0]
    assert bounded(read, content)[0].shape == (20_000_000,)
    assert tracemalloc.get_traced_memory()[1] - before > 40_000_000, "the meter does not see arrays"


# --- fuzz ------------------------------------------------------------------------------------------------------------


def mutations(rng: np.random.Generator, canary) -> dict:
    """Mutators by name; each returns a new file from the container, its pickle and its whole."""
    snippets = [code for code in HOSTILE.values() if len(code) < 200]
    snippets += [code for function in FUNCTIONS for code in touch(canary, function).values()]
    snippets += [bytes([code]) for code in b"012(tRbQ\x81\x93aesu."]
    lengths = [struct.pack("<Q", number) for number in (1 << 63, (1 << 63) - 1, (1 << 64) - 1, 1 << 31, 1 << 40, 0)]
    tricks = [content for content, _ in TRICKS.values()]
    points = [int(position or 0) for _, _, position in pickletools.genops(pickled(VALID))][1:]

    def truncate(_, __, whole):
        return whole[: rng.integers(len(whole))]

    def flip(_, __, whole):
        return flipped(rng, whole)

    def flip_pickle(container, pickle_bytes, _):
        return container(flipped(rng, pickle_bytes), storages_of(VALID))

    def length(_, __, whole):
        start, width = rng.integers(len(whole)), rng.choice([1, 2, 4, 8])
        return whole[:start] + lengths[rng.integers(len(lengths))][-width:] + whole[start + width :]

    def hostile(container, pickle_bytes, _):
        point, snippet = rng.choice(points), snippets[rng.integers(len(snippets))]
        return container(pickle_bytes[:point] + snippet + pickle_bytes[point:], storages_of(VALID))

    def shuffle(container, pickle_bytes, _):
        """Leaves out, repeats or moves whole instructions."""
        first, second = sorted(rng.choice(points, 2))
        middle = [b"", pickle_bytes[first:second] * 2, pickle_bytes[second : second + 9]][rng.integers(3)]
        return container(pickle_bytes[:first] + middle + pickle_bytes[second:], storages_of(VALID))

    def splice(_, __, whole):
        first, second, third = rng.integers(len(whole), size=3)
        return whole[:first] + whole[second : second + third % 64] + whole[first + third % 16 :]

    def trick(*_):
        content = tricks[rng.integers(len(tricks))]
        return flipped(rng, content) if rng.random() < 0.5 else content

    return {f.__name__: f for f in (truncate, flip, flip_pickle, length, hostile, shuffle, splice, trick)}


def flipped(rng: np.random.Generator, content: bytes) -> bytes:
    array = np.frombuffer(content, "u1").copy()
    for place in rng.integers(len(array), size=rng.integers(1, 5)):
        array[place] ^= 1 << rng.integers(8)
    return array.tobytes()


@pytest.mark.usefixtures("metered")
def test_fuzz(read, tmp_path):
    """Every mutated file is read or refused in our words, within the bounds, and nothing is executed."""
    n_files, rng, canary = 10_000, np.random.default_rng(20240601), tmp_path / "canary"
    mutators, pickle_bytes = mutations(rng, canary), pickled(VALID)
    wholes = {name: save(container, VALID) for name, container in CONTAINERS.items()}
    outcomes: Counter = Counter()
    for index in range(n_files):
        kind = list(mutators)[index % len(mutators)]
        name = list(CONTAINERS)[rng.integers(2)]
        result = bounded(read, mutators[kind](CONTAINERS[name], pickle_bytes, wholes[name]))
        outcomes[kind, "refused" if isinstance(result, OfaError) else "read"] += 1
    assert not canary.exists()
    assert sum(outcomes.values()) == n_files
    refused = {kind: outcomes[kind, "refused"] / (n_files / len(mutators)) for kind in mutators}
    assert refused["truncate"] == 1
    assert refused["hostile"] > 0.8
    assert refused["trick"] > 0.9
    assert all(share > 0.3 for share in refused.values()), refused
    # Flipped values of a stream, names and numbers go unnoticed: no check would be left to fail otherwise.
    assert all(refused[kind] < 0.99 for kind in ("flip", "flip_pickle", "length", "shuffle", "splice"))
