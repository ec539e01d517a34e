"""Runs a command in a new terminal with these steps: ["expect", TEXT], ["send", TEXT], ["resize", COLUMNS, ROWS],
["pause", SECONDS], ["signal", NUMBER]. At the end, it prints as JSON the text on the screen, the exit status, and
whether the terminal was restored."""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

steps, command = json.loads(sys.argv[1]), sys.argv[2:]
main, side = pty.openpty()


def resize(columns, rows):
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


resize(101, 31)
before = termios.tcgetattr(side)
pid = os.fork()
if not pid:
    os.setsid()
    fcntl.ioctl(side, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(side, fd)
    os.execvp(command[0], command)
seen, mark, problem = b"", 0, None


def read(limit):
    global seen
    if not select.select([main], [], [], limit)[0]:
        return False
    try:
        chunk = os.read(main, 65536)
    except OSError:
        chunk = b""
    seen += chunk
    return bool(chunk)


for step, *args in steps:
    if step == "expect":
        end = time.monotonic() + 20
        while (at := seen.find(args[0].encode(), mark)) < 0 and time.monotonic() < end:
            read(0.1)
        if at < 0:
            problem = f"waited for {args[0]!r}"
            break
        mark = at + len(args[0].encode())
    elif step == "send":
        os.write(main, args[0].encode())
    elif step == "pause":
        end = time.monotonic() + args[0]
        while (left := end - time.monotonic()) > 0:
            read(left)
    elif step == "resize":
        resize(*args)
        os.kill(pid, signal.SIGWINCH)
    else:
        os.kill(pid, args[0])
code, end = None, time.monotonic() + 20
while code is None:
    read(0.05)
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        code = os.waitstatus_to_exitcode(status)
    elif problem or time.monotonic() > end:
        problem = problem or "it doesn't end"
        os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
while read(0.05):
    pass
same = termios.tcgetattr(side) == before
print(json.dumps({"screen": seen.decode(errors="replace"), "code": code, "restored": same, "problem": problem}))
