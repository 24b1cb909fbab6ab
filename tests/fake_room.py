"""The part of the hub on loopback that takes what is pushed: repositories, files by LFS, commits."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field

TOKEN = "hf_" + "w" * 34  # that may write
OWNER = "me"  # into whose name


@dataclass
class Repository:
    """files: by name; commits: messages, the first is the hub's own."""

    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.safetensors filter=lfs"})
    commits: list[str] = field(default_factory=lambda: ["initial commit"])

    @property
    def sha(self) -> str:
        return hashlib.sha1(f"{self.commits}".encode()).hexdigest()


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Room:
    """repositories: by name; address: of the hub; refused: path, as a pattern -> an answer that is given instead."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)  # by sha256
    refused: dict[str, Answer] = field(default_factory=dict)
    tokens: list[str | None] = field(default_factory=list)  # that came

    def has(self, path: str) -> bool:
        return re.search(rf"/{OWNER}/|/other/|/api/repos/|/api/validate-yaml|/lfs/", path) is not None

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> Answer:
        for pattern, answer in self.refused.items():
            if re.search(pattern, path):
                return answer
        if path.startswith("/lfs/"):  # an address that is signed
            self.stored[path.rpartition("/")[2]] = body
            return Answer(200)
        self.tokens.append(token)
        if token != TOKEN:
            return Answer(401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"})
        if path == "/api/validate-yaml":
            return told({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        name = "/".join(re.search(r"/(me|other)/([^/]+?)(?:\.git)?(?:/|$)", path).groups())
        repository = self.repositories.get(name)
        if repository is None or name.startswith("other/"):
            return Answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        return self.of(repository, name, path, body)

    def create(self, asked: dict) -> Answer:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != OWNER:
            return Answer(403, b"{}", {"X-Error-Message": "You don't have the rights to create a model there"})
        if name in self.repositories:
            return Answer(409, b"{}", {"X-Error-Message": "You already created this model repo"})
        self.repositories[name] = Repository(asked.get("visibility") == "private")
        return told({"url": f"{self.address}/{name}"})

    def of(self, repository: Repository, name: str, path: str, body: bytes) -> Answer:
        if "/preupload/" in path:
            return told({"files": [preloaded(file) for file in json.loads(body)["files"]]})
        if path.endswith("/info/lfs/objects/batch"):
            return told({"objects": [self.placed(thing) for thing in json.loads(body)["objects"]]})
        if "/commit/" in path:
            return self.commit(repository, name, [json.loads(line) for line in body.splitlines()])
        if "/resolve/" in path:
            content = repository.files.get(path.partition("/resolve/")[2].partition("/")[2])
            if content is None:
                return Answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            return Answer(200, content, {"ETag": tag, "X-Repo-Commit": repository.sha})
        siblings = [{"rfilename": file, "size": len(content)} for file, content in repository.files.items()]
        return told({"id": name, "sha": repository.sha, "private": repository.private, "siblings": siblings})

    def placed(self, thing: dict) -> dict:
        if thing["oid"] in self.stored:
            return {"oid": thing["oid"], "size": thing["size"]}
        href = f"{self.address}/lfs/{thing['oid']}"
        return {"oid": thing["oid"], "size": thing["size"], "actions": {"upload": {"href": href}}}

    def commit(self, repository: Repository, name: str, lines: list[dict]) -> Answer:
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repository.sha):
            return Answer(412, b"{}", {"X-Error-Message": "A commit has happened since."})
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.stored[value["oid"]]
            else:
                assert line["key"] == "deletedFile"
                del repository.files[value["path"]]
        repository.commits.append(header["summary"])
        return told({"commitUrl": f"{self.address}/{name}/commit/{repository.sha}", "commitOid": repository.sha})


def preloaded(file: dict) -> dict:
    lfs = file["path"].endswith(".safetensors") or file["size"] > 10 * 2**20
    return {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}


def told(value: object) -> Answer:
    return Answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})
