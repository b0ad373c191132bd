"""Kernels: compiled once, free of the GIL, usable where nothing can be written."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pytest

from stillwatch.kernels import compile as door
from stillwatch.kernels import hashing, networks, shingles, sketches
from stillwatch.kernels.hashing import HashKey, hash_strings, network_keys
from stillwatch.kernels.shingles import ngram_hashes, skeleton_keys

KEY = HashKey(5, 6)


def test_each_kernel_is_compiled_for_one_type_only() -> None:
    """Every Arrow form, with and without nulls, goes through the same machine code."""
    texts = pa.array(["1.2.3.4", None, "::1"])
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        for column in (texts.cast(kind), texts.cast(kind).slice(2), texts.cast(kind).slice(0, 0), pa.nulls(2)):
            hash_strings(column, KEY)
            network_keys(column, HashKey(2**64 - 1, 0))
            skeleton_keys(column, KEY, n_words=3)
            ngram_hashes(column, KEY)
    hashing.siphash(b"", KEY)
    for values in (np.arange(6), np.arange(6)[::2], np.arange(0)):
        sketches.log2_bins(values)
        sketches.hour_of_week(values)
    kernels: tuple[Any, ...] = (
        hashing._hash_spans,
        hashing._sip_words,
        networks.read_networks,
        shingles._skeletons,
        shingles._ngrams,
        sketches._log2_bins,
        sketches._hour_of_week,
    )
    assert [len(kernel.signatures) for kernel in kernels] == [1] * len(kernels)
    assert all(kernel.targetoptions["nogil"] for kernel in kernels)


def test_threads_give_the_hashes_of_one_thread() -> None:
    """Kernels share no state: many threads over slices agree with one pass."""
    column = pa.array([f"row {i} of many words" for i in range(4000)])
    parts = [column.slice(at, 100) for at in range(0, 4000, 100)]
    with ThreadPoolExecutor(4) as pool:
        heads = np.concatenate(list(pool.map(lambda part: skeleton_keys(part, KEY)[0], parts)))
    assert heads.tolist() == skeleton_keys(column, KEY)[0].tolist()


def test_kernels_work_without_a_place_for_their_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where numba finds no folder to write to, the kernel is compiled in memory."""
    original = numba.njit

    def homeless(function: Any, **options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(function, **options)

    monkeypatch.setattr(numba, "njit", homeless)

    @door.jit
    def double(x: int) -> int:
        return 2 * x

    assert double(21) == 42
