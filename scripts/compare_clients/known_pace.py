#!/usr/bin/env python3
"""A server that speaks OpenAI's protocol and knows its own timing: when each request was there, and when
each token was sent, on the monotonic clock. What a client reports beside that is the client's error.

    known_pace.py LOG --port 0 --gap-ms 4 --first-ms 20 [--cut-every N]

It prints its port, and writes a line of JSON for each answer when it ends. With --cut-every, each so
many-th stream is cut in its middle: half of its tokens, and then the connection is closed, or with --quiet
the answer ends as HTTP has it, without a word of why. It has no dependencies.
"""

import argparse
import asyncio
import json
import resource
import time

WORD = " word"
BOOK = "It was the best of times, it was the worst of times. " * 4000


class Server:
    def __init__(self, options, log):
        self.options = options
        self.log = log
        self.answers = 0

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                at = time.monotonic_ns()
                method, path, _ = head.decode().split(" ", 2)
                length = 0
                for line in head.decode().split("\r\n")[1:]:
                    name, _, value = line.partition(":")
                    if name.lower() == "content-length":
                        length = int(value)
                body = await reader.readexactly(length)
                if method == "POST" and path.endswith("completions"):
                    if not await self.answer(writer, path, json.loads(body), at):
                        return
                else:
                    self.tell(writer, path)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def tell(self, writer, path):
        if "/models" in path:
            model = {"id": "known-pace", "object": "model", "owned_by": "nobody", "created": 0}
            body = json.dumps({"object": "list", "data": [model]}).encode()
        elif path.endswith("/book.txt"):
            body = BOOK.encode()
        else:
            body = b"{}"
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (len(body), body)
        )

    async def answer(self, writer, path, request, received):
        """False where the connection is over."""
        tokens = request.get("max_completion_tokens") or request.get("max_tokens") or 16
        is_chat = "chat" in path
        prompt_tokens = len(json.dumps(request.get("messages") or request.get("prompt")).split())
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
        }
        if not request.get("stream"):
            text = WORD * tokens
            choice = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
            choice.update(index=0, finish_reason="length")
            body = json.dumps({**self.frame(is_chat), "choices": [choice], "usage": usage}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            return True
        self.answers += 1
        every = self.options.cut_every
        is_cut = bool(every) and self.answers % every == 0
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        due = loop.time() + self.options.first_ms / 1e3
        token = self.chunk(self.delta(is_chat, WORD, None))
        sent = []
        for _ in range(tokens // 2 if is_cut else tokens):
            await asyncio.sleep(due - loop.time())
            sent.append(time.monotonic_ns())
            writer.write(token)
            due += self.options.gap_ms / 1e3
        record = {"received": received, "sent": sent, "is_cut": is_cut, "tokens": tokens}
        print(json.dumps(record), file=self.log, flush=True)
        if is_cut:
            writer.write(b"0\r\n\r\n" if self.options.quiet else b"")
            await writer.drain()
            return self.options.quiet
        end = [self.delta(is_chat, "", "length")]
        if (request.get("stream_options") or {}).get("include_usage"):
            end.append({**self.frame(is_chat), "choices": [], "usage": usage})
        data = b"".join(self.chunk(event) for event in end)
        writer.write(data + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        return True

    @staticmethod
    def frame(is_chat):
        kind = "chat.completion" if is_chat else "text_completion"
        return {"id": "x", "object": kind, "created": 0, "model": "known-pace"}

    def delta(self, is_chat, text, finish_reason):
        choice = {"delta": {"content": text}} if is_chat else {"text": text}
        choice.update(index=0, finish_reason=finish_reason)
        return {**self.frame(is_chat), "choices": [choice]}

    @staticmethod
    def chunk(event):
        data = b"data: %s\n\n" % json.dumps(event).encode()
        return b"%x\r\n%s\r\n" % (len(data), data)


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--gap-ms", type=float, default=4)
    parser.add_argument("--first-ms", type=float, default=20)
    parser.add_argument("--cut-every", type=int, default=0)
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    with open(options.log, "w") as log:
        server = Server(options, log)
        listener = await asyncio.start_server(server.serve, "127.0.0.1", options.port, backlog=1024)
        print(listener.sockets[0].getsockname()[1], flush=True)
        await listener.serve_forever()


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard < 65536 else 65536, hard))
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
