#!/usr/bin/env python3
"""Runs the Autobahn WebSocket cases against our codec, or against any echo server; see README.md."""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv

HERE = pathlib.Path(__file__).resolve().parent
ENVIRONMENT = HERE.parent / ".cache" / "venv-kosoku"
KOSOKU = "kosoku==0.1.0"

# All cases but compression, and of that two message sizes per group.
SHORT = ["-x", "12.*", "-x", "13.*"]
GROUPS = [f"12.{n}" for n in range(1, 6)] + [f"13.{n}" for n in range(1, 8)]
SHORT_COMPRESSION = [word for group in GROUPS for case in (1, 4) for word in ("-i", f"{group}.{case}")]
GOOD = {"OK", "INFORMATIONAL"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="all 517 cases (some minutes) instead of the short set")
    parser.add_argument("--url", help="test the echo server at ws://HOST:PORT instead of our own")
    parser.add_argument("--client", action="store_true", help="test our client side: it connects to the suite")
    parser.add_argument("--takeover", action="store_true", help="our echo keeps compression contexts")
    parser.add_argument("--no-compression", action="store_true", help="leave groups 12 and 13 out")
    parser.add_argument("-i", "--include", action="append", metavar="CASE", help="only these cases (glob; repeatable)")
    parser.add_argument("-p", "--parallel", type=int, default=2, help="cases at a time (default: 2)")
    parser.add_argument("--reports", type=pathlib.Path, help="keep the suite's reports in this folder")
    options = parser.parse_args()

    kosoku = install()
    with tempfile.TemporaryDirectory() as scratch:
        reports = options.reports or pathlib.Path(scratch)
        results = {}
        for number, selection in enumerate(selections(options)):
            folder = reports / str(number)
            shutil.rmtree(folder, ignore_errors=True)
            if options.client:
                run_client(kosoku, selection, folder, options)
            else:
                run_server(kosoku, selection, folder, options)
            for cases in json.loads((folder / "index.json").read_text()).values():
                results.update(cases)
    return summary(results)


def selections(options):
    """The arguments of each run of the suite."""
    if options.include:
        return [[word for case in options.include for word in ("-i", case)]]
    if options.no_compression:
        return [SHORT]
    return [[]] if options.full else [SHORT, SHORT_COMPRESSION]


def install():
    """Puts the suite into an environment of its own, once."""
    kosoku = ENVIRONMENT / "bin" / "kosoku"
    if not kosoku.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([ENVIRONMENT / "bin" / "pip", "install", "--quiet", KOSOKU], check=True)
    return kosoku


def build():
    """Builds the echo program and returns its path."""
    command = ["cargo", "build", "--quiet", "--message-format=json", "--manifest-path", HERE / "Cargo.toml"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = map(json.loads, output.splitlines())
    return next(message["executable"] for message in messages if message.get("executable"))


def run_server(kosoku, selection, folder, options):
    """The suite is the client."""
    if options.url:
        suite(kosoku, ["-o", folder, "-p", str(options.parallel), *selection, options.url], options)
        return
    command = [build(), "serve", *(["--takeover"] if options.takeover else [])]
    # The server ends with its standard input, whatever becomes of us. What it prints about refused cases is no news.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True) as server:
        port = server.stdout.readline().split()[-1]
        try:
            suite(kosoku, ["-o", folder, "-p", str(options.parallel), *selection, f"127.0.0.1:{port}"], options)
        finally:
            server.stdin.close()


def run_client(kosoku, selection, folder, options):
    """The suite is the server, and ends when the client has asked for the reports."""
    echo = build()
    command = [kosoku, "-m", "fuzzingserver", "-o", folder, *selection, "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            port = server.stderr.readline().split(":")[-1].strip()
            command = [echo, "connect", port, *(["--takeover"] if options.takeover else [])]
            subprocess.run(command, check=True, timeout=deadline(options), stdout=subprocess.DEVNULL)
            server.communicate(timeout=30)
        finally:
            server.kill()


def suite(kosoku, arguments, options):
    # Its exit code counts failed cases; the reports say more.
    subprocess.run([kosoku, *arguments], timeout=deadline(options), stdout=subprocess.DEVNULL)


def deadline(options):
    return 1800 if options.full or options.include else 300


def summary(results):
    """Prints a line per group and one per bad case; the exit code."""
    groups = {}
    bad = []
    for case, result in sorted(results.items(), key=lambda item: [int(part) for part in item[0].split(".")]):
        outcomes = {result["behavior"], result["behaviorClose"]}
        worst = min(outcomes - GOOD, default=result["behavior"])
        group = groups.setdefault(case.split(".")[0], {})
        group[worst] = group.get(worst, 0) + 1
        if worst not in GOOD:
            bad.append(f"{case}: {result['behavior']}, close {result['behaviorClose']}")
    for group, counts in groups.items():
        print(f"group {group:>2}: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    print(*bad, sep="\n", end="\n" if bad else "")
    print(f"{len(results)} cases, {len(bad)} bad")
    return 1 if bad or not results else 0


if __name__ == "__main__":
    sys.exit(main())
