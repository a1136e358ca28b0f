"""A model by its id, from a server that speaks the hub's protocol, on this machine."""

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hub_equality import checkpoint

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "a" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """``/api/models/ID/revision/R`` and ``/ID/resolve/R/FILE`` over a folder of models."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        if path.startswith("api/models/"):
            name = "/".join(path.removeprefix("api/models/").split("/")[:2])
            place = self.folder / name
            if not place.is_dir():
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
                return
            if "/tree/" not in path:
                files = [{"rfilename": file.name} for file in sorted(place.iterdir())]
                said = {"id": name, "sha": COMMIT, "siblings": files, "cardData": {"license": "apache-2.0"}}
                self._send(200, json.dumps(said).encode(), {"Content-Type": "application/json"}, body)
                return
            tree = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}
                for file in sorted(place.iterdir())
            ]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body)
            return
        if "/resolve/" not in path:
            self._send(404, b"{}", {}, body)
            return
        owner, model, _, _, file = path.split("/", 4)
        content = (self.folder / owner / model / file).read_bytes()
        if body:
            self.asked.append(file)
        self._send(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}, body)

    def _send(self, code: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub with a GPT-2, one that is pickled, and one of an unknown architecture."""
    Hub.folder, Hub.asked = tmp_path / "models", []
    checkpoint("GPT2", Hub.folder / "someone" / "small-gpt2")
    (Hub.folder / "someone" / "small-gpt2" / "training_args.bin").write_bytes(b"pickled")
    for name, kind, file in (("pickled", "gpt2", "pytorch_model.bin"), ("strange", "mamba", "model.safetensors")):
        place = Hub.folder / "someone" / name
        place.mkdir()
        (place / "config.json").write_text(json.dumps({"model_type": kind}))
        (place / file).write_bytes(b"x")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", Hub.asked
    server.shutdown()
    thread.join()
    server.server_close()


SCRIPT = """
import json, sys
import pieria
from pieria.errors import PieriaError

found = {}
for name in sys.argv[1:]:
    try:
        found[name] = pieria.import_model(f"someone/{name}", out=name).record["imported"]
    except PieriaError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


def imported(names: list[str], folder: Path, **environment: str) -> dict[str, Any]:
    """In a process of its own, since the library reads its environment when it is imported: the origin, or what was said."""
    set_ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "cache"), **environment}
    command = [sys.executable, "-c", SCRIPT, *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=set_)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_model_by_its_id(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = hub
    online = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    found = imported(["small-gpt2", "pickled", "strange", "nobody"], tmp_path, **online)
    origin = {
        "from": "someone/small-gpt2",
        "format": "transformers",
        "architecture": "gpt2",
        "licence": "apache-2.0",
        "revision": COMMIT,
    }
    assert found["small-gpt2"] == origin
    assert {Path(file).suffix for file in asked} == {".json", ".safetensors"}
    assert "which is pickled" in found["pickled"]
    assert "model_type = 'mamba'" in found["strange"]
    assert "could not be fetched" in found["nobody"]
    assert not [name for name in ("pickled", "strange", "nobody") if (tmp_path / name).exists()]
    assert "model.safetensors" not in asked  # no weights of what cannot be used
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    shutil.rmtree(tmp_path / "small-gpt2")
    assert imported(["small-gpt2"], tmp_path, **offline)["small-gpt2"]["revision"] == COMMIT
