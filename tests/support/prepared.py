"""Runs a Python program again and again, each time in a fork of a process that has loaded the modules of others that the program uses.

Importing Python's library takes most of the time of a short run. The program's own modules are not loaded here: each run begins with the
first line of the program and knows nothing of earlier ones. A run is refused, and the client (prepared.c) becomes the program, when its
circumstances are not those that a fork of this process has or takes over.

Arguments: the program, the directory of the client, and the name of the program's own package. The server ends with its stdin.
"""

import contextlib
import gc
import importlib
import os
import select
import shutil
import signal
import socket
import struct
import sys
import time
import types

PROGRAM, PLACE, PACKAGE = sys.argv[1:]


def start(program, arguments):
    """Does what the interpreter does with a script."""
    sys.argv = [program, *arguments]
    main = types.ModuleType("__main__")
    main.__file__, main.__builtins__ = program, __builtins__
    sys.modules["__main__"] = main
    with open(program, "rb") as file:
        code = compile(file.read(), program, "exec")
    exec(code, main.__dict__)


def modules_of_others():
    """Asks a first run, in a process of its own, what it has loaded."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        before = set(sys.modules)
        try:
            start(PROGRAM, ["--version"])
        except SystemExit:
            pass
        names = [name for name in sys.modules if name not in before and name.split(".")[0] != PACKAGE]
        os.write(writer, "\n".join(names).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        names = file.read().split()
    os.waitpid(pid, 0)
    return names


def read(pid, name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def circumstances(pid):
    """Returns what a fork of this process has in common with a client, or does not get at all."""
    wanted = (b"Uid", b"Gid", b"Groups", b"SigBlk", b"CapInh", b"CapPrm", b"CapEff", b"CapBnd", b"CapAmb", b"NoNewPrivs", b"Seccomp")
    status = [line for line in read(pid, "status").splitlines() if line.split(b":")[0] in wanted]
    # What both ignore; Python itself adds these two.
    ignored = next(int(line.split()[1], 16) for line in read(pid, "status").splitlines() if line.startswith(b"SigIgn"))
    status.append(ignored & ~sum(1 << number - 1 for number in (signal.SIGPIPE, signal.SIGXFSZ)))
    # The session and its terminal; and nice.
    stat = read(pid, "stat").rsplit(b")", 1)[1].split()
    links = [os.readlink(f"/proc/{pid}/{link}") for link in ("root", "ns/mnt", "ns/user", "ns/net", "ns/pid", "ns/uts")]
    return status, stat[3:5], stat[16], read(pid, "limits"), links


def inherited(pid):
    """Returns the open files behind stderr, by number."""
    files, place = {}, f"/proc/{pid}/fd"
    for number in os.listdir(place):
        with contextlib.suppress(FileNotFoundError):  # That of the list itself.
            if int(number) > 2:
                files[number] = os.readlink(f"{place}/{number}")
    return files


def is_plain(pid, environment, files):
    return (
        circumstances(pid) == OURS
        and len(inherited(pid).items() ^ FILES.items()) == 1  # its connection
        and not any(map(os.isatty, files))
        and environment.get(b"LC_ALL") == b"C.UTF-8"
        and not any(name.startswith((b"PYTHON", b"LD_", b"MALLOC", b"GLIBC")) for name in environment)
    )


class Run(Exception):
    """Leads a fork out of the server."""


def accept():
    client, _ = listener.accept()
    files, request = [], None
    try:
        _, files, _, _ = socket.recv_fds(client, 1, 3)
        pid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        environment = dict(entry.split(b"=", 1) for entry in read(pid, "environ").split(b"\0")[:-1])
        if is_plain(pid, environment, files):
            arguments = read(pid, "cmdline").split(b"\0")[1:-1]
            mask = int(next(line for line in read(pid, "status").splitlines() if line.startswith(b"Umask")).split()[1], 8)
            group = int(read(pid, "stat").rsplit(b")", 1)[1].split()[2])
            request = arguments, environment, mask, group, os.open(f"/proc/{pid}/cwd", os.O_PATH), files
    except (OSError, ValueError):
        pass  # It is gone, as is seen next, or its environment is odd.
    child = os.fork() if request else 0
    if request and child == 0:
        client.close()
        raise Run(*request)
    for file in files + [request[4]] if request else files:
        os.close(file)
    with contextlib.suppress(OSError):
        client.sendall(struct.pack("i", child))
    if not child:
        client.close()
        return
    end = os.pidfd_open(child)
    runs[end] = runs[client.fileno()] = (child, end, client)
    poll.register(end, select.POLLIN)
    poll.register(client, select.POLLIN)


def finish(number):
    """A run has ended, or its client."""
    child, end, client = runs[number]
    if number != end:
        signal.pidfd_send_signal(end, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for one in (end, client.fileno()):
        poll.unregister(one)
        del runs[one]
    with contextlib.suppress(OSError):
        client.sendall(struct.pack("i", status))
    client.close()
    os.close(end)


def serve():
    while True:
        for number, _ in poll.poll():
            if number == lifeline:
                sys.exit()
            if number == listener.fileno():
                accept()
            elif number in runs:
                finish(number)


def become(arguments, environment, mask, group, directory, files):
    """Gives this fork what its client has."""
    for _, end, client in set(runs.values()):
        client.close()
        os.close(end)
    runs.clear()
    os.fchdir(directory)
    os.close(directory)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.close(lifeline)
    listener.close()
    os.umask(mask)
    os.setpgid(0, group)
    os.environb.clear()
    os.environb.update(environment)
    time.tzset()
    # As the interpreter makes them at its start: their buffers depend on the kind of file.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        form = {"encoding": old.encoding, "errors": old.errors, "newline": "\n" if number else None, "closefd": False}
        new = open(number, "w" if number else "r", **form)
        new.buffer.raw.name = f"<{name}>"
        new.reconfigure(line_buffering=name == "stderr")
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    return [os.fsdecode(argument) for argument in arguments]


# Signals to the group of the tests end those, and then this.
os.setpgid(0, 0)
FILES = inherited("self")
sys.path[0] = os.path.dirname(os.path.realpath(PROGRAM))
for name in modules_of_others():
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # Made at run time under a name of its own.

# What was loaded is not looked through for garbage, and stays shared with the forks.
gc.collect()
gc.freeze()

lifeline = os.dup(0)
nothing = os.open(os.devnull, os.O_RDONLY)
os.dup2(nothing, 0)
os.close(nothing)
OURS = circumstances("self")
runs, poll, listener = {}, select.poll(), socket.socket(socket.AF_UNIX)
listener.bind(os.path.join(PLACE, "new"))
listener.listen(64)
poll.register(lifeline, select.POLLIN)
poll.register(listener, select.POLLIN)
os.rename(os.path.join(PLACE, "new"), os.path.join(PLACE, "socket"))
try:
    serve()
except Run as run:
    request = run.args
except SystemExit:
    shutil.rmtree(PLACE)
    raise
request = become(*request)
start(PROGRAM, request)
