import os
import socket

from corral.wire.sockets import GuardedSocket, guarded


def test_a_descriptor_closed_behind_its_back_is_not_closed_again() -> None:
    made = GuardedSocket(socket.AF_INET, socket.SOCK_STREAM)
    number = made.fileno()
    os.close(number)
    with socket.socket() as other:
        # The kernel hands out the lowest free number.
        assert other.fileno() == number
        del made
        os.fstat(number)
        again = GuardedSocket(socket.AF_INET, socket.SOCK_STREAM)
        again.close()
        assert again.fileno() == -1
        os.fstat(number)


def test_otherwise_it_closes_as_ever() -> None:
    made = guarded((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1)))
    number = made.fileno()
    assert not made.getblocking()
    del made
    with socket.socket() as other:
        assert other.fileno() == number
