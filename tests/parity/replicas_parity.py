"""Several `bdh serve` that share a --state-dir, behind nginx as tools/examples/serve/nginx.conf says; only its ports are others.

    replicas_parity.py check --bdh build/bdh [--demo tools/examples/shakespeare-small]

Python's standard library alone. What one replica keeps the other knows, streams arrive as they are written, and replicas that end,
begin or are full cost no request. Needs nginx.
"""
import argparse
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from checks import Checks

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONF = ROOT / "tools/examples/serve/nginx.conf"
PORTS = ("8080", "8081", "8082")  # of nginx, and of the replicas, in CONF
PATIENCE = 60  # seconds, for what takes a moment
CLIENTS = 24
MANY = 200  # replies to them
ENDLESS = 1_000_000  # tokens of a text that nobody waits for
TEXT = {"prompt": "ROMEO:\nWhat", "max_tokens": 24, "seed": 5}
COMPLETIONS = "/v1/completions"


def wait_until(true, what, pause=0.01):
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            sys.exit(f"failed: in {PATIENCE} s it never came to this: {what}")
        time.sleep(pause)


def free_ports(count):
    """Below those that the system gives to clients, one of which might else take the port of a replica that is started again."""
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = random.SystemRandom().sample(range(min(10000, lowest // 2), lowest), 1000)
    return list(itertools.islice(filter(is_free, candidates), count))


def is_free(port):
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Address:
    """A port that answers HTTP."""

    def __init__(self, port):
        self.port = port

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, method, path, body=None):
        """Status, headers and body."""
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body if isinstance(body, (bytes, type(None))) else json.dumps(body))
            reply = connection.getresponse()
            return reply.status, reply.headers, reply.read()

    def status(self, method, path, body=None):
        return self.ask(method, path, body)[0]

    def text(self, **options):
        """The text, or the status of what is no text."""
        status, _, body = self.ask("POST", COMPLETIONS, {**TEXT, **options})
        return json.loads(body)["choices"][0]["text"] if status == 200 else status

    def is_ready(self):
        try:
            return self.status("GET", "/ready") == 200
        except (OSError, http.client.HTTPException):
            return False

    def metric(self, start):
        """The sum of the samples that begin so."""
        lines = self.ask("GET", "/metrics")[2].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))

    def texts_answered(self):
        return self.metric(f'bdh_requests_total{{route="{COMPLETIONS}",status="200"}}')


class Program(Address):
    """A process that answers on a port."""

    def __init__(self, port, words, log, environment):
        super().__init__(port)
        self.words, self.log, self.environment = [str(word) for word in words], log, environment
        self.process = None

    def start(self, *options):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*self.words, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                                            start_new_session=True)
        wait_until(lambda: self.process.poll() is not None or self.is_ready(), f"{self.words[0]} answers", pause=0.001)
        if self.process.poll() is not None:
            sys.exit(f"failed: {' '.join(self.words)}\n{self.log.read_text()}")

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def end(self):
        """The exit code."""
        self.terminate()
        return self.process.wait(timeout=PATIENCE)

    def kill(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def has_left_processes(self):
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


class Site:
    """nginx and two replicas in a folder; killed at the end of the block if they have not ended by then."""

    def __init__(self, arguments, nginx, folder):
        self.folder, self.states, self.temporary = folder / "nginx", folder / "states", folder / "tmp"
        for one in (self.folder, self.temporary):
            one.mkdir()
        for one in (folder, self.folder):
            one.chmod(0o755)  # as root, nginx gives up its rights and must reach its folder
        ports = free_ports(len(PORTS))
        (self.folder / "nginx.conf").write_text(configuration(ports))
        environment = {**os.environ, "TMPDIR": str(self.temporary)}
        serve = [arguments.bdh.resolve(), "serve", arguments.demo, "--device", "cpu", "--threads", "1", "--state-dir", self.states, "--max-tokens", ENDLESS]
        self.replicas = [Program(port, [*serve, "--port", port], folder / f"{port}.log", environment) for port in ports[1:]]
        words = [nginx, "-e", "error.log", "-c", "nginx.conf", "-p", self.folder, "-g", "daemon off;"]
        self.nginx = Program(ports[0], words, folder / "nginx.log", environment)
        self.programs = [*self.replicas, self.nginx]

    def __enter__(self):
        try:
            for program in self.programs:
                program.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for program in self.programs:
            program.kill()

    def metric(self, start):
        """Of both replicas."""
        return sum(replica.metric(start) for replica in self.replicas)

    def writing(self):
        return self.metric("bdh_writing{")


def configuration(ports):
    text = CONF.read_text()
    for old, new in zip(PORTS, ports):
        if text.count(f"127.0.0.1:{old}") != 1:
            sys.exit(f"failed: {CONF} names 127.0.0.1:{old} {text.count(f'127.0.0.1:{old}')} times, not once")
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    return text


class Request:
    """One text, as a stream by default; leaving the block hangs up."""

    def __init__(self, address, **options):
        self.connection = address.connect()
        self.connection.request("POST", COMPLETIONS, json.dumps({**TEXT, "stream": True, **options}))
        self.reply = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.sock and self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.connection.close()
        self.reply and self.reply.close()

    def status(self):
        self.reply = self.reply or self.connection.getresponse()
        return self.reply.status

    def pieces(self):
        """What arrives, each as it was sent."""
        return iter(self.reply.read1, b"") if self.status() == 200 else iter(())

    def text(self):
        """The whole text; what is no whole text is None."""
        return text_in(b"".join(self.pieces()))


def text_in(events):
    events = events.decode().split("\n\n")
    if events[-2:] != ["data: [DONE]", ""]:
        return None
    return "".join(choice["text"] for event in events[:-2] for choice in json.loads(event.removeprefix("data: "))["choices"])


def check_states(checks, site):
    """Made through nginx, on one of the two: which, none can tell."""
    made = site.nginx.status("POST", "/v1/states", {"prompt": "JULIET:\nO ", "id": "made"})
    checks.that(made == 201, f"a state is made through nginx: {made}")
    wanted = site.replicas[0].text(prompt="JULIET:\nO that")
    texts = [address.text(prompt="that", state="made") for address in (*site.replicas, *[site.nginx] * 6)]
    checks.that(isinstance(wanted, str) and set(texts) == {wanted}, f"both replicas and nginx go on from it to the same text: {texts}, not {wanted!r}")


def check_uploads(checks, site):
    first, second = site.replicas
    state = first.ask("GET", "/v1/states/made")[2]
    checks.that(first.status("PUT", "/v1/states/sent", state) == 201, "a state is uploaded to one")
    checks.that(site.nginx.status("PUT", "/v1/states/sent2", state) == 201, f"and one through nginx, {len(state)} bytes")
    checks.that(second.status("POST", "/v1/states/sent/fork", {"id": "forked"}) == 201, "and forked on the other")
    checks.that(second.ask("GET", "/v1/states/forked")[2] == state, "it is downloaded with the same bytes")
    texts = [replica.text(state=name) for replica in site.replicas for name in ("made", "sent", "sent2", "forked")]
    checks.that(isinstance(texts[0], str) and len(set(texts)) == 1, f"and goes on as what it is a copy of: {texts}")


def talk(name, speakers):
    """A conversation that keeps its state by one name: what was said in each turn."""
    speakers[0].status("POST", "/v1/states", {"prompt": "ROMEO:\n", "id": name})
    return [speaker.text(prompt=f" {turn} ", state=name, return_state=name, seed=turn) for turn, speaker in enumerate(speakers)]


def check_turns(checks, site):
    first, second = site.replicas
    wanted = talk("alone", [first] * 6)
    for name, speakers in (("taken-turns", [first, second] * 3), ("through-nginx", [site.nginx] * 6)):
        said = talk(name, speakers)
        wrong = [turn for turn in range(6) if said[turn] != wanted[turn]]
        checks.that(all(isinstance(text, str) for text in wanted) and not wrong, f"{name}: a conversation goes on as on one replica alone; other texts in turns {wrong}")


def check_replaced(checks, site):
    """A state that the other replica has used is uploaded anew."""
    first, second = site.replicas
    for name, prompt in (("old", "To be"), ("new", "Farewell")):
        first.status("POST", "/v1/states", {"prompt": prompt, "id": name})
    first.status("PUT", "/v1/states/replaced", first.ask("GET", "/v1/states/old")[2])
    second.text(state="replaced")
    first.status("PUT", "/v1/states/replaced", first.ask("GET", "/v1/states/new")[2])
    checks.that(second.text(state="replaced") == first.text(state="new"), "a state that was replaced on one is the new one on the other, which had used the old one")


def check_deleted(checks, site):
    first, second = site.replicas
    for used in (False, True):
        which = "which had used it" if used else "which had not used it"
        first.status("POST", "/v1/states", {"prompt": "NURSE:\nA", "id": "gone"})
        checks.that(not used or isinstance(second.text(state="gone"), str), "the other goes on from a state")
        checks.that(first.status("DELETE", "/v1/states/gone") == 200, "a state is deleted on one")
        said = [second.status("POST", COMPLETIONS, {**TEXT, "state": "gone"}), second.status("GET", "/v1/states/gone")]
        checks.that(said == [404, 404], f"a state that was deleted on one is there no longer on the other, {which}: {said}")
        listed = json.loads(second.ask("GET", "/v1/states")[2])["data"]
        checks.that("gone" not in [one["id"] for one in listed], f"nor does the other list it, {which}")
        made = second.status("POST", "/v1/states", {"prompt": "PARIS:\nB", "id": "gone"})
        checks.that(made == 201, f"its name is free on the other, {which}: {made}")
        checks.that(second.text(state="gone", prompt="y") == second.text(prompt="PARIS:\nBy"), f"where it then is another state, {which}")
        first.status("DELETE", "/v1/states/gone")
        second.status("DELETE", "/v1/states/gone")


def arrival(address, tokens):
    """How a stream arrives: its text, the part of the time that passed before its first piece, and pieces for each token."""
    with Request(address, max_tokens=tokens) as stream:
        began = time.monotonic()
        pieces = [(time.monotonic(), piece) for piece in stream.pieces()]
    ended = time.monotonic()
    return text_in(b"".join(piece for _, piece in pieces)), (pieces[0][0] - began) / (ended - began), len(pieces) / tokens


def check_streams(checks, site, tokens=1500):
    """A busy machine may hold up a stream that nginx does not; in three it is seen."""
    wanted = site.replicas[0].text(max_tokens=tokens)
    for attempt in range(3):
        text, first, pieces = arrival(site.nginx, tokens)
        if first < 0.25 and pieces > 0.25:
            break
    checks.that(text == wanted, "a stream through nginx is the whole text")
    checks.that(first < 0.25 and pieces > 0.25, f"it arrives piece by piece: the first after {first:.0%} of the time, {pieces:.2f} pieces for each token")


def check_hanging_up(checks, site):
    with Request(site.nginx, max_tokens=ENDLESS) as stream:
        checks.that(b"data: " in next(stream.pieces()), "a stream without end begins")
        wait_until(lambda: site.writing() == 1, "one replica writes a stream without end")
    wait_until(lambda: site.writing() == 0, "a text whose client has hung up at nginx ends")


class Load:
    """Clients that ask through nginx until the end of the block, of whom every second keeps its connection."""

    def __init__(self, address, questions):
        self.address, self.questions = address, questions  # what is asked, and its text
        self.answered, self.failures, self.stopping, self.lock = 0, [], False, threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join()

    def run(self, client):
        connection = self.address.connect()
        for turn in itertools.count(client):
            question, wanted = self.questions[turn % len(self.questions)]
            problem = self.problem_of(connection, question, wanted)
            with self.lock:
                self.answered += 1
                self.failures += [problem] if problem else []
            if problem or client % 2:
                connection.close()
            if self.stopping:
                return connection.close()

    def problem_of(self, connection, question, wanted):
        try:
            connection.request("POST", COMPLETIONS, json.dumps(question))
            reply = connection.getresponse()
            body = reply.read()
            if reply.status != 200:
                return f"{reply.status} {body.decode()[:200]}"
            text = text_in(body) if question.get("stream") else json.loads(body)["choices"][0]["text"]
            return None if text == wanted else f"{text!r}, not {wanted!r}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            return repr(error)

    def answer(self, more):
        until = self.answered + more
        wait_until(lambda: self.answered >= until, f"{CLIENTS} clients have {more} more replies")


def questions_for(replica):
    replica.status("POST", "/v1/states", {"prompt": "MERCUTIO:\nHere ", "id": "kept"})
    asked = [{**TEXT, "seed": seed, **more} for seed in range(4) for more in ({}, {"stream": True}, {"state": "kept"})]
    return [(question, replica.text(**{**question, "stream": False})) for question in asked]


def check_restart(checks, site, load, one, other, wanted):
    """`one` ends while a stream of its own and the clients' texts are being written, and begins anew."""
    with Request(one, max_tokens=400) as stream:
        checks.that(stream.status() == 200, "a stream begins")
        before = other.texts_answered()
        one.terminate()
        checks.that(stream.text() == wanted, "a stream that had begun before SIGTERM is whole")
    checks.that(one.process.wait(timeout=PATIENCE) == 0, "a replica ends with exit code 0 on SIGTERM")
    load.answer(MANY)
    checks.that(other.texts_answered() - before >= MANY, "the other answers the rest")
    one.start()
    wait_until(lambda: one.texts_answered() >= 20, "the replica that was started again is used again")


def check_restarts(checks, site):
    first, second = site.replicas
    wanted = first.text(max_tokens=400)
    with Load(site.nginx, questions_for(first)) as load:
        load.answer(MANY)
        check_restart(checks, site, load, first, second, wanted)
        check_restart(checks, site, load, second, first, wanted)
    print(f"{load.answered} requests of {CLIENTS} clients, {len(load.failures)} failed")
    checks.that(not load.failures, f"no request fails while one replica after the other ends and begins: {len(load.failures)} of {load.answered}, such as {load.failures[:3]}")


def fill(stack, replica):
    """One text that is written and one that waits: as many as it takes with --batch 1 --queue 1."""
    for metric in ("bdh_writing{", "bdh_queue{"):
        stack.enter_context(Request(replica, max_tokens=ENDLESS, stream=False))
        wait_until(lambda: replica.metric(metric) == 1, f"{metric} is 1")


def several(address, count=8):
    """What so many requests are told, one after another: the texts and the statuses that there were."""
    return {address.text() for _ in range(count)}


def check_full(checks, site):
    """429 of one is asked of the other; 429 of both is what clients are told, and is over when there is room again."""
    first, second = site.replicas
    wanted = first.text()
    with contextlib.ExitStack() as stack:
        fill(stack, first)
        checks.that(first.text() == 429, "a replica that is full says 429")
        said = several(site.nginx)
        checks.that(said == {wanted}, f"which nginx then asks of the next: {said}")
        fill(stack, second)
        said = several(site.nginx)
        checks.that(said == {429}, f"where both are full nginx says 429: {said}")
        _, headers, _ = site.nginx.ask("POST", COMPLETIONS, TEXT)
        checks.that(headers["Retry-After"] is not None, "with Retry-After")
    wait_until(lambda: site.writing() + site.metric("bdh_queue{") == 0, "texts of clients that have hung up end")
    said = several(site.nginx)
    checks.that(said == {wanted}, f"and answers when they have room again: {said}")


def check_draining(checks, site):
    """503 of one that has been told to end, while a text is still being written."""
    first, second = site.replicas
    wanted = second.text()
    with Request(first, max_tokens=ENDLESS, stream=False):
        wait_until(lambda: first.metric("bdh_writing{") == 1, "a text begins")
        first.terminate()
        wait_until(lambda: first.status("GET", "/ready") == 503, "a replica that is to end says 503")
        checks.that(first.text() == 503, "to a text, too")
        said = several(site.nginx)
        checks.that(said == {wanted}, f"which nginx then asks of the next: {said}")
        checks.that(first.process.poll() is None, "and it ends only when its texts have")
    checks.that(first.process.wait(timeout=PATIENCE) == 0, "then with exit code 0")
    said = several(site.nginx)
    checks.that(said == {wanted}, f"one that is not there is not missed: {said}")
    first.start()


def check_early_end(checks, site):
    """SIGTERM as soon as a replica says that it is ready."""
    codes = [site.replicas[0].end()]
    for _ in range(20):
        site.replicas[0].start()
        codes.append(site.replicas[0].end())
    checks.that(set(codes) == {0}, f"a replica that is just ready ends with exit code 0 on SIGTERM: {codes}")
    site.replicas[0].start()


def restart_small(checks, site):
    """Replicas that are soon full, and soon tired of a client."""
    for replica in site.replicas:
        replica.end()
        replica.start("--batch", "1", "--queue", "1", "--client-seconds", "3")


def check_stalling(checks, site):
    """What a client does not take nginx does not take for it either, so that the text ends."""
    with Request(site.nginx, max_tokens=ENDLESS, logprobs=20) as stream:
        checks.that(stream.status() == 200, "a stream without end begins")
        wait_until(lambda: site.writing() == 1, "one replica writes a stream that nobody takes")
        wait_until(lambda: site.writing() == 0, "a text whose client takes nothing ends", pause=0.1)


def check_end(checks, site):
    codes = [program.end() for program in site.programs]
    checks.that(codes == [0, 0, 0], f"all end with exit code 0 on SIGTERM: {codes}")
    checks.that(not any(program.has_left_processes() for program in site.programs), "and leave no process")
    others = [path.name for path in site.states.iterdir() if path.suffix != ".session"]
    checks.that(not others, f"states are all that is in the directory of states: {others}")
    left = sorted(str(path.relative_to(site.folder)) for path in site.folder.rglob("*"))
    known = ["body", "error.log", "fastcgi", "nginx.conf", "proxy", "scgi", "uwsgi"]
    checks.that(left == known, f"nginx leaves what its configuration names: {left}")
    checks.that(not list(site.temporary.iterdir()), "nobody leaves temporary files")
    errors = re.findall(r".*\[(?:emerg|alert|crit)\].*", (site.folder / "error.log").read_text() + site.nginx.log.read_text())
    checks.that(not errors, f"nginx has nothing grave to tell: {errors[:3]}")


def check(arguments):
    nginx = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
    if not nginx:
        sys.exit("failed: nginx is not installed; install it with: apt-get install nginx-light")
    checks = Checks()
    with tempfile.TemporaryDirectory() as name, Site(arguments, nginx, pathlib.Path(name)) as site:
        for one in (check_states, check_uploads, check_turns, check_replaced, check_deleted, check_streams, check_hanging_up, check_restarts,
                    check_early_end, restart_small, check_stalling, check_full, check_draining, check_end):
            one(checks, site)
    print(f"replicas parity: {checks.done} checks, {f'{len(checks.failed)} failures' if checks.failed else 'ok'}")
    return 1 if checks.failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check"])
    parser.add_argument("--bdh", type=pathlib.Path, required=True)
    parser.add_argument("--demo", type=pathlib.Path, default=ROOT / "tools/examples/shakespeare-small")
    return check(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
