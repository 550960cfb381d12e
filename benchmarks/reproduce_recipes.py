"""The recipes of benchmarks/reproduce.py: what containers and disks are made of, each small."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Parent = Literal["tiny", "debian", "disk"]
STAGE: Final = "FROM {{{ imagebuilder:parentImage }}}\n"
HEAD: Final = STAGE + "{{{ imagebuilder:environments }}}\n"
COMPONENTS: Final = "{{{ imagebuilder:components }}}\n"
_NOTHING: Final = ("true",)
_DRAW: Final = "cat /proc/sys/kernel/random/uuid"
_INSTALL: Final = (
    "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends"
)
_END: Final = "rm -rf /var/lib/apt/lists/*"


@dataclass(frozen=True)
class Recipe:
    """`text`: instructions before the components; `after`: behind them; `scripts`: a component each, of one
    ExecuteBash step, or a whole document."""

    parent: Parent
    text: str = ""
    scripts: tuple[str, ...] = _NOTHING
    after: str = ""


def _document(*steps: tuple[str, str]) -> str:
    """A component document; of each step its action, and its inputs as YAML of one line."""
    lines = ["name: steps", "schemaVersion: 1.0", "phases:", "  - name: build", "    steps:"]
    for number, (action, inputs) in enumerate(steps):
        lines += [f"      - name: Step{number}", f"        action: {action}", f"        inputs: {inputs}"]
    return "\n".join(lines) + "\n"


_FILES: Final = _document(
    ("CreateFolder", "[{path: /srv/made/deep}]"),
    ("CreateFile", "[{path: /srv/made/file, content: text, permissions: '0640'}]"),
    ("AppendFile", "[{path: /srv/made/file, content: more}]"),
    ("CreateSymlink", "[{path: /srv/made/link, target: /srv/made/file}]"),
    ("CopyFile", "[{source: /srv/made/file, destination: /srv/made/copy}]"),
    ("SetFilePermissions", "[{path: /srv/made/copy, permissions: '4711'}]"),
)
_MOVES: Final = _document(
    ("CreateFile", "[{path: /srv/one, content: one}]"),
    ("MoveFile", "[{source: /srv/one, destination: /srv/two}]"),
    ("CreateFolder", "[{path: /srv/folder}]"),
    ("MoveFolder", "[{source: /srv/folder, destination: /srv/moved}]"),
    ("ListFiles", "[{path: /srv}]"),
)
_BASH: Final = _document(
    ("ExecuteBash", "{commands: ['mkdir -p /srv && echo one >/srv/bash']}"),
    ("ExecuteBinary", "{path: /bin/sh, arguments: ['-c', 'echo two >>/srv/bash']}"),
)

CONTAINERS: Final = MappingProxyType(
    {
        "one RUN": Recipe("tiny", "RUN echo one >/one\n"),
        "RUN in the exec form": Recipe("tiny", 'RUN ["/bin/sh", "-c", "echo one >/one"]\n'),
        "RUN with a here-document": Recipe("tiny", "RUN <<END\necho one >/one\necho two >/two\nEND\n"),
        "ten RUN": Recipe("tiny", "".join(f"RUN echo {n} >/file-{n}\n" for n in range(10))),
        "RUN as a user": Recipe("tiny", "RUN mkdir -m 1777 /all\nUSER 7:8\nRUN echo me >/all/mine\nUSER 0\n"),
        "RUN with a cache mount": Recipe("tiny", f"RUN --mount=type=cache,target=/c {_DRAW} >/c/x && echo a >/a\n"),
        "RUN with a bind of a stage": Recipe(
            "tiny",
            "RUN mkdir /in && echo a >/in/a\n" + STAGE + "RUN --mount=from=0,source=/in,target=/m cp /m/a /b\n"
        ),
        "SOURCE_DATE_EPOCH": Recipe(
            "tiny", "RUN echo $SOURCE_DATE_EPOCH >/epoch\n", ("echo $SOURCE_DATE_EPOCH >/e",)
        ),
        "removals": Recipe("tiny", "RUN mkdir -p /a/b && echo x >/a/b/c\nRUN rm -r /a/b\n", ("rm /bin/yes",)),
        "a folder in place of another": Recipe(
            "tiny", "RUN mkdir -p /a/b && echo x >/a/b/c\nRUN rm -r /a && mkdir /a\n"
        ),
        "COPY from a stage": Recipe(
            "tiny",
            "RUN mkdir /o && for n in 1 2 3 4 5 6; do echo $n >/o/$n; done\n" + STAGE + "COPY --from=0 /o /\n"
        ),
        "COPY with owner and mode": Recipe(
            "tiny", "RUN echo x >/x\n" + STAGE + "COPY --from=0 --chown=5:6 --chmod=600 /x /y\n"
        ),
        "COPY of a text": Recipe("tiny", "COPY <<END /srv/text\none\ntwo\nEND\n"),
        "stages side by side": Recipe(
            "tiny",
            f"RUN echo a >/a\n{STAGE}RUN echo b >/b\n{STAGE}COPY --from=0 /a /\nCOPY --from=1 /b /\n",
        ),
        "a stage on a stage": Recipe(
            "tiny", STAGE.replace("}}}", "}}} AS below") + "RUN echo a >/a\nFROM below\nRUN echo b >/b\n"
        ),
        "WORKDIR": Recipe("tiny", "WORKDIR /srv/new/folder\nRUN echo here >here\n"),
        "configuration": Recipe(
            "tiny", 'ENV A=b\nLABEL c=d\nEXPOSE 80\nVOLUME /v\nCMD ["sh"]\nHEALTHCHECK CMD true\n'
        ),
        "ARG": Recipe("tiny", "ARG NAME=value\nRUN echo $NAME >/name\n"),
        "links": Recipe("tiny", "RUN echo a >/a && ln /a /b && ln -s /a /c && ln -s nowhere /d\n", ("ln /b /e",)),
        "devices and pipes": Recipe("tiny", "RUN mknod /pipe p && mkdir /d && mknod /d/pipe p\n"),
        "modes and owners": Recipe(
            "tiny", "RUN echo a >/a && chown 1000:50 /a && chmod 6755 /a && chmod 1777 /srv || true\n"
        ),
        "old times": Recipe(
            "tiny", "RUN touch -d @5 /old && touch -d 2001-02-03 /older && touch -d 2090-01-01 /later\n"
        ),
        "a file of 60 MB": Recipe("tiny", "RUN yes | head -c 60000000 >/big\n"),
        "a sparse file": Recipe("tiny", "RUN dd if=/dev/zero of=/sparse bs=1 count=1 seek=90000000\n"),
        "2,000 small files": Recipe(
            "tiny", "RUN mkdir /m && n=0; while [ $n -lt 2000 ]; do echo $n >/m/$n; n=$((n+1)); done\n"
        ),
        "odd names": Recipe("tiny", "RUN echo a >'/a b' && echo c >'/ü' && mkdir '/-x' && echo d >'/-x/\\'\n"),
        "caches, logs and ids": Recipe(
            "tiny",
            "RUN mkdir -p /var/log/apt /var/cache/ldconfig /root/.cache/pip && "
            f"for f in /var/log/apt/a.log /var/cache/ldconfig/aux-cache /root/.cache/pip/x; do {_DRAW} >$f; done\n",
            (f"{_DRAW} >/etc/machine-id",),
        ),
        "components of several actions": Recipe("tiny", "", (_FILES, _MOVES, _BASH)),
        "instructions around components": Recipe(
            "tiny", "RUN mkdir -p /srv && echo a >/srv/a\n",
            ("echo b >/srv/b", "echo c >/srv/c"), "RUN cat /srv/? >/srv/all\n"
        ),
        "a component that changes nothing": Recipe("tiny", "", ("true", "cat /etc/passwd || true")),
        "users": Recipe(
            "debian", "RUN useradd -m -u 1500 app && echo app:secret | chpasswd -e && groupadd -g 1600 g\n"
        ),
        "an installed package": Recipe("debian", f"RUN {_INSTALL} hello && {_END}\n"),
        "an installed package with capabilities": Recipe(
            "debian", f"RUN {_INSTALL} libcap2-bin iputils-ping && {_END}\n",
            ("cp /bin/cat /srv/cat; setcap cap_net_raw+ep /srv/cat",)
        ),
        "Python": Recipe(
            "debian",
            f"RUN {_INSTALL} python3-minimal libpython3-stdlib && {_END}\n"
            "RUN mkdir -p /srv/p && echo 'x = {1, 2}' >/srv/p/m.py && cd /srv/p && python3 -c 'import m' && "
            "python3 -m compileall -q /srv/p\n",
        ),
    }
)  # fmt: skip
DISKS: Final = MappingProxyType(
    {
        "disk: one file": Recipe("disk", "", ("echo a >/etc/made",)),
        "disk: modes, owners, links": Recipe(
            "disk", "", ("mkdir -p /srv; echo a >/srv/a; chown 5:6 /srv/a; chmod 4711 /srv/a; ln /srv/a /srv/b",)
        ),
        "disk: removals": Recipe("disk", "", ("rm /etc/old; rm -r /var/tmp; mkdir /var/tmp",)),
        "disk: caches, logs and ids": Recipe(
            "disk", "", (f"{_DRAW} >/var/log/a.log; {_DRAW} >>/etc/machine-id; {_DRAW} >/var/log/btmp",)
        ),
        "disk: 500 files": Recipe(
            "disk", "", ("mkdir /m; n=0; while [ $n -lt 500 ]; do echo $n >/m/$n; n=$((n+1)); done",)
        ),
        "disk: two components": Recipe(
            "disk", "", ("echo $SOURCE_DATE_EPOCH >/etc/epoch", _FILES.replace("4711", "0711"))
        ),
    }
)  # fmt: skip
SHORT: Final = (
    "one RUN", "COPY from a stage", "caches, logs and ids", "instructions around components", "disk: one file"
)  # fmt: skip
"""The handful of the short form."""
