"""The cluster's side of a control: it is looked up by its name and carried out in the cluster's loop."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from peruserd.simcluster.control_calls import CALLS
from peruserd.simcluster.controls import Controls
from peruserd.simcluster.model import errors


async def perform(controls: Controls, name: str, arguments: Mapping[str, Any]) -> Any:
    """Carry out a control and return its answer as JSON values.

    LookupError where the control or its subject does not exist, ValueError for wrong arguments.
    """
    call = CALLS.get(name)
    if call is None:
        raise LookupError(f"there is no control {name!r}")
    try:
        answer = call.operation(controls, **call.decode_arguments(arguments))
        if inspect.isawaitable(answer):
            answer = await answer
    except errors.RefusalError as error:
        raise LookupError(str(error)) from error
    return call.encode_answer(answer)


def handler(controls: Controls) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Return the HTTP handler of the control port: `POST /{control}` with its arguments as a JSON object."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        try:
            arguments = msgspec.json.decode(await request.read() or b"{}", type=dict[str, Any])
            answer = await perform(controls, request.path.strip("/"), arguments)
        except (LookupError, ValueError) as error:
            return web.Response(body=_encode_error(error), status=400, content_type="application/json")
        return web.Response(body=msgspec.json.encode({"result": answer}), content_type="application/json")

    return handle


def _encode_error(error: Exception) -> bytes:
    kind = "lookup" if isinstance(error, LookupError) else "value"
    return msgspec.json.encode({"error": kind, "message": str(error)})


def decode_response(body: bytes) -> Any:
    """Return the answer in a response of the control port, or raise the error in it."""
    outcome = msgspec.json.decode(body)
    if "error" in outcome:
        raise (LookupError if outcome["error"] == "lookup" else ValueError)(outcome["message"])
    return outcome["result"]
