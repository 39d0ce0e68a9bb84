"""The GPU: its arrays, its clock, its facts. The one module here that names CuPy."""

import gc
import itertools
import math
import sys
import time
from collections.abc import Callable
from statistics import fmean
from typing import NamedTuple

from albert_np.backend import get_backend
from albert_np.kernels.cuda.cupy_executor import CupyExecutor
from albert_np.libraries import import_library
from benchmarks.arguments import NotAvailable

DELAY_BYTES = 2**28  # copied to keep the GPU busy while launches line up; beyond any L2 cache
AT_LEAST = 2e-3  # seconds of work in one turn
MOST_CALLS = 200  # in one turn
LINED_UP = 1.5  # times as long as the launches took, the GPU is kept busy
FLUSHED_CALLS = 20  # in one turn, each behind a copy


class Machine(NamedTuple):
    """What the measurements need to know of a GPU, or of what stands for one in the tests.

    Attributes
    ----------
    executor : CupyExecutor or HostExecutor
    tf32_executor : CupyExecutor or HostExecutor
        One that may round what products of float32 multiply to tf32.
    xp : module
        The arrays' library: CuPy or NumPy.
    clock : Clock
    torch_device : str
        Where PyTorch's tensors go.
    facts : dict
        Name, memory, L2 cache, driver: for the results.
    free_bytes : callable
        `free_bytes()`: memory that arrays may still take.
    tidy : callable
        `tidy()`: give back memory that nobody uses.
    backend : callable
        `backend()`: the back end that the whole model runs on.
    """

    executor: object
    tf32_executor: object
    xp: object
    clock: object
    torch_device: str
    facts: dict
    free_bytes: Callable
    tidy: Callable
    backend: Callable


def gpu():
    """The current GPU.

    Raises
    ------
    NotAvailable
        If there is none, or CuPy is not installed.
    """
    try:
        # NumPy and CuPy know bfloat16 from then on.
        import_library("ml_dtypes", "the back end 'cuda'", "albert-np[cuda]")
        executor = CupyExecutor()
    except (ImportError, RuntimeError) as error:
        raise NotAvailable(f"nothing was measured: {error}") from error
    cupy = executor.cupy
    return Machine(
        executor=executor,
        tf32_executor=CupyExecutor(allow_tf32=True),
        xp=cupy,
        clock=Clock(CupyEvents(cupy)),
        torch_device="cuda",
        facts=facts_of(cupy),
        free_bytes=lambda: cupy.cuda.runtime.memGetInfo()[0],
        tidy=lambda: tidy(cupy),
        backend=lambda: get_backend("cuda"),
    )


def tidy(cupy):
    """Give back memory that CuPy, and PyTorch if it is in use, keep for later."""
    gc.collect()
    cupy.get_default_memory_pool().free_all_blocks()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()


def facts_of(cupy):
    """What the results say of the GPU."""
    device = cupy.cuda.Device()
    properties = cupy.cuda.runtime.getDeviceProperties(device.id)
    return {
        "name": properties["name"].decode(),
        "compute_capability": device.compute_capability,
        "multiprocessors": properties["multiProcessorCount"],
        "memory_bytes": properties["totalGlobalMem"],
        "l2_bytes": properties["l2CacheSize"],
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
    }


class CupyEvents:
    """CUDA's events on the null stream, which PyTorch's and Triton's launches go to as well."""

    def __init__(self, cupy):
        self.cupy = cupy
        self.source = cupy.zeros(DELAY_BYTES // 2, cupy.uint8)
        self.target = cupy.zeros_like(self.source)

    def record(self):
        """An event, at this point of the stream."""
        event = self.cupy.cuda.Event()
        event.record()
        return event

    def seconds(self, start, end):
        """Between two events, once the second has come."""
        end.synchronize()
        return self.cupy.cuda.get_elapsed_time(start, end) / 1e3

    def copy(self):
        """Keep the GPU busy with a copy of DELAY_BYTES, read and written."""
        self.cupy.copyto(self.target, self.source)


class Clock:
    """Times calls by events.

    The calls of one turn are launched while the GPU is still busy with copies: it then does them
    one after the other, and how long Python took to launch them does not count. The copies also
    drive what was there out of the L2 cache.

    Parameters
    ----------
    events : CupyEvents
    """

    def __init__(self, events):
        self.events = events
        self._copy_seconds = None

    def turn_of(self, calls, hides_launches=True):
        """Prepare to time some calls.

        Parameters
        ----------
        calls : list of callable
            The same work on different memory, so that no call finds its input in a cache.
        hides_launches : bool, optional
            Whether launching is not to count. Otherwise each call begins on an idle GPU, and its
            time is the latency that a user sees.

        Returns
        -------
        turn : callable
            `turn(command)`, for `take_turns`: the seconds of one call.
        """
        run_all(calls)  # compiles, and fills the libraries' caches
        launching, whole = self._launched(calls)
        passes = math.ceil(AT_LEAST / max(whole, 1e-9))
        passes = max(1, min(passes, MOST_CALLS // len(calls)))
        sequence = [*itertools.chain.from_iterable([calls] * passes)]
        copies = self._copies(launching * passes)
        if hides_launches:
            turn = lambda: self._busy(sequence, copies)  # noqa: E731
        else:
            turn = lambda: self._idle(sequence)  # noqa: E731
        return answering(turn)

    def flushed_turn_of(self, call):
        """Prepare to time a call that finds nothing of its own in the L2 cache.

        A copy, larger than the cache, goes before each call, and hides its launch.

        Parameters
        ----------
        call : callable

        Returns
        -------
        turn : callable
            As of `turn_of`.
        """
        call()
        launching, _ = self._launched([call])
        copies = max(1, self._copies(launching))
        return answering(lambda: fmean(self._busy([call], copies) for _ in range(FLUSHED_CALLS)))

    def _copies(self, launching):
        """How many copies keep the GPU busy for longer than launches take."""
        return math.ceil(LINED_UP * launching / self._seconds_of_copy())

    def _launched(self, calls):
        """How long the launches of the calls take, and how long it is until they are done."""
        start, begin = self.events.record(), time.perf_counter()
        run_all(calls)
        launching = time.perf_counter() - begin
        return launching, self.events.seconds(start, self.events.record())

    def _seconds_of_copy(self):
        if self._copy_seconds is None:
            self.events.copy()
            start = self.events.record()
            self.events.copy()
            self._copy_seconds = max(self.events.seconds(start, self.events.record()), 1e-6)
        return self._copy_seconds

    def _busy(self, calls, copies):
        for _ in range(copies):
            self.events.copy()
        start = self.events.record()
        run_all(calls)
        return self.events.seconds(start, self.events.record()) / len(calls)

    def _idle(self, calls):
        total = 0.0
        for call in calls:
            start = self.events.record()
            call()
            total += self.events.seconds(start, self.events.record())
        return total / len(calls)


def run_all(calls):
    for call in calls:
        call()


def answering(seconds):
    """A turn for `take_turns` that lasts `seconds()`."""
    return lambda _: {"seconds": seconds(), "idle_cpu_seconds": 0.0}
