"""Let an APK's own native libraries run on Linux, for tests: x86_64 in a JVM, arm64 under qemu.

They import functions of Android's C library by name and version (`malloc@LIBC`). Libraries are made
here that have these names, and pass each call on to glibc, or to `bionic.c` where the two differ.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
# What is no function; `__sF` holds the standard streams.
_DATA = ("__sF", "stderr", "stdin", "stdout")
_STREAM_BYTES = 3 * 152
# What glibc calls otherwise.
_NAMES = {
    "__errno": "__errno_location",
    "__gnu_strerror_r": "strerror_r",
    "strerror_r": "__xpg_strerror_r",
    "__strchr_chk": "strchr",
    "__strlen_chk": "strlen",
}
_COMPILERS = {"x86_64": "gcc", "arm64-v8a": "aarch64-linux-gnu-gcc"}
# Jump to where the table's entry points, touching no register that holds an argument.
_JUMPS = {
    "x86_64": "movq bionic_table@GOTPCREL(%%rip), %%r11\\n jmp *{offset}(%%r11)",
    "arm64-v8a": "adrp x16, :got:bionic_table\\n ldr x16, [x16, :got_lo12:bionic_table]\\n"
    " ldr x16, [x16, #{offset}]\\n br x16",
}
_TYPES = {"x86_64": "@function", "arm64-v8a": "%function"}


def list_missing(abi: str) -> list[str]:
    """Return the programs that a shim cannot be made without, and are not here."""
    programs = [_COMPILERS[abi], *(["qemu-aarch64-static"] if abi == "arm64-v8a" else [])]
    return [name for name in programs if shutil.which(name) is None]


def make_shim(libraries: Sequence[Path], abi: str, output: Path) -> None:
    """Write beside copies of the libraries what they need to be loaded on Linux."""
    output.mkdir(parents=True)
    for library in libraries:
        shutil.copy(library, output)
    _compile(abi, HERE / "bionic.c", output / "libbionicglue.so")
    for name in ("liblog", "libandroid"):
        _compile(abi, HERE / "android_log.c", output / f"{name}.so")
    source, versions = output / "shim.c", output / "shim.map"
    source.write_text(_write_source(_list_imports(libraries), abi))
    versions.write_text("LIBC { global: *; };\n")
    bare = ["-fno-builtin", "-fno-stack-protector", "-nostartfiles", "-nostdlib"]
    for name in ("libc", "libm", "libdl"):
        _compile(
            abi, source, output / f"{name}.so", *bare, f"-L{output}", "-lbionicglue",
            "-Wl,-rpath,$ORIGIN", f"-Wl,--version-script={versions}",
        )  # fmt: skip


def make_runner(headers: Path, output: Path) -> Path:
    """Compile the program that encodes pictures with an arm64 library; return it."""
    program = output / "encode_photos"
    flags = ["-O1", "-w", f"-I{headers}", "-o", str(program), str(HERE / "encode_photos.c"), "-ldl"]
    subprocess.run([_COMPILERS["arm64-v8a"], *flags], check=True)
    return program


def _compile(abi: str, source: Path, output: Path, *flags: str) -> None:
    shared = ["-O2", "-w", "-fPIC", "-shared", f"-Wl,-soname,{output.name}"]
    command = [_COMPILERS[abi], *shared, "-o", str(output), str(source), *flags]
    subprocess.run(command, check=True)


def _list_imports(libraries: Sequence[Path]) -> list[str]:
    command = ["readelf", "--dyn-syms", "--wide", *map(str, libraries)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return sorted(set(re.findall(r" UND (\S+?)@LIBC", told)))


def _write_source(imports: Sequence[str], abi: str) -> str:
    """Return C of a library that has the imported names at Android's version."""
    functions = [name for name in imports if name not in _DATA]
    pairs = ", ".join(f'"{name}", "{_NAMES.get(name, name)}"' for name in functions)
    jumps = "\n".join(
        f'".type to_{name}, {_TYPES[abi]}\\nto_{name}: '
        f"{_JUMPS[abi].format(offset=8 * at)}\\n.globl to_{name}\\n"
        f'.symver to_{name}, {name}@@@LIBC\\n"'
        for at, name in enumerate(functions)
    ).replace("%%", "%")
    streams = [("stdin", "in"), ("stdout", "out"), ("stderr", "err")]
    named = [f'__asm__(".globl of_{short}\\n.symver of_{short}, {name}@@@LIBC\\n");'
             for name, short in streams if name in imports]  # fmt: skip
    if "__sF" in imports:
        named.append('__asm__(".globl of_all\\n.symver of_all, __sF@@@LIBC\\n");')
    return "\n".join(
        [
            f'void *bionic_table[{len(functions)}] __attribute__((visibility("hidden")));',
            f"static const char *const names[] = {{{pairs}}};",
            "extern void bionic_fill(const char *const *, void **, unsigned);",
            "extern void bionic_note_streams(void *);",
            "extern void *bionic_stdin, *bionic_stdout, *bionic_stderr;",
            f"void *of_in, *of_out, *of_err; char of_all[{_STREAM_BYTES}];",
            "__attribute__((constructor(101))) static void start(void) {",
            f"  bionic_fill(names, bionic_table, {len(functions)});",
            "  of_in = bionic_stdin; of_out = bionic_stdout; of_err = bionic_stderr;",
            "  bionic_note_streams(of_all);",
            "}",
            f'__asm__(".text\\n"\n{jumps}\n);',
            *named,
            "",
        ]
    )
