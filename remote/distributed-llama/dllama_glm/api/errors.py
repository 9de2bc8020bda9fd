"""What a client is told when something cannot be done: OpenAI's form, whatever it was."""

from typing import Any

from starlette.responses import JSONResponse


class ApiError(Exception):
    """A refusal with its HTTP status; `param` names the field that is to blame, None where it is none."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self._status = status
        self._headers = headers
        self.document: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code},
        }

    def response(self) -> JSONResponse:
        """Return the HTTP response."""
        return JSONResponse(self.document, self._status, self._headers)


def wrong(param: str, message: str, code: str | None = None) -> ApiError:
    """Return the error of a field that cannot be meant."""
    return ApiError(400, f"{param}: {message}", param=param, code=code)


def internal(error: Exception) -> ApiError:
    """Return the error of something that went wrong here."""
    return ApiError(500, str(error) or type(error).__name__, kind="server_error")
