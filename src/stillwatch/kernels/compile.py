"""compile: the one door to numba: no GIL, cached on disk, typed as the identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

Word = Any
"""A 64-bit number inside a kernel, signed or not: numba knows which, Python's types do not say it."""

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def _digest_of_kernels() -> str:
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"\0".join(source for source in sources if b"\n@jit\n" in source)).hexdigest()[:12]


_KERNELS = _digest_of_kernels()


def jit(function: Kernel) -> Kernel:
    """Compile `function` on its first call, without the GIL; keep the machine code beside the source.

    Where neither the package's folder nor the user's cache can be written (a read-only container), the code is
    compiled anew in each process.
    """
    # numba's cache looks at a kernel's own file only, and would go on using a changed kernel that it calls.
    function.__qualname__ += f"_{_KERNELS}"
    try:
        return numba.njit(function, nogil=True, cache=True, error_model="numpy")  # type: ignore[no-any-return]
    except RuntimeError:
        return numba.njit(function, nogil=True, error_model="numpy")  # type: ignore[no-any-return]
