"""Builds the kernels: every .pyx of the kernel table once per instruction set of this machine.

TINYML_DEBUG=1 builds with bounds checks, TINYML_SANITIZE=1 with GCC's sanitizers (make sanitize). Metadata is in
pyproject.toml.
"""

import os
import platform
import runpy
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = Path("tinyml/_kernels")
DEPENDS = sorted(str(path) for path in (KERNELS / "table.py", *KERNELS.rglob("*.h")))
DEBUG = os.environ.get("TINYML_DEBUG") == "1"
SANITIZERS = ["-fsanitize=address,undefined"] if os.environ.get("TINYML_SANITIZE") == "1" else []
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "freethreading_compatible": False,
}
# Contraction off: a fused multiply-add is written where it is meant. Signed sums wrap: packed corrections rely on it.
# The last two are for Clang, to which some of GCC's flags are unknown, those of table.py too.
FLAGS = ["-O3", "-ffp-contract=off", "-fwrapv", "-fno-math-errno", "-fno-trapping-math", "-Wno-unused-function",
         "-Wno-discarded-qualifiers", "-Wno-unknown-warning-option", "-Wno-ignored-optimization-argument"]
if SANITIZERS:
    FLAGS += [*SANITIZERS, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g"]
elif not DEBUG:
    FLAGS.append("-g0")     # two thirds of the time to compile, a fifth of the size
ONCE = ["cpu", "memory"]    # what is no kernel: compiled for any CPU
ENGINE = "tinyml.engine"


COMPILER = os.environ.get("CC", "cc")


def builds(program: str, flags: list[str]) -> bool:
    """Whether the compiler makes a program of this C with these flags."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(program)
        command = [*COMPILER.split(), *flags, str(source), "-o", str(Path(folder, "probe"))]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False


def openmp_flags() -> list[str]:
    """-fopenmp where a program with it compiles and links; else a warning and a serial build."""
    if builds("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n", ["-fopenmp"]):
        return ["-fopenmp"]
    warnings.warn(f"{COMPILER} cannot build with OpenMP: tinyml's kernels will run on one thread", stacklevel=2)
    return []


def extensions() -> list[Extension]:
    """One extension for each kernel and instruction set, from C that Cython generates once for each kernel."""
    table = runpy.run_path(str(KERNELS / "table.py"))
    table["check_platform"](platform.system(), COMPILER)
    module, functions = table["module"], ",".join(table["POINTWISE"]).upper()
    openmp = openmp_flags()
    generated = Path("build/generated")
    generated.mkdir(parents=True, exist_ok=True)
    options = {"include_path": [str(KERNELS)], "compiler_directives": DIRECTIVES, "build_dir": str(generated)}
    cythonize([Extension(module(name), [str(KERNELS / f"{name}.pyx")]) for name in (*table["KERNELS"], *ONCE)],
              shared_utility_qualified_name=module(table["SHARED"]), **options)
    cythonize([Extension(ENGINE, [str(Path(*ENGINE.split(".")).with_suffix(".pyx"))])], **options)
    shared = generated / "shared.c"
    subprocess.run([sys.executable, "-m", "cython", f"--generate-shared={shared}"], check=True)

    def extension(name: str, source: Path, flags: list[str], openmp: list[str] = openmp) -> Extension:
        return Extension(name, [str(source)], include_dirs=[str(KERNELS)], define_macros=[("POINTWISE", functions)],
                         extra_compile_args=FLAGS + openmp + flags, extra_link_args=openmp + SANITIZERS, depends=DEPENDS)

    found = [extension(module(table["SHARED"]), shared, []), extension(ENGINE, generated / "tinyml" / "engine.c", [], [])]
    # memory is imported before dispatch has said how OpenMP's threads are to wait: it must not load it
    found += [extension(module(name), generated / KERNELS / f"{name}.c", [], [] if name == "memory" else openmp)
              for name in ONCE]
    for isa in table["isas_for"](platform.machine()):
        flags = table["ISAS"][isa]["flags"]
        if not builds("int main(void) { return 0; }\n", flags):
            warnings.warn(f"{COMPILER} does not know {isa}: CPUs that have it will run less", stacklevel=2)
            continue
        for name in table["KERNELS"]:
            if table["home"](isa, name) != isa:
                continue
            place = table["compiled"](isa, name)
            # a copy for each instruction set: object files are named after their source
            source = generated / f"{place}.c"
            # and the folder where an in-place build puts the module
            for folder in (source.parent, (KERNELS / place).parent):
                folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(generated / KERNELS / f"{name}.c", source)
            found.append(extension(module(place), source, table["flags"](isa, name)))
    return found


class Build(build_ext):
    """build_ext on all cores; generating the C only when something is compiled (an sdist needs no compiler)."""

    def initialize_options(self):
        super().initialize_options()
        self.parallel = os.cpu_count()

    def finalize_options(self):
        self.distribution.ext_modules[:] = extensions()
        super().finalize_options()


setup(ext_modules=[Extension("tinyml._kernels.cpu", ["tinyml/_kernels/cpu.pyx"])], cmdclass={"build_ext": Build})
