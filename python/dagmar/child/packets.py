"""What a rank and its processes send each other: whole packets, and memory files beside them."""

import fcntl
import mmap
import os
import socket

# Room for a packet, and for the descriptors that may come with it.
PACKET_BYTES = 64 * 1024
DESCRIPTORS_MAX = 250
# The most that one system call writes.
WRITE_BYTES = 1 << 30


def receive(way):
    """A packet and its descriptors; an empty one if the other side is gone."""
    try:
        packet, descriptors, _, _ = socket.recv_fds(way, PACKET_BYTES, DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return b"", []
    return packet, descriptors


def write_memory(parts):
    """A memory file with these bytes, which nobody can change any more."""
    memory = os.memfd_create("dagmar-value", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for part in parts:
            part = memoryview(part).cast("B")
            while part:
                part = part[os.write(memory, part[:WRITE_BYTES]):]
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(memory)
        raise
    return memory


def map_memory(memory):
    """What lies in a memory file, which is closed. It stays as long as anything of it is used."""
    try:
        length = os.fstat(memory).st_size
        return memoryview(mmap.mmap(memory, length, prot=mmap.PROT_READ)) if length else memoryview(b"")
    finally:
        os.close(memory)
