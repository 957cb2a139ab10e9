"""ComfyUI's HTTP, with every way it can fail to answer said as a RenderFailed."""

from typing import TYPE_CHECKING, Any

from functions.domain.errors import Failure, RenderFailed

if TYPE_CHECKING:
    from requests import Response


class NoAnswer(RenderFailed):
    """ComfyUI cannot be reached (`comfyui_gone`) or answers with an error of its own (`comfyui_error`).

    late: it took the connection, and did not answer in time.
    """

    def __init__(self, code: str, detail: str, *, late: bool = False) -> None:
        super().__init__(Failure.TRANSIENT, code, detail)
        self.late = late


class Http:
    """One kept-alive connection to one ComfyUI. timeout_s: for one answer."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        import requests

        self.url = url
        self._timeout_s = timeout_s
        self._session = requests.Session()
        self._session.trust_env = False  # it stands beside the runner: no proxy, no .netrc
        self._broken = requests.RequestException
        self._late = requests.Timeout

    def close(self) -> None:
        self._session.close()

    def call(self, method: str, path: str, *, json: object = None, timeout_s: float | None = None) -> "Response":
        """The answer, whatever its status; NoAnswer when there is none."""
        timeout_s = min(timeout_s or self._timeout_s, self._timeout_s)
        try:
            return self._session.request(method, self.url + path, json=json, timeout=timeout_s)
        except self._broken as silent:
            raise self._gone(silent) from silent

    def get(self, path: str, *, timeout_s: float | None = None) -> Any:
        """The answer's JSON; NoAnswer when there is none or its status is no success."""
        return self.content(self.accepted(self.call("GET", path, timeout_s=timeout_s)))

    def send(self, path: str, body: object, *, timeout_s: float | None = None) -> None:
        """Post a command that is answered with nothing; fails as `get` does."""
        self.accepted(self.call("POST", path, json=body, timeout_s=timeout_s))

    def download(self, path: str, *, params: dict[str, str], limit_bytes: int) -> bytes | None:
        """A file's bytes, None when it is not there; RenderFailed `output_too_large` above the limit."""
        url = self.url + path
        content = bytearray()
        try:
            with self._session.get(url, params=params, stream=True, timeout=self._timeout_s) as answer:
                if answer.status_code in {400, 403, 404}:
                    return None
                for piece in self.accepted(answer).iter_content(2**20):
                    content += piece
                    if len(content) > limit_bytes:
                        detail = f"a picture is larger than {limit_bytes} bytes"
                        raise RenderFailed(Failure.PERMANENT, "output_too_large", detail)
        except self._broken as broken:
            raise self._gone(broken) from broken
        return bytes(content)

    def upload(self, path: str, name: str, data: bytes) -> str:
        """Send a file; gives the name it was kept under, below the input folder. Fails as `get` does."""
        try:
            answer = self._session.post(self.url + path, files={"image": (name, data)}, timeout=self._timeout_s)
        except self._broken as broken:
            raise self._gone(broken) from broken
        kept = self.content(self.accepted(answer))
        return "/".join(part for part in (kept["subfolder"], kept["name"]) if part)

    def accepted(self, answer: "Response") -> "Response":
        """The answer, if its status is a success."""
        if not answer.ok:
            path = answer.request.path_url.split("?")[0]
            status = f"{answer.request.method} {path} with {answer.status_code}"
            raise NoAnswer("comfyui_error", f"ComfyUI answered {status}")
        return answer

    def content(self, answer: "Response") -> Any:
        """The answer's JSON, whatever its status."""
        try:
            return answer.json()
        except ValueError as garbled:
            raise NoAnswer("comfyui_error", f"what answers at {self.url} is not ComfyUI") from garbled

    def _gone(self, cause: Exception) -> NoAnswer:
        detail = f"ComfyUI at {self.url} does not answer ({type(cause).__name__})"
        return NoAnswer("comfyui_gone", detail, late=isinstance(cause, self._late))
