"""The IDX reader: every element type, and no input that ends in anything but an array or a DataError."""

import gzip
import hashlib
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaekit.data.sources.idx import read_idx
from vaekit.errors import DataError

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
SMALL = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + b"abcdef"
TWO_BY_THREE = np.frombuffer(b"abcdef", dtype="u1").reshape(2, 3)


def header(*shape, code=8):
    return bytes([0, 0, code, len(shape)]) + np.array(shape, dtype=">u4").tobytes()


def peak(function):
    """Largest memory in use during a call that must end in a DataError, in bytes."""
    tracemalloc.start()
    with pytest.raises(DataError):
        function()
    high = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return high


@pytest.mark.parametrize("code", TYPES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 1, 3, 4)])
def test_reads_every_type_and_rank_in_native_order(code, shape):
    values = (np.arange(np.prod(shape)) * 5 - 7).astype(TYPES[code]).reshape(shape)
    content = header(*shape, code=code) + values.tobytes()
    for form in (content, gzip.compress(content)):
        array = read_idx(form)
        assert array.dtype == np.dtype(TYPES[code]).newbyteorder("=")
        assert array.dtype.isnative
        np.testing.assert_array_equal(array, values)


def test_path_bytes_and_gzip_agree(tmp_path):
    plain, packed = tmp_path / "plain", tmp_path / "packed.gz"
    plain.write_bytes(SMALL)
    packed.write_bytes(gzip.compress(SMALL))
    for source in (plain, str(plain), packed, SMALL):
        np.testing.assert_array_equal(read_idx(source), TWO_BY_THREE)


def test_md5_is_of_the_unpacked_content(tmp_path):
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(SMALL))
    np.testing.assert_array_equal(read_idx(packed, md5=hashlib.md5(SMALL).hexdigest()), TWO_BY_THREE)
    with pytest.raises(DataError, match=r"packed\.gz: its MD5 is .* but 0{32} is expected"):
        read_idx(packed, md5="0" * 32)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"\0\0\x08", "not an IDX file"),
        (b"\x89PNG" + SMALL, "not an IDX file: it starts with 89 50 4e 47"),
        (b"\0\0\x0a" + SMALL[3:], "not an IDX file"),
        (b"\0\0\x08\0", "not an IDX file"),
        (header(1, 1, 1, 1, 1) + b"a", "not an IDX file"),
        (SMALL[:10], "header says"),
        (header(0, 2**32 - 1, 2**32 - 1), "header says"),
        (SMALL[:-1], "17 bytes, but its header promises .2, 3."),
        (SMALL + b"g", "19 bytes, but its header promises .2, 3."),
        (gzip.compress(SMALL[:-1], mtime=0), "fewer bytes than its header promises"),
        (gzip.compress(SMALL + b"g", mtime=0), "more bytes than its header promises"),
        (gzip.compress(SMALL, mtime=0)[:-9], "damaged gzip"),
        (gzip.compress(SMALL, mtime=0)[:-1], "damaged gzip"),
        (gzip.compress(SMALL, mtime=0) + b"rubbish", "damaged gzip"),
        (b"\x1f\x8b", "damaged gzip"),
        (gzip.compress(b"", mtime=0), "not an IDX file"),
    ],
)
def test_damage_is_a_data_error_that_names_the_file(tmp_path, content, reason):
    path = tmp_path / "some-images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match=reason):
        read_idx(content)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it would wait for a writer for ever
    for path in (pipe, tmp_path, tmp_path / "absent", tmp_path / ("x" * 5000), "with\0zero"):
        with pytest.raises(DataError):
            read_idx(path)


@pytest.mark.parametrize("form", [bytes, gzip.compress])
def test_lying_header_takes_no_memory(form):
    content = form(header(2**32 - 1, 2**32 - 1, 2**32 - 1, code=0x0E) + bytes(1000))
    assert peak(lambda: read_idx(content)) < 2**22


def test_gzip_bomb_is_not_unpacked_beyond_the_header():
    bomb = gzip.compress(header(10) + bytes(2**26))
    assert peak(lambda: read_idx(bomb)) < 2**22


def test_memory_stays_near_the_honest_size(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(header(2**23) + bytes(2**23), 1))
    tracemalloc.start()
    assert read_idx(path).shape == (2**23,)
    high = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert high < 2 * 2**23


def test_every_flipped_bit_of_a_gzip_file_is_noticed_or_harmless():
    packed, refused = gzip.compress(SMALL), 0
    for i in range(8 * len(packed)):
        damaged = bytearray(packed)
        damaged[i // 8] ^= 1 << i % 8
        try:
            np.testing.assert_array_equal(read_idx(bytes(damaged)), TWO_BY_THREE)
        except DataError:
            refused += 1
    assert refused > 4 * len(packed)  # most bits are content or checksum


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.binary(max_size=64),
        st.binary(max_size=64).map(lambda tail: b"\x1f\x8b" + tail),
        st.tuples(st.sampled_from(sorted(TYPES)), st.integers(0, 255), st.binary(max_size=40)).map(
            lambda t: bytes([0, 0, t[0], t[1]]) + t[2]
        ),
        st.tuples(st.binary(max_size=40), st.booleans()).map(
            lambda t: gzip.compress(header(3, 4) + t[0]) if t[1] else header(3, 4) + t[0]
        ),
    )
)
def test_any_bytes_end_in_an_array_or_a_data_error(content):
    try:
        array = read_idx(content)
    except DataError:
        return
    assert array.size > 0
