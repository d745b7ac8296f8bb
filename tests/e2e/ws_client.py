"""A WebSocket client for tests (RFC 6455), standard library only: it checks what a server must do, frame by frame."""
import base64
import hashlib
import json
import os
import socket
import struct

from harness import Connection, request_bytes

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Refused(Exception):
    def __init__(self, response):
        super().__init__(repr(response))
        self.response = response


class WebSocket:
    def __init__(self, server, path="/v1/tail", headers=None, timeout=10, receive_buffer=None):
        self.connection = Connection.__new__(Connection)
        self.connection.socket = socket.socket()
        self.connection.buffer = b""
        self.socket = self.connection.socket
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", server.port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.connection.send(request_bytes("GET", path, headers={
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key, **(headers or {})}))
        response = self.connection.response(head_request=self.is_upgraded())
        if response.status != 101:
            self.close()
            raise Refused(response)
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert response.headers["sec-websocket-accept"] == base64.b64encode(digest).decode(), response
        self.controls = []  # opcodes and payloads of control frames that came between messages

    def is_upgraded(self):
        while b"\r\n\r\n" not in self.connection.buffer:
            assert self.connection.fill(), "closed without an answer"
        return self.connection.buffer.startswith(b"HTTP/1.1 101")

    def take(self, count):
        while len(self.connection.buffer) < count:
            if not self.connection.fill():
                raise EOFError(f"closed with {len(self.connection.buffer)} of {count} bytes")
        data, self.connection.buffer = self.connection.buffer[:count], self.connection.buffer[count:]
        return data

    def frame(self):
        """(opcode, payload) of the next frame: final, unmasked, of a known opcode, or the test fails."""
        first, second = self.take(2)
        assert first & 0x70 == 0 and second & 0x80 == 0, f"bits {first:x} {second:x}"
        assert first & 0x80, "a fragment"
        length = second & 0x7f
        if length == 126:
            length, = struct.unpack(">H", self.take(2))
            assert length > 125
        elif length == 127:
            length, = struct.unpack(">Q", self.take(8))
            assert length > 65535
        opcode = first & 15
        assert opcode in (TEXT, CLOSE, PING, PONG), f"opcode {opcode}"
        return opcode, self.take(length)

    def message(self):
        """The next text message as JSON; pings are answered, a close raises EOFError with its code."""
        while True:
            opcode, payload = self.frame()
            if opcode == TEXT:
                return json.loads(payload)
            self.controls.append((opcode, payload))
            if opcode == PING:
                self.send_frame(PONG, payload)
            elif opcode == CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if payload else None
                raise EOFError(code)

    def messages(self, count):
        return [self.message() for _ in range(count)]

    def silent(self, seconds):
        """True when no message comes for that long."""
        self.socket.settimeout(seconds)
        try:
            self.message()
            return False
        except (TimeoutError, socket.timeout):
            return True
        finally:
            self.socket.settimeout(10)

    def send_frame(self, opcode, payload=b"", mask=True):
        length = len(payload)
        head = bytes([0x80 | opcode])
        bit = 0x80 if mask else 0
        if length < 126:
            head += bytes([bit | length])
        elif length < 65536:
            head += bytes([bit | 126]) + struct.pack(">H", length)
        else:
            head += bytes([bit | 127]) + struct.pack(">Q", length)
        if mask:
            key = os.urandom(4)
            head += key
            payload = bytes(byte ^ key[i & 3] for i, byte in enumerate(payload))
        self.socket.sendall(head + payload)

    def say(self, message):
        self.send_frame(TEXT, (message if isinstance(message, str) else json.dumps(message)).encode())

    def close_code(self):
        """Reads to the end; the code of the server's close frame."""
        try:
            while True:
                self.message()
        except EOFError as end:
            return end.args[0]

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
