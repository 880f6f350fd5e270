"""One run of a service check: a TCP connect, or an HTTP request judged by its status.

An HTTP answer from 200 to 299 passes, as in Nomad; redirects are not followed. Whatever
goes wrong is a failing check with the reason as its output, never an exception.
"""

import ssl

import h11
import trio

from core.client.effects import CheckDone, RunCheck

OUTPUT_BYTES = 3_072


async def run_check(effect: RunCheck) -> CheckDone:
    try:
        with trio.fail_after(max(effect.timeout_us, 1_000) / 1e6):
            if effect.probe == "tcp":
                return await _probe_tcp(effect)
            return await _probe_http(effect)
    except trio.TooSlowError:
        return _failed(effect, f"timed out after {effect.timeout_us / 1e6:g} s")
    except (OSError, trio.BrokenResourceError) as error:
        return _failed(effect, _reason(error))
    except h11.RemoteProtocolError as error:
        return _failed(effect, f"not an HTTP answer: {error}")
    except h11.LocalProtocolError as error:
        return _failed(effect, f"the check's request is not valid HTTP: {error}")


async def _probe_tcp(effect: RunCheck) -> CheckDone:
    stream = await trio.open_tcp_stream(effect.address, effect.port)
    await stream.aclose()
    return CheckDone(effect.check_id, True, f"TCP connect {_place(effect)}: Success")


async def _probe_http(effect: RunCheck) -> CheckDone:
    stream: trio.abc.Stream = await trio.open_tcp_stream(effect.address, effect.port)
    async with stream:
        if effect.protocol == "https":
            context = ssl.create_default_context()
            if effect.tls_skip_verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            stream = trio.SSLStream(
                stream, context, server_hostname=effect.address, https_compatible=True
            )
        connection = h11.Connection(h11.CLIENT)
        await _send_request(stream, connection, effect)
        return await _read_answer(stream, connection, effect)


async def _send_request(
    stream: trio.abc.Stream, connection: h11.Connection, effect: RunCheck
) -> None:
    headers = [(name, value) for name, values in effect.headers.items() for value in values]
    said = {name.lower() for name, _ in headers}
    body = effect.body.encode()
    for name, value in (
        ("Host", _place(effect)),
        ("User-Agent", "Serai Health Check"),
        ("Accept", "text/plain, text/*, */*"),
        ("Connection", "close"),
    ):
        if name.lower() not in said:
            headers.append((name, value))
    if body and "content-length" not in said:
        headers.append(("Content-Length", str(len(body))))
    request = h11.Request(method=effect.method.upper(), target=effect.path or "/", headers=headers)
    data = connection.send(request) or b""
    if body:
        data += connection.send(h11.Data(data=body)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    await stream.send_all(data)


async def _read_answer(
    stream: trio.abc.Stream, connection: h11.Connection, effect: RunCheck
) -> CheckDone:
    status = 0
    output = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(OUTPUT_BYTES)))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            output += event.data
            if len(output) >= OUTPUT_BYTES:
                break
        elif isinstance(event, h11.InformationalResponse):
            continue
        else:
            break  # EndOfMessage, ConnectionClosed or paused: there is no more
    text = output[:OUTPUT_BYTES].decode("utf-8", "replace")
    shown = f"HTTP {effect.method.upper()} {_place(effect)}{effect.path}: {status} Output: {text}"
    return CheckDone(effect.check_id, 200 <= status <= 299, shown, status)


def _failed(effect: RunCheck, reason: str) -> CheckDone:
    return CheckDone(effect.check_id, False, f"{effect.probe} {_place(effect)}: {reason}")


def _place(effect: RunCheck) -> str:
    host = f"[{effect.address}]" if ":" in effect.address else effect.address
    return f"{host}:{effect.port}"


def _reason(error: BaseException) -> str:
    """Return the first cause: trio wraps TLS errors, and those of all addresses it tried."""
    while error.__cause__ is not None:
        error = error.__cause__
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
