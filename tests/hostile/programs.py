"""Programs that try to get out, to stay behind or to take everything. Each prints ESCAPED when it managed to.

`{pid}`, `{port}`, `{name}` and `{secret}` are filled in by the runner: a process of the host's, a TCP port and an
abstract socket it listens on, a file only the host may read.
"""

# ruff: noqa: E501  (programs as text)
from __future__ import annotations

from typing import Final

_SYSCALL: Final = """
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == 'x86_64'
def call(x86, arm, *args):
    return libc.syscall(ctypes.c_long(x86 if X86 else arm), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
def won(result):
    if result >= 0: print('ESCAPED', result)
"""
_TRY: Final = "try:\n    {}\n    print('ESCAPED')\nexcept OSError as error:\n    print('refused', error)\n"


def _try(statement: str) -> str:
    return "import os, socket, subprocess, ctypes, signal, resource, fcntl, time\n" + _TRY.format(statement)


PROGRAMS: Final[dict[str, str]] = {
    "fork bomb": "import os\nwhile True:\n    try:\n        os.fork()\n        print('ESCAPED')\n    except OSError: pass\n",
    "fork": _try("os.fork()"),
    "fork in native code": _SYSCALL + "pid = libc.fork()\nwon(pid)",
    "clone by number": _SYSCALL + "won(call(56, 220, 17, 0, 0, 0, 0))",
    "clone3 by number": _SYSCALL
    + "a = (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17)\nwon(call(435, 435, ctypes.byref(a), 88))",
    "vfork": _SYSCALL + "won(call(58, 220, 0x4111, 0, 0, 0, 0))",
    "posix_spawn": _try("os.posix_spawn('/bin/true', ['true'], {{}})"),
    "subprocess": _try("subprocess.run(['/bin/echo', 'ESCAPED'])"),
    "os.system": "import os\nif os.system('echo ESCAPED') == 0: print('ESCAPED')",
    "exec a shell": _try("os.execve('/bin/sh', ['sh', '-c', 'echo ESCAPED'], {{}})"),
    "exec from memory": _SYSCALL + "fd = call(319, 279, ctypes.c_char_p(b'x'), 0)\nwon(fd)",
    "exec its own descriptor": _try("os.execve(4, ['x'], {{}})"),
    "daemon left behind": """
import os, time
try:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
    print('ESCAPED')
except OSError: pass
""",
    "thread bomb": """
import threading, time
count = 0
try:
    for _ in range(1500):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        count += 1
except RuntimeError as error: print(count, error)
if count > 1200: print('ESCAPED')
""",
    "thread bomb with tiny stacks": """
import threading, time
threading.stack_size(32768)
count = 0
try:
    for _ in range(3000):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        count += 1
except RuntimeError as error: print(count, error)
if count > 2000: print('ESCAPED')
""",
    "twenty gigabytes": "x = bytearray(20 << 30)\nprint('ESCAPED')",
    "memory piece by piece": "x = []\nfor _ in range(3000): x.append(b'x' * (1 << 20))\nprint('ESCAPED')",
    "memory by mmap": "import mmap\nm = [mmap.mmap(-1, 1 << 30) for _ in range(20)]\nprint('ESCAPED')",
    "endless output": "while True: print('x' * 10000)",
    "endless errors": "import sys\nwhile True: sys.stderr.write('x' * 10000)",
    "output by truncate": _try("os.ftruncate(1, 1 << 40)"),
    "fill every descriptor": """
import os
total = 0
for fd in range(1, 64):
    try:
        while True: total += os.write(fd, b'x' * (1 << 20))
    except OSError: pass
if total > (200 << 20): print('ESCAPED')
""",
    "write to tmp": _try("open('/tmp/left-behind', 'w').write('x')"),
    "write to the working directory": _try("open('left-behind', 'w').write('x')"),
    "write to shared memory": _try("open('/dev/shm/left-behind', 'w').write('x')"),
    "make a directory": _try("os.mkdir('/tmp/left-behind')"),
    "symbolic link": _try("os.symlink('/etc/passwd', '/tmp/left-behind')"),
    "hard link": _try("os.link('/usr/bin/env', '/tmp/left-behind')"),
    "write through a device": _try("open('/dev/mem', 'wb').write(b'x')"),
    "make a device": _try("os.mknod('/tmp/left-behind', 0o60666, 0x0800)"),
    "overwrite the library": _try("open(os.__file__, 'a').write('x')"),
    "read the shadow file": _try("print(open('/etc/shadow').read()[:1])"),
    "read the user list": _try("print(open('/etc/passwd').read()[:1])"),
    "read the host's secret file": _try("print(open({secret!r}).read())"),
    "read the secret by a crooked path": _try("print(open('/usr/../' + {secret!r}.lstrip('/')).read())"),
    "read the environment": "import os\nif 'HOSTILE_SECRET' in os.environ: print('ESCAPED')",
    "read another's environment": _try("print(open('/proc/{pid}/environ', 'rb').read()[:1])"),
    "read its own process folder": _try("print(open('/proc/self/maps').read()[:1])"),
    "read sys": _try("print(os.listdir('/sys'))"),
    "list homes": _try(
        "print(os.listdir('/home'), os.listdir('/root'))\n    assert os.listdir('/root') != ['.pyenv']"
    ).replace("except OSError", "except (OSError, AssertionError)"),
    "tcp to the host": _try("socket.create_connection(('127.0.0.1', {port}), 2)"),
    "udp": _try("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))"),
    "raw socket": _try("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    "netlink": _try("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
    "abstract socket": _try("socket.socket(socket.AF_UNIX).connect('\\0{name}')"),
    "datagram pair to an abstract socket": _try(
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', '\\0{name}')"
    ),
    "sleep for ever": "import time\nwhile True: time.sleep(1000)",
    "ignore every signal": """
import signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
while True: pass
""",
    "stop itself": "import os, signal, time\nos.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(1000)",
    "swallow every exception": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "kill the parent": _try("os.kill(os.getppid(), signal.SIGKILL) if os.getppid() > 1 else os.kill({pid}, 9)"),
    "kill everybody": _try("os.kill(-1, signal.SIGKILL)"),
    "kill the group": _try("os.killpg(0, signal.SIGKILL)"),
    "kill the host": _try("os.kill({pid}, signal.SIGKILL)"),
    "thread signal to the host": _SYSCALL + "won(call(234, 131, {pid}, {pid}, 9))",
    "queue a signal": _SYSCALL + "won(call(129, 138, {pid}, 9, 0))",
    "limits of the host": _try("resource.prlimit({pid}, resource.RLIMIT_NOFILE, (0, 0))"),
    "raise its own limits": "import resource\ntry:\n    resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))\n    print('ESCAPED')\n"
    "except (OSError, ValueError): pass",
    "signals by descriptor owner": _try("fcntl.fcntl(0, fcntl.F_SETOWN, {pid})"),
    "pipe size": _try("fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)"),
    "io_uring": _SYSCALL + "p = ctypes.create_string_buffer(256)\nwon(call(425, 425, 4, p))",
    "userfaultfd": _SYSCALL + "won(call(323, 282, 1))",
    "bpf": _SYSCALL + "won(call(321, 280, 0, ctypes.create_string_buffer(128), 128))",
    "perf events": _SYSCALL + "won(call(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0))",
    "kernel keys": _SYSCALL + "won(call(250, 219, 0, -3, 0))",
    "user namespace": _SYSCALL + "won(call(272, 97, 0x10000000))",
    "mount": _SYSCALL
    + "won(call(165, 40, ctypes.c_char_p(b't'), ctypes.c_char_p(b'/tmp'), ctypes.c_char_p(b'tmpfs'), 0, 0))",
    "chroot": _try("os.chroot('/usr')"),
    "enter a namespace": _SYSCALL + "won(call(308, 268, 0, 0))",
    "trace the parent": _SYSCALL + "won(call(101, 117, 16, {pid}, 0, 0))",
    "read the parent's memory": _SYSCALL
    + "b = ctypes.create_string_buffer(8)\nv = (ctypes.c_void_p * 2)(ctypes.addressof(b), 8)\nr = (ctypes.c_void_p * 2)(0x400000, 8)\n"
    + "won(call(310, 270, {pid}, v, 1, r, 1, 0))",
    "process descriptor": _SYSCALL + "won(call(434, 434, {pid}, 0))",
    "file by handle": _SYSCALL + "won(call(304, 265, -100, ctypes.create_string_buffer(128), 0))",
    "shared memory segment": _SYSCALL + "won(call(29, 194, 4711, 4096, 0o1666))",
    "message queue": _SYSCALL + "won(call(68, 186, 4711, 0o1666))",
    "semaphores": _SYSCALL + "won(call(64, 190, 4711, 1, 0o1666))",
    "become root": _try("os.setuid(0)\n    os.seteuid(0)"),
    "personality": _SYSCALL + "won(call(135, 92, 0x0040000))",
    "set the clock": _try("time.clock_settime(time.CLOCK_REALTIME, 0)"),
    "set the host name": _try("socket.sethostname('x')"),
    "type into the terminal": _try("fcntl.ioctl(0, 0x5412, b'x')"),
    "watch files": _SYSCALL + "won(call(294, 26, 0))",
    "another seccomp listener": _SYSCALL + "won(call(317, 277, 1, 8, 0))",
    "undo no_new_privs": _SYSCALL + "won(call(157, 167, 38, 0, 0, 0, 0))",
    "be dumpable again": _SYSCALL + "won(call(157, 167, 4, 1, 0, 0, 0))",
    "inherited descriptors": """
import os, stat
for fd in range(3, 1024):
    try: mode = os.fstat(fd).st_mode
    except OSError: continue
    if not stat.S_ISREG(mode) or os.fstat(fd).st_nlink: print('ESCAPED', fd, oct(mode))
""",
    "deep recursion": "import sys\nsys.setrecursionlimit(1 << 30)\ndef f(): return f() + 1\nf()",
    "stack overflow in native code": "import ctypes\nF = ctypes.CFUNCTYPE(None)\ng = F(lambda: g())\nimport sys\nsys.setrecursionlimit(1 << 30)\ng()",
    "segmentation fault": "import ctypes\nctypes.string_at(0)",
    "system calls of another machine": """
import ctypes, mmap, platform
if platform.machine() == 'x86_64':
    m = mmap.mmap(-1, 4096, prot=7)
    m.write(b'\\x53\\xb8\\x02\\x00\\x00\\x00\\xcd\\x80\\x5b\\xc3')
    address = ctypes.addressof(ctypes.c_char.from_buffer(m))
    if ctypes.CFUNCTYPE(ctypes.c_int)(address)() >= 0: print('ESCAPED')
""",
    "x32 system calls": _SYSCALL + "if X86: won(call(0x40000000 + 57, 0))",
    "output after the end": "import atexit, os, threading\natexit.register(print, 'bye')\nthreading.Thread(target=print, args=('x',)).start()",
}
