"""The interoperability table with mosquitto_pub and mosquitto_sub."""

import atexit
import pathlib
import queue
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from rows import DOUBT_S, PATIENCE_S, arguments, equal, main, row

PORT, VERSION, WANTED = arguments()
VERSIONS = {31: "mqttv31", 311: "mqttv311", 5: "mqttv5"}


def command(program, version, *more):
    return [program, "-V", VERSIONS[version], "-p", str(PORT), *map(str, more)]


def publish(version, topic, payload, qos=1, *more):
    """One message, or with a list of payloads one after the other on one connection."""
    what = ["-l"] if isinstance(payload, list) else ["-s"] if payload else ["-n"]
    text = "".join(f"{line}\n" for line in payload) if isinstance(payload, list) else payload
    text = text if isinstance(text, bytes) else text.encode()
    line = command("mosquitto_pub", version, "-t", topic, "-q", qos, *what, *more)
    done = subprocess.run(line, input=text, capture_output=True, timeout=PATIENCE_S)
    equal((done.returncode, done.stderr), (0, b""), "mosquitto_pub")


class Subscriber:
    """A running mosquitto_sub that has subscribed. Messages are lists of the fields of `format`."""

    def __init__(self, version, topic_filter, qos=1, *more, format="%t\t%p\t%q\t%r"):
        self.messages = queue.Queue()
        self.subscribed = queue.Queue()
        self.repeated = []
        line = command("mosquitto_sub", version, "-t", topic_filter, "-q", qos, "-d", "-F", f"MESSAGE\t{format}", *more)
        # Without stdbuf a pipe would get the lines in blocks.
        self.process = subprocess.Popen(["stdbuf", "-oL", *line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        # It would try for ever to connect to a broker that is gone, or to the next one on its port.
        atexit.register(self.process.kill)
        threading.Thread(target=self._follow, daemon=True).start()
        self.subscribed.get(timeout=PATIENCE_S)

    def _follow(self):
        for line in self.process.stdout:
            line = line.decode().rstrip("\n")
            if line.startswith("MESSAGE\t"):
                self.messages.put(line.split("\t")[1:])
            elif line.startswith("Subscribed"):
                self.subscribed.put(line)
            elif "received PUBLISH (d1" in line:
                self.repeated.append(line)

    def message(self):
        return self.messages.get(timeout=PATIENCE_S)

    def expect(self, *payloads):
        equal([self.message()[1] for _ in payloads], list(payloads), "payloads")
        self.expect_nothing()

    def expect_nothing(self):
        time.sleep(DOUBT_S)
        equal(self.messages.qsize(), 0, "further messages")

    def cut(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def disconnect(self):
        self.process.terminate()
        self.process.wait(PATIENCE_S)


for published in range(3):
    for subscribed in range(3):

        @row(name=f"qos_{published}_{subscribed}")
        def qos(version, published=published, subscribed=subscribed):
            topic = f"qos{published}{subscribed}"
            subscriber = Subscriber(version, topic, subscribed)
            publish(version, topic, [str(number) for number in range(20)], published)
            expected = [[topic, str(number), str(min(published, subscribed)), "0"] for number in range(20)]
            equal([subscriber.message() for _ in range(20)], expected)
            subscriber.expect_nothing()


@row()
def wildcards(version):
    subscriber = Subscriber(version, "wild/+/x", 1, "-t", "wild/deep/#")
    for topic in ["wild/a/x", "wild/a/b/x", "wild/x", "wild/deep", "wild/deep/a/b", "wild//x"]:
        publish(version, topic, topic)
    subscriber.expect("wild/a/x", "wild/deep", "wild/deep/a/b", "wild//x")


@row()
def dollar_topics(version):
    subscriber = Subscriber(version, "#", 1, "-t", "+/dollar/t")
    named = Subscriber(version, "$dollar/#")
    publish(version, "$dollar/dollar/t", "special")
    publish(version, "dollar/dollar/t", "plain")
    equal(named.message()[1], "special")
    # Other rows publish too.
    received = [subscriber.message()]
    while received[-1][1] != "plain":
        received.append(subscriber.message())
    equal([payload for topic, payload, *_ in received if "dollar" in topic], ["plain"], "payloads")


@row()
def overlapping(version):
    subscriber = Subscriber(version, "over/#", 1, "-t", "over/+", "-t", "over/t")
    publish(version, "over/t", "x")
    subscriber.expect("x")


@row()
def retained(version):
    live = Subscriber(version, "ret/#")
    publish(version, "ret/a", "first", 1, "-r")
    publish(version, "ret/a", "last", 1, "-r")
    equal([live.message(), live.message()], [["ret/a", "first", "1", "0"], ["ret/a", "last", "1", "0"]])
    equal(Subscriber(version, "ret/a").message(), ["ret/a", "last", "1", "1"])


@row()
def retained_clear(version):
    publish(version, "clear/a", "x", 1, "-r")
    publish(version, "clear/a", "", 1, "-r")
    Subscriber(version, "clear/a").expect_nothing()


@row()
def retained_wildcard(version):
    for number in range(30):
        publish(version, f"many/{number % 7}/{number}", str(number), 1, "-r")
    subscriber = Subscriber(version, "many/#")
    equal(sorted(int(subscriber.message()[1]) for _ in range(30)), list(range(30)))
    subscriber.expect_nothing()


def with_will(version, topic, qos=1, *more):
    will = ["--will-topic", topic, "--will-payload", "gone", "--will-qos", qos]
    return Subscriber(version, f"{topic}/unused", 0, *will, *more)


@row()
def will(version):
    for qos in range(3):
        watcher = Subscriber(version, f"will/{qos}", 2)
        with_will(version, f"will/{qos}", qos, "--will-retain").cut()
        equal(watcher.message(), [f"will/{qos}", "gone", str(qos), "0"])
        equal(Subscriber(version, f"will/{qos}", 2).message()[3], "1", "RETAIN of a retained will")


@row()
def no_will_after_disconnect(version):
    watcher = Subscriber(version, "calm/t")
    # It leaves with 0x00 after one message; by a signal it would leave with 0x04.
    leaving = with_will(version, "calm/t", 1, "-C", 1)
    publish(version, "calm/t/unused", "leave")
    leaving.process.wait(PATIENCE_S)
    watcher.expect_nothing()


@row(5)
def will_delay(version):
    watcher = Subscriber(version, "delay/#", format="%t\t%p\t%P\t%C")

    def cut(name, delay_s):
        delayed = ["-D", "will", "will-delay-interval", delay_s, "-D", "will", "user-property", "k", "v"]
        delayed += ["-D", "will", "content-type", "text", "-x", "100"]
        leaving = with_will(version, f"delay/{name}", 1, "-i", f"delay-{name}", *delayed)
        cut_at = time.monotonic()
        leaving.cut()
        return cut_at

    cut("back", 2)
    Subscriber(version, "unused", 0, "-i", "delay-back", "-c", "-x", "100")
    cut_at = cut("gone", 1)
    equal(watcher.message(), ["delay/gone", "gone", "k:v", "text"])
    waited = time.monotonic() - cut_at
    assert 0.9 < waited < 2.5, f"the will came after {waited:.2f} s"
    # By the time of this one, that of the client that is back would have come.
    cut("last", 2)
    equal(watcher.message()[0], "delay/last")


@row()
def shared(version):
    members = [Subscriber(version, "$share/group/share/t") for _ in range(3)]
    publish(version, "share/t", [str(number) for number in range(90)])
    received = []
    until = time.monotonic() + PATIENCE_S
    while len(received) < 90 and time.monotonic() < until:
        for member in members:
            while not member.messages.empty():
                received.append(int(member.message()[1]))
        time.sleep(0.005)
    equal(sorted(received), list(range(90)))
    for member in members:
        member.expect_nothing()


KEPT = {31: ["-c"], 311: ["-c"], 5: ["-c", "-x", "3600"]}


@row()
def resume_queued(version):
    Subscriber(version, "queue/t", 2, "-i", "queue", *KEPT[version]).disconnect()
    numbers = [str(number) for number in range(50)]
    publish(version, "queue/t", numbers[:25], 1)
    publish(version, "queue/t", numbers[25:], 2)
    publish(version, "queue/t", "lost", 0)
    publish(version, "queue/other", "", 1)
    Subscriber(version, "queue/t", 2, "-i", "queue", *KEPT[version]).expect(*numbers)


@row()
def clean_start_forgets(version):
    Subscriber(version, "fresh/t", 1, "-i", "fresh", *KEPT[version]).disconnect()
    publish(version, "fresh/t", "x")
    again = Subscriber(version, "fresh/other", 1, "-i", "fresh")
    publish(version, "fresh/t", "y")
    again.expect_nothing()


@row()
def large_payload(version):
    payload = ("0123456789abcdef" * 57600).encode()
    subscriber = Subscriber(version, "large/t", 2, format="%l\t%p")
    for qos in range(3):
        publish(version, "large/t", payload, qos)
        equal(subscriber.message() == [str(len(payload)), payload.decode()], True, "same payload")


@row(5)
def user_properties(version):
    subscriber = Subscriber(version, "props/t", format="%P")
    pairs = [("b", "1"), ("a", "2"), ("b", "1")]
    publish(version, "props/t", "x", 1, *(part for pair in pairs for part in ("-D", "publish", "user-property", *pair)))
    equal(subscriber.message(), ["b:1 a:2 b:1"])


@row(5)
def request_response(version):
    responder = Subscriber(version, "rr/ask", format="%R\t%D\t%C\t%F\t%E")
    question = command("mosquitto_rr", version, "-t", "rr/ask", "-e", "rr/answer", "-m", "?", "-q", 1, "-W", PATIENCE_S)
    question += ["-D", "publish", "correlation-data", "7", "-D", "publish", "content-type", "text/plain"]
    question += ["-D", "publish", "payload-format-indicator", "1", "-D", "publish", "message-expiry-interval", "60"]
    requester = subprocess.Popen(question, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    *others, expiry = responder.message()
    equal(others, ["rr/answer", "7", "text/plain", "1"])
    assert 58 <= int(expiry) <= 60, expiry
    publish(version, "rr/answer", "!", 1, "-D", "publish", "correlation-data", "7")
    equal(requester.communicate(timeout=PATIENCE_S)[0], b"!\n", "answer")


@row(5)
def message_expiry(version):
    Subscriber(version, "old/t", 1, "-i", "old", *KEPT[version]).disconnect()
    publish(version, "old/t", "short", 1, "-D", "publish", "message-expiry-interval", 1)
    publish(version, "old/t", "long", 1, "-D", "publish", "message-expiry-interval", 100)
    time.sleep(1.1)
    subscriber = Subscriber(version, "old/t", 1, "-i", "old", *KEPT[version], format="%E\t%p")
    expiry, payload = subscriber.message()
    equal((payload, int(expiry) in (96, 97, 98)), ("long", True), f"expiry {expiry}")
    subscriber.expect_nothing()


@row(5)
def maximum_packet_size(version):
    subscriber = Subscriber(version, "small/t", 1, "-D", "connect", "maximum-packet-size", 100)
    publish(version, "small/t", "x" * 500)
    publish(version, "small/t", "fits")
    subscriber.expect("fits")


@row(5)
def retain_as_published(version):
    kept = Subscriber(version, "rap/t", 1, "--retain-as-published")
    cleared = Subscriber(version, "rap/t", 1)
    publish(version, "rap/t", "x", 1, "-r")
    equal((kept.message()[3], cleared.message()[3]), ("1", "0"), "RETAIN")


@row(5)
def session_expiry(version):
    def subscriber(expiry_s, *more):
        return Subscriber(version, "brief/t", 1, "-i", "brief", "-c", "-x", expiry_s, *more)

    watcher = Subscriber(version, "brief/over")
    subscriber(100).disconnect()
    publish(version, "brief/t", "kept")
    will = ["--will-topic", "brief/over", "--will-payload", "over", "--will-qos", 1]
    again = subscriber(1, *will, "-D", "will", "will-delay-interval", "100")
    again.expect("kept")
    again.cut()
    publish(version, "brief/t", "forgotten")
    watcher.expect("over")
    subscriber(1).expect_nothing()


@row()
def mixed_versions(version):
    others = [Subscriber(other, "mixed/t", 2) for other in VERSIONS]
    publish(version, "mixed/t", "x", 2)
    for other in others:
        other.expect("x")


main(VERSION, WANTED)
