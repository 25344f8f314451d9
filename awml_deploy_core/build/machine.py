"""The GPUs of this machine, asked of the driver itself: no framework is loaded for it; without one there are none."""

from __future__ import annotations

import ctypes

from attrs import frozen

__all__ = ["Gpu", "driver", "gpus"]

_MAJOR, _MINOR = 75, 76
"""The driver's numbers for the two halves of the compute capability."""


@frozen(kw_only=True)
class Gpu:
    """A GPU.

    Args:
        name: As the driver calls it.
        capability: Its compute capability: `8.6`.
    """

    name: str
    capability: str


def gpus() -> tuple[Gpu, ...]:
    """Every GPU that the driver shows."""
    cuda = _cuda()
    if cuda is None:
        return ()
    count = ctypes.c_int()
    cuda.cuDeviceGetCount(ctypes.byref(count))
    return tuple(_gpu(cuda, index) for index in range(count.value))


def _gpu(cuda: ctypes.CDLL, index: int) -> Gpu:
    name, major, minor = ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    cuda.cuDeviceGetName(name, 256, index)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, index)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, index)
    return Gpu(name=name.value.decode(errors="replace"), capability=f"{major.value}.{minor.value}")


def driver() -> str | None:
    """The CUDA version that the driver serves: `12.8`; None without one."""
    cuda = _cuda()
    if cuda is None:
        return None
    version = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _cuda() -> ctypes.CDLL | None:
    try:
        found = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return found if found.cuInit(0) == 0 else None
