"""A server on this machine that speaks the OpenAI protocol, says what a test wrote down, and misbehaves on demand."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Manner = Literal["stream", "whole", "nonsense", "no json", "busy", "unknown", "silent", "breaks off"]


class ScriptedServer:
    """says: the pieces of every answer · pause: seconds before each · manner: how it answers."""

    def __init__(self) -> None:
        self.says: Sequence[str] = ("It ", "rains.")
        self.pause = 0.0
        self.manner: Manner = "stream"
        self.finish = "stop"
        self.asked: list[dict[str, Any]] = []
        self.open = 0
        """Answers under way: falls when the asking side has hung up, too."""
        self._closing = threading.Event()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body)
                with outer._lock:
                    outer.open += 1
                try:
                    outer._answer(self, body)
                except OSError:
                    pass  # the other side left
                finally:
                    with outer._lock:
                        outer.open -= 1

            def log_message(self, *_: object) -> None:
                """Silence."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        status = {"busy": 503, "unknown": 404}.get(self.manner, 200)
        if self.manner == "silent":
            self._closing.wait(30)
            return
        streams = self.manner in ("stream", "breaks off", "no json")
        handler.send_response(status)
        handler.send_header("Content-Type", "text/event-stream" if streams else "application/json")
        handler.end_headers()
        if self.manner == "whole":
            message = {"role": "assistant", "content": "".join(self.says)}
            handler.wfile.write(json.dumps({"choices": [{"message": message, "finish_reason": self.finish}]}).encode())
        elif self.manner == "no json":
            handler.wfile.write(b"data: {no json\n\n")
        elif not streams:
            handler.wfile.write(b"<html>hello</html>" if self.manner == "nonsense" else b"{}")
        else:
            self._stream(handler)

    def _stream(self, handler: BaseHTTPRequestHandler) -> None:
        def tell(delta: dict[str, str], finish: str | None = None, **more: Any) -> None:
            chunk = {"choices": [{"delta": delta, "finish_reason": finish}], **more}
            handler.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            handler.wfile.flush()

        tell({"role": "assistant"})
        for piece in self.says:
            if self._closing.wait(self.pause):
                return
            tell({"content": piece})
        if self.manner == "stream":
            tell({}, self.finish, usage={"prompt_tokens": 7, "completion_tokens": len(self.says)})
            handler.wfile.write(b"data: [DONE]\n\n")
        else:
            handler.wfile.write(b'data: {"error": {"message": "out of memory"}}\n\n')

    @contextmanager
    def running(self) -> Iterator["ScriptedServer"]:
        """The server at work inside the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
