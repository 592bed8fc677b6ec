#!/usr/bin/env python3
"""Finds unused dependencies: those that no code of their package names, and entries of the workspace table that no package uses.

usage: check-dependencies.py    (needs cargo)
"""

import doctest
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Named by generated code only.
GENERATED = {("rekindle-proto", name) for name in ("bytes", "prost", "prost-types", "tonic-prost")}
FOLDERS = {None: ["src"], "dev": ["src", "tests", "examples", "benches"], "build": ["build.rs"]}


def names(code, crate):
    """Whether code names a crate: at the root of a path, in a `use`, or in an attribute such as `with = "crate"`.

    >>> [names(code, "http") for code in ("use http::Uri;", "use http;", "fn f(_: http::Uri)", "::http::Uri", '(with = "http")')]
    [True, True, True, True, True]
    >>> [names(code, "http") for code in ("use tonic::http::Uri;", "let http = 1;", "my_http::f()", "// http::Uri", '"http://x"')]
    [False, False, False, False, False]
    """
    code = re.sub(r"^\s*//.*$", "", code, flags=re.M)
    crate = re.escape(crate.replace("-", "_"))
    path = rf"(?<![\w])(?<!\w::){crate}::"
    return re.search(rf'{path}|\buse {crate}\b|= "{crate}[":]', code) is not None


def code_of(package, kind):
    home = pathlib.Path(package["manifest_path"]).parent
    paths = [home / folder for folder in FOLDERS[kind]]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.rs"))]
    return "\n".join(file.read_text() for file in files)


def main():
    if doctest.testmod().failed:
        return 1
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--locked"]
    packages = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    problems, used = [], set()
    for package in packages:
        for dependency in package["dependencies"]:
            name, kind = dependency["name"], dependency["kind"]
            used.update({name, dependency["rename"] or name})
            crate = dependency["rename"] or name
            if (package["name"], name) not in GENERATED and not names(code_of(package, kind), crate):
                problems.append(f"{package['name']}: no code names the {kind or 'normal'} dependency {name}")
    table = (ROOT / "Cargo.toml").read_text().split("[workspace.dependencies]")[1].split("\n[")[0]
    entries = set(re.findall(r"^([\w-]+) = ", table, re.M))
    problems += [f"workspace: no package depends on {name}" for name in sorted(entries - used)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems or not entries else 0


if __name__ == "__main__":
    sys.exit(main())
