"""Weights files that are small and ask for much, or lead elsewhere: one writer for each."""

from __future__ import annotations

import gzip
import json
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from scipy.io import savemat

from tests.weights.converters import tensorflow_writer as tf
from tests.weights.torch_writer import Announced, pickled, write_legacy, write_zip

MIB = 2**20
BOMB_MIB = 250
"""What the bombs unpack to, more than is allowed; attacks set more."""
CRAFTED: dict[str, tuple[str, str, Callable[[Path], Any]]] = {}
"""By name: the registry entry, the name of the file, and what writes it."""


def crafted(entry: str, file: str) -> Callable[[Callable[[Path], Any]], Callable[[Path], Any]]:
    def note(write: Callable[[Path], Any]) -> Callable[[Path], Any]:
        CRAFTED[write.__name__] = (entry, file, write)
        return write

    return note


def packed_zeros(head: bytes = b"") -> bytes:
    """Compress many zeros after a head, without having them in memory."""
    pack = zlib.compressobj(9)
    data = pack.compress(head) + b"".join(pack.compress(bytes(MIB)) for _ in range(BOMB_MIB))
    return data + pack.flush()


# ---------------------------------------------------------------- PyTorch

NESTED = b"}X\1\0\0\0x" + b"".join(b"q\0h\0\x86" for _ in range(64)) + b"Ns."
PROGRAMS = {
    "nested_key": NESTED,
    "nested_pairs": b"ccollections\nOrderedDict\n]]" + NESTED[1:-3] + b"Neaa\x85R.",
    "bytearray": b"cbuiltins\nbytearray\n\x8a\5\0\0\0\0\x10\x85R.",
    "tensor_class": b"ctorch\nFloatTensor\n\x8a\5\0\0\0\0\x10\x85R.",
    "punycode": b"c_codecs\nencode\nX\1\0\0\0aX\x08\0\0\0punycode\x86R.",
    "million_lists": b"(" + b"]" * 550_000 + b"l.",
    "million_calls": b"(" + b"ccollections\nOrderedDict\n)R" * 220_000 + b"t.",
    "long_text": b"X\xff\xff\xff\x7fabc.",
    "deep": b"]" * 200_000 + b"a" * 199_999 + b".",
    "code": b"cposix\nsystem\nX\4\0\0\0true\x85R.",
}
TENSORS: dict[str, Any] = {
    "announced": Announced("0", 2**40, (2**40,), (1,)),
    "expanded": Announced("0", 10, (2**40,), (0,)),
    "overflowing": Announced("0", 10, (2**62, 2**62), (0, 0)),
    "shared": {str(i): Announced("0", 10, (10, 2**20), (1, 0)) for i in range(5000)},
    "outside": Announced("0", 10, (4, 4), (4, 1)),
    "infinite": torch.full((64, 3, 3, 3), torch.inf),
    "complex": torch.zeros(64, 3, 3, 3, dtype=torch.complex64),
    "sparse": torch.eye(64).to_sparse(),
}


def _add_torch(name: str, is_zip: bool, contents: Any, records: dict[str, bytes]) -> None:
    def write(path: Path) -> None:
        if any(isinstance(value, torch.Tensor) for value in contents.values()):
            torch.save({"model": contents}, path, _use_new_zipfile_serialization=is_zip)
        else:
            (write_zip if is_zip else write_legacy)(path, {"model": contents}, records)

    CRAFTED[f"torch_{'zip' if is_zip else 'legacy'}_{name}"] = ("d2_tf", "net.pth", write)


for _is_zip in (True, False):
    for _name, _tensor in TENSORS.items():
        _contents = _tensor if isinstance(_tensor, dict) else {"conv1.weight": _tensor}
        _add_torch(_name, _is_zip, _contents, {"0": bytes(40)})
    for _name, _program in PROGRAMS.items():
        _write = write_zip if _is_zip else write_legacy
        CRAFTED[f"torch_{'zip' if _is_zip else 'legacy'}_{_name}"] = (
            "d2_tf",
            "net.pth",
            lambda path, write=_write, program=_program: write(path, b"\x80\2" + program, {}),
        )


@crafted("d2_tf", "net.pth")
def torch_deflated_storage(path: Path) -> None:
    numel = 250 * MIB // 4
    records = {"0": bytes(4 * numel)}
    write_zip(path, {"model": {"a": Announced("0", numel, (numel,), (1,))}}, records, 8)


@crafted("d2_tf", "net.pth")
def torch_deflated_pickle(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data.pkl", "w", force_zip64=True) as file:
            for _ in range(BOMB_MIB):
                file.write(b"]" * MIB)
        archive.writestr("archive/version", "3\n")


@crafted("d2_tf", "net.pth")
def torch_many_members(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled({"model": {}}))
        for number in range(20_000):
            archive.writestr(f"archive/data/{number}", b"")


@crafted("d2_tf", "net.pth")
def torch_escaping_names(path: Path) -> None:
    tensor = Announced("../../../etc/passwd", 1, (1,), (1,))
    write_zip(path, {"model": {"a": tensor}}, {"0": b"1234"})


@crafted("d2_tf", "net.pth")
def sparse_terabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate(2**40)


# ---------------------------------------------------------------- safetensors


def write_safetensors(path: Path, head: Any, content: bytes = b"", size: int | None = None) -> None:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + content)


@crafted("d2_tf", "net.safetensors")
def safetensors_huge_head(path: Path) -> None:
    write_safetensors(path, b"{}", size=2**62)


@crafted("d2_tf", "net.safetensors")
def safetensors_long_head(path: Path) -> None:
    write_safetensors(path, b'{"__metadata__":{' + b'"a":"b",' * (3 * MIB) + b'"c":"d"}}')


@crafted("d2_tf", "net.safetensors")
def safetensors_huge_shape(path: Path) -> None:
    shape = {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}
    write_safetensors(path, {"a": shape}, bytes(4))


@crafted("d2_tf", "net.safetensors")
def safetensors_shared_bytes(path: Path) -> None:
    one = {"dtype": "U8", "shape": [MIB], "data_offsets": [0, MIB]}
    write_safetensors(path, {str(i): one for i in range(5000)}, bytes(MIB))


@crafted("d2_tf", "net.safetensors")
def safetensors_terabyte(path: Path) -> None:
    write_safetensors(path, {"a": {"dtype": "U8", "shape": [2**40], "data_offsets": [0, 2**40]}})
    os.truncate(path, path.stat().st_size + 2**40)


# ---------------------------------------------------------------- MATLAB 5


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<2I", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(array_class: int, shape: tuple[int, ...], name: bytes, content: bytes) -> bytes:
    head = element(6, struct.pack("<2I", array_class, 0))
    head += element(5, struct.pack(f"<{len(shape)}i", *shape)) + element(1, name)
    return struct.pack("<2I", 14, len(head + content)) + head + content


def write_mat5(path: Path, *variables: bytes) -> None:
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    path.write_bytes(head + b"".join(variables))


def packed(content: bytes) -> bytes:
    data = zlib.compress(content)
    return struct.pack("<2I", 15, len(data)) + data


@crafted("doap_liberty", "net.mat")
def mat5_zeros(path: Path) -> None:
    size = BOMB_MIB * MIB
    array = matrix(7, (size // 4, 1), b"net", struct.pack("<2I", 7, size))
    head = array[:4] + struct.pack("<I", len(array) - 8 + size) + array[8:]
    data = packed_zeros(head)
    write_mat5(path, struct.pack("<2I", 15, len(data)) + data)


@crafted("doap_liberty", "net.mat")
def mat5_more_than_announced(path: Path) -> None:
    data = packed_zeros(matrix(7, (1, 1), b"net", element(7, bytes(4))))
    write_mat5(path, struct.pack("<2I", 15, len(data)) + data)


@crafted("doap_liberty", "net.mat")
def mat5_small_numbers(path: Path) -> None:
    """Doubles that are stored in a byte each."""
    size = 80 * MIB
    write_mat5(path, packed(matrix(6, (size, 1), b"net", element(2, bytes(size)))))


@crafted("doap_liberty", "net.mat")
def mat5_empty_cells(path: Path) -> None:
    count = 5 * MIB
    write_mat5(path, packed(matrix(1, (count, 1), b"net", struct.pack("<2I", 14, 0) * count)))


@crafted("doap_liberty", "net.mat")
def mat5_huge_cell(path: Path) -> None:
    write_mat5(path, matrix(1, (2**31 - 1, 2**31 - 1), b"net", b""))


@crafted("doap_liberty", "net.mat")
def mat5_text(path: Path) -> None:
    size = 80 * MIB
    write_mat5(path, packed(matrix(4, (size // 2, 1), b"net", element(4, b"\0\x20" * (size // 2)))))


@crafted("doap_liberty", "net.mat")
def mat5_deep(path: Path) -> None:
    value = b""
    for _ in range(3000):
        value = matrix(1, (1, 1), b"", value)
    write_mat5(path, value)


@crafted("doap_liberty", "net.mat")
def mat5_negative_shape(path: Path) -> None:
    write_mat5(path, matrix(7, (-1, -4), b"net", element(7, bytes(16))))


@crafted("doap_liberty", "net.mat")
def mat5_zero_strides(path: Path) -> None:
    layer = {"type": "conv", "stride": 0.0, "pad": np.inf, "weights": np.empty((1, 2), object)}
    layer["weights"][0, 0] = np.ones((3, 3, 1, 4), np.float32)
    layer["weights"][0, 1] = np.ones((4, 1), np.float32)
    meta = {"normalization": {"imageSize": np.inf}}
    savemat(path, {"net": {"layers": [layer, layer], "meta": meta}})


# ---------------------------------------------------------------- MATLAB 7.3


def mat73(write: Callable[[h5py.File, Path], Any]) -> Callable[[h5py.File, Path], Any]:
    def write_file(path: Path) -> None:
        with h5py.File(path, "w", userblock_size=512) as file:
            write(file, path.parent)
        with path.open("r+b") as opened:
            opened.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")

    CRAFTED[write.__name__] = ("doap_liberty", "net.mat", write_file)
    return write


@mat73
def mat73_announced(file: h5py.File, _: Path) -> None:
    file.create_dataset("net/layers", (2**40,), "f4", chunks=(1024,))


@mat73
def mat73_zeros(file: h5py.File, _: Path) -> None:
    size = BOMB_MIB * MIB
    data = file.create_dataset("net/layers", (size,), "u1", chunks=(MIB,), compression=9)
    for start in range(0, size, MIB):
        data[start : start + MIB] = 0


@mat73
def mat73_chunk_bomb(file: h5py.File, _: Path) -> None:
    data = file.create_dataset("net/layers", (8,), "u1", chunks=(8,), compression=9)
    data.id.write_direct_chunk((0,), packed_zeros())


@mat73
def mat73_wide_chunk(file: h5py.File, _: Path) -> None:
    data = file.create_dataset("a", (8,), "u1", chunks=(2**31,), maxshape=(None,), compression=9)
    data.id.write_direct_chunk((0,), packed_zeros())


@mat73
def mat73_self_reference(file: h5py.File, _: Path) -> None:
    cell = file.create_dataset("net", (2, 1), h5py.ref_dtype)
    cell[:, 0] = [cell.ref, cell.ref]
    cell.attrs["MATLAB_class"] = np.bytes_("cell")


@mat73
def mat73_doubling(file: h5py.File, _: Path) -> None:
    value = file.create_dataset("#refs#/end", data=np.zeros((1, 1)))
    for level in range(50):
        references = np.full((2, 1), value.ref, h5py.ref_dtype)
        value = file.create_dataset(f"#refs#/{level}", data=references, dtype=h5py.ref_dtype)
        value.attrs["MATLAB_class"] = np.bytes_("cell")
    file["net"] = value


@mat73
def mat73_loop(file: h5py.File, _: Path) -> None:
    file["net/net"] = file.create_group("net")


@mat73
def mat73_links(file: h5py.File, folder: Path) -> None:
    os.mkfifo(folder / "fifo.h5")
    file["net"] = h5py.ExternalLink("fifo.h5", "/")


@mat73
def mat73_external(file: h5py.File, folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    file.create_dataset("net", (8,), "u1", external=[(str(folder / "fifo"), 0, 8)])


@mat73
def mat73_many_groups(file: h5py.File, _: Path) -> None:
    group = file.create_group("net")
    for number in range(110_000):
        group[str(number)] = group


# ---------------------------------------------------------------- TensorFlow


def const(name: str, message: bytes) -> bytes:
    return tf.node(name, "Const", (), {"value": tf.chunk(8, message)})


def filled(size: int) -> bytes:
    return tf.number(1, 1) + tf.chunk(2, tf.shape_message([size])) + tf.chunk(5, bytes(4))


@crafted("contextdesc_pp", "net.pb")
def graph_filled(path: Path) -> None:
    path.write_bytes(b"".join(const(str(i), filled(2**26)) for i in range(100)))


@crafted("contextdesc_pp", "net.pb")
def graph_many_fields(path: Path) -> None:
    path.write_bytes(tf.node("a", "b") + b"\x10\1" * (60 * MIB))


@crafted("contextdesc_pp", "net.pb")
def graph_long_list(path: Path) -> None:
    message = tf.number(1, 9) + tf.chunk(2, tf.shape_message([1])) + tf.chunk(10, b"\1" * 60 * MIB)
    path.write_bytes(const("a", message))


@crafted("contextdesc_pp", "net.pb")
def graph_many_axes(path: Path) -> None:
    path.write_bytes(const("a", tf.number(1, 1) + tf.chunk(2, tf.shape_message([2**62] * 50_000))))


@crafted("contextdesc_pp", "net.pb")
def graph_loop(path: Path) -> None:
    nodes = [tf.node("a", "Identity", ["b"]), tf.node("b", "Identity", ["a"])]
    nodes.append(tf.node("c", "FusedBatchNorm", ["x", "x", "x", "x", "a"]))
    path.write_bytes(b"".join(nodes))


@crafted("contextdesc_pp", "net.index")
def bundle_long_keys(path: Path) -> None:
    keys = {"x" * 20_000 + f"{number:06}": b"" for number in range(200)}
    path.write_bytes(tf.table(keys, per_block=200, restart_interval=10**6))


@crafted("contextdesc_pp", "net.index")
def bundle_overlapping(path: Path) -> None:
    size = 16 * MIB
    path.with_name("net.data-00000-of-00001").write_bytes(bytes(size))
    entry = tf.number(1, 1) + tf.chunk(2, tf.shape_message([size // 4])) + tf.number(5, size)
    entry += tf.varint(6 << 3 | 5) + struct.pack("<I", tf.masked_crc32c(bytes(size)))
    entries = {f"{number}/vis_context/conv1/kernel": entry for number in range(500)}
    path.write_bytes(tf.table({"": tf.number(1, 1), **entries}))


@crafted("contextdesc_pp", "net.index")
def bundle_terabyte(path: Path) -> None:
    with path.with_name("net.data-00000-of-00001").open("wb") as file:
        file.truncate(2**40)
    entry = tf.number(1, 1) + tf.chunk(2, tf.shape_message([2**38])) + tf.number(5, 2**40)
    path.write_bytes(tf.table({"": tf.number(1, 1), "vis_context/conv1/kernel": entry}))


# ---------------------------------------------------------------- tar


def tar_member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


@crafted("contextdesc_pp", "net.tar")
def tar_gzip_zeros(path: Path) -> None:
    with gzip.open(path, "wb") as file:
        file.write(tar_member("loc.pb", BOMB_MIB * MIB))
        for _ in range(BOMB_MIB):
            file.write(bytes(MIB))


@crafted("contextdesc_pp", "net.tar")
def tar_many_members(path: Path) -> None:
    path.write_bytes(b"".join(tar_member(f"{number}.txt") for number in range(50_000)))


@crafted("contextdesc_pp", "net.tar")
def tar_announced(path: Path) -> None:
    path.write_bytes(tar_member("loc.pb", 2**33) + bytes(MIB))


@crafted("contextdesc_pp", "net.tar")
def tar_negative_size(path: Path) -> None:
    head = bytearray(tar_member("loc.pb"))
    head[124:136] = b"\xff" * 10 + struct.pack(">h", -1024)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    path.write_bytes(bytes(head) * 3)


@crafted("contextdesc_pp", "net.tar")
def tar_hole(path: Path) -> None:
    """GNU's form of a file with holes, which unpacks to 64 GB."""
    head = bytearray(tar_member("loc.pb", 0, tarfile.GNUTYPE_SPARSE))
    head[386:410] = b"%011o\0%011o\0" % (0, 0)
    head[483:495] = struct.pack(">BxxxQ", 128, 2**36)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    path.write_bytes(bytes(head) + tar_member("aug.pb") + bytes(1024))


@crafted("contextdesc_pp", "net.tar")
def tar_links_and_devices(path: Path) -> None:
    members = [tar_member("loc.pb", 0, tarfile.SYMTYPE, "/etc/passwd")]
    members.append(tar_member("aug.pb", 0, tarfile.CHRTYPE))
    members.append(tar_member("../../../reg.pb", 0, tarfile.LNKTYPE, "/etc/passwd"))
    path.write_bytes(b"".join(members) + bytes(1024))


@crafted("contextdesc_pp", "net.tar")
def tar_chained_headers(path: Path) -> None:
    path.write_bytes(tar_member("././@LongLink", 0, tarfile.GNUTYPE_LONGNAME) * 100_000)


@crafted("contextdesc_pp", "net.tar")
def tar_in_a_tar(path: Path) -> None:
    path.write_bytes((tar_member("net.tar", 10_240) + bytes(512)) * 10 + bytes(1024))
