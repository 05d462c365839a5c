"""Where a converter runs: TensorFlow needs files and threads, so that it cannot be locked in as a check is.

A process confines itself for good, before it imports anything large: Landlock (kernel.org, userspace-api/landlock)
lets it read the folders that its Python is in and write to one of its own; a system call filter (seccomp, man 2
seccomp) leaves it no network, no other process and nothing of the kernel's administration; it gives up every
capability, so that being root means nothing; and it has limits of memory, time and file size.
"""

import ctypes
import os
import resource
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from inference.checks.confinement import (
    ALLOW,
    ARCHITECTURE_OFFSET,
    FAIL_WITH_EPERM,
    JUMP_IF_AT_LEAST,
    JUMP_IF_EQUAL,
    KILL_PROCESS,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_CREATE_RULESET_VERSION,
    LANDLOCK_FILE_RIGHTS,
    LANDLOCK_NEWEST_FILE_RIGHTS,
    LANDLOCK_PORTS_SINCE,
    LANDLOCK_RESTRICT_SELF,
    LOAD_WORD,
    MACHINES,
    NUMBER_OFFSET,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    RETURN,
    SECCOMP_MODE_FILTER,
    X32_BIT,
    CannotConfine,
)

# (x86-64, arm64); None where there is no such call.
REFUSED_CALLS: dict[str, tuple[int, int | None]] = {
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "io_uring_setup": (425, 425),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}
CLONE, CLONE3, CAPSET = (56, 220), 435, (126, 91)
LANDLOCK_ADD_RULE, LANDLOCK_RULE_PATH_BENEATH = 445, 1
# linux/landlock.h: execute, read files, read folders; and write, remove, make folders and files, truncate.
MAY_READ = 0b1101
MAY_WRITE = MAY_READ | 0b10 | 0b110000 | 1 << 7 | 1 << 8 | 1 << 14
FOR_FILES_ALONE = 0b111 | 1 << 14
JUMP_IF_ANY_BIT = 0x45
FIRST_ARGUMENT_OFFSET = 16
CLONE_THREAD = 0x10000
FAIL_WITH_ENOSYS = 0x00050000 | 38
CAPABILITY_VERSION = 0x20080522

OPEN_FILES = 256

_libc = ctypes.CDLL(None, use_errno=True)


def confine(*, readable: Iterable[Path], writable: Path, memory_bytes: int, cpu_seconds: int, file_bytes: int) -> None:
    """Locks this process in, for good; it has one thread still. Raises CannotConfine."""
    machine = os.uname().machine
    if machine not in MACHINES:
        raise CannotConfine(f"models are converted on {' and '.join(MACHINES)}, and this is {machine}")
    column, architecture = MACHINES[machine]
    for limit, most in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    _done(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    _keep_to_folders(readable, writable)
    _give_up_capabilities(CAPSET[column])
    _filter_system_calls(column, architecture)


def _keep_to_folders(readable: Iterable[Path], writable: Path) -> None:
    version = _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    _done(version, "Landlock (Linux 5.13 or later, and a container that lets it be used)")
    rights = (1 << LANDLOCK_FILE_RIGHTS.get(version, LANDLOCK_NEWEST_FILE_RIGHTS)) - 1
    attributes = struct.pack("QQ", rights, 0b11) if version >= LANDLOCK_PORTS_SINCE else struct.pack("Q", rights)
    ruleset = _libc.syscall(LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    _done(ruleset, "Landlock's rules")
    for path, allowed in (*((path, MAY_READ) for path in readable), (writable, MAY_WRITE)):
        if not path.exists():
            continue
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        kind = rights if path.is_dir() else FOR_FILES_ALONE
        rule = struct.pack("=Qi", allowed & rights & kind, descriptor)
        _done(_libc.syscall(LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0), f"a rule for {path}")
        os.close(descriptor)
    _done(_libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0), "Landlock's restriction")
    os.close(ruleset)


def _give_up_capabilities(capset: int) -> None:
    nothing = struct.pack("6I", *[0] * 6)
    _done(_libc.syscall(capset, struct.pack("Ii", CAPABILITY_VERSION, 0), nothing), "giving up capabilities")


def _filter_system_calls(column: int, architecture: int) -> None:
    refused = sorted(number for numbers in REFUSED_CALLS.values() if (number := numbers[column]) is not None)
    # How far behind the last question the answer is; allowing is right behind it.
    fail, missing, thread = 1, 2, 3
    questions = [
        (JUMP_IF_AT_LEAST, fail, X32_BIT),
        *((JUMP_IF_EQUAL, fail, number) for number in refused),
        (JUMP_IF_EQUAL, missing, CLONE3),
        (JUMP_IF_EQUAL, thread, CLONE[column]),
    ]
    program: list[tuple[int, int, int, int]] = [
        (LOAD_WORD, 0, 0, ARCHITECTURE_OFFSET),
        (JUMP_IF_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD_WORD, 0, 0, NUMBER_OFFSET),
        *((code, len(questions) - 1 - at + to, 0, value) for at, (code, to, value) in enumerate(questions)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, FAIL_WITH_EPERM),
        (RETURN, 0, 0, FAIL_WITH_ENOSYS),
        (LOAD_WORD, 0, 0, FIRST_ARGUMENT_OFFSET),
        (JUMP_IF_ANY_BIT, 1, 0, CLONE_THREAD),
        (RETURN, 0, 0, FAIL_WITH_EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    _install(program)


def _install(program: Sequence[tuple[int, int, int, int]]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    address = ctypes.c_ulong(ctypes.addressof(described))
    _done(_libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), address, 0, 0), "the system call filter")


def _done(answer: int, what: str) -> None:
    if answer < 0:
        raise CannotConfine(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
