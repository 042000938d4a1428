"""Any endpoint that speaks OpenAI's chat completions: OpenAI, vLLM, Ollama, llama.cpp.

Only the standard library. The endpoint's tokenizer is out of reach, so token counts are estimates
and every segment says so. The key lives in one closure: it is in no attribute, no message, no
export, and no redirect is followed that could carry it elsewhere.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ragdemo import policy
from ragdemo.errors import ModelUnavailable, RagdemoError
from ragdemo.generation.base import Step, check_batch
from ragdemo.prompts import build, neutralise
from ragdemo.text import clean
from ragdemo.types import Answer, Decoding, Hit, Prompt

# English runs at about 1.3 tokens a word; a Chinese, Japanese or Korean character is about one
# word, and a long run of letters (an address, a hash) is several.
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]{1,12}|[^\w\s]|_")
TOKENS_PER_WORD = 1.3

_RETRIED = frozenset({429, 500, 502, 503, 504})
_POLL = 0.05  # seconds between looks at the cancel events
_LONGEST_LINE = 1 << 20  # bytes of one event; more is no chat completion


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds, and how often to try again."""

    connect: float = 5.0
    read: float = 60.0  # between two pieces; a local server may load its model first
    total: float = 300.0  # one answer
    retries: int = 3  # after 429 and 5xx
    backoff: float = 0.5  # before the first retry, doubled each time
    longest_wait: float = 10.0  # whatever Retry-After says


class _Estimate:
    """`prompts.Reader` for a model whose tokenizer is elsewhere."""

    chat = True
    note = " (estimated)"

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit

    def count(self, text: str) -> int:
        return math.ceil(TOKENS_PER_WORD * len(_WORDS.findall(text)))

    def clean(self, text: str) -> str:
        return neutralise(text)

    def frame(self, roles: tuple[str, ...]) -> tuple[str, ...]:
        """Stands for the endpoint's own chat template, which is not known."""
        return (f"{roles[0]}: ", *(f"\n\n{role}: " for role in roles[1:]), "")


@dataclass
class _Row:
    """One request, run by its own thread, watched by the one that streams."""

    place: int
    prompt: Prompt
    decoding: Decoding
    left: threading.Event = field(default_factory=threading.Event)  # nobody waits for it any more
    connection: http.client.HTTPConnection | None = None
    sock: socket.socket | None = None  # the connection forgets its own once a response closes it
    text: str = ""
    pieces: int = 0
    tokens: int | None = None  # the endpoint's own count, where it gives one
    began: float = field(default_factory=time.perf_counter)
    first: float | None = None

    def leave(self) -> None:
        """Make its thread end, also out of a read that waits."""
        self.left.set()
        if self.sock is not None:
            with contextlib.suppress(OSError):  # closed already, which is what was wanted
                self.sock.shutdown(socket.SHUT_RDWR)


class OpenAIGenerator:
    """A model behind an endpoint. Implements `base.Generator`.

    Each row is a request of its own. The seed is passed on; whether it is honoured is the
    endpoint's affair.
    """

    fusions = ("together",)

    def __init__(
        self,
        base_url: str,
        model: str,
        key: str = "",
        *,
        limit: int = 8192,
        patience: Patience = Patience(),
        allow_private: bool = True,
    ) -> None:
        """`base_url` as in "https://api.openai.com/v1" or "http://localhost:11434/v1".

        `allow_private=False` refuses addresses inside the network of this machine but for those
        that its owner named (`policy`): set it where strangers may type the address. On a public
        host it is always so. Raises `ModelUnavailable` for what cannot be an endpoint.
        """
        self._secure, self._host, self._port, self._path = _parse(base_url)
        if not model.strip():
            raise ModelUnavailable("Name the endpoint's model, for example 'gpt-4o-mini'.")
        if not re.fullmatch(r"[\x21-\x7e]*", key.strip()):
            # the HTTP library would repeat the whole key in its error
            raise ModelUnavailable("The key holds characters that no key can have; paste it again.")
        self.model = model.strip()
        self.name = f"{self.model} at {self._host}"
        self.limit = limit
        self._reader = _Estimate(self.name, limit)
        self._patience = patience
        self._allow_private = allow_private
        self._headers, self._redact = _keep(key.strip())
        self._adapted: dict[str, str] = {}  # parameters this endpoint refused -> what to send

    def __repr__(self) -> str:
        return f"OpenAIGenerator({self.name!r}, limit={self.limit})"

    def prompt(
        self,
        question: str,
        hits: Sequence[Hit],
        *,
        decoding: Decoding,
        template: str | None = None,
        history: Sequence[tuple[str, str]] = (),
    ) -> Prompt:
        """See `base.Generator.prompt`; tokens are estimated."""
        return build(
            self._reader,
            question,
            hits,
            reserve=decoding.max_tokens,
            default="chat",
            template=template,
            history=history,
        )

    def stream(
        self,
        prompts: Sequence[Prompt],
        decodings: Sequence[Decoding],
        cancelled: Sequence[threading.Event],
    ) -> Iterator[Step]:
        """See `base.Generator.stream`. Raises `ModelUnavailable`."""
        check_batch(prompts, decodings, cancelled)
        news: queue.Queue[tuple[_Row, str, object]] = queue.Queue()
        rows = [_Row(n, *pair) for n, pair in enumerate(zip(prompts, decodings, strict=True))]
        live = {row.place for row in rows}
        failed: ModelUnavailable | None = None
        try:
            for row in rows:
                if not cancelled[row.place].is_set():
                    threading.Thread(
                        target=self._answer, args=(row, news), name="endpoint", daemon=True
                    ).start()
            while live:
                for place in [place for place in live if cancelled[place].is_set()]:
                    rows[place].leave()
                    live.remove(place)
                    yield self._last(rows[place], "cancelled")
                try:
                    row, what, value = news.get(timeout=_POLL)
                except queue.Empty:
                    continue
                if row.place not in live:
                    continue
                if what == "text":
                    row.text += str(value)
                    row.pieces += 1
                    row.first = row.first or time.perf_counter()
                    yield Step(row.place, _tidy(row.text))
                    continue
                live.remove(row.place)
                if what == "error":
                    failed = failed or ModelUnavailable(str(value))
                else:
                    yield self._last(row, str(value))
        finally:
            for row in rows:
                row.leave()
        if failed:
            raise failed

    def log_likelihood(
        self,
        prompts: Sequence[Prompt],
        texts: Sequence[str],
        cancelled: threading.Event | None = None,
    ) -> list[float]:
        """Always raises `RagdemoError`: chat completions give no probability of a given text."""
        raise RagdemoError(
            f"{self.name} tells no probability of a given answer. Choose the bundled generator or "
            "a Hugging Face model for this, or let the passages be read together."
        )

    def _last(self, row: _Row, finish: str) -> Step:
        now = time.perf_counter()
        first = row.first or now
        text = _tidy(row.text)
        answer = Answer(
            text=text,
            prompt=row.prompt,
            model=self.name,
            tokens=row.pieces if row.tokens is None else row.tokens,
            finish=finish,
            seconds={"prefill": first - row.began, "decode": now - first},
        )
        return Step(row.place, text, answer)

    def _answer(self, row: _Row, news: queue.Queue) -> None:
        """The row's thread: every way out puts one last "end" or "error" into `news`."""
        try:
            for piece in self._pieces(row):
                if isinstance(piece, _End):
                    news.put((row, "end", piece.finish))
                    return
                news.put((row, "text", piece))
        except RagdemoError as error:
            news.put((row, "error", self._redact(str(error))))
        except TimeoutError:
            news.put((row, "error", f"{self._host} stopped answering; try again later."))
        except ssl.SSLError as error:
            reason = error.reason or "TLS error"
            news.put((row, "error", f"No secure connection to {self._host}: {reason}."))
        except (OSError, http.client.HTTPException, ValueError) as error:
            kind = type(error).__name__
            news.put((row, "error", f"The connection to {self._host} broke ({kind}). Try again."))
        except Exception as error:  # JSON of any other shape; the row would wait for ever
            kind = type(error).__name__
            said = f"{self._host} sent something that is no chat completion ({kind})."
            news.put((row, "error", f"{said} Check the address and the model."))
        finally:
            if row.connection:
                row.connection.close()

    def _pieces(self, row: _Row) -> Iterator[str | _End]:
        """Pieces of text, then an `_End`."""
        deadline = time.monotonic() + self._patience.total
        response = self._request(row)
        kind = response.headers.get_content_type()
        if kind != "text/event-stream":  # an endpoint that does not stream
            whole = _json(response.read(_LONGEST_LINE), self._host)
            choice = _choice(whole, self._host)
            yield str((choice.get("message") or {}).get("content") or "")
            yield _End(_finish(choice.get("finish_reason") or "stop"))
            return
        finish = ""
        # far above what the tokens asked for can hold; an endpoint may ignore max_tokens
        left = 64 * row.decoding.max_tokens
        for data in _events(response, self._host):
            if time.monotonic() > deadline:
                raise ModelUnavailable(
                    f"{self._host} took longer than {self._patience.total:.0f} s to answer."
                )
            if data == "[DONE]":
                finish = finish or "stop"
                break
            event = _json(data, self._host)
            if event.get("error"):
                raise ModelUnavailable(f"{self._host} failed while writing: {_said(event)}")
            usage = event.get("usage") or {}
            told = usage.get("completion_tokens")
            row.tokens = told if type(told) is int and told >= 0 else row.tokens
            if not event.get("choices"):  # usage comes in an event of its own
                continue
            choice = _choice(event, self._host)
            if text := (choice.get("delta") or {}).get("content"):
                yield str(text)[:left]
                left -= len(text)
                if left <= 0:
                    finish = "length"
                    break
            if choice.get("finish_reason"):
                finish = _finish(choice["finish_reason"])
        if not finish:
            raise ModelUnavailable(f"{self._host} broke off in the middle of the answer.")
        yield _End(finish)

    def _request(self, row: _Row) -> http.client.HTTPResponse:
        """The response to the row's request, headers read; tries again after 429 and 5xx."""
        wait = self._patience.backoff
        attempt = 0
        while True:
            payload = self._payload(row)
            response = self._post(row, payload)
            if response.status == 200:
                return response
            status, said = response.status, _error(response)
            if status == 400 and self._adapt(said, payload):
                continue
            if status in _RETRIED and attempt < self._patience.retries:
                pause = _retry_after(response.headers.get("Retry-After"), wait)
                if row.left.wait(min(pause, self._patience.longest_wait)):
                    raise ModelUnavailable("Nobody waits for this answer any more.")
                attempt += 1
                wait *= 2
                continue
            raise ModelUnavailable(self._refusal(status, said))

    def _post(self, row: _Row, payload: dict[str, object]) -> http.client.HTTPResponse:
        if row.connection:
            row.connection.close()
        make = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = make(self._host, self._port, timeout=self._patience.connect)
        row.connection = connection
        try:
            # before connecting: whether a port inside answers is nobody's business either
            for address in policy.addresses(self._host, self._port):
                self._check_peer(address)
            connection.connect()
        except TimeoutError:
            raise ModelUnavailable(
                f"{self._host}:{self._port} did not answer within {self._patience.connect:.0f} s. "
                "Check the address."
            ) from None
        except ssl.SSLError:
            raise
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ModelUnavailable(
                f"{self._host}:{self._port} can't be reached ({reason}). Check the address and "
                "that the server is running."
            ) from None
        row.sock = connection.sock
        # and the address that was reached: a name may change between look-up and use
        self._check_peer(row.sock.getpeername()[0])
        if row.left.is_set():
            raise ModelUnavailable("Nobody waits for this answer any more.")
        row.sock.settimeout(self._patience.read)
        body = json.dumps(payload).encode()
        connection.request("POST", f"{self._path}/chat/completions", body, self._headers())
        try:
            return connection.getresponse()
        except TimeoutError:
            raise ModelUnavailable(
                f"{self._host} gave no answer within {self._patience.read:.0f} s."
            ) from None

    def _check_peer(self, address: str) -> None:
        if not policy.is_inside(address):
            return
        allowed = policy.current()
        named = allowed.permits(self._host, self._port)
        if policy.gives_credentials(address) or not (
            named or (self._allow_private and not allowed.public)
        ):
            raise ModelUnavailable(
                f"{self._host} is an address inside this machine's own network, which may not be "
                "used here. The owner of the server allows it with "
                f"RAGDEMO_PRIVATE_ENDPOINTS={self._host}:{self._port}."
            )

    def _payload(self, row: _Row) -> dict[str, object]:
        decoding = row.decoding
        payload: dict[str, object] = {
            "model": self.model,
            "messages": [dict(message) for message in row.prompt.messages],
            "stream": True,
            "max_tokens": decoding.max_tokens,
            "temperature": decoding.temperature if decoding.sample else 0,
            "seed": decoding.seed,
        }
        if decoding.sample:
            payload["top_p"] = decoding.top_p
        for name, instead in self._adapted.items():
            if name in payload:
                value = payload.pop(name)
                if instead:
                    payload[instead] = value
        return payload

    def _adapt(self, said: dict[str, object], payload: dict[str, object]) -> bool:
        """Newer OpenAI models refuse `max_tokens` and a temperature; learn it from the refusal."""
        name = said.get("param")
        instead = {
            "max_tokens": "max_completion_tokens",
            "temperature": "",
            "seed": "",
            "top_p": "",
        }
        if name not in instead or name not in payload:
            return False
        self._adapted[str(name)] = instead[str(name)]
        return True

    def _refusal(self, status: int, said: dict[str, object]) -> str:
        detail = _said({"error": said})
        if status in (401, 403):
            return f"{self._host} refused the key ({status}). Check the key and what it may use."
        if status == 404:
            return (
                f"{self._host} has no model '{self.model}', or no {self._path}/chat/completions "
                f"(404). {detail}"
            )
        if status == 429:
            return f"{self._host} is over its rate limit or quota (429). Try later. {detail}"
        if status >= 500:
            return f"{self._host} has a failure of its own ({status}). Try later. {detail}"
        if 300 <= status < 400:
            return f"{self._host} sends elsewhere ({status}); give the final address."
        return f"{self._host} refused the request ({status}). {detail}"


@dataclass(frozen=True, slots=True)
class _End:
    finish: str


def _keep(key: str) -> tuple[Callable[[], dict[str, str]], Callable[[str], str]]:
    """What makes the headers and what takes the key out of a text: the key is in no attribute."""

    def headers() -> dict[str, str]:
        out = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        return {**out, "Authorization": f"Bearer {key}"} if key else out

    def redact(text: str) -> str:
        return text.replace(key, "***") if key else text

    return headers, redact


def _parse(base_url: str) -> tuple[bool, str, int, str]:
    """(secure, host, port, path)"""
    wanted = "give it like https://api.openai.com/v1 or http://localhost:11434/v1"
    if not re.fullmatch(r"[\x21-\x7e]+", base_url.strip()):
        raise ModelUnavailable(
            f"The endpoint's address is empty or holds odd characters: {wanted}."
        )
    try:
        url = urlsplit(base_url.strip())
        port = url.port
    except ValueError:
        raise ModelUnavailable(f"The endpoint's address is malformed: {wanted}.") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ModelUnavailable(f"The endpoint's address must begin with http(s): {wanted}.")
    # these would be shown with the address
    if url.username or url.password or url.query or url.fragment:
        raise ModelUnavailable("The endpoint's address may hold no key: give the key by itself.")
    secure = url.scheme == "https"
    path = url.path.rstrip("/").removesuffix("/chat/completions")
    return secure, url.hostname, port or (443 if secure else 80), path


def _events(response: http.client.HTTPResponse, host: str) -> Iterator[str]:
    """The data of each server-sent event; comments and other fields are skipped."""
    data: list[str] = []
    while line := response.readline(_LONGEST_LINE):
        if len(line) >= _LONGEST_LINE:
            raise ModelUnavailable(f"{host} sent an event that is far too long.")
        text = line.decode("utf-8", errors="replace").rstrip("\r\n")
        if text.startswith("data:"):
            data.append(text[5:].removeprefix(" "))
        elif not text and data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


def _json(data: str | bytes, host: str) -> dict[str, object]:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ModelUnavailable(f"{host} sent something that is no chat completion.")
    return value


def _choice(event: dict, host: str) -> dict:
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ModelUnavailable(f"{host} sent something that is no chat completion.")
    return choices[0]


def _finish(reason: str) -> str:
    return {"length": "length", "content_filter": "refused"}.get(reason, "stop")


def _error(response: http.client.HTTPResponse) -> dict[str, object]:
    """The `error` object of a refusal, or {} where there is none."""
    try:
        value = json.loads(response.read(65_536))
    except ValueError:
        return {}
    error = value.get("error") if isinstance(value, dict) else None
    return error if isinstance(error, dict) else {"message": str(error or "")}


def _said(event: dict) -> str:
    """The endpoint's own words, short and on one line."""
    error = event.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return " ".join(clean(str(message or ""))[0].split())[:300]


def _retry_after(header: str | None, otherwise: float) -> float:
    """Seconds; the header's other form, a date, is rare here and not read."""
    try:
        return max(0.0, float(header)) if header else otherwise
    except ValueError:
        return otherwise


def _tidy(text: str) -> str:
    return clean(text)[0].strip()
