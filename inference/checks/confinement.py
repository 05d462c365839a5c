"""A process locks itself in for good: it computes, reads and writes what it has open, and ends. Nothing else.

Three fences, none of which needs a privilege, so that they hold for root and for an ordinary user alike:

- a system call filter (seccomp, man 2 seccomp): an allowlist without open, socket, fork, clone, exec, kill, mount or
  ptrace, so that there is no file, no network and no second process, whatever code runs. What is not on the list fails
  with EPERM;
- Landlock (kernel.org, userspace-api/landlock) on kernels that have it: no path may be opened, no port connected;
- resource limits (man 2 getrlimit): memory, CPU seconds, file size, open files, processes.
"""

import ctypes
import os
import platform
import resource
import signal
import struct

# (x86-64, arm64). One allocates, computes, waits, reads and writes descriptors that are open, and ends.
SYSTEM_CALLS = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "brk": (12, 214),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "madvise": (28, 233),
    "membarrier": (324, 283),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getrusage": (98, 165),
    "setitimer": (38, 103),
    "getrandom": (318, 278),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_* of linux/audit.h

# linux/filter.h, linux/seccomp.h, linux/prctl.h, linux/landlock.h
LOAD_WORD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER_OFFSET, ARCHITECTURE_OFFSET = 0, 4
ALLOW, KILL_PROCESS, FAIL_WITH_EPERM = 0x7FFF0000, 0x80000000, 0x00050000 | 1
X32_BIT = 0x40000000  # the other numbering of x86-64
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
# How many rights each version of Landlock's interface knows for files, and from which one on it knows ports.
LANDLOCK_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
LANDLOCK_NEWEST_FILE_RIGHTS = 16
LANDLOCK_PORTS_SINCE = 4

OPEN_FILES = 32

_libc = ctypes.CDLL(None, use_errno=True)


class CannotConfine(OSError):
    """This kernel or machine has no system call filter that is known here; nothing is checked without one."""


def confine(*, memory_bytes: int, cpu_seconds: int, resident_bytes: int) -> None:
    """Locks this process in, for good. `memory_bytes` in all, of which it has `resident_bytes` already.

    Raises CannotConfine.
    """
    if platform.machine() not in MACHINES:
        raise CannotConfine(f"models are checked on {' and '.join(MACHINES)}, and this is {platform.machine()}")
    _limit(memory_bytes - resident_bytes, cpu_seconds)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_SET_DUMPABLE, 0)
    _close_paths_and_ports()
    _filter_system_calls()


def die_with_parent(parent: int) -> None:
    """`parent`: whose child this process is. It may have died before the kernel was told."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def memory_now() -> tuple[int, int]:
    """Bytes that are resident, and bytes of addresses that are taken (man 5 proc, statm)."""
    with open("/proc/self/statm", "rb") as statm:
        fields = statm.read().split()
    page = resource.getpagesize()
    return int(fields[1]) * page, int(fields[0]) * page


def _limit(more_bytes: int, cpu_seconds: int) -> None:
    _resident, addresses = memory_now()
    # SIGXCPU first, which says what it was; a second later SIGKILL.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    for limit, most in (
        # Shared or not, touched or not.
        (resource.RLIMIT_AS, addresses + max(more_bytes, 0)),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(limit, (most, most))


def _close_paths_and_ports() -> None:
    version = _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return  # an older kernel; the filter stands alone
    rights = (1 << LANDLOCK_FILE_RIGHTS.get(version, LANDLOCK_NEWEST_FILE_RIGHTS)) - 1
    attributes = struct.pack("QQ", rights, 0b11) if version >= LANDLOCK_PORTS_SINCE else struct.pack("Q", rights)
    ruleset = _libc.syscall(LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0 or _libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0) != 0:
        raise CannotConfine(ctypes.get_errno(), "Landlock refused")
    os.close(ruleset)


def _filter_system_calls() -> None:
    column, architecture = MACHINES[platform.machine()]
    numbers = sorted(numbers[column] for numbers in SYSTEM_CALLS.values())
    program = [
        (LOAD_WORD, 0, 0, ARCHITECTURE_OFFSET),
        (JUMP_IF_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD_WORD, 0, 0, NUMBER_OFFSET),
        (JUMP_IF_AT_LEAST, len(numbers), 0, X32_BIT),
        *((JUMP_IF_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)),
        (RETURN, 0, 0, FAIL_WITH_EPERM),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(described))


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(ctypes.c_int(option), *padded) != 0:
        raise CannotConfine(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")
