"""Who knocks at a listener: many handshakes at a time, so that nobody who is slow or silent keeps others out."""

import select
import socket
import threading
import time
from collections import deque
from contextlib import suppress

from dllama_glm.parallel.channel import Channel, HandshakeError, Refused, admit
from dllama_glm.runtime.machine import note

AT_ONCE = 64  # handshakes; whoever comes beyond takes the place of the one that has been at it longest
NOTES = 20  # strangers that are worth a line each


class Door:
    """Lets in, through sockets that listen, whoever proves to hold the token; `role` is this end's."""

    def __init__(self, listeners: list[socket.socket], role: str) -> None:
        self.port: int = listeners[0].getsockname()[1]
        self._listeners = listeners
        self._role = role
        self._lock = threading.Lock()
        self._knocking: deque[socket.socket] = deque()
        self._admitted: deque[Channel] = deque()
        self._bell, self._hammer = socket.socketpair()
        self._closed = False
        self._notes = 0

    def next(self, patience: float | None) -> Channel | None:
        """Return the next that holds the token, or None when `patience` seconds have passed; None waits for ever."""
        deadline = None if patience is None else time.monotonic() + patience
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([*self._listeners, self._bell], [], [], left)
            if not ready:
                return None
            if self._bell in ready:
                self._bell.recv(1)
                return self._admitted.popleft()
            for listener in ready:
                with suppress(OSError):  # it has hung up already
                    self._begin(listener.accept()[0])

    def close(self) -> None:
        """Stop listening; whoever is in the middle of a handshake, or was not called for, is let go."""
        with self._lock:
            self._closed = True
            unwanted = list(self._admitted)
            for connection in self._knocking:
                _hang_up(connection)
        for channel in unwanted:
            self._turn_away(channel)
        for opened in (*self._listeners, self._bell, self._hammer):
            opened.close()

    def _begin(self, connection: socket.socket) -> None:
        with self._lock:
            if len(self._knocking) >= AT_ONCE:
                _hang_up(self._knocking.popleft())
            self._knocking.append(connection)
        threading.Thread(target=self._admit, args=[connection], daemon=True).start()

    def _admit(self, connection: socket.socket) -> None:
        channel = None
        try:
            channel = admit(connection, self._role)
        except (HandshakeError, Refused, OSError) as error:
            self._say(str(error))
        with self._lock:
            with suppress(ValueError):  # another took its place
                self._knocking.remove(connection)
            if channel is not None and not self._closed:
                self._admitted.append(channel)
                self._hammer.send(b"!")
                return
        if channel is not None:
            self._turn_away(channel)

    def _turn_away(self, channel: Channel) -> None:
        channel.tell({"refuse": f"The {self._role} is taken: others came first."})
        channel.close()

    def _say(self, text: str) -> None:
        self._notes += 1
        if self._notes <= NOTES and not self._closed:
            note(text)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it, which then closes it
