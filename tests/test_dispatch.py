"""Which instruction set runs, and kernels in many threads and in forked children."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from processes import run_python

from tinyml._kernels import cpu, dispatch, memory, table
from tinyml._kernels.products import convolution, integer_layer
from tinyml._kernels.products.matmul import matmul
from tinyml._kernels.products.windows import Window
from tinyml._kernels.rows.codes import quantize_rows
from tinyml.errors import ShapeError

BYTES = {"neon": 16, "neon_dotprod": 16, "avx2": 32, "avx_vnni": 32, "avx512": 64, "avx512_vnni": 64}


# ---- the table


def test_the_table_is_whole():
    assert {feature for isa in table.ISAS.values() for feature in isa["features"]} == set(cpu.NAMES)
    assert cpu.features() <= set(cpu.NAMES)
    for machine in (*table.X86, *table.ARM, "riscv64"):
        *vectors, last = table.isas_for(machine)
        assert last == "baseline" and not table.ISAS[last]["features"] and bool(vectors) == (machine != "riscv64")
    assert table.isas_for("AMD64") == table.isas_for("x86_64")      # as Windows and Linux call it


@pytest.mark.parametrize("system, compiler, says", [
    ("Windows", "cc", "does not run on Windows itself.* Use the Windows Subsystem for Linux \\(WSL\\): `wsl --install`"),
    ("Linux", "clang-cl", "does not build with clang-cl: .* GCC and Clang. Set the environment variable CC to one of them"),
    ("Linux", r"C:\tools\CL.exe", "does not build with C:"),
])
def test_a_build_that_cannot_work_says_so(system, compiler, says):
    with pytest.raises(SystemExit, match=says):
        table.check_platform(system, compiler)


@pytest.mark.parametrize("system, compiler", [("Linux", "ccache gcc"), ("Linux", "/usr/bin/clang"), ("Darwin", "cc")])
def test_a_build_that_may_work_is_begun(system, compiler):
    assert table.check_platform(system, compiler) is None


def test_a_set_that_extends_another_only_has_a_better_dot4():
    """Its int8 kernels run beside the other kernels of the set that it extends, so packed weights must fit both."""
    for name, isa in table.ISAS.items():
        if base := table.ISAS.get(isa.get("extends")):
            assert base["machines"] == isa["machines"] and "extends" not in base
            assert set(base["flags"]) < set(isa["flags"]) and set(base["features"]) < set(isa["features"])
            assert list(table.ISAS).index(name) < list(table.ISAS).index(isa["extends"])
            if name in dispatch.available():
                one, other = dispatch.load(name), dispatch.load(isa["extends"])
                assert (one.lanes, one.offset) == (other.lanes, other.offset)
                assert [one.panel_for(n) for n in range(300)] == [other.panel_for(n) for n in range(300)]
    folder = Path(dispatch.__file__).parent

    def multiplies_bytes(source: Path) -> bool:
        text = source.read_text()
        included = [folder / name if "/" in name else source.with_name(name)
                    for name in re.findall(r'^include "(.+)"', text, re.MULTILINE)]
        return bool(re.search(r"\bvdot4\b", text)) or any(map(multiplies_bytes, included))

    kernels = {str(source.relative_to(folder).with_suffix("")): source for source in folder.rglob("*.pyx")}
    assert set(kernels) - set(table.KERNELS) == {"cpu", "memory"}
    assert {name for name, source in kernels.items() if multiplies_bytes(source)} == set(table.DOT4)


def test_vectors_are_as_wide_as_registers():
    for isa in dispatch.available():
        assert 4 * dispatch.load(isa).lanes == BYTES.get(isa, 16)


# ---- the choice


@pytest.mark.parametrize("isa", dispatch.available())
def test_the_best_set_of_a_cpu_runs(isa, monkeypatch):
    """On a CPU that has what a set needs and no more."""
    monkeypatch.delenv("TINYML_ISA", raising=False)
    monkeypatch.setattr(dispatch.cpu, "features", lambda: set(table.ISAS[isa]["features"]))
    assert dispatch.choose() == isa
    for feature in table.ISAS[isa]["features"]:
        monkeypatch.setattr(dispatch.cpu, "features", lambda feature=feature: set(cpu.NAMES) - {feature})
        assert isa not in dispatch.available()
        monkeypatch.setenv("TINYML_ISA", isa)
        with pytest.raises(ImportError, match=f"TINYML_ISA={isa}: expected one of {', '.join(dispatch.available())} on"):
            dispatch.choose()


def test_a_set_that_the_compiler_did_not_know_is_not_offered(monkeypatch, tmp_path):
    (tmp_path / "compiled" / "baseline" / "products").mkdir(parents=True)
    (tmp_path / "compiled" / "baseline" / "products" / "product_int8.so").touch()
    monkeypatch.setattr(dispatch, "__file__", str(tmp_path / "dispatch.py"))
    assert dispatch.available() == ["baseline"]


@pytest.mark.parametrize("module", ["tinyml", "benchmarks"])
def test_a_checkout_that_is_not_built_says_what_to_do(module, tmp_path):
    """As the working folder it comes before an installed tinyml; it may have kernels for another Python, or some only."""
    left_out = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "shipped")
    for package in ("tinyml", "benchmarks"):
        shutil.copytree(Path(__file__).parents[1] / package, tmp_path / package, ignore=left_out)
    says = f"not built for Python {sys.version_info.major}.{sys.version_info.minor}{{}}. Build them: python -m pip install"
    other = tmp_path / "tinyml" / "_kernels" / "memory.cpython-27-of-another.so"
    built = Path(memory.__file__)
    for make, found in ((lambda: None, ""), (other.touch, f", only for another one ({other.name})"),
                        (lambda: shutil.copy(built, other.with_name(built.name)), "")):
        make()
        done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=tmp_path, capture_output=True, text=True,
                              check=False)
        assert done.returncode and says.format(found) in done.stderr.splitlines()[-1]


def test_the_environment_chooses_the_instruction_set():
    show = "from tinyml._kernels import dispatch; print(dispatch.active.isa)"
    for isa in dispatch.available():
        assert run_python("-c", show, TINYML_ISA=isa).stdout.strip() == isa
    refused = run_python("-c", show, TINYML_ISA="mmx")
    assert refused.returncode
    assert f"TINYML_ISA=mmx: expected one of {', '.join(dispatch.available())} on this CPU" in refused.stderr


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64",
                    reason="compares with the flags that Linux lists for an x86 CPU")
def test_linux_sees_the_same_features():
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M).group(1).replace("_", "").split()
    assert cpu.features() == set(cpu.NAMES) & set(flags)


# ---- threads


def test_the_number_of_threads():
    dispatch.set_num_threads(3)
    assert dispatch.get_num_threads() == 3
    assert (dispatch.threads_for(10), dispatch.threads_for(10**9)) == (1, 3)
    most = dispatch.MOST_THREADS
    for n in (0, -1, 1.5, "2", None, True, np.True_, most + 1, 100_000, 2**31 - 1, 2**31, 2**70):
        with pytest.raises(ShapeError, match=f"set_num_threads: expected a whole number of at least 1 and at most {most}"):
            dispatch.set_num_threads(n)
    assert dispatch.get_num_threads() == 3
    dispatch.set_num_threads(np.int64(2))
    assert type(dispatch.get_num_threads()) is int and dispatch.get_num_threads() == 2
    assert dispatch.config()["openmp"] is cpu.openmp()


@pytest.mark.skipif(not cpu.openmp(), reason="built without OpenMP")
@pytest.mark.parametrize("value, threads", [("1", 1), ("3", 3), ("5,2", 5), ("100000", dispatch.MOST_THREADS)])
def test_the_environment_says_how_many_threads(value, threads):
    show = "from tinyml._kernels import dispatch; print(dispatch.get_num_threads(), dispatch.threads_for(10**9))"
    assert run_python("-c", show, OMP_NUM_THREADS=value).stdout.split() == [str(threads), str(threads)]


@pytest.mark.skipif(sys.platform != "linux" or not cpu.openmp(), reason="limits memory as Linux does")
def test_threads_that_cannot_start_are_an_error_or_fewer():
    """OpenMP alone would end the process."""
    done = run_python("-c", """
import resource, threading
import numpy as np
import pytest
from tinyml._kernels import dispatch
from tinyml._kernels.products.matmul import matmul
from tinyml.errors import ShapeError
a, got, limited, done = np.ones((200, 200), np.float32), [], threading.Event(), threading.Barrier(2)
def multiply():
    got.append((dispatch.threads_for(10**9), (matmul(a, a) == 200).all()))
def multiply_later():
    limited.wait()
    multiply()
    done.wait()         # a thread that ends gives its OpenMP threads back
threads = [threading.Thread(target=multiply_later) for _ in range(2)]
for t in threads:       # before there is no room for them
    t.start()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 900_000_000,) * 2)
multiply()
limited.set()
for t in threads:
    t.join()
assert len(got) == 3 and all(right for _, right in got) and 1 < got[0][0] < dispatch.get_num_threads(), got
with pytest.raises(ShapeError, match=r"lets this process start \\d+ of 64 threads"):
    dispatch.set_num_threads(64)
dispatch.set_num_threads(2)
""", OMP_NUM_THREADS="64")
    assert not done.returncode, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_children_forked_beside_threads_do_not_hang():
    """A few forks; `python tools/stress_forks.py` makes 500."""
    done = run_python(str(Path(__file__).parents[1] / "tools" / "stress_forks.py"), "20")
    assert not done.returncode and "20 forks: 20 as expected" in done.stdout, done.stdout + done.stderr


def work(seed: int) -> bytes:
    """Bytes of products and convolutions, floats and codes, large enough for more than one thread."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 8, 20 + seed, 20)).astype(np.float32)
    kernel = rng.standard_normal((24, 8, 3, 3)).astype(np.float32)
    window = Window((3, 3), padding=(1, 1))
    codes = rng.integers(-128, 128, (24, 8, 3, 3)).astype(np.int8)
    layer = integer_layer.IntegerLayer(codes, None, 3, window, integer_layer.Requant(np.full(24, 1e-3), 5))
    u, scale = quantize_rows(x)
    parts = [convolution.conv2d(x, kernel, None, window), layer.codes(np.ascontiguousarray(u.transpose(0, 2, 3, 1))), scale,
             matmul(x.reshape(-1, 160), rng.standard_normal((160, 50)).astype(np.float32))]
    return b"".join(np.ascontiguousarray(p).tobytes() for p in parts)


def test_kernels_called_from_many_threads_give_what_they_give_one_by_one():
    dispatch.set_num_threads(1)
    expected = [work(seed) for seed in range(6)]
    assert dispatch.threads_for(4 * 20 * 20 * 24 * 72) == 1 and len(set(expected)) == 6
    dispatch.set_num_threads(2)
    assert dispatch.threads_for(4 * 20 * 20 * 24 * 72) == 2
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, list(range(6)) * 5)) == expected * 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_runs_on_one_thread():
    # OpenMP's threads do not survive the fork: a child that used them would hang
    done = run_python("-c", """
import os, signal, sys
from test_dispatch import work
from tinyml._kernels import dispatch
dispatch.set_num_threads(2)
expected = work(1)
child = os.fork()
if child == 0:
    signal.alarm(200)
    serial = dispatch.get_num_threads() == dispatch.threads_for(10**9) == 1
    os._exit(0 if serial and work(1) == expected else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert done.returncode == 0, done.stderr
