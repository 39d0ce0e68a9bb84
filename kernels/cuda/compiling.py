"""Compiles kernels for GPUs with NVRTC, which needs no GPU and no driver (extra `cuda-compile`)."""

import contextlib
import functools
import re
from pathlib import Path
from typing import NamedTuple

from albert_np.files import replacing
from albert_np.kernels.cuda.kept import kept_file
from albert_np.kernels.cuda.launch import SOURCES, program


class CompileError(Exception):
    """The sources do not compile; the compiler's own words."""


class Report(NamedTuple):
    """What the compiler says of one kernel.

    Attributes
    ----------
    registers : int
        A thread.
    stack_bytes, spill_bytes : int
        Local memory a thread: of arrays that are indexed by variables; and what registers did not
        hold, stored and loaded.
    shared_bytes : int
        Static shared memory a block.
    """

    registers: int
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int


ENTRY = re.compile(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", re.S)
# Where ptxas must help multiplications whose registers are not left alone.
HELPED = re.compile(r"^ptxas .*wgmma.*", re.M)
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")


def compile_kernels(file, kernels, architecture, sources=SOURCES):
    """Compile kernels of one file to machine code.

    Parameters
    ----------
    file : str
    kernels : sequence of str
        Each with its template arguments.
    architecture : str
        Such as "sm_90a".
    sources : path, optional

    Returns
    -------
    dict of str to Report
        By kernel.

    Raises
    ------
    CompileError
    """
    with _compiled(file, kernels, architecture, sources) as (_, names, log):
        reports = {entry[1]: _report(entry[2]) for entry in ENTRY.finditer(log)}
        return {kernel: reports[name] for kernel, name in names.items()}


def machine_code(file, kernel, architecture, sources=SOURCES):
    """Compile one kernel, unless it is kept on disk from before.

    Parameters
    ----------
    file, kernel, architecture : str
    sources : path, optional

    Returns
    -------
    name : str
        Of the kernel, as its file has it.
    cubin : bytes
        The file.

    Raises
    ------
    CompileError
    """
    parts = program(file, Path(sources)), kernel, *_options(architecture), compiler_build()
    kept = kept_file("cuda", "named.cubin", parts)
    if not kept.exists():
        name, cubin = _machine_code(file, kernel, architecture, sources)
        with replacing(kept) as unfinished:
            unfinished.write_bytes(name.encode() + b"\n" + cubin)
    name, _, cubin = kept.read_bytes().partition(b"\n")
    return name.decode(), cubin


def _machine_code(file, kernel, architecture, sources):
    from cuda.bindings import nvrtc

    with _compiled(file, [kernel], architecture, sources) as (handle, names, _):
        cubin = b" " * _done(nvrtc.nvrtcGetCUBINSize(handle))
        _done(nvrtc.nvrtcGetCUBIN(handle, cubin))
        return names[kernel], cubin


@functools.cache
def compiler_build():
    """The compiler's release and build, as it signs an empty program."""
    from cuda.bindings import nvrtc

    handle = _done(nvrtc.nvrtcCreateProgram(b"", b"empty.cu", 0, [], []))
    try:
        _done(nvrtc.nvrtcCompileProgram(handle, 0, []))
        ptx = b" " * _done(nvrtc.nvrtcGetPTXSize(handle))
        _done(nvrtc.nvrtcGetPTX(handle, ptx))
    finally:
        nvrtc.nvrtcDestroyProgram(handle)
    return "\n".join(line for line in ptx.decode().splitlines() if line.startswith("//"))


def _options(architecture):
    """What the compiler is told, but where the sources are.

    CuPy flushes float32 numbers below the normal ones to zero. It does not compile for sm_90a, and
    what is compiled for that would need more registers so.
    """
    flushes = ("-ftz=true",) if architecture != "sm_90a" else ()
    return f"-arch={architecture}", "-std=c++17", "-Xptxas=-v", *flushes


@contextlib.contextmanager
def _compiled(file, kernels, architecture, sources):
    """NVRTC's handle of a program; the kernels' names in the machine code; and what it said."""
    from cuda.bindings import nvrtc

    text = program(file, Path(sources)).encode()
    handle = _done(nvrtc.nvrtcCreateProgram(text, b"program.cu", 0, [], []))
    try:
        for kernel in kernels:
            _done(nvrtc.nvrtcAddNameExpression(handle, kernel.encode()))
        options = (*_options(architecture), f"-I{Path(sources)}")
        encoded = [option.encode() for option in options]
        (status,) = nvrtc.nvrtcCompileProgram(handle, len(encoded), encoded)
        log = b" " * _done(nvrtc.nvrtcGetProgramLogSize(handle))
        _done(nvrtc.nvrtcGetProgramLog(handle, log))
        log = log.decode(errors="replace")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(f"{file} for {architecture}:\n{log}")
        helped = HELPED.search(log)
        if helped:
            raise CompileError(f"{file} for {architecture}: {helped[0]}")
        lowered = [_done(nvrtc.nvrtcGetLoweredName(handle, k.encode())) for k in kernels]
        yield handle, {k: name.decode() for k, name in zip(kernels, lowered, strict=True)}, log
    finally:
        nvrtc.nvrtcDestroyProgram(handle)


def _done(answer):
    """What a call of NVRTC gave, after its status."""
    status, *values = answer
    if status.value != 0:
        raise CompileError(f"NVRTC answered {status.name}")
    return values[0] if values else None


def _report(text):
    stack, stores, loads = map(int, FRAME.search(text).groups())
    shared = re.search(r"(\d+) bytes smem", text)
    return Report(
        registers=int(re.search(r"Used (\d+) registers", text)[1]),
        stack_bytes=stack,
        spill_bytes=stores + loads,
        shared_bytes=int(shared[1]) if shared else 0,
    )
